"""Rows that go ahead of a batch, and what `mode: auto` makes of a run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from runner.domain.job import AutoSpec, BatchSpec, Mode, PromptCache, WarmCache
from runner.domain.states import BatchState, PauseReason
from tests.engine.batch_house import DAY_S, HOUR_S, at_create, batch_job, check_rows, office, pace
from tests.engine.house import House, prompts

pytestmark = pytest.mark.anyio

# Longer than the shortest prefix that any model caches.
SYSTEM = "You weigh each word. " * 2_000


def probing_job(**batch: Any) -> dict[str, Any]:
    return batch_job(probe=True, **batch)


def cached(ttl: str | None = None, **batch: Any) -> dict[str, Any]:
    """A job whose rows share a long system prompt that is to be cached."""
    mark = {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})
    system = [{"type": "text", "text": SYSTEM, "cache_control": mark}]
    request = {"max_tokens": 200, "system": system}
    return batch_job(warm_cache="auto", **batch) | {"request": request}


# --- shapes of parameters


async def test_one_row_is_asked_live_before_a_thousand_ride_and_its_answer_is_kept(house: House) -> None:
    run = house.new_run(prompts(1_000), **probing_job())
    async with office(house) as office_:
        end = await office_.work(run)
        assert end.run.state == "done"
        assert (len(office_.live), [create.count for create in office_.creates]) == (1, [999])
        check_rows(office_, run, 1_000)
        office_.books(run).check()
    assert house.rows(run)[0].result.batch is None


async def test_fewer_rows_are_not_worth_a_probe(house: House) -> None:
    run = house.new_run(prompts(999), **probing_job())
    async with office(house) as office_:
        await office_.work(run)
        assert (office_.live, [create.count for create in office_.creates]) == ([], [999])


async def test_each_shape_of_parameters_is_tried(house: House) -> None:
    rows = [json.dumps({"prompt": f"row {n}", "params": {"max_tokens": 100 + n % 3}}).encode() for n in range(1_002)]
    run = house.new_run(rows, **probing_job())
    async with office(house) as office_:
        await office_.work(run)
        assert (len(office_.live), [create.count for create in office_.creates]) == (3, [999])


async def test_parameters_that_the_service_refuses_pause_the_run_before_anything_is_submitted(house: House) -> None:
    run = house.new_run(prompts(1_000, "[[sim:error=400:invalid_request_error]]"), **probing_job())
    async with office(house) as office_:
        end = await office_.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.REFUSED
        assert "refused all 3 rows" in end.pause.message
        assert (len(office_.live), office_.creates) == (3, [])
    assert house.store.tally(run.id).ended == 3


async def test_a_row_that_is_refused_for_a_fault_of_its_own_does_not_stop_the_others(house: House) -> None:
    rows = [*prompts(1, "[[sim:error=400:invalid_request_error]]"), *prompts(1_000)]
    run = house.new_run(rows, **probing_job())
    async with office(house) as office_:
        end = await office_.work(run)
        assert (end.run.state, len(office_.live)) == ("done_with_failures", 2)
        check_rows(office_, run, 1_001)


# --- shared prefixes


async def test_one_row_fills_the_cache_and_the_others_read_it(house: House) -> None:
    run = house.new_run(prompts(40), **cached())
    async with office(house, batch_seconds=600) as office_:
        await office_.work(run)
        assert [create.count for create in office_.creates] == [1, 39]
        assert office_.made_at_s(office_.creates[1]) >= 600
        check_rows(office_, run, 40)
        office_.books(run).check()
    read = [row.result.usage.cache_read for row in house.rows(run) if row.result.usage is not None]
    assert sum(tokens > 0 for tokens in read) == 39


async def test_a_primed_run_costs_less_than_a_cold_one_and_says_what_came_from_the_cache(house: House) -> None:
    costs = []
    for seed, warm in enumerate((WarmCache.AUTO, WarmCache.NEVER)):
        run = house.new_run(prompts(40), **(cached() | {"batch": BatchSpec(probe=False, warm_cache=warm)}))
        async with office(house, seed=seed) as office_:
            await office_.work(run)
        costs.append(house.store.money(run.id).spent_pico)
    assert costs[0] < costs[1] / 2


async def test_the_others_wait_at_most_half_an_hour(house: House) -> None:
    run = house.new_run(prompts(40), **cached())
    async with office(house, batch_seconds=5 * HOUR_S) as office_:
        await office_.work(run)
        assert office_.made_at_s(office_.creates[1]) == pytest.approx(1_800, abs=60)


async def test_where_nothing_is_marked_nobody_goes_ahead(house: House) -> None:
    run = house.new_run(prompts(40), **batch_job(warm_cache="auto"))
    async with office(house) as office_:
        await office_.work(run)
        assert [create.count for create in office_.creates] == [40]


async def test_a_short_prefix_is_not_primed(house: House) -> None:
    job = cached()
    job["request"]["system"][0]["text"] = "Be brief."
    run = house.new_run(prompts(40), **job)
    async with office(house) as office_:
        await office_.work(run)
        assert [create.count for create in office_.creates] == [40]


async def test_a_run_that_dies_between_the_first_row_and_the_others_goes_on(house: House) -> None:
    run = house.new_run(prompts(40), **cached())
    async with office(house, batch_seconds=60) as office_:
        end = await office_.work(run, waits=False)
        assert end.pause is not None
        while end.pause is not None:
            await house.clock.advance(120)
            end = await office_.work(run, waits=False)
        check_rows(office_, run, 40)
        office_.books(run).check()


async def test_a_create_that_fails_sends_nobody_ahead_a_second_time(house: House) -> None:
    """The half hour is over, and the first row has not ended: the others go as soon as the service takes them."""
    run = house.new_run(prompts(40), **cached())
    faults = (at_create("overloaded", after=1, first=3),)
    async with office(house, faults=faults, batch_seconds=2 * HOUR_S) as office_:
        end = await office_.work(run)
        assert end.pause is None
        assert office_.names().count("batch_priming") == 1
        assert [create.count for create in office_.creates if create.batch_id] == [1, 39]
        check_rows(office_, run, 40)


# --- auto


def auto_job(threshold: int = 100, finish_by: str | None = None) -> dict[str, Any]:
    return batch_job() | {"mode": Mode.AUTO, "auto": AutoSpec(threshold=threshold, finish_by=finish_by)}


async def test_few_rows_go_live_and_many_in_batches_and_the_reason_is_told(house: House) -> None:
    for rows, mode in ((99, "live"), (100, "batch")):
        run = house.new_run(prompts(rows, f"of {rows}"), **auto_job())
        async with office(house) as office_:
            await office_.work(run)
            (choice,) = [told.event for told in office_.told if told.name == "mode_chosen"]
            assert choice.facts["mode"] == mode
            assert choice.text.startswith(mode)
            assert (len(office_.live), len(office_.creates)) == ((99, 0) if mode == "live" else (0, 1))
            check_rows(office_, run, rows)


async def test_what_the_prompt_cache_saves_live_may_be_more_than_half(house: House) -> None:
    """Calls that read a long beginning at a twentieth of its price cost less than a batch, which hits by chance."""
    for seed, (cache, mode) in enumerate(((PromptCache.AUTO, "live"), (PromptCache.NEVER, "batch"))):
        job = auto_job() | {"system": "You weigh each word. " * 20_000, "model": "claude-sonnet-5-5"}
        run = house.new_run(prompts(100), **(job | {"prompt_cache": cache}))
        async with office(house, seed=seed) as office_:
            await office_.work(run)
            (choice,) = [told.event for told in office_.told if told.name == "mode_chosen"]
        assert choice.facts["mode"] == mode, choice.text


async def test_what_batches_refuse_goes_live(house: House) -> None:
    run = house.new_run(prompts(200), **(auto_job() | {"request": {"fallbacks": "default"}}))
    async with office(house) as office_:
        await office_.work(run)
        assert (len(office_.live), len(office_.creates)) == (200, 0)
        assert "fallbacks" in office_.texts("mode_chosen")[0]


async def test_a_batch_that_is_late_is_cancelled_in_time_and_the_rest_is_finished_live(house: House) -> None:
    run = house.new_run(prompts(200), **auto_job(finish_by="6h"))
    async with office(house, batch_seconds=DAY_S, batch_cancel_seconds=300, batch_canceled_share=0.25) as office_:
        end = await office_.work(run)
        assert (end.run.state, len(office_.creates), len(office_.live)) == ("done", 1, 50)
        assert 5 * HOUR_S < office_.when("batch_deadline")[0] < office_.now_s < 6 * HOUR_S
        check_rows(office_, run, 200)
        office_.books(run).check()


async def test_rows_of_an_unknown_submission_never_go_live(house: House) -> None:
    run = house.new_run(prompts(200), **auto_job(finish_by="6h"))
    hidden = at_create("executed_reset")
    async with office(house, faults=(hidden,), batch_seconds=DAY_S) as office_:
        end = await office_.work(run, waits=False)
        assert office_.states(run) == [BatchState.UNKNOWN]
        await house.clock.advance(7 * HOUR_S)
        end = await office_.work(run, waits=False)
        assert office_.live == []
        pace(office_, 0, seconds=0.0)
        end = await office_.work(run)
        assert (end.run.state, len(office_.creates), office_.live) == ("done", 1, [])
        check_rows(office_, run, 200)


async def test_a_run_that_was_begun_in_batches_goes_on_live_with_what_no_batch_has(house: House) -> None:
    run = house.new_run(prompts(100), **batch_job(max_requests=60, max_queued=60))
    async with office(house, batch_seconds=HOUR_S) as office_:
        await office_.work(run, waits=False)
        live = replace(run.job, mode=Mode.LIVE)
        end = await office_.work(run, job=live)
        assert (end.run.state, len(office_.creates), len(office_.live)) == ("done", 1, 40)
        check_rows(office_, run, 100)
