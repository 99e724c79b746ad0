"""Each fault does what its name says, to the requests it is aimed at, the same in every replay."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from runner.simulator import Fault, Simulator, SimulatorConfig
from runner.simulator.faults import (
    BATCH_KINDS,
    EXECUTED_KINDS,
    KINDS,
    REFUSING_KINDS,
    RESULTS_KINDS,
    STREAM_KINDS,
    WIRE_KINDS,
)
from tests.simulator.calls import body, error_of, events_of, header, post
from tests.turned_clock import TurnedClock


def with_faults(*faults: Fault, clock: TurnedClock | None = None, **settings: Any) -> Simulator:
    return Simulator(SimulatorConfig(faults=faults, **settings), clock or TurnedClock())


def hits(simulator: Simulator, count: int) -> list[int]:
    """Which of so many calls, from 0, were hit."""
    return [number for number in range(count) if post(simulator, body(str(number))).status != 200]


# -- which request


@pytest.mark.parametrize(
    ("aim", "hit"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"first": 2}, [0, 1]),
        ({"after": 4}, [4, 5]),
        ({"after": 1, "first": 2}, [1, 2]),
        ({"every": 3}, [2, 5]),
        ({"every": 2, "first": 2}, [1, 3]),
        ({"body_contains": '"4"'}, [4]),
        ({"path": "/v1/models"}, []),
        ({"path": "/v1/*"}, [0, 1, 2, 3, 4, 5]),
        ({"method": "GET"}, []),
        ({"probability": 0.0}, []),
    ],
)
def test_a_fault_hits_the_requests_it_is_aimed_at(aim: dict[str, Any], hit: list[int]) -> None:
    assert hits(with_faults(Fault(kind="overloaded", **aim)), 6) == hit


async def _statuses_over_time(simulator: Simulator, clock: TurnedClock) -> list[int]:
    statuses = []
    for _ in range(4):
        statuses.append(post(simulator, body()).status)
        await clock.advance(10)
    return statuses


@pytest.mark.anyio
async def test_a_fault_can_have_a_window_on_the_clock(clock: TurnedClock) -> None:
    simulator = with_faults(Fault(kind="overloaded", after_s=10, until_s=30), clock=clock)
    assert await _statuses_over_time(simulator, clock) == [200, 529, 529, 200]


def test_dice_fall_the_same_for_the_same_seed_and_otherwise_for_another() -> None:
    fault = Fault(kind="overloaded", probability=0.3)
    first, again = (hits(with_faults(fault, seed=1), 200) for _ in range(2))
    assert first == again
    assert first != hits(with_faults(fault, seed=2), 200)
    assert 40 <= len(first) <= 80


def test_the_first_fault_that_hits_wins() -> None:
    simulator = with_faults(Fault(kind="timeout", first=1), Fault(kind="overloaded", first=2))
    assert [post(simulator, body()).status for _ in range(3)] == [504, 529, 200]


def test_an_unknown_kind_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="unknown fault kind"):
        Fault(kind="gremlin")


# -- what it does

ERRORS = {
    "rate_limit": (429, "rate_limit_error", None),
    "ramp_limit": (429, "rate_limit_error", "ramp_limit_exceeded"),
    "spend_limit": (429, "rate_limit_error", "enforced_spend_limit_reached"),
    "customer_spend_limit": (400, "invalid_request_error", None),
    "credit_low": (400, "invalid_request_error", None),
    "authentication": (401, "authentication_error", None),
    "permission": (403, "permission_error", None),
    "billing": (402, "billing_error", None),
    "api_error": (500, "api_error", None),
    "cmek": (503, "api_error", "cmek_key_unreachable"),
    "timeout": (504, "timeout_error", None),
    "overloaded": (529, "overloaded_error", None),
}


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_an_error_fault_answers_in_the_documented_shape_and_bills_nothing(kind: str) -> None:
    simulator = with_faults(Fault(kind=kind))
    reply = post(simulator, body())
    told = json.loads(reply.body)
    status, error_type, code = ERRORS[kind]
    assert (reply.status, told["type"], told["error"]["type"]) == (status, "error", error_type)
    assert told["error"].get("details", {}).get("error_code") == code
    assert told["request_id"] == header(reply, "request-id")
    assert simulator.ledger.charges == []
    assert simulator.ledger.faults == {kind: 1}


def test_only_rate_and_ramp_limits_say_when_to_come_back() -> None:
    for kind in ERRORS:
        waits = header(post(with_faults(Fault(kind=kind)), body()), "retry-after") is not None
        assert waits == (kind in ("rate_limit", "ramp_limit")), kind


def test_the_customers_spend_limit_begins_with_its_fixed_phrase() -> None:
    error = error_of(post(with_faults(Fault(kind="customer_spend_limit")), body()))
    assert error["message"].startswith("You have reached your specified API usage limits.")


@pytest.mark.parametrize(
    ("form", "name", "value"),
    [
        ("seconds", "retry-after", "90"),
        ("ms", "retry-after-ms", "90000"),
        ("junk", "retry-after", "soon, we hope"),
        ("none", "retry-after", None),
        ("reset_only", "retry-after", None),
        ("reset_only", "anthropic-ratelimit-requests-reset", "2026-11-21T10:01:30Z"),
    ],
)
def test_retry_after_comes_in_every_form(form: Any, name: str, value: str | None) -> None:
    fault = Fault(kind="rate_limit", retry_after=form, retry_after_s=90)
    assert header(post(with_faults(fault), body()), name) == value


def test_retry_after_as_a_date_is_on_the_clock() -> None:
    fault = Fault(kind="rate_limit", retry_after="http_date", retry_after_s=90)
    told = header(post(with_faults(fault), body()), "retry-after")
    assert parsedate_to_datetime(str(told)).isoformat() == "2026-11-21T10:01:30+00:00"


@pytest.mark.parametrize(("wish", "told"), [(True, "true"), (False, "false"), (None, None)])
def test_x_should_retry_goes_both_ways(wish: bool | None, told: str | None) -> None:
    reply = post(with_faults(Fault(kind="api_error", should_retry=wish)), body())
    assert header(reply, "x-should-retry") == told


def test_any_error_can_be_made_up() -> None:
    fault = Fault(kind="error", status=418, error_type="teapot_error", error_code="short", message="stout")
    reply = post(with_faults(fault), body())
    told = {"type": "teapot_error", "message": "stout", "details": {"error_code": "short"}}
    assert (reply.status, error_of(reply)) == (418, told)


@pytest.mark.parametrize(("kind", "status"), [("html_502", 502), ("html_200", 200)])
def test_a_page_from_an_edge_has_no_request_id(kind: str, status: int) -> None:
    reply = post(with_faults(Fault(kind=kind)), body())
    assert reply.status == status
    assert header(reply, "content-type") == "text/html"
    assert header(reply, "request-id") is None


def test_a_redirect_points_to_another_origin() -> None:
    reply = post(with_faults(Fault(kind="redirect", location="http://evil.test/")), body())
    assert (reply.status, header(reply, "location")) == (307, "http://evil.test/")


def test_a_wrong_content_type_hides_a_good_billed_answer() -> None:
    simulator = with_faults(Fault(kind="wrong_content_type"))
    reply = post(simulator, body())
    assert header(reply, "content-type") == "text/plain; charset=utf-8"
    assert json.loads(reply.body)["type"] == "message"
    assert len(simulator.ledger.charges) == 1


@pytest.mark.parametrize("kind", sorted(WIRE_KINDS))
def test_a_wire_fault_bills_what_was_executed_and_nothing_else(kind: str) -> None:
    simulator = with_faults(Fault(kind=kind))
    reply = post(simulator, body())
    assert reply.wire is not None
    assert len(simulator.ledger.charges) == (0 if kind == "reset" else 1)


def test_a_stall_need_not_be_executed() -> None:
    simulator = with_faults(Fault(kind="stall", executed=False))
    post(simulator, body())
    assert simulator.ledger.charges == []


# -- streams


@pytest.mark.parametrize("kind", sorted(STREAM_KINDS))
def test_stream_faults_leave_plain_calls_alone(kind: str) -> None:
    assert json.loads(post(with_faults(Fault(kind=kind)), body()).body)["type"] == "message"


@pytest.mark.parametrize("at", ["first", "middle", "last"])
def test_an_error_in_a_stream_comes_where_it_was_asked_for(at: Any) -> None:
    simulator = with_faults(Fault(kind="sse_error", at=at))
    events = events_of(b"".join(post(simulator, body(stream=True)).events or ()).decode())
    whole = events_of(b"".join(post(with_faults(), body(stream=True)).events or ()).decode())
    assert events[-1][0] == "error"
    assert events[-1][1]["error"]["type"] == "overloaded_error"
    assert events[:-1] == whole[: len(events) - 1]
    assert at != "first" or [name for name, _ in events] == ["message_start", "error"]
    assert at != "last" or events[-2][0] == "message_delta"


@pytest.mark.parametrize("kind", ["sse_error", "truncated_sse", "reset_half", "cut_body"])
def test_a_broken_stream_is_billed_for_what_it_produced(kind: str) -> None:
    told = body("[[sim:tokens=400]]", stream=True, max_tokens=1000)
    simulator = with_faults(Fault(kind=kind, at="middle"))
    post(simulator, told)
    assert 100 < simulator.ledger.charges[0].usage["output_tokens"] < 300


def test_a_stream_cut_after_its_last_token_is_billed_whole() -> None:
    simulator = with_faults(Fault(kind="truncated_sse", at="last"))
    post(simulator, body("[[sim:tokens=400]]", stream=True, max_tokens=1000))
    assert simulator.ledger.charges[0].usage["output_tokens"] == 400


def test_every_kind_is_spoken_for() -> None:
    tried = {*ERRORS, "error", "html_502", "html_200", "redirect", "wrong_content_type"}
    elsewhere = EXECUTED_KINDS | BATCH_KINDS | RESULTS_KINDS  # in test_batch_faults and test_wire
    assert tried | WIRE_KINDS | STREAM_KINDS | elsewhere == KINDS
    assert set(ERRORS) < REFUSING_KINDS
