"""What the API would refuse is found in a request before anything is sent; what it takes passes."""

from __future__ import annotations

from typing import Any

import pytest

from runner.domain.model_traits import traits_of
from runner.domain.pricing import shipped_prices
from runner.domain.traps import doubts, traps
from runner.simulator import Request, Simulator, SimulatorConfig
from tests.simulator.calls import body
from tests.trap_examples import (
    ASK,
    FREE,
    HAIKU_5_5,
    NEW,
    OPUS_4_7,
    OPUS_5,
    OPUS_5_5,
    SONNET_5_5,
    TRAPPED,
    Example,
    output,
)
from tests.turned_clock import TurnedClock

ALL_BETAS = "advisor-tool-2026-03-01,computer-use-2025-11-24,mcp-client-2025-11-20"


def asked(fields: dict[str, Any]) -> dict[str, Any]:
    return {"max_tokens": 4_000, "messages": [ASK], **fields}


def found(
    fields: dict[str, Any], model: str = HAIKU_5_5, version: str = NEW, *, batch: bool | None = False
) -> set[str]:
    return {trap.words for trap in traps(asked(fields), model=model, api_version=version, batch=batch)}


def name(example: Example) -> str:
    return f"{example.row}-{example.model}"


@pytest.mark.parametrize("example", TRAPPED, ids=name)
def test_a_trap_is_told_with_its_reason_and_the_way_out(example: Example) -> None:
    told = found(example.fields, example.model, example.version)
    assert any(example.said in words and example.fix in words for words in told), told


@pytest.mark.parametrize(("model", "fields", "version"), FREE)
def test_what_stands_beside_a_trap_passes(model: str, fields: dict[str, Any], version: str) -> None:
    assert found(fields, model, version) == set()


# -- the simulator read the same rules by itself


def refused(fields: dict[str, Any], model: str, version: str) -> bool:
    told = body(**{**asked(fields), "model": model})
    headers = {"x-api-key": "k", "anthropic-version": version, "anthropic-beta": ALL_BETAS}
    brain = Simulator(SimulatorConfig(), TurnedClock())
    reply = brain.receive(Request(method="POST", path="/v1/messages", headers=headers, body=told))
    assert reply.status in (200, 400), reply.body
    return reply.status == 400


@pytest.mark.parametrize("example", TRAPPED, ids=name)
def test_both_readings_refuse_it(example: Example) -> None:
    assert refused(example.fields, example.model, example.version)


@pytest.mark.parametrize(("model", "fields", "version"), FREE)
def test_both_readings_take_it(model: str, fields: dict[str, Any], version: str) -> None:
    assert not refused(fields, model, version)


# -- batches


def test_a_batch_of_some_models_takes_longer_answers() -> None:
    long = {"max_tokens": 300_000}
    assert found(long, OPUS_5_5, batch=True) == set()
    assert found(long, OPUS_5_5) == found(long, OPUS_5_5, batch=None) != set()
    assert found({"max_tokens": 300_001}, OPUS_5_5, batch=True) != set()
    assert found(long, HAIKU_5_5, batch=True) != set()


# -- leniency


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking": "adaptive", "output_config": [], "tool_choice": 5, "tools": "x", "messages": "hello"},
        {"tools": [None, 3, {"type": []}], "messages": [None, {"role": "user", "content": [None, 5]}]},
        {"container": "container_1", "mcp_servers": {"x": 1}, "max_tokens": True, "speed": 5},
        {"output_config": {"format": "x", "effort": 5}, "cache_control": "yes"},
        {"messages": []},
        output({"type": "object", "properties": 5, "additionalProperties": False, "anyOf": 3, "$defs": []}),
    ],
)
def test_odd_shapes_are_left_to_the_service(fields: dict[str, Any]) -> None:
    for model in (HAIKU_5_5, OPUS_5, "claude-opus-9"):
        assert found(fields, model) == set()


def test_of_a_model_that_is_not_known_only_the_common_rules_are_asked() -> None:
    example = next(one for one in TRAPPED if one.row == "forced")
    assert found(example.fields, "claude-opus-9") == set()
    assert found({"temperature": 1}, "claude-opus-9") != set()


def test_a_misspelt_word_is_told_and_a_new_one_passes() -> None:
    assert any('did you mean "xhigh" ?' in words for words in found({"output_config": {"effort": "xhihg"}}))
    assert found({"output_config": {"effort": "ultra"}}) == set()


def test_a_schema_that_leads_back_to_itself_is_found() -> None:
    node = {"type": "object", "additionalProperties": False, "properties": {"next": {"$ref": "#/$defs/node"}}}
    assert any("leads back" in words for words in found(output({"$defs": {"node": node}, "$ref": "#/$defs/node"})))
    flat = {"type": "object", "additionalProperties": False, "properties": {"next": {"type": "string"}}}
    assert found(output({"$defs": {"node": flat}, "$ref": "#/$defs/node"})) == set()


# -- doubts


def doubted(fields: dict[str, Any], model: str) -> set[str]:
    return {doubt.rule for doubt in doubts(asked(fields), model=model)}


def test_a_tool_that_a_model_was_launched_without_is_doubted() -> None:
    fetch = {"tools": [{"type": "web_fetch_20260318", "name": "web_fetch"}]}
    assert doubted(fetch, OPUS_5) == {"tool-not-offered"}
    assert doubted(fetch, OPUS_5_5) == set()


def test_thinking_that_is_sent_back_to_models_that_bind_it_is_doubted() -> None:
    back = {
        "messages": [ASK, {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "s"}]}]
    }
    assert doubted(back, SONNET_5_5) == {"bound-thinking"}
    assert doubted(back, OPUS_4_7) == set()
    bound = {"thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}}
    assert doubted(back | bound, SONNET_5_5) == set()


def test_fable_is_told_to_need_retention_and_mythos_to_need_a_verified_organization() -> None:
    assert doubted({}, "claude-fable-5-2") == {"retention"}
    assert doubted({}, "claude-mythos-5-2") == {"restricted-model"}


def test_every_priced_model_has_its_traits() -> None:
    for name_ in shipped_prices().models:
        assert traits_of(name_) is not None, name_
