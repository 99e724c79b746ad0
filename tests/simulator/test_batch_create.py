"""What a create refuses at once, what it lets in, and what each request inside then gets."""

from __future__ import annotations

import gzip
import json
from fractions import Fraction
from typing import Any

import pytest

from runner.simulator import Fault, expected_message
from runner.simulator.batch_envelope import MAX_REQUESTS, riders_of
from runner.simulator.billing import cost_usd
from runner.simulator.problems import Problem
from tests.simulator.batch_calls import ask, batch_body, create, finished, kinds, one, requests, results, simulator_on
from tests.simulator.calls import body, error_of, header, params, post
from tests.turned_clock import TurnedClock

GOOD = {"custom_id": "a", "params": params()}
OUTPUT_BETA = "output-300k-2026-03-24"

REFUSED: list[tuple[bytes, str]] = [
    (b"{", "the request body is not valid JSON"),
    (b"[]", "the request body must be a JSON object"),
    (b"{}", "requests: Field required"),
    (batch_body({}), "requests: Input should be a valid list"),
    (batch_body([]), "requests: List should have at least 1 item"),
    (batch_body([GOOD, 7]), "requests.1: Input should be an object"),
    (batch_body([{"params": {}}]), "requests.0.custom_id: Field required"),
    (batch_body([GOOD | {"custom_id": 7}]), "requests.0.custom_id: Input should be a valid string"),
    (batch_body([GOOD | {"custom_id": ""}]), "requests.0.custom_id: String should have at least 1 character"),
    (batch_body([GOOD | {"custom_id": "x" * 65}]), "requests.0.custom_id: String should have at most 64 characters"),
    (batch_body([GOOD | {"custom_id": "a/b"}]), "requests.0.custom_id: String should match pattern"),
    (batch_body([GOOD | {"custom_id": "a\n"}]), "requests.0.custom_id: String should match pattern"),
    (batch_body([GOOD, GOOD | {"custom_id": "b"}, GOOD]), "requests.2.custom_id: 'a' is used more than once"),
    (batch_body([{"custom_id": "a"}]), "requests.0.params: Field required"),
    (batch_body([GOOD | {"params": None}]), "requests.0.params: Field required"),
    (batch_body([GOOD | {"params": []}]), "requests.0.params: Input should be an object"),
]


@pytest.mark.parametrize(("told", "message"), REFUSED)
def test_a_bad_envelope_is_refused_at_once_and_names_its_request(
    told: bytes, message: str, clock: TurnedClock
) -> None:
    reply = ask(simulator_on(clock), "POST", "", told)
    assert (reply.status, error_of(reply)["type"]) == (400, "invalid_request_error")
    assert error_of(reply)["message"].startswith(message)


def test_one_request_too_many_is_refused() -> None:
    told = b'{"requests":[' + b",".join([b'{"custom_id":"a","params":{}}'] * (MAX_REQUESTS + 1)) + b"]}"
    problem = riders_of(told)
    assert isinstance(problem, Problem)
    assert problem.message.startswith("requests: List should have at most 100000 items")


def test_a_new_batch_is_in_progress_and_expires_a_day_later(clock: TurnedClock) -> None:
    batch = create(simulator_on(clock), requests(3))
    assert batch["id"].startswith("msgbatch_01")
    assert batch | {"id": ""} == {
        "id": "",
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
        "created_at": "2026-11-21T10:00:00.000000Z",
        "expires_at": "2026-11-22T10:00:00.000000Z",
        "ended_at": None,
        "cancel_initiated_at": None,
        "archived_at": None,
        "results_url": None,
    }


def test_a_compressed_body_is_read(clock: TurnedClock) -> None:
    told = gzip.compress(batch_body(requests(2)))
    assert ask(simulator_on(clock), "POST", "", told, content_encoding="gzip").status == 200


# -- what each request gets


@pytest.mark.anyio
async def test_the_answer_is_the_one_of_a_single_call_at_batch_terms(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, seed=3)
    batch = await finished(simulator, clock, one("Hello"))
    (line,) = results(simulator, batch["id"])
    assert line["result"]["message"] == expected_message(simulator.config, body("Hello"), batch=True)
    assert line["result"]["message"]["usage"]["service_tier"] == "batch"
    single = json.loads(post(simulator, body("Hello")).body)
    assert line["result"]["message"]["content"] == single["content"]


REFUSED_PARAMS: list[dict[str, Any]] = [
    {"stream": True},
    {"speed": "fast"},
    {"store": True},
    {"thread": {"type": "create"}},
    {"previous_thread_event_id": "ev"},
    {"cache_hint": {}},
    {"context_hint": {}},
    {"fallbacks": []},
    {"research_preview_2026_02": "active"},
    {"max_tokens": 0},
    {"model": "claude-2.1"},
    {"messages": []},
    {"temperature": 0.5},
]


@pytest.mark.anyio
@pytest.mark.parametrize("more", REFUSED_PARAMS, ids=str)
async def test_bad_params_are_accepted_and_come_back_as_errors_nested_twice(
    more: dict[str, Any], clock: TurnedClock
) -> None:
    simulator = simulator_on(clock)
    batch = await finished(simulator, clock, [{"custom_id": "bad", "params": params() | more}, GOOD])
    lines = {line["custom_id"]: line["result"] for line in results(simulator, batch["id"])}
    assert lines["a"]["type"] == "succeeded"
    assert lines["bad"]["type"] == "errored"
    assert (lines["bad"]["error"]["type"], lines["bad"]["error"]["request_id"]) == ("error", None)
    wanted = "not_found_error" if "model" in more else "invalid_request_error"
    assert lines["bad"]["error"]["error"]["type"] == wanted
    assert batch["request_counts"]["errored"] == 1


@pytest.mark.anyio
async def test_stream_false_is_fine(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    batch = await finished(simulator, clock, one("Hello", stream=False))
    assert kinds(results(simulator, batch["id"])) == {"succeeded": 1}


@pytest.mark.anyio
@pytest.mark.parametrize(("beta", "kind"), [(None, "errored"), (OUTPUT_BETA, "succeeded")])
async def test_a_beta_on_the_create_lets_every_request_write_more(
    beta: str | None, kind: str, clock: TurnedClock
) -> None:
    simulator = simulator_on(clock)
    headers = {"anthropic_beta": beta} if beta else {}
    asked = one("Hello", model="claude-opus-5-5", max_tokens=300_000)
    batch = await finished(simulator, clock, asked, **headers)
    assert kinds(results(simulator, batch["id"])) == {kind: 1}


DIRECTIVES: list[tuple[str, str]] = [
    ("refusal", "refusal"),
    ("refusal=mid", "refusal"),
    ("pause_turn=1", "pause_turn"),
    ("max_tokens", "max_tokens"),
    ("context_window", "model_context_window_exceeded"),
    ("error=529:overloaded_error", "overloaded_error"),
    ("error=500:api_error", "api_error"),
    ("flaky=1:529:overloaded_error", "overloaded_error"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("directive", "wanted"), DIRECTIVES)
async def test_directives_hold_for_their_own_request(directive: str, wanted: str, clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    batch = await finished(simulator, clock, [*one(f"Hello [[sim:{directive}]]"), GOOD])
    lines = {line["custom_id"]: line["result"] for line in results(simulator, batch["id"])}
    only = lines["only"]
    told = only["message"]["stop_reason"] if only["type"] == "succeeded" else only["error"]["error"]["type"]
    assert told == wanted
    assert lines["a"]["message"]["stop_reason"] == "end_turn"


@pytest.mark.anyio
async def test_a_flaky_request_succeeds_when_it_is_sent_again(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    asked = one("Hello [[sim:flaky=1:529:overloaded_error]]")
    ends = [kinds(results(simulator, (await finished(simulator, clock, asked))["id"])) for _ in range(2)]
    assert ends == [{"errored": 1}, {"succeeded": 1}]


@pytest.mark.anyio
async def test_a_flaky_request_that_had_no_turn_has_not_failed_yet(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_canceled_share=1.0)
    asked = one("Hello [[sim:flaky=1:529:overloaded_error]]")
    first = create(simulator, asked)
    while simulator.work_ahead():
        pass
    ask(simulator, "POST", f"/{first['id']}/cancel")
    await clock.advance(2)
    assert kinds(results(simulator, first["id"])) == {"canceled": 1}
    second = await finished(simulator, clock, asked)
    assert kinds(results(simulator, second["id"])) == {"errored": 1}


# -- limits


@pytest.mark.anyio
async def test_the_queue_counts_requests_until_their_batch_has_ended(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_queue=10)
    create(simulator, requests(6))
    refused = ask(simulator, "POST", "", batch_body(requests(5)))
    assert (refused.status, error_of(refused)["type"]) == (429, "rate_limit_error")
    create(simulator, requests(4))
    await clock.advance(2)
    create(simulator, requests(10))


@pytest.mark.anyio
async def test_all_batch_doors_share_one_limit_of_their_own(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_rpm=2)
    batch = create(simulator, requests(1))
    seen = ask(simulator, "GET", f"/{batch['id']}")
    assert header(seen, "anthropic-ratelimit-requests-limit") == "2"
    assert header(seen, "anthropic-ratelimit-requests-remaining") == "0"
    assert header(seen, "anthropic-ratelimit-tokens-limit") is None
    refused = ask(simulator, "GET")
    assert (refused.status, header(refused, "retry-after")) == (429, "30")
    assert post(simulator, body()).status == 200
    await clock.advance(30)
    assert ask(simulator, "GET").status == 200


def test_a_tier_has_its_published_limits(clock: TurnedClock) -> None:
    seen = ask(simulator_on(clock, tier="build"), "GET")
    assert header(seen, "anthropic-ratelimit-requests-limit") == "2000"


@pytest.mark.anyio
async def test_the_spend_cap_refuses_the_next_create(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, spend_cap_usd="0.00000001")
    await finished(simulator, clock, requests(1))
    refused = ask(simulator, "POST", "", batch_body(requests(1)))
    assert error_of(refused)["details"]["error_code"] == "enforced_spend_limit_reached"


# -- the bill


@pytest.mark.anyio
async def test_only_what_succeeded_is_billed_at_half_price_when_the_batch_ends(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    asked = requests(5) + one("Hello [[sim:error=500]]")
    batch = create(simulator, [*asked, {"custom_id": "no", "params": params("[[sim:refusal]]")}])
    assert simulator.ledger.cost_usd == 0
    await clock.advance(2)
    lines = results(simulator, batch["id"])
    charges = list(simulator.ledger.all_charges())
    assert [charge.custom_id for charge in charges] == [
        line["custom_id"] for line in lines if line["custom_id"].startswith("row-")
    ]
    for charge in charges:
        assert charge.cost_usd == cost_usd(charge.model, charge.usage) / 2
        assert (charge.batch_id, charge.at_us) == (batch["id"], clock.now_us())
    assert sum((charge.cost_usd for charge in charges), Fraction()) == simulator.ledger.cost_usd > 0
    assert simulator.ledger.counts["billed"] == simulator.ledger.counts["batch_billed"] == 5
    assert simulator.ledger.tokens["output_tokens"] == sum(charge.usage["output_tokens"] for charge in charges)


@pytest.mark.anyio
async def test_the_bill_outlives_its_batch(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    batch = await finished(simulator, clock, requests(3))
    before = list(simulator.ledger.lines())
    ask(simulator, "DELETE", f"/{batch['id']}")
    assert list(simulator.ledger.lines()) == before
    assert len(before) == 3


@pytest.mark.anyio
async def test_every_create_is_written_down_with_what_was_answered(clock: TurnedClock) -> None:
    faults = (
        Fault(kind="executed_reset", path="/v1/messages/batches", method="POST", first=1),
        Fault(kind="overloaded", path="/v1/messages/batches", method="POST", first=1, after=1),
    )
    simulator = simulator_on(clock, faults=faults)
    for count in (2, 3, 4):
        ask(simulator, "POST", "", batch_body(requests(count)))
    ask(simulator, "POST", "", b"{")
    creates = simulator.batches.journal.creates
    assert [create.answered for create in creates] == ["executed_reset", "529", "200", "400"]
    assert [create.count for create in creates] == [2, 3, 4, None]
    assert [create.first_custom_id for create in creates] == ["row-0", "row-0", "row-0", None]
    assert [create.batch_id is not None for create in creates] == [True, False, True, False]
