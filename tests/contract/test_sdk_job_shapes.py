"""What `runner` sends for jobs of every shape: accepted by the official client's own request types, sent by it, and
the answers read by its own types, whole and streamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types.beta import message_create_params
from pydantic import TypeAdapter

from runner.domain.attachment import with_ids
from runner.domain.request import MessagesRequest
from runner.files.job_file import load_job
from runner.files.render import Renderer
from tests.beta_examples import ASK, EXAMPLES
from tests.contract.conftest import Connect

pytestmark = pytest.mark.anyio

MODEL = "claude-haiku-5-5"
TYPES = TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
TEXT = {"type": "text", "media_type": "text/plain", "data": "some words"}
SEARCH = {"type": "web_search_20260318", "name": "web_search", "max_uses": 3, "allowed_domains": ["example.com"]}
FETCH = {"type": "web_fetch_20260318", "name": "web_fetch", "citations": {"enabled": True}}
CODE = {"type": "code_execution_20260521", "name": "code_execution"}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [*blocks, {"type": "text", "text": "go [[sim:server]]"}]}]}


MORE: dict[str, tuple[dict[str, Any], str | None]] = {
    "plain": ({"messages": ASK}, None),
    "image": (user({"type": "image", "source": PNG}), None),
    "image_by_url": (user({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}), None),
    "cited_document": (
        user({"type": "document", "title": "t", "context": "c", "citations": {"enabled": True}, "source": TEXT}),
        None,
    ),
    "search_result": (
        user({"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]}),
        None,
    ),
    "search": ({**user(), "tools": [SEARCH]}, None),
    "fetch": ({**user(), "tools": [FETCH]}, None),
    "code": ({**user(), "tools": [CODE]}, None),
    "code_in_a_known_container": ({**user(), "tools": [CODE], "container": "container_01"}, None),
    "skills": (
        {
            **user(),
            "tools": [CODE],
            "container": {"skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "latest"}]},
        },
        None,
    ),
    "all_server_tools": ({**user(), "tools": [SEARCH, FETCH, CODE], "max_tokens": 8_000}, None),
    "geography_tier_and_user": (
        {"messages": ASK, "inference_geo": "us", "service_tier": "standard_only", "metadata": {"user_id": "u"}},
        None,
    ),
    "fast": ({"messages": ASK, "speed": "fast"}, "claude-opus-5-5"),
    "adaptive": ({"messages": ASK, "thinking": {"type": "adaptive", "display": "summarized"}}, None),
    "between_tools": ({"messages": ASK, "thinking": {"type": "between_tools"}}, "claude-sonnet-5-5"),
    "cached_system": (
        {
            "messages": ASK,
            "system": [{"type": "text", "text": "be", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        },
        None,
    ),
    "stop_sequences": ({"messages": ASK, "stop_sequences": ["###"]}, None),
    "parallel_tools_off": (
        {
            "messages": ASK,
            "tools": [{"name": "a", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        },
        None,
    ),
}
SHAPES = {**{name: (fields, model) for name, (fields, _, model) in EXAMPLES.items()}, **MORE}
# A model or a length that only the rule of betas is about; in a call of its own the model would refuse it.
ONLY_IN_BATCHES = {"output_300k"}
# A field that the client has given up, and a text that its types take for a list of letters.
NOT_IN_THE_TYPES = {"structured_outputs_legacy_field", "fallbacks_default"}


def request_of(folder: Path, name: str) -> tuple[MessagesRequest, dict[str, Any]]:
    """From a job file to what goes on the wire."""
    fields, model = SHAPES[name]
    asked = {"max_tokens": 4_000, "messages": ASK, **fields}
    mode = "batch" if name in ONLY_IN_BATCHES else "live"
    path = folder / "job.yaml"
    (folder / "a.txt").write_text("a letter")
    path.write_text(json.dumps({"name": "shape", "model": model or MODEL, "mode": mode, "request": asked}))
    (folder / "a.txt").write_text("a text")  # which one of them uploads
    request = Renderer(load_job(str(path))).request({}, batch=mode == "batch")
    return request, json.loads(request.body)


def consumed(value: Any) -> None:
    """Types are read as they are walked through; lists of the client's types are lazy."""
    if isinstance(value, dict):
        for part in value.values():
            consumed(part)
    elif not isinstance(value, (str, bytes, int, float, bool, type(None))):
        for part in value:
            consumed(part)


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in NOT_IN_THE_TYPES])
def test_the_clients_own_types_accept_what_is_sent(tmp_path: Path, name: str) -> None:
    _, body = request_of(tmp_path, name)
    consumed(TYPES.validate_python(body))
    assert body.keys() <= message_create_params.MessageCreateParamsNonStreaming.__annotations__.keys() | {
        key for base in message_create_params.MessageCreateParamsNonStreaming.__orig_bases__
        for key in getattr(base, "__annotations__", {})
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in ONLY_IN_BATCHES])
async def test_the_client_sends_it_and_reads_the_answer(tmp_path: Path, connect: Connect, name: str) -> None:
    request, body = request_of(tmp_path, name)
    server, sdk = await connect()
    for file in request.attachments:
        uploaded = await sdk.files.upload(file=(file.filename, Path(file.path).read_bytes(), file.media_type))
        body = json.loads(with_ids(request.body, {file.mark: uploaded.id}))
    if "output_format" in body:
        body["extra_body"] = {"output_format": body.pop("output_format")}
    message = await sdk.beta.messages.create(**body, betas=list(request.betas))
    assert message.stop_reason in ("end_turn", "tool_use", "stop_sequence")
    assert message.usage.output_tokens > 0
    assert server.simulator.ledger.counts["billed"] == 1


async def test_every_server_tool_is_read_by_its_own_type_whole_and_streamed(tmp_path: Path, connect: Connect) -> None:
    _, body = request_of(tmp_path, "all_server_tools")
    _, sdk = await connect()
    whole = await sdk.beta.messages.create(**body)
    async with sdk.beta.messages.stream(**body) as stream:
        streamed = await stream.get_final_message()
    kinds = [block.type for block in whole.content]
    assert kinds == [
        "server_tool_use",
        "web_search_tool_result",
        "server_tool_use",
        "web_fetch_tool_result",
        "server_tool_use",
        "bash_code_execution_tool_result",
        "text",
    ]
    assert [block.type for block in streamed.content] == kinds
    assert whole.container is not None
    assert streamed.container is not None
    used = whole.usage.server_tool_use
    assert used is not None
    assert (used.web_search_requests, used.web_fetch_requests) == (1, 1)


async def test_citations_are_read_whole_and_streamed(connect: Connect) -> None:
    _, sdk = await connect()
    document: Any = {"type": "document", "citations": {"enabled": True}, "source": TEXT}
    ask: Any = [{"role": "user", "content": [document, {"type": "text", "text": "x [[sim:cite]]"}]}]
    whole = await sdk.messages.create(model=MODEL, max_tokens=500, messages=ask)
    async with sdk.messages.stream(model=MODEL, max_tokens=500, messages=ask) as stream:
        streamed = await stream.get_final_message()
    for message in (whole, streamed):
        [block] = message.content
        assert isinstance(block, anthropic.types.TextBlock)
        assert block.citations
        assert block.citations[0].type == "char_location"
