"""Batches over hours and weeks: who goes again, who is waited for, what is said when, and when results are gone."""

from __future__ import annotations

from collections import Counter

import pytest

from runner.domain.job import DeleteAfter
from runner.domain.run import Run
from runner.domain.states import BatchState, PauseReason, RunState
from runner.domain.submission import Timing
from runner.simulator import Fault
from runner.simulator.batches import PATH
from tests.engine.batch_house import (
    DAY_S,
    HOUR_S,
    MINUTE_S,
    TIMING,
    Office,
    at_create,
    at_list,
    at_results,
    at_status,
    batch_job,
    check_rows,
    office,
    pace,
)
from tests.engine.house import House, prompts

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("rare_looks")]

# The longest that anybody waits between two looks at a batch.
POLL_S = 5 * TIMING.poll_s
# Asking less often, for tests of many days.
SELDOM = Timing(poll_s=2_400.0)
NOT_FOUND = {"status": 404, "error_type": "not_found_error", "message": "not found"}


async def ended_well(api: Office, run: Run, rows: int) -> None:
    end = await api.work(run)
    assert end.pause is None
    check_rows(api, run, rows)
    api.books(run).check()
    api.books(run).check_budget_row()


async def test_a_day_with_expired_cancelled_and_stuck_rows_sends_again_only_what_must_go_again(house: House) -> None:
    """Of three batches one expires with 30% undone, one is cancelled by somebody at 40%, one is stuck for days."""
    run = house.new_run(prompts(30), budget_pico=10**13, **batch_job(max_requests=10))
    async with office(house, batch_seconds=HOUR_S, faults=(at_create("batch_stuck", after=2),)) as api:

        def set_out() -> None:
            pace(api, 0, expired_share=0.3)
            pace(api, 1, seconds=DAY_S)

        api.at_hours(
            (0.5, set_out),
            (9.6, lambda: api.cancel_by_hand(1)),
            (60.0, lambda: api.cancel_by_hand(2)),
        )
        await ended_well(api, run, 30)
        assert [create.count for create in api.creates] == [10, 10, 10, 6, 3]
        times = [api.made_at_s(create) / HOUR_S for create in api.creates]
        assert max(times[:3]) < 0.001, "at once"
        assert 9.6 < times[3] < 9.8
        assert 24.0 <= times[4] < 24.2
        assert Counter(row.result.attempts for row in house.rows(run)) == Counter({1: 21, 2: 9})
        kept = [row.result.batch for row in house.rows(run) if row.result.attempts == 1]
        assert Counter(kept) == Counter({api.batches[0].id: 7, api.batches[1].id: 4, api.batches[2].id: 10})
        (alarm_s,) = api.when("batch_overdue")
        assert 25 * HOUR_S <= alarm_s <= 25 * HOUR_S + POLL_S
        assert [event for event in api.names() if event.startswith("batch_results")] == []
        assert 60.0 < api.now_s / HOUR_S < 60.2


async def test_rows_that_expire_each_time_end_so_after_their_attempts(house: House) -> None:
    run = house.new_run(prompts(4), limits={"max_attempts": 3}, **batch_job())
    async with office(house, batch_expired_share=0.5) as api:
        await ended_well(api, run, 4)
        assert [create.count for create in api.creates] == [4, 2, 1]
        assert house.statuses(run) == Counter(succeeded=4)
    run = house.new_run(prompts(2), limits={"max_attempts": 2}, **batch_job())
    async with office(house, seed=1, batch_expired_share=1.0) as api:
        end = await api.work(run)
        assert end.run.state is RunState.DONE_WITH_FAILURES
        assert house.statuses(run) == Counter(expired=2)
        assert 48.0 <= api.now_s / HOUR_S < 48.5


async def test_a_batch_is_asked_about_seldom_and_ever_more_so(house: House) -> None:
    run = house.new_run(prompts(3), **batch_job())
    async with office(house, batch_seconds=23 * HOUR_S) as api:
        await ended_well(api, run, 3)
        assert 23 * 12 < api.wire.asked["status"] < 23 * 12 + 30
        assert api.wire.asked["list"] == 1
        assert api.now_s < 23 * HOUR_S + POLL_S + 1


async def test_the_limit_of_the_endpoints_is_respected(house: House) -> None:
    run = house.new_run(prompts(24), **batch_job(max_requests=2))
    async with office(house, batch_seconds=HOUR_S, batch_rpm=20) as api:
        await ended_well(api, run, 24)
        windows = api.simulator.ledger.windows.items()
        assert sum(window["batch_requests"] for _, window in windows) < 100
        assert not any(window["batch_requests"] for minute, window in windows if minute >= 5), "they spread out"


async def test_a_batch_that_cannot_be_found_for_a_while_is_waited_for(house: House) -> None:
    faults = (at_status("error", **NOT_FOUND, after_s=2 * HOUR_S, until_s=2 * HOUR_S + 300),)
    run = house.new_run(prompts(3), **batch_job())
    async with office(house, batch_seconds=3 * HOUR_S, faults=faults) as api:
        await ended_well(api, run, 3)
        assert len(api.creates) == 1
        assert "batch_missing" not in api.names()


async def test_a_batch_that_cannot_be_found_for_long_is_told_and_never_sent_again(house: House) -> None:
    faults = (at_status("error", **NOT_FOUND, after_s=2 * HOUR_S, until_s=5 * HOUR_S),)
    run = house.new_run(prompts(3), **batch_job())
    async with office(house, batch_seconds=3 * HOUR_S, faults=faults) as api:
        await ended_well(api, run, 3)
        assert len(api.creates) == 1
        (told_s,) = api.when("batch_missing")
        missing_s = TIMING.missing_patience_s
        assert 2 * HOUR_S + missing_s <= told_s <= 2 * HOUR_S + missing_s + 2 * POLL_S


@pytest.mark.parametrize("status", ["pondering", "", "Ended"])
async def test_a_status_that_nobody_knows_is_no_end(house: House, status: str) -> None:
    faults = (at_status("batch_status", message=status or " ", until_s=4 * HOUR_S),)
    run = house.new_run(prompts(3), **batch_job())
    async with office(house, faults=faults) as api:
        await ended_well(api, run, 3)
        assert len(api.creates) == 1
        assert 4 * HOUR_S <= api.now_s < 4 * HOUR_S + POLL_S + 1


async def test_results_that_stay_away_are_warned_of_from_day_twenty(house: House) -> None:
    faults = (at_results("error", **NOT_FOUND, until_s=21 * DAY_S),)
    run = house.new_run(prompts(3), **batch_job())
    async with office(house, faults=faults, timing=SELDOM) as api:
        await ended_well(api, run, 3)
        assert house.statuses(run) == Counter(succeeded=3)
        (warned_s,) = api.when("batch_results_expire")
        assert 20 * DAY_S <= warned_s <= 20 * DAY_S + 5 * SELDOM.poll_s
        assert "9 days" in api.texts("batch_results_expire")[0]
        assert 21 * DAY_S <= api.now_s <= 21 * DAY_S + 5 * SELDOM.poll_s


async def test_a_run_that_comes_back_after_twenty_days_fetches_before_it_sends_anything(house: House) -> None:
    run = house.new_run(prompts(6), **batch_job(max_requests=3, max_queued=3))
    async with office(house) as api:
        await api.work(run, waits=False)
        await house.clock.advance(22 * DAY_S)
        api.wire.log.clear()
        await ended_well(api, run, 6)
        assert api.wire.log[:3] == ["status", "results", "list"]
        assert api.when("batch_results_expire") == [22 * DAY_S]


async def test_results_that_are_gone_end_their_rows_and_may_have_been_billed(house: House) -> None:
    run = house.new_run(prompts(4), budget_pico=10**13, **batch_job())
    async with office(house, timing=SELDOM) as api:
        await api.work(run, waits=False)
        await house.clock.advance(29 * DAY_S + 1)
        await ended_well(api, run, 4)
        told = {(row.result.status, row.result.error_type) for row in house.rows(run)}
        assert told == {("errored", "results_expired")}
        assert len(api.creates) == 1, "they do not go again by themselves"
        lines = [line for line in house.table("ledger") if line.kind == "unknown"]
        assert len(lines) == 4
        assert all(line.bound_pico > 0 for line in lines)
        end = await api.work(run, retry=True)
        assert end.run.state is RunState.DONE, "a person may ask for them again"


async def test_results_that_never_come_are_given_up_on_day_twenty_nine_and_not_before(house: House) -> None:
    run = house.new_run(prompts(3), **batch_job())
    async with office(house, faults=(at_results("error", **NOT_FOUND),), timing=SELDOM) as api:
        await ended_well(api, run, 3)
        assert {row.result.error_type for row in house.rows(run)} == {"results_expired"}
        assert 29 * DAY_S <= api.now_s <= 29 * DAY_S + 5 * SELDOM.poll_s


async def test_a_batch_that_somebody_deletes_is_a_question_to_a_person(house: House) -> None:
    """Nothing is sent in its place, and nobody waits a month for it in one process."""
    run = house.new_run(prompts(3), **batch_job())
    async with office(house) as api:
        await api.work(run, waits=False)
        await house.clock.advance(HOUR_S)
        del api.simulator.batches._batches[api.batches[0].id]
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.UNKNOWN_BATCH
        assert "no longer shows the batch" in end.pause.message
        assert api.submissions(run)[0].question is not None
        assert len(api.creates) == 1
        (asked_s,) = api.when("batch_missing")
        assert asked_s >= HOUR_S + TIMING.missing_patience_s, "a 404 heals by itself for a while"


async def test_a_batch_that_somebody_deletes_is_given_up_when_its_results_would_be_gone(house: House) -> None:
    run = house.new_run(prompts(3), **batch_job())
    async with office(house, timing=SELDOM) as api:
        await api.work(run, waits=False)
        del api.simulator.batches._batches[api.batches[0].id]
        await house.clock.advance(29 * DAY_S)
        end = await api.work(run)
        assert end.pause is None
        assert {row.result.error_type for row in house.rows(run)} == {"results_expired"}
        assert len(api.creates) == 1


@pytest.mark.parametrize("ended", [False, True])
async def test_a_batch_of_another_workspace_than_the_key_s_is_not_asked_for_for_ever(
    house: House, ended: bool
) -> None:
    """Its key was moved. The first answer that names the place says so, whether somebody waits or not."""
    run = house.new_run(prompts(3), **batch_job())
    async with office(house, batch_seconds=HOUR_S) as api:
        await api.work(run, waits=False)
        await house.clock.advance(2 * HOUR_S if ended else 60.0)
        api.move_key("wrkspc_elsewhere")
        for waits in (False, True):
            end = await api.work(run, waits=waits)
            assert end.pause is not None
            assert end.pause.reason is PauseReason.UNKNOWN_BATCH
            assert "another workspace" in end.pause.message
        assert api.now_s < 2 * HOUR_S + 600, "nobody waits for what cannot come"
        assert len(api.creates) == 1
        api.move_key(None)
        await ended_well(api, run, 3)
        assert api.submissions(run)[0].question is None


async def test_each_warning_is_told_whatever_was_told_before(house: House) -> None:
    """Overdue on the second day, missing on the third, and from day twenty on its results are about to go."""
    faults = (
        at_create("batch_stuck", lasts_s=4 * DAY_S),
        at_status("error", **NOT_FOUND, after_s=2 * DAY_S, until_s=3 * DAY_S),
        at_results("error", **NOT_FOUND, until_s=21 * DAY_S),
    )
    run = house.new_run(prompts(3), **batch_job())
    async with office(house, faults=faults, timing=SELDOM) as api:
        await ended_well(api, run, 3)
        days = [api.when(name)[0] / DAY_S for name in ("batch_overdue", "batch_missing", "batch_results_expire")]
        assert [int(day * 4) / 4 for day in days] == [1.0, 2.0, 20.0]


# --- batches that are deleted when they have been read


async def test_what_has_been_read_is_deleted_on_wish_at_the_end(house: House) -> None:
    run = house.new_run(prompts(9), **batch_job(max_requests=3, delete_after=DeleteAfter.INGEST))
    async with office(house, batch_seconds=HOUR_S) as api:
        await ended_well(api, run, 9)
        assert api.batches == []
        assert api.wire.log[-3:] == ["delete"] * 3
        assert api.wire.log.index("delete") > max(n for n, door in enumerate(api.wire.log) if door == "results")


async def test_nothing_is_deleted_before_the_sweep(house: House) -> None:
    run = house.new_run(prompts(6), **batch_job(max_requests=3, delete_after=DeleteAfter.INGEST))
    async with office(house, batch_seconds=HOUR_S, faults=(at_create("reset"),)) as api:
        await ended_well(api, run, 6)
        assert sorted(api.states(run)) == ["absent", "ingested", "ingested"]
        log = api.wire.log
        assert log[-3:] == ["list", "delete", "delete"], "the list is swept, and only then anything is deleted"


async def test_nothing_is_deleted_while_the_sweep_cannot_be_made(house: House) -> None:
    run = house.new_run(prompts(6), **batch_job(max_requests=3, delete_after=DeleteAfter.INGEST))
    async with office(house, batch_seconds=3 * HOUR_S, faults=(at_create("reset"),)) as api:
        api.at_hours(
            (2.0, lambda: api.simulator.set_faults((at_list("api_error"),))),
        )
        await ended_well(api, run, 6)
        assert api.wire.asked["delete"] == 0
        assert len(api.batches) == 2


async def test_what_cannot_be_deleted_does_not_matter(house: House) -> None:
    fault = Fault(kind="permission", path=PATH + "/*", method="DELETE")
    run = house.new_run(prompts(3), **batch_job(delete_after=DeleteAfter.INGEST))
    async with office(house, faults=(fault,)) as api:
        end = await api.work(run)
        assert end.tally.done == 3
        assert len(api.batches) == 1


async def test_nothing_is_deleted_unasked(house: House) -> None:
    run = house.new_run(prompts(3), **batch_job())
    async with office(house) as api:
        await ended_well(api, run, 3)
        assert api.wire.asked["delete"] == 0
        assert api.states(run) == [BatchState.INGESTED]
        assert api.now_s < MINUTE_S * 2


# --- a service that is down


@pytest.mark.parametrize("canceled", [False, True])
async def test_who_does_not_wait_for_batches_does_not_wait_for_a_service_that_is_down_either(
    house: House, canceled: bool
) -> None:
    """Ten batches are asked about, and all are asked to end: the patience is with the service, not with each."""
    down = [at_status("api_error", after_s=60), at_list("api_error", after_s=60)]
    down.append(Fault(kind="api_error", path=PATH + "/*/cancel", method="POST", after_s=60))
    run = house.new_run(prompts(10), **batch_job(max_requests=1))
    async with office(house, faults=tuple(down)) as api:
        await api.work(run, waits=False)
        assert len(api.creates) == 10
        await house.clock.advance(120)
        if canceled:
            house.store.move_run(run.id, "resumed", pause_reason=None, pause_message=None)
            house.store.move_run(run.id, "cancel asked")
        began_s = api.now_s
        await api.work(run, waits=False)
        assert api.now_s - began_s < 120
        assert len(api.creates) == 10
