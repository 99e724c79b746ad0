"""A prompt can ask for any ending: `[[sim:...]]`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.simulator import Simulator, SimulatorConfig, expected_message
from tests.simulator.calls import body, error_of, params, post
from tests.turned_clock import TurnedClock

CONFIG = SimulatorConfig()


def simulator() -> Simulator:
    return Simulator(CONFIG, TurnedClock())


def answer(text: str, **more: Any) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(post(simulator(), body(text, **more)).body)
    return message


def test_refusal_has_no_content_and_says_why() -> None:
    message = answer("[[sim:refusal]]")
    assert (message["stop_reason"], message["content"]) == ("refusal", [])
    assert message["stop_details"]["type"] == "refusal"


def test_refusal_before_the_first_word_is_not_billed_and_one_after_it_is() -> None:
    brain = simulator()
    post(brain, body("[[sim:refusal]]"))
    assert brain.ledger.cost_usd == 0
    assert brain.ledger.counts["unbilled_refusals"] == 1
    post(brain, body("[[sim:refusal=mid]]"))
    assert brain.ledger.cost_usd > 0


def test_max_tokens_cuts_the_answer_early() -> None:
    assert answer("[[sim:max_tokens]]")["stop_reason"] == "max_tokens"


def test_context_window() -> None:
    assert answer("[[sim:context_window]]")["stop_reason"] == "model_context_window_exceeded"


def test_tokens_sets_the_length_of_one_answer() -> None:
    message = answer("[[sim:tokens=150]]")
    assert message["usage"]["output_tokens"] == 150
    assert len(message["content"][0]["text"]) == 600


def test_more_tokens_than_there_is_room_for_are_cut_without_being_written() -> None:
    message = answer("[[sim:tokens=999999999999]]", max_tokens=50)
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", 50)


def test_the_quote_in_the_answer_leaves_directives_out() -> None:
    assert "[[sim:" not in answer("hello [[sim:tokens=50]]")["content"][0]["text"]


def test_pause_turn_ends_after_the_asked_number_of_turns_was_sent_back() -> None:
    told = params("[[sim:pause_turn=2]]")
    brain, reasons = simulator(), []
    for _ in range(3):
        message = json.loads(post(brain, json.dumps(told).encode()).body)
        reasons.append(message["stop_reason"])
        told["messages"].append({"role": "assistant", "content": message["content"]})
    assert reasons == ["pause_turn", "pause_turn", "end_turn"]


def test_a_paused_turn_with_web_search_pays_for_the_search() -> None:
    message = answer("[[sim:pause_turn=1]]", tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 1


def test_tool_use_calls_a_tool_until_its_result_is_sent_back() -> None:
    tools = [{"name": "look", "input_schema": {"type": "object", "properties": {}}}]
    told = params("[[sim:tool_use]]", tools=tools)
    first = json.loads(post(simulator(), json.dumps(told).encode()).body)
    assert first["stop_reason"] == "tool_use"
    told["messages"] += [
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": first["content"][0]["id"]}]},
    ]
    assert json.loads(post(simulator(), json.dumps(told).encode()).body)["stop_reason"] == "end_turn"


def test_error_is_given_every_time() -> None:
    brain = simulator()
    for _ in range(2):
        reply = post(brain, body("[[sim:error=400:invalid_request_error]]"))
        assert (reply.status, error_of(reply)["type"]) == (400, "invalid_request_error")
    assert brain.ledger.counts["billed"] == 0


def test_error_may_name_a_code() -> None:
    reply = post(simulator(), body("[[sim:error=503:api_error:cmek_key_unreachable]]"))
    assert error_of(reply)["details"] == {"error_code": "cmek_key_unreachable"}


@pytest.mark.parametrize(("wish", "status"), [("error=413", 413), ("error=502:edge", 502), ("flaky=1:429:edge", 429)])
def test_pages_of_the_edge_are_html_and_name_no_request(wish: str, status: int) -> None:
    reply = post(simulator(), body(f"[[sim:{wish}]]"))
    assert reply.status == status
    assert reply.body.startswith(b"<html>")
    assert "request-id" not in dict(reply.headers)


def test_error_413_with_a_type_is_the_services_own() -> None:
    reply = post(simulator(), body("[[sim:error=413:request_too_large]]"))
    assert (reply.status, error_of(reply)["type"]) == (413, "request_too_large")


def test_flaky_fails_for_the_first_calls_with_this_body() -> None:
    brain, flaky = simulator(), body("a [[sim:flaky=2:529:overloaded_error]]")
    assert [post(brain, flaky).status for _ in range(4)] == [529, 529, 200, 200]
    assert post(brain, body("b [[sim:flaky=2:529:overloaded_error]]")).status == 529
    assert json.loads(post(brain, flaky).body) == expected_message(CONFIG, flaky)


def test_unknown_fields_appear_in_message_usage_and_content() -> None:
    message = answer("[[sim:unknown_fields]]")
    assert message["content"][0]["type"] == "hologram"
    assert {"mood"} <= set(message)
    assert {"spare_tokens", "energy"} <= set(message["usage"])


def test_directives_work_in_blocks_and_only_in_the_users_words() -> None:
    assert answer("x", system="[[sim:refusal]]")["stop_reason"] == "end_turn"
    blocks = [{"role": "user", "content": [{"type": "text", "text": "[[sim:refusal]]"}]}]
    assert answer("x", messages=blocks)["stop_reason"] == "refusal"


def test_an_unreadable_directive_is_a_400() -> None:
    assert post(simulator(), body("[[sim:error=soon]]")).status == 400
