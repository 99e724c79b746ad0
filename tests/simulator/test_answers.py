"""The same body always gets the same answer, and it fits what was asked."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from runner.simulator import Simulator, SimulatorConfig, expected_message, prompt_digest
from tests.simulator.calls import body, params, post
from tests.turned_clock import TurnedClock

CONFIG = SimulatorConfig(seed=7)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["label", "score", "spans", "who", "when", "kind"],
    "properties": {
        "label": {"enum": ["positive", "negative", "neutral"]},
        "score": {"type": "number"},
        "count": {"type": "integer"},
        "sure": {"type": "boolean"},
        "note": {"type": "string"},
        "kind": {"const": "review"},
        "when": {"type": "string", "format": "date-time"},
        "spans": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/span"}},
        "who": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}]},
    },
    "$defs": {
        "span": {
            "type": "object",
            "additionalProperties": False,
            "required": ["text"],
            "properties": {"text": {"type": "string"}, "at": {"type": ["integer", "null"]}},
        }
    },
}


def answer(content: bytes, config: SimulatorConfig = CONFIG) -> dict[str, Any]:
    reply = post(Simulator(config, TurnedClock()), content)
    message: dict[str, Any] = json.loads(reply.body)
    assert reply.status == 200, message
    return message


def test_what_is_expected_is_what_is_sent() -> None:
    assert answer(body("one")) == expected_message(CONFIG, body("one"))


def test_an_answer_does_not_depend_on_what_was_asked_before_or_when() -> None:
    clock = TurnedClock()
    simulator = Simulator(CONFIG, clock)
    post(simulator, body("something else"))
    assert json.loads(post(simulator, body("one")).body) == expected_message(CONFIG, body("one"))


def test_another_seed_gives_another_message_id() -> None:
    assert answer(body("one"))["id"] != answer(body("one"), SimulatorConfig(seed=8))["id"]


def test_the_text_ends_with_the_digest_of_its_prompt() -> None:
    text = answer(body("one"))["content"][0]["text"]
    assert text.endswith(f"[{prompt_digest(params('one'))}]")
    assert '"one"' in text


def test_the_digest_ignores_key_order_and_settings_beside_the_prompt() -> None:
    told = params("one", system="Be kind.")
    assert prompt_digest(told) == prompt_digest(dict(reversed(told.items())) | {"max_tokens": 1})
    assert prompt_digest(told) != prompt_digest(told | {"system": "Be brief."})


@pytest.mark.parametrize("number", range(40))
def test_a_structured_answer_is_an_instance_of_its_schema(number: int) -> None:
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    message = answer(body(f"row {number}", output_config=wanted, max_tokens=4096))
    jsonschema.validate(json.loads(message["content"][0]["text"]), SCHEMA)
    assert message["stop_reason"] == "end_turn"


def test_a_free_string_of_a_structured_answer_carries_the_digest() -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["note"],
        "properties": {"note": {"type": "string"}},
    }
    told = params("one", output_config={"format": {"type": "json_schema", "schema": schema}})
    text = answer(json.dumps(told).encode())["content"][0]["text"]
    assert f"[{prompt_digest(told)}]" in json.loads(text)["note"]


def test_a_recursive_schema_still_ends() -> None:
    node = {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}
    schema = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "additionalProperties": False,
                "required": ["next"],
                "properties": {"next": node},
            }
        },
    }
    for number in range(20):
        told = {"format": {"type": "json_schema", "schema": schema}}
        text = answer(body(str(number), output_config=told, max_tokens=4096))["content"][0]["text"]
        jsonschema.validate(json.loads(text), schema)


def test_a_forced_tool_is_called_with_an_instance_of_its_schema() -> None:
    tools = [{"type": "bash_20250124", "name": "bash"}, {"name": "label", "input_schema": SCHEMA}]
    message = answer(body("x", tools=tools, tool_choice={"type": "tool", "name": "label"}, max_tokens=4096))
    (block,) = message["content"]
    assert (block["type"], block["name"], message["stop_reason"]) == ("tool_use", "label", "tool_use")
    jsonschema.validate(block["input"], SCHEMA)


def test_an_answer_above_max_tokens_is_cut_there() -> None:
    message = answer(body("one", max_tokens=3))
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] == 3
    assert len(message["content"][0]["text"]) == 12


def test_zero_max_tokens_gives_no_content() -> None:
    message = answer(body("one", max_tokens=0))
    assert (message["content"], message["usage"]["output_tokens"]) == ([], 0)


def test_a_stop_sequence_ends_the_text_before_it() -> None:
    message = answer(body("one", stop_sequences=['"one"']))
    assert message["stop_reason"] == "stop_sequence"
    assert message["stop_sequence"] == '"one"'
    assert '"one"' not in message["content"][0]["text"]


def test_output_length_can_be_set_for_all_answers() -> None:
    message = answer(body("one"), SimulatorConfig(output_tokens=100))
    assert message["usage"]["output_tokens"] == 100
    assert message["content"][0]["text"].endswith("]")


@pytest.mark.parametrize("text", ["a", "x" * 10_000, "π" * 1_000, "日本語のテキスト"])
def test_input_tokens_are_at_least_one_and_never_more_than_the_bytes(text: str) -> None:
    told = json.dumps(params(text), ensure_ascii=False).encode()
    used = answer(told)["usage"]["input_tokens"]
    assert 1 <= used <= len(told)
    assert used == pytest.approx(len(text.encode()) / 4, abs=1)


def test_thinking_asked_for_comes_first_and_counts_as_output() -> None:
    message = answer(body("one", thinking={"type": "adaptive"}))
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    assert 0 < message["usage"]["output_tokens_details"]["thinking_tokens"] < message["usage"]["output_tokens"]


def test_an_alias_answers_under_the_dated_id() -> None:
    assert answer(body("one", model="claude-haiku-4-5"))["model"] == "claude-haiku-4-5-20251001"


def test_an_invalid_body_has_no_expected_message() -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        expected_message(CONFIG, body("one", max_tokens=None))
