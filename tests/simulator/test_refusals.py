"""What the service refuses, it refuses here: callers, bodies, and each model's own traps."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from runner.simulator import Request, Simulator, SimulatorConfig
from runner.simulator.facts import facts
from tests.simulator.calls import HEADERS, body, error_of, header, params, post
from tests.turned_clock import TurnedClock

TOOLS = [{"name": "label", "input_schema": {"type": "object"}}]
FORCED = {"tools": TOOLS, "tool_choice": {"type": "any"}}


@pytest.fixture
def brain() -> Simulator:
    return Simulator(SimulatorConfig(), TurnedClock())


def schema(**more: Any) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": more}}}


# -- callers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "k"}, 200),
        ({"authorization": "Bearer k"}, 200),
        ({"authorization": "bearer k"}, 200),
        ({"authorization": "Basic k"}, 401),
        ({"x-api-key": ""}, 401),
        ({}, 401),
    ],
)
def test_a_key_is_taken_from_either_header(brain: Simulator, headers: dict[str, str], status: int) -> None:
    told = headers | {"anthropic-version": "2023-06-01"}
    reply = brain.receive(Request(method="POST", path="/v1/messages", headers=told, body=body()))
    assert reply.status == status


def test_only_listed_keys_are_accepted_and_a_stranger_learns_no_organization() -> None:
    brain = Simulator(SimulatorConfig(keys=("right",)), TurnedClock())
    assert post(brain, body(), x_api_key="right").status == 200
    reply = post(brain, body(), x_api_key="wrong")
    assert (reply.status, error_of(reply)["type"]) == (401, "authentication_error")
    assert header(reply, "anthropic-organization-id") is None
    assert header(reply, "request-id") == json.loads(reply.body)["request_id"]


@pytest.mark.parametrize("version", ["", "2020-01-01"])
def test_an_unknown_version_is_refused(brain: Simulator, version: str) -> None:
    assert post(brain, body(), anthropic_version=version).status == 400


def test_a_missing_version_is_refused(brain: Simulator) -> None:
    request = Request(method="POST", path="/v1/messages", headers={"x-api-key": "k"}, body=body())
    assert brain.receive(request).status == 400


def test_an_unknown_beta_is_refused_by_name_and_known_ones_pass(brain: Simulator) -> None:
    reply = post(brain, body(), anthropic_beta="prompt-caching-2024-07-31, time-travel-2030-01-01")
    assert "time-travel-2030-01-01" in error_of(reply)["message"]
    known = ",".join(sorted(facts().betas))
    assert post(brain, body(), anthropic_beta=known).status == 200


def test_foreign_headers_and_queries_are_tolerated(brain: Simulator) -> None:
    told = HEADERS | {"x-stainless-lang": "python", "x-stainless-retry-count": "1"}
    request = Request(method="POST", path="/v1/messages", query="beta=true", headers=told, body=body())
    assert brain.receive(request).status == 200


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies_are_read(brain: Simulator, name: str, pack: Any) -> None:
    assert post(brain, pack(body()), content_encoding=name).status == 200


def test_an_unknown_encoding_and_a_broken_one_are_told_apart(brain: Simulator) -> None:
    unknown = error_of(post(brain, body(), content_encoding="br"))
    broken = error_of(post(brain, body(), content_encoding="gzip"))
    assert unknown["details"]["error_code"] == "request_body_encoding_unsupported"
    assert broken["details"]["error_code"] == "request_body_encoding_invalid"


# -- bodies

INVALID: list[tuple[str, dict[str, Any]]] = [
    ("model", {"model": None}),
    ("model", {"model": 5}),
    ("max_tokens", {"max_tokens": None}),
    ("max_tokens", {"max_tokens": "9"}),
    ("max_tokens", {"max_tokens": True}),
    ("max_tokens", {"max_tokens": -1}),
    ("max_tokens", {"max_tokens": 128_001}),
    ("messages", {"messages": None}),
    ("messages", {"messages": []}),
    ("messages", {"messages": "hello"}),
    ("messages.0", {"messages": ["hello"]}),
    ("messages.0.role", {"messages": [{"role": "robot", "content": "x"}]}),
    ("messages.0", {"messages": [{"role": "user"}]}),
    ("non-empty", {"messages": [{"role": "user", "content": ""}]}),
    ("non-empty", {"messages": [{"role": "user", "content": []}]}),
    ("non-empty", {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}),
    ("messages.0.content.0", {"messages": [{"role": "user", "content": ["x"]}]}),
    ("stream", {"stream": "yes"}),
    ("tools.0", {"tools": ["x"]}),
    ("tool_choice", {"tool_choice": {"type": "any"}}),
    ("tool_choice", {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "other"}}),
    ("tool_choice", {"tools": TOOLS, "tool_choice": {"type": "maybe"}}),
    ("tool_choice", {"tools": TOOLS, "tool_choice": {"type": "tool", "name": ["label"]}}),
    ("stop_sequences", {"stop_sequences": [5]}),
    ("input_schema", {"tools": [{"name": "label"}]}),
    ("input_schema.type", {"tools": [{"name": "label", "input_schema": {"type": "thing"}}]}),
    ("pattern", schema(type="string", pattern="(")),
    ("additionalProperties", schema(type="object", properties={})),
    ("minimum", schema(type="object", additionalProperties=False, properties={"n": {"minimum": 1}})),
    ("minItems", schema(type="array", minItems=2)),
    ("json_schema", {"output_config": {"format": {"type": "xml"}}}),
    ("effort", {"output_config": {"effort": "heroic"}}),
    ("inference_geo", {"inference_geo": "moon"}),
    ("speed", {"speed": "warp"}),
]


@pytest.mark.parametrize(("names", "changed"), INVALID)
def test_a_bad_body_is_a_400_that_names_the_place(brain: Simulator, names: str, changed: dict[str, Any]) -> None:
    reply = post(brain, json.dumps(params() | changed).encode())
    assert reply.status == 400
    assert names in error_of(reply)["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"a":' * 3000])
def test_what_is_no_json_object_is_a_400(brain: Simulator, content: bytes) -> None:
    assert post(brain, content).status == 400


def test_sampling_settings_are_gone_in_the_new_version_even_as_defaults(brain: Simulator) -> None:
    for name, value in (("temperature", 1), ("top_p", 1), ("top_k", 5)):
        assert post(brain, body(model="claude-haiku-4-5", **{name: value})).status == 400
        old = post(brain, body(model="claude-haiku-4-5", **{name: value}), anthropic_version="2023-06-01")
        assert old.status == 200


def test_the_new_version_refuses_assistant_documents_and_user_citations(brain: Simulator) -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    cited = {"type": "text", "text": "x", "citations": [{"type": "char_location"}]}
    search = {"type": "search_result", "source": "s", "title": "t", "content": [cited]}
    user = {"role": "user", "content": "x"}
    for messages in (
        [user, {"role": "assistant", "content": [document]}, user],
        [{"role": "user", "content": [cited]}],
        [{"role": "user", "content": [search]}],
    ):
        assert post(brain, body(messages=messages)).status == 400
        assert post(brain, body(messages=messages), anthropic_version="2023-06-01").status == 200


# -- models

PREFILL = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]}
MODEL_TRAPS: list[tuple[str, dict[str, Any], int]] = [
    ("claude-haiku-5-5", {"temperature": 0}, 400),
    ("claude-haiku-5-5", {"temperature": 1}, 200),
    ("claude-opus-4-7", {"top_k": 5}, 400),
    ("claude-opus-4-6", {"temperature": 0}, 200),
    ("claude-haiku-4-5", {"temperature": 0, "top_p": 0.5}, 400),
    ("claude-haiku-4-5", {"temperature": 0}, 200),
    ("claude-opus-4-6", PREFILL, 400),
    ("claude-sonnet-4-5", PREFILL, 200),
    ("claude-opus-5", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, 400),
    ("claude-opus-4-6", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}, 200),
    ("claude-opus-4-6", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1024}, 400),
    ("claude-opus-4-6", {"thinking": {"type": "enabled", "budget_tokens": 9}, "max_tokens": 2000}, 400),
    ("claude-haiku-4-5", {"thinking": {"type": "adaptive"}}, 400),
    ("claude-opus-5-5", {"thinking": {"type": "disabled"}}, 400),
    ("claude-sonnet-5", {"thinking": {"type": "disabled"}}, 200),
    ("claude-sonnet-5-5", {"thinking": {"type": "between_tools"}}, 200),
    ("claude-opus-5", {"thinking": {"type": "disabled"}}, 200),
    ("claude-opus-5", {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}, 400),
    ("claude-haiku-4-5", {"output_config": {"effort": "low"}}, 400),
    ("claude-opus-4-5", {"output_config": {"effort": "max"}}, 400),
    ("claude-opus-4-6", {"output_config": {"effort": "xhigh"}}, 400),
    ("claude-opus-4-7", {"output_config": {"effort": "xhigh"}}, 200),
    ("claude-opus-5-5", FORCED, 400),
    ("claude-sonnet-5-5", FORCED, 400),
    ("claude-fable-5-1", FORCED, 400),
    ("claude-haiku-5-5", FORCED, 200),
    ("claude-haiku-5-5", {"tools": [{"type": "computer_20251124", "name": "computer"}]}, 400),
    ("claude-haiku-4-5", {"inference_geo": "us"}, 400),
    ("claude-opus-4-6", {"inference_geo": "us"}, 200),
    ("claude-opus-5-5", {"speed": "fast"}, 200),
    ("claude-opus-5", {"speed": "fast"}, 400),
    ("claude-opus-4-7", {"speed": "fast"}, 400),
    ("claude-opus-4-6", {"speed": "fast"}, 200),
    ("claude-haiku-4-5", {"max_tokens": 64_001}, 400),
]


@pytest.mark.parametrize(("model", "changed", "status"), MODEL_TRAPS)
def test_each_model_has_its_own_traps(brain: Simulator, model: str, changed: dict[str, Any], status: int) -> None:
    told = params(model=model) | changed
    assert post(brain, json.dumps(told).encode(), anthropic_version="2023-06-01").status == status


def test_preview_fast_mode_opens_with_its_beta(brain: Simulator) -> None:
    told = body(model="claude-opus-5", speed="fast")
    assert post(brain, told, anthropic_beta="fast-mode-2026-02-01").status == 200


@pytest.mark.parametrize("model", ["claude-9", *sorted(facts().retired)])
def test_an_unknown_or_retired_model_is_not_found(brain: Simulator, model: str) -> None:
    reply = post(brain, body(model=model))
    assert (reply.status, error_of(reply)["message"]) == (404, f"model: {model}")


def test_a_prompt_beyond_the_window_is_too_long(brain: Simulator) -> None:
    reply = post(brain, body("x" * 900_000, model="claude-haiku-4-5"))
    assert "prompt is too long" in error_of(reply)["message"]


def test_an_unknown_path_is_not_found(brain: Simulator) -> None:
    assert post(brain, body(), "/v1/complete").status == 404


def test_every_refusal_is_tallied_and_none_is_billed(brain: Simulator) -> None:
    post(brain, body(max_tokens=None))
    post(brain, body(model="claude-9"))
    assert brain.ledger.refused == {"invalid_request_error": 1, "not_found_error": 1}
    assert brain.ledger.counts["billed"] == 0
