"""Creates without a certain end, with the real times: nothing is sent in their place before they are settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from runner.domain.run import Run
from runner.domain.states import BatchState, PauseReason, RunState
from runner.domain.submission import OnUnknown, Timing
from runner.engine.batch.common import Common
from runner.simulator import Fault
from tests.engine.batch_house import (
    DAY_S,
    HOUR_S,
    TIMING,
    Office,
    at_create,
    at_list,
    at_status,
    batch_job,
    check_rows,
    office,
)
from tests.engine.house import House, prompts

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("long_looks")]

# From the intent: 36 minutes. Then two listings, a minute apart, say that there is no batch.
SETTLED_S = TIMING.settle_after_intent_s
ABSENT_S = SETTLED_S + TIMING.listing_gap_s
S = TIMING.settle_s

MADE = ["stall", "executed_reset", "reset_half", "executed_error", "executed_html_502"]
NOT_MADE = ["reset", "api_error", "html_502"]


async def ended_well(api: Office, run: Run, rows: int) -> None:
    end = await api.work(run)
    assert end.pause is None, end.pause
    check_rows(api, run, rows)
    assert api.house.statuses(run) == Counter(succeeded=rows)
    api.books(run).check()
    api.books(run).check_budget_row()
    assert api.spool_left() == []


def posted_s(api: Office) -> list[float]:
    return [api.made_at_s(create) for create in api.creates]


# --- the batch is there


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("takes_s", [60.0, 5 * HOUR_S])
@pytest.mark.parametrize("hidden_s", [0.0, S - 1])
async def test_a_batch_that_was_made_is_found_and_no_other_is_sent(
    house: House, kind: str, takes_s: float, hidden_s: float
) -> None:
    run = house.new_run(prompts(5), budget_pico=10**13, **batch_job())
    fault = at_create(kind)
    async with office(house, faults=(fault,), batch_seconds=takes_s, batch_list_delay_s=hidden_s) as api:
        await ended_well(api, run, 5)
        assert len(api.creates) == 1
        assert api.states(run) == [BatchState.INGESTED]
        assert api.texts("batch_found")
        assert api.now_s >= SETTLED_S, "an early listing says nothing"
        assert api.now_s <= max(takes_s, SETTLED_S) + 700
        assert "batch_duplicate" not in api.names()


async def test_a_batch_that_comes_to_be_long_after_the_send_is_waited_for(house: House) -> None:
    """The body lay in a proxy for ten minutes, nobody answered, and then it is listed a quarter of an hour later."""
    run = house.new_run(prompts(5), **batch_job())
    faults = (at_create("batch_late", lasts_s=TIMING.window_s),)
    async with office(house, faults=faults, batch_list_delay_s=S - 1) as api:
        await ended_well(api, run, 5)
        assert len(api.creates) == 1


async def test_what_is_unknown_holds_nobody_else_up(house: House) -> None:
    run = house.new_run(prompts(9), **batch_job(max_requests=3))
    async with office(house, faults=(at_create("executed_reset"),), batch_seconds=300) as api:
        await ended_well(api, run, 9)
        assert [create.count for create in api.creates] == [3, 3, 3]
        assert posted_s(api)[2] < 600
        read = api.when("batch_ingested")
        assert read[1] < 1_000
        assert read[2] > SETTLED_S


async def test_it_says_at_once_that_it_settles_and_until_when(house: House) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=(at_create("reset"),)) as api:
        await ended_well(api, run, 5)
        told = next(told for told in api.told if told.name == "batch_unknown")
        assert told.at_s < 60
        assert "settling" in told.event.text
        until_us = told.event.facts["until_us"]
        assert isinstance(until_us, int)
        assert SETTLED_S <= (until_us - api.began_us) / 1e6 <= SETTLED_S + 5
        assert api.names().count("batch_unknown") == 1


# --- the batch is not there


@pytest.mark.parametrize("kind", NOT_MADE)
async def test_rows_of_a_batch_that_was_not_made_go_again_and_not_a_moment_too_soon(house: House, kind: str) -> None:
    run = house.new_run(prompts(5), budget_pico=10**13, **batch_job())
    async with office(house, faults=(at_create(kind),)) as api:
        await ended_well(api, run, 5)
        first, second = posted_s(api)
        assert ABSENT_S <= second - first <= ABSENT_S + 30
        assert sorted(api.states(run)) == ["absent", "ingested"]
        assert api.wire.asked["list"] >= 4, "before each send, and two to be sure"
        assert "batch_absent" in api.names()
        assert {row.result.attempts for row in house.rows(run)} == {1}


async def test_rows_that_come_free_between_two_looks_at_the_store_are_not_left_behind(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were with the batch when free rows were counted, and the batch is gone when open ones are."""
    read = Common.read

    async def read_long_ago(common: Common, what: Callable[..., Any], *arguments: Any) -> Any:
        found = await read(common, what, *arguments)
        while what == house.store.fresh_rows and house.store.has_riding(common.run.id):
            await house.clock.sleep(1.0)
        return found

    monkeypatch.setattr(Common, "read", read_long_ago)
    async with office(house, faults=(at_create("api_error", first=1),), batch_seconds=60.0) as api:
        await ended_well(api, house.new_run(prompts(4), **batch_job()), 4)
        assert len(api.creates) == 2


async def test_nobody_answers_and_nothing_is_made(house: House) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=(at_create("stall", executed=False),)) as api:
        await ended_well(api, run, 5)
        first, second = posted_s(api)
        assert second - first >= ABSENT_S


async def test_listings_that_fail_for_hours_prove_nothing(house: House) -> None:
    faults = (at_create("reset"), at_list("api_error", after_s=60.0, until_s=3 * HOUR_S))
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=faults) as api:
        await ended_well(api, run, 5)
        _, second = posted_s(api)
        assert second >= 3 * HOUR_S


async def test_a_service_that_breaks_at_every_create_is_not_hammered(house: House) -> None:
    """Each create may have made a batch: every further one is one more to be settled."""
    run = house.new_run(prompts(60), **batch_job(max_requests=2))
    async with office(house, faults=(at_create("api_error", first=None, until_s=HOUR_S),)) as api:
        await ended_well(api, run, 60)
        early = [at_s for at_s in posted_s(api) if at_s <= 600]
        assert len(early) <= 15, "of thirty"


# --- shown later than promised


async def test_a_batch_that_is_shown_too_late_is_a_duplicate_found_and_priced(house: House) -> None:
    run = house.new_run(prompts(5), budget_pico=10**13, **batch_job())
    async with office(
        house, faults=(at_create("executed_reset"),), batch_seconds=3 * HOUR_S, batch_list_delay_s=4 * S
    ) as api:
        end = await api.work(run)
        assert end.pause is None
        assert len(api.creates) == 2
        lost, kept = (create.batch_id for create in api.creates)
        assert {row.result.batch for row in house.rows(run)} == {kept}
        (told,) = [told for told in api.told if told.name == "batch_duplicate"]
        assert told.event.warning
        assert told.event.facts["id"] == lost
        lines = [line for line in house.table("ledger") if line.kind == "duplicate"]
        assert [line.idx for line in sorted(lines, key=lambda line: line.idx)] == list(range(5))
        assert {line.batch for line in lines} == {lost}
        assert told.event.facts["cost_pico"] == sum(line.cost_pico for line in lines)
        (found,) = house.store.duplicates_of(run.id)
        assert (found.provider_id, found.n) == (lost, 5)
        api.books(run).check()
        api.books(run).check_budget_row()
        assert len(api.spool_left()) == 1, "its results are kept apart"
        assert "duplicate" in api.spool_left()[0]


@pytest.mark.parametrize("junk", [b"\n", b"no json\n", b'{"custom_id":"abcdefghij-1"}\n', b'{"custom_id":"x'])
async def test_junk_in_the_results_of_a_duplicate_is_passed_over(house: House, junk: bytes) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(
        house, faults=(at_create("executed_reset"),), batch_seconds=3 * HOUR_S, batch_list_delay_s=4 * S
    ) as api:
        api.wire.mangle = lambda whole: whole + junk
        end = await api.work(run)
        assert end.pause is None
        assert "batch_duplicate" in api.names()
        assert sum(line.kind == "duplicate" for line in house.table("ledger")) == 5


# --- other people's batches


async def test_a_foreign_batch_of_equal_size_is_waited_for_and_never_touched(house: House) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=(at_create("reset"),)) as api:
        theirs: list[str] = []

        async def look(request: httpx.Request) -> None:
            if api.wire.asked["create"] == 1 and not theirs:
                theirs.append(api.foreign(5, 6 * HOUR_S))

        api.wire.after = look
        await ended_well(api, run, 5)
        first, second = posted_s(api)
        assert 6 * HOUR_S <= second - first <= 6 * HOUR_S + 600
        assert api.wire.asked["cancel"] == 0
        assert theirs[0] not in {row.result.batch for row in house.rows(run)}
        assert any("candidate in progress" in text for text in api.texts("batch_unknown"))


async def test_a_foreign_batch_that_has_ended_is_told_by_its_first_line(house: House) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=(at_create("reset"),)) as api:

        async def look(request: httpx.Request) -> None:
            while api.wire.asked["create"] == 1 and len(api.batches) < 3:
                api.foreign(5, 60.0)

        api.wire.after = look
        await ended_well(api, run, 5)
        first, second = posted_s(api)
        assert ABSENT_S <= second - first <= ABSENT_S + 400
        assert api.wire.asked["results"] <= 3 + 1, "each is read once"


async def test_of_several_candidates_the_first_that_verifies_wins_and_none_is_cancelled(house: House) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=(at_create("executed_reset"),), batch_seconds=4 * HOUR_S) as api:

        async def look(request: httpx.Request) -> None:
            while api.wire.asked["create"] == 1 and len(api.batches) < 4:
                api.foreign(5, len(api.batches) * HOUR_S * 1.5)

        api.wire.after = look
        await ended_well(api, run, 5)
        assert len(api.creates) == 1
        assert api.wire.asked["cancel"] == 0
        assert 4 * HOUR_S <= api.now_s <= 4 * HOUR_S + 600
        assert any("4 candidates" in text for text in api.texts("batch_unknown"))
        assert len(api.submissions(run)[0].provisional) == 0
        assert not house.table("candidates")


async def test_a_candidate_that_its_owner_deletes_is_not_waited_for_for_ever(house: House) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=(at_create("reset"),)) as api:
        theirs: list[str] = []
        api.foreign(2, 60.0)  # still listed when the other is gone: we look at the right place

        async def look(request: httpx.Request) -> None:
            if api.wire.asked["create"] == 1 and not theirs:
                theirs.append(api.foreign(5, 20 * HOUR_S))
            if api.now_s > 3 * HOUR_S and theirs[0] in api.simulator.batches._batches:
                del api.simulator.batches._batches[theirs[0]]

        api.wire.after = look
        await ended_well(api, run, 5)
        first, second = posted_s(api)
        assert 3 * HOUR_S + TIMING.missing_patience_s <= second - first <= 5 * HOUR_S


async def test_two_unknown_batches_of_equal_size_are_told_apart(house: House) -> None:
    run = house.new_run(prompts(6), **batch_job(max_requests=3))
    faults = (at_create("executed_reset", first=2),)
    async with office(house, faults=faults, batch_seconds=2 * HOUR_S) as api:
        await ended_well(api, run, 6)
        assert len(api.creates) == 2
        first, second = (create.batch_id for create in api.creates)
        told = [row.result.batch for row in house.rows(run)]
        by_first_row = {create.first_custom_id: create.batch_id for create in api.creates}
        for one in api.submissions(run):
            assert one.provider_id == by_first_row[f"{one.id}-{min(house.store.riding(one.id)[0].idxs)}"]
        assert Counter(told) == {first: 3, second: 3}


@pytest.mark.parametrize("poll_s", [60.0, 1.0])
async def test_one_unknown_end_does_not_keep_who_only_submits_from_sending_the_rest(
    house: House, poll_s: float
) -> None:
    run = house.new_run(prompts(8), **batch_job(max_requests=2))
    async with office(house, timing=Timing(poll_s=poll_s), faults=(at_create("executed_reset"),)) as api:
        await api.work(run, waits=False)
        assert len(api.creates) == 4
        assert sorted(api.states(run)) == ["accepted", "accepted", "accepted", "unknown"]


# --- policies


async def test_cancel_in_a_workspace_of_our_own_ends_the_candidate_early(house: House) -> None:
    job = batch_job(on_unknown=OnUnknown.CANCEL, workspace_exclusive=True)
    run = house.new_run(prompts(10), **job)
    async with office(house, faults=(at_create("executed_reset"),), batch_seconds=10 * HOUR_S) as api:
        await ended_well(api, run, 10)
        assert next(create.count for create in api.creates) == 10
        assert len(api.creates) == 2
        assert 0 < (api.creates[1].count or 0) <= 10
        assert posted_s(api)[1] >= SETTLED_S
        assert api.batches[0].cancel_us is not None


async def test_cancel_where_others_make_batches_too_is_no_more_than_waiting(house: House) -> None:
    run = house.new_run(prompts(10), **batch_job(on_unknown=OnUnknown.CANCEL))
    async with office(house, faults=(at_create("executed_reset"),), batch_seconds=10 * HOUR_S) as api:
        await ended_well(api, run, 10)
        assert len(api.creates) == 1
        assert api.wire.asked["cancel"] == 0


async def test_resubmit_lets_go_after_settling_and_keeps_the_worst_in_the_books(house: House) -> None:
    run = house.new_run(prompts(5), budget_pico=10**13, **batch_job(on_unknown=OnUnknown.RESUBMIT))
    async with office(house, faults=(at_create("executed_reset"),), batch_seconds=5 * HOUR_S) as api:
        end = await api.work(run)
        assert end.pause is None
        first, second = posted_s(api)
        assert SETTLED_S <= second - first <= SETTLED_S + 60
        let_go = [line for line in house.table("ledger") if line.kind == "unknown"]
        assert len(let_go) == 1
        (lost, kept) = api.submissions(run)
        assert let_go[0].bound_pico == lost.worst_pico
        assert let_go[0].idx is None
        assert {row.result.batch for row in house.rows(run)} == {kept.provider_id}
        assert "batch_let_go" in api.names()
        assert "batch_duplicate" in api.names(), "by the end of the run it has ended, and is priced"
        assert house.store.money(run.id).committed_pico == 0, "and holds no room back any more"
        api.books(run).check()
        api.books(run).check_budget_row()


async def test_resubmit_of_what_was_never_made_costs_nothing(house: House) -> None:
    run = house.new_run(prompts(5), budget_pico=10**13, **batch_job(on_unknown=OnUnknown.RESUBMIT))
    async with office(house, faults=(at_create("reset"),)) as api:
        await ended_well(api, run, 5)
        assert "batch_duplicate" not in api.names()


# --- are we looking at the right place?


async def test_a_key_that_looks_at_another_workspace_proves_nothing(house: House) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=(at_create("reset"),)) as api:
        api.at_hours((0.1, lambda: api.move_key("wrkspc_elsewhere")))
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.UNKNOWN_BATCH
        assert "another workspace" in end.pause.message
        assert len(api.creates) == 1
        assert api.states(run) == [BatchState.UNKNOWN]
        assert api.submissions(run)[0].question is not None
        await house.clock.advance(DAY_S)
        end = await api.work(run)
        assert end.pause is not None
        assert len(api.creates) == 1, "not after a day either"
        api.wire.before = _nothing
        api.move_key(None)
        await ended_well(api, run, 5)
        assert sorted(api.states(run)) == ["absent", "ingested"]
        assert all(one.question is None for one in api.submissions(run))


async def test_a_key_that_looks_elsewhere_for_a_while_only_costs_time(house: House) -> None:
    """Once the key is right again, the question answers itself, and no row has gone a second time."""
    run = house.new_run(prompts(6), **batch_job(max_requests=3))
    async with office(house, faults=(at_create("reset"),), batch_seconds=10 * HOUR_S) as api:
        api.at_hours(
            (0.5, lambda: api.move_key("wrkspc_elsewhere")),
            (3.0, lambda: api.move_key(None)),
        )
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.UNKNOWN_BATCH
        assert len(api.creates) == 2
        await house.clock.advance(3 * HOUR_S)
        await ended_well(api, run, 6)
        times = posted_s(api)
        assert len(times) == 3
        assert times[2] >= 3 * HOUR_S
        assert all(one.question is None for one in api.submissions(run))


async def _nothing(_request: object) -> None:
    pass


async def test_a_key_that_comes_back_while_the_run_waits_lets_it_go_on(house: House) -> None:
    """One batch is of unknown end, the other one is followed: both cannot be seen for a while."""
    run = house.new_run(prompts(6), **batch_job(max_requests=3))
    async with office(house, faults=(at_create("stall", first=1),), batch_seconds=10 * HOUR_S) as api:
        states: list[BatchState] = []

        def away() -> None:
            states.extend(api.states(run))
            api.move_key("wrkspc_elsewhere")

        api.at_hours((0.3, away), (0.4, lambda: api.move_key(None)))
        await ended_well(api, run, 6)
        assert sorted(states) == [BatchState.ACCEPTED, BatchState.UNKNOWN]
        assert len(api.creates) == 2


def _a_moment(api: Office) -> Callable[[object], Any]:
    """Each request takes one on its way."""

    async def wait(_request: object) -> None:
        await api.house.clock.sleep(0.01)

    return wait


async def test_where_replies_name_no_place_and_nobody_was_ever_seen_a_person_decides(house: House) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=(at_create("reset"),)) as api:
        api.wire.nameless = True
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.UNKNOWN_BATCH
        assert "no batch proves" in end.pause.message
        assert SETTLED_S <= api.now_s <= ABSENT_S + 900
        assert len(api.creates) == 1


async def test_where_replies_name_no_place_a_batch_of_before_is_the_witness(house: House) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=(at_create("reset"),)) as api:
        api.wire.nameless = True
        api.wire.before = _a_moment(api)
        api.foreign(2, 60.0)
        await ended_well(api, run, 5)
        assert sorted(api.states(run)) == ["absent", "ingested"]


async def test_a_list_that_has_lost_its_witnesses_proves_nothing(house: House) -> None:
    run = house.new_run(prompts(5), **batch_job())
    async with office(house, faults=(at_create("reset"),)) as api:
        witness = api.foreign(2, 60.0)
        gone: dict[str, Any] = {}

        def hide() -> None:
            gone[witness] = api.simulator.batches._batches.pop(witness)

        api.at_hours((0.1, hide))
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.UNKNOWN_BATCH
        assert len(api.creates) == 1
        api.wire.before = _nothing
        api.simulator.batches._batches.update(gone)
        await ended_well(api, run, 5)


# --- the process dies


async def dies(api: Office, run: Run, when: Callable[[], bool], *, before: bool) -> None:
    """Work until `when` holds at a create, before or after the service has seen it, and break off there."""
    with anyio.CancelScope() as scope:

        async def kill(request: httpx.Request) -> None:
            if request.method == "POST" and when():
                scope.cancel()
                await anyio.sleep_forever()

        if before:
            api.wire.before = kill
        else:
            api.wire.after = kill
        await api.work(run)
    api.wire.before = api.wire.after = _nothing
    assert scope.cancelled_caught


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("takes_s", [60.0, 5 * HOUR_S])
async def test_a_process_that_dies_at_the_create_goes_on_when_it_is_settled(
    house: House, before: bool, takes_s: float
) -> None:
    run = house.new_run(prompts(6), budget_pico=10**13, **batch_job(max_requests=3))
    async with office(house, batch_seconds=takes_s) as api:
        await dies(api, run, lambda: api.wire.asked["create"] == 2, before=before)
        assert sorted(api.states(run)) == ["accepted", "sending"]
        await ended_well(api, run, 6)
        assert len(api.creates) == 2
        if before:
            assert posted_s(api)[1] >= ABSENT_S


@pytest.mark.parametrize("before", [True, False])
async def test_dying_again_and_again_while_it_settles_changes_nothing(house: House, before: bool) -> None:
    run = house.new_run(prompts(6), **batch_job(max_requests=3))
    async with office(house, batch_seconds=3 * HOUR_S) as api:
        await dies(api, run, lambda: api.wire.asked["create"] == 1, before=before)
        for minutes in (5, 20, 12, 1, 40):
            with anyio.CancelScope() as scope:

                async def kill(request: httpx.Request, until_s: float = api.now_s + minutes * 60) -> None:
                    if api.now_s >= until_s:
                        scope.cancel()

                api.wire.after = kill
                await api.work(run)
            await house.clock.advance(minutes * 30)
        api.wire.after = _nothing
        await ended_well(api, run, 6)
        assert len(api.creates) == 2


# --- two runs in one store


@pytest.mark.parametrize("found_by", ["settling", "the sweep"])
@pytest.mark.parametrize("hidden_s", [0.0, HOUR_S])
async def test_a_batch_of_a_run_that_died_at_its_create_stays_its_own(
    house: House, found_by: str, hidden_s: float
) -> None:
    """Another run of the same sizes meets it, settling its own or at its end, before the first one comes back; for a
    while the service does not find it by its id."""
    second = house.new_run(prompts(5, "too"), **batch_job())
    async with office(house, faults=(at_create("reset"),)) as api:
        if found_by == "settling":
            await dies(api, second, lambda: True, before=True)
        else:
            await _unknown_and_absent(api, second)
        first = house.new_run(prompts(5), **batch_job())
        await dies(api, first, lambda: True, before=False)
        assert api.states(first) == [BatchState.SENDING]
        missing = at_status("error", status=404, error_type="not_found_error", message="?", until_s=hidden_s)
        api.simulator.set_faults((missing,))
        end = await api.work(second)
        assert end.pause is None
        end = await api.work(first)
        assert end.run.state is RunState.DONE
        assert [create.count for create in api.creates if create.batch_id] == [5, 5]
        assert "batch_duplicate" not in api.names()
        assert not [line for line in house.table("ledger") if line.kind == "duplicate"]
        for run in (first, second):
            api.books(run).check_budget_row()
            assert house.statuses(run) == Counter(succeeded=5)


async def _unknown_and_absent(api: Office, run: Run) -> None:
    """Its first create is found to be absent, its second is accepted."""
    while "accepted" not in api.states(run):
        await api.work(run, waits=False)
        await api.house.clock.advance(400)


async def test_a_post_of_a_dead_process_keeps_others_out_for_as_long_as_it_may_live(house: House) -> None:
    first = house.new_run(prompts(5), **batch_job())
    async with office(house) as api:
        await dies(api, first, lambda: True, before=True)
        second = house.new_run(prompts(5, "too"), **batch_job())
        end = await api.work(second)
        assert end.run.state is RunState.DONE
        overdue_s = TIMING.send_within_s + TIMING.create_limit_s + TIMING.settle_s
        assert overdue_s <= posted_s(api)[0] <= overdue_s + 60
        assert api.states(first) == [BatchState.UNKNOWN]
        await ended_well_alone(api, first, 5)


async def ended_well_alone(api: Office, run: Run, rows: int) -> None:
    end = await api.work(run)
    assert end.pause is None
    assert api.house.statuses(run) == Counter(succeeded=rows)


# --- odd answers to the create


@pytest.mark.parametrize(
    ("fault", "made"),
    [
        (Fault(kind="html_200", path="/v1/messages/batches", method="POST", first=1), False),
        (Fault(kind="timeout", path="/v1/messages/batches", method="POST", first=1), False),
        (Fault(kind="redirect", path="/v1/messages/batches", method="POST", first=1), False),
    ],
    ids=["html-200", "504", "redirect"],
)
async def test_answers_that_say_nothing_certain_are_settled(house: House, fault: Fault, made: bool) -> None:
    run = house.new_run(prompts(4), **batch_job())
    async with office(house, faults=(fault,)) as api:
        end = await api.work(run)
        for _ in range(2):
            if end.pause is not None:
                end = await api.work(run)
        assert end.run.state is RunState.DONE
        first, second = posted_s(api)
        assert second - first >= ABSENT_S
        check_rows(api, run, 4)


async def test_a_claimed_batch_that_hides_once_more_is_waited_for(house: House) -> None:
    faults = (
        at_create("executed_reset"),
        at_status("error", status=404, error_type="not_found_error", message="?", after_s=SETTLED_S, until_s=HOUR_S),
    )
    run = house.new_run(prompts(4), **batch_job())
    async with office(house, faults=faults, batch_seconds=60) as api:
        await ended_well(api, run, 4)
        assert len(api.creates) == 1
        assert api.now_s >= HOUR_S
        assert api.wire.asked["results"] < 60
