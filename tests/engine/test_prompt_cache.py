"""Jobs that mark nothing for the prompt cache, and whose rows all begin alike: the mark is ours, where it pays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.domain.job import PromptCache
from runner.domain.run import Run
from runner.store.store import Store
from tests.engine.batch_house import HOUR_S, Office, batch_job, check_rows, office
from tests.engine.house import House, prompts

pytestmark = pytest.mark.anyio

# 100,000 tokens, so that few rows save what is worth a wait.
RULES = "You weigh each word. " * 20_000
JOB: dict[str, Any] = {"system": RULES, "request": {"max_tokens": 200}, "model": "claude-sonnet-5-5"}
ROWS = 60


def live(**more: Any) -> dict[str, Any]:
    return JOB | more


def in_batches(**batch: Any) -> dict[str, Any]:
    return batch_job(warm_cache="auto", **batch) | JOB


def marked(bodies: list[Any]) -> int:
    return sum("cache_control" in json.dumps(body) for body in bodies)


def bodies_of(office_: Office) -> list[Any]:
    return [entry["params"] for create in office_.creates for entry in create.requests]


def used(house: House, run: Run) -> tuple[int, int, int]:
    """Rows that wrote the cache for five minutes, for an hour, and that read it."""
    usages = [row.result.usage for row in house.rows(run) if row.result.usage is not None]
    return (
        sum(usage.cache_write_5m > 0 for usage in usages),
        sum(usage.cache_write_1h > 0 for usage in usages),
        sum(usage.cache_read > 0 for usage in usages),
    )


async def cost_of(house: House, job: dict[str, Any], seed: int) -> int:
    run = house.new_run(prompts(ROWS), **job)
    async with office(house, seed=seed, latency_s=3.0) as office_:
        assert (await office_.work(run)).run.state == "done"
    return house.store.money(run.id).spent_pico


async def test_live_the_first_call_writes_what_all_begin_with_and_the_others_read_it(house: House) -> None:
    run = house.new_run(prompts(ROWS), **live())
    async with office(house, latency_s=3.0) as office_:
        assert (await office_.work(run)).run.state == "done"
        check_rows(office_, run, ROWS)
        office_.books(run).check()
    assert used(house, run) == (1, 0, ROWS - 1)


async def test_a_job_that_wants_no_mark_gets_none(house: House) -> None:
    run = house.new_run(prompts(ROWS), **live(prompt_cache=PromptCache.NEVER))
    async with office(house, latency_s=3.0) as office_:
        await office_.work(run)
    assert used(house, run) == (0, 0, 0)


async def test_a_single_row_is_not_marked(house: House) -> None:
    run = house.new_run(prompts(1), **live())
    async with office(house) as office_:
        await office_.work(run)
    assert used(house, run) == (0, 0, 0)


async def test_the_mark_saves_what_the_rule_says_that_it_saves(house: House) -> None:
    marked_pico = await cost_of(house, live(), 1)
    plain_pico = await cost_of(house, live(prompt_cache=PromptCache.NEVER), 2)
    # A write of 1.25 and reads of 0.05 in place of the price; the answers are a trifle.
    assert marked_pico / plain_pico == pytest.approx((1.25 + (ROWS - 1) * 0.05) / ROWS, rel=0.03)


async def test_in_a_batch_one_row_goes_ahead_and_the_others_ask_for_what_it_kept(house: House) -> None:
    run = house.new_run(prompts(ROWS), **in_batches())
    async with office(house, batch_seconds=600) as office_:
        await office_.work(run)
        assert [create.count for create in office_.creates] == [1, ROWS - 1]
        check_rows(office_, run, ROWS)
        office_.books(run).check()
    assert used(house, run) == (0, 1, ROWS - 1)


async def test_rows_of_a_batch_go_unmarked_where_it_does_not_pay(house: House) -> None:
    """Of three rows each would save too little, and a cold mark would only cost more."""
    run = house.new_run(prompts(3), **in_batches())
    async with office(house) as office_:
        await office_.work(run)
        assert [create.count for create in office_.creates] == [3]
    assert used(house, run) == (0, 0, 0)


@pytest.mark.parametrize("why", ["warm_cache: never", "prompt_cache: never"])
async def test_rows_of_a_batch_go_unmarked_where_nobody_may_go_ahead(house: House, why: str) -> None:
    job = in_batches() | {"prompt_cache": PromptCache.NEVER}
    if why == "warm_cache: never":
        job = batch_job(warm_cache="never") | JOB
    run = house.new_run(prompts(ROWS), **job)
    async with office(house) as office_:
        await office_.work(run)
        assert [create.count for create in office_.creates] == [ROWS]
    assert used(house, run) == (0, 0, 0)


async def test_a_first_row_that_takes_too_long_leaves_the_others_unmarked(house: House) -> None:
    """Nothing shows that anything is kept after half an hour: a mark would cost each of them twice the price."""
    run = house.new_run(prompts(ROWS), **in_batches())
    async with office(house, batch_seconds=HOUR_S) as office_:
        await office_.work(run)
        assert [create.count for create in office_.creates] == [1, ROWS - 1]
    assert used(house, run) == (0, 1, 0)


async def test_batches_whose_rows_find_little_end_the_marks(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "batch_hit_share", lambda *_: 0.4)
    run = house.new_run(prompts(ROWS), **in_batches())
    async with office(house) as office_:
        await office_.work(run)
        assert [create.count for create in office_.creates] == [ROWS]
    assert used(house, run) == (0, 0, 0)


async def test_what_batches_found_is_measured_once_enough_rows_tell(house: House) -> None:
    assert await _measured(house, ROWS) is None
    assert await _measured(house, 120) == pytest.approx(119 / 120)


async def _measured(house: House, rows: int) -> float | None:
    run = house.new_run(prompts(rows, f"of {rows}"), **in_batches())
    async with office(house, seed=rows, batch_seconds=60) as office_:
        await office_.work(run)
    return house.store.batch_hit_share(run.id)
