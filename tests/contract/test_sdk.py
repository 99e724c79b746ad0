"""What the simulator says, the official SDK understands: values, streams, pages and errors."""

from __future__ import annotations

import json
import os
from typing import Any

import anthropic
import pytest

from runner.simulator import Fault, prompt_digest
from tests.contract.conftest import Connect

pytestmark = pytest.mark.anyio

MODEL = "claude-haiku-5-5"
ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 300, "messages": [{"role": "user", "content": "Hello"}]}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["label", "note"],
    "properties": {"label": {"enum": ["good", "bad"]}, "note": {"type": "string"}},
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)


def asking(text: str, **more: Any) -> dict[str, Any]:
    return ASK | {"messages": [{"role": "user", "content": text}]} | more


async def test_a_plain_message(connect: Connect) -> None:
    server, sdk = await connect()
    message = await sdk.messages.create(**ASK)
    (block,) = message.content
    assert block.type == "text"
    assert prompt_digest(ASK) in block.text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == server.simulator.ledger.charges[0].usage["output_tokens"]
    assert message._request_id == server.simulator.ledger.charges[0].request_id


async def test_a_stream_gives_the_same_message_as_its_events_add_up_to(connect: Connect) -> None:
    _, sdk = await connect()
    plain = await sdk.messages.create(**asking("Hello [[sim:tokens=120]]"))
    async with sdk.messages.stream(**asking("Hello [[sim:tokens=120]]")) as stream:
        pieces = [piece async for piece in stream.text_stream]
        message = await stream.get_final_message()
    assert "".join(pieces) == plain.content[0].text == message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == plain.usage.output_tokens == 120


async def test_raw_stream_events_come_in_the_documented_order(connect: Connect) -> None:
    _, sdk = await connect()
    stream = await sdk.messages.create(**ASK, stream=True)
    types = [event.type async for event in stream if event.type != "content_block_delta"]
    assert types == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_a_streamed_tool_call_adds_up(connect: Connect) -> None:
    _, sdk = await connect()
    tools = [{"name": "label", "input_schema": SCHEMA}]
    told = asking("Hello", tools=tools, tool_choice={"type": "tool", "name": "label"})
    plain = await sdk.messages.create(**told)
    async with sdk.messages.stream(**told) as stream:
        streamed = await stream.get_final_message()
    assert plain.stop_reason == streamed.stop_reason == "tool_use"
    assert plain.content[0].input == streamed.content[0].input
    assert plain.content[0].input["label"] in ("good", "bad")


async def test_structured_output(connect: Connect) -> None:
    _, sdk = await connect()
    wanted: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
    message = await sdk.messages.create(**ASK, output_config=wanted)
    told = json.loads(message.content[0].text)
    assert set(told) == {"label", "note"}


async def test_count_tokens_agrees_with_usage(connect: Connect) -> None:
    _, sdk = await connect()
    count = await sdk.messages.count_tokens(model=MODEL, messages=ASK["messages"])
    message = await sdk.messages.create(**ASK)
    assert count.input_tokens == message.usage.input_tokens


async def test_models_are_listed_over_pages_and_retrieved(connect: Connect) -> None:
    _, sdk = await connect()
    ids = [model.id async for model in await sdk.models.list(limit=4)]
    assert len(set(ids)) == len(ids) == 18
    model = await sdk.models.retrieve("claude-haiku-4-5")
    assert (model.max_input_tokens, model.max_tokens, model.line) == (200_000, 64_000, "haiku")
    assert model.capabilities.batch.supported


async def test_what_the_sdk_does_not_know_does_not_disturb_it(connect: Connect) -> None:
    _, sdk = await connect()
    plain = await sdk.messages.create(**asking("[[sim:unknown_fields]]"))
    async with sdk.messages.stream(**asking("[[sim:unknown_fields]]")) as stream:
        streamed = await stream.get_final_message()
    assert plain.content[-1].text == streamed.content[-1].text


@pytest.mark.parametrize("reason", ["refusal", "max_tokens", "pause_turn"])
async def test_stop_reasons(connect: Connect, reason: str) -> None:
    _, sdk = await connect()
    message = await sdk.messages.create(**asking(f"[[sim:{reason}{'=1' if reason == 'pause_turn' else ''}]]"))
    assert message.stop_reason == reason
    assert (message.stop_details is not None) == (reason == "refusal")


async def test_a_beta_call_with_its_header(connect: Connect) -> None:
    _, sdk = await connect()
    message = await sdk.beta.messages.create(**ASK, betas=["context-management-2025-06-27"])
    assert message.stop_reason == "end_turn"


# -- errors

ERRORS: list[tuple[str, type[anthropic.APIStatusError], str]] = [
    ("rate_limit", anthropic.RateLimitError, "rate_limit_error"),
    ("spend_limit", anthropic.RateLimitError, "rate_limit_error"),
    ("credit_low", anthropic.BadRequestError, "invalid_request_error"),
    ("authentication", anthropic.AuthenticationError, "authentication_error"),
    ("permission", anthropic.PermissionDeniedError, "permission_error"),
    ("billing", anthropic.APIStatusError, "billing_error"),
    ("api_error", anthropic.InternalServerError, "api_error"),
    ("cmek", anthropic.InternalServerError, "api_error"),
    ("timeout", anthropic.InternalServerError, "timeout_error"),
    ("overloaded", anthropic.InternalServerError, "overloaded_error"),
]


@pytest.mark.parametrize(("kind", "wanted", "error_type"), ERRORS)
async def test_errors_are_the_sdks_own_classes(
    connect: Connect, kind: str, wanted: type[anthropic.APIStatusError], error_type: str
) -> None:
    _, sdk = await connect(faults=(Fault(kind=kind),))
    with pytest.raises(wanted) as raised:
        await sdk.messages.create(**ASK)
    assert raised.value.type == error_type
    assert str(raised.value.request_id).startswith("req_")


async def test_an_error_code_arrives(connect: Connect) -> None:
    _, sdk = await connect(faults=(Fault(kind="ramp_limit", retry_after_s=7),))
    with pytest.raises(anthropic.RateLimitError) as raised:
        await sdk.messages.create(**ASK)
    assert raised.value.error_code == "ramp_limit_exceeded"
    assert raised.value.response.headers["retry-after"] == "7"


async def test_an_unknown_model_is_not_found(connect: Connect) -> None:
    _, sdk = await connect()
    with pytest.raises(anthropic.NotFoundError):
        await sdk.messages.create(**ASK | {"model": "claude-9"})


async def test_sampling_settings_are_refused_in_the_sdks_version(connect: Connect) -> None:
    _, sdk = await connect()
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        await sdk.messages.create(**ASK, extra_body={"temperature": 0.5})


async def test_a_wrong_key_is_an_authentication_error(connect: Connect) -> None:
    _, sdk = await connect(keys=("another",))
    with pytest.raises(anthropic.AuthenticationError):
        await sdk.messages.create(**ASK)


@pytest.mark.parametrize("kind", ["reset", "executed_reset", "cut_body"])
async def test_a_broken_wire_is_a_connection_error(connect: Connect, kind: str) -> None:
    _, sdk = await connect(faults=(Fault(kind=kind),))
    with pytest.raises((anthropic.APIConnectionError, anthropic.APIResponseValidationError)):
        await sdk.messages.create(**ASK)


async def test_an_error_in_mid_stream_is_raised(connect: Connect) -> None:
    _, sdk = await connect(faults=(Fault(kind="sse_error", at="middle"),))
    with pytest.raises(anthropic.APIStatusError) as raised:
        async with sdk.messages.stream(**ASK) as stream:
            await stream.get_final_message()
    assert raised.value.type == "overloaded_error"


async def test_the_sdk_retries_a_flaky_row_and_then_has_its_answer(connect: Connect) -> None:
    server, sdk = await connect()
    patient = sdk.with_options(max_retries=2)
    message = await patient.messages.create(**asking("[[sim:flaky=1:529:overloaded_error]]"))
    assert message.stop_reason == "end_turn"
    assert server.simulator.ledger.counts["billed"] == 1
