"""Rows that fail and go again: how often, and what is left of it."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from runner.domain.outcome import FailureKind, Outcome
from runner.domain.request import MessagesRequest
from runner.simulator import Fault
from tests.engine.house import Books, House, Scripted, answered, failed, prompts, served

pytestmark = pytest.mark.anyio


async def test_an_endless_500_is_sent_max_attempts_times_a_row_and_no_more(house: House) -> None:
    run = house.new_run(prompts(20), limits={"max_attempts": 4})
    async with served(house, faults=(Fault(kind="api_error"),)) as api:
        end = await house.work(run, api)
    assert end.pause is None
    assert Counter(len(times) for times in api.sent.values()) == {4: 20}
    assert house.statuses(run) == {"errored": 20}
    assert {row.result.attempts for row in house.rows(run)} == {4}
    assert {row.result.error_type for row in house.rows(run)} == {"api_error"}


async def test_a_row_that_is_wrong_is_sent_once(house: House) -> None:
    run = house.new_run([*prompts(5, "[[sim:error=400:invalid_request_error]]"), *prompts(5)])
    async with served(house) as api:
        end = await house.work(run, api)
    assert end.run.state == "done_with_failures"
    assert {len(times) for times in api.sent.values()} == {1}
    assert house.statuses(run) == {"errored": 5, "succeeded": 5}


async def test_a_row_that_fails_twice_succeeds_at_the_third_attempt_and_both_failures_are_kept(house: House) -> None:
    run = house.new_run(prompts(6, "[[sim:flaky=2:500:api_error]]"))
    async with served(house) as api:
        end = await house.work(run, api)
        assert end.run.state == "done"
        assert {row.result.attempts for row in house.rows(run)} == {3}
        tries = Counter((attempt.idx, attempt.kind, bool(attempt.counted)) for attempt in house.table("attempts"))
        assert tries == {(idx, "transient", True): 2 for idx in range(6)}
        Books(house, api.simulator, run).check()


async def test_a_row_that_is_due_again_does_not_stand_in_line_behind_rows_that_wait_for_the_limits(
    house: House,
) -> None:
    run = house.new_run([b'{"prompt":"unlucky"}', *prompts(400)], limits={"rpm": 60, "concurrency": 8})

    def answer(request: MessagesRequest, number: int) -> Outcome:
        lucky = number > 0 or b"unlucky" not in request.body
        return answered(request) if lucky else failed(FailureKind.TRANSIENT, "api_error")

    service = Scripted(house.clock, answer, latency_s=1.0)
    end = await house.work(run, service)
    assert end.run.state == "done"
    first_s, again_s = (
        at_s for at_s, (_, body) in zip(service.times_s, service.sent, strict=True) if b"unlucky" in body
    )
    assert again_s - first_s < 10.0, f"{service.times_s[-1]:.0f} s in all"


async def test_attempts_are_counted_over_restarts(house: House) -> None:
    """Stopped in the middle of its retries, a row has the rest of its attempts left and not all of them again."""
    run = house.new_run(prompts(3), limits={"max_attempts": 5})
    async with served(house) as api:
        for _ in range(3):
            api.simulator.set_faults((Fault(kind="api_error", first=3), Fault(kind="authentication")))
            end = await house.work(run, api)
            assert end.pause is not None
        api.simulator.set_faults((Fault(kind="api_error"),))
        await house.work(run, api)
    assert house.statuses(run) == {"errored": 3}
    counted = Counter(attempt.idx for attempt in house.table("attempts") if attempt.counted)
    assert set(counted.values()) == {4}, "the fifth is the result"


async def test_backoffs_grow_and_differ_from_row_to_row(house: House) -> None:
    run = house.new_run(prompts(40), limits={"max_attempts": 4, "concurrency": 40})
    async with served(house, faults=(Fault(kind="api_error"),)) as api:
        await house.work(run, api)
    waits = [[(b - a) / 1e6 for a, b in itertools.pairwise(t)] for t in api.sent.values()]
    for step, ceiling in enumerate((1.0, 2.0, 4.0)):
        own = [wait[step] for wait in waits]
        # What the clock runs on while sockets are read is not the row's own wait.
        assert max(own) <= ceiling + 2.0
        assert len({round(wait, 3) for wait in own}) > 20, "no two rows wait alike"
