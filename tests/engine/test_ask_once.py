"""Rows that ask the same are asked once and all have the answer: live, in batches, and when a leader fails."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from runner.domain.run import Run
from runner.domain.spending import total
from tests.engine.batch_house import batch_job, office
from tests.engine.house import Direct, House

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("long_looks")]


def alike(rows: int, bodies: int, wish: str = "") -> list[bytes]:
    """So many rows of so many different prompts; each has an id of its own, which no prompt mentions."""
    return [
        json.dumps({"custom_id": f"r{number}", "text": f"letter {number % bodies} {wish}".strip()}).encode()
        for number in range(rows)
    ]


JOB = {"prompt": "Answer {{ text }}", "ask_once": True}


def check_alike(house: House, run: Run, rows: int, bodies: int) -> None:
    """Each row has its own result with the answer to its question, and what was paid stands with who asked."""
    found = house.rows(run)
    assert [row.result.key for row in found] == [f"r{number}" for number in range(rows)]
    messages: dict[int, set[bytes | None]] = {}
    for number, row in enumerate(found):
        messages.setdefault(number % bodies, set()).add(row.message)
    assert {len(each) for each in messages.values()} == {1}
    copies = [row.result for row in found if row.result.same_as is not None]
    assert len(copies) == rows - bodies
    assert {(one.cost_pico, one.usage, one.attempts) for one in copies} == {(0, None, 0)}
    assert all(found[one.same_as or 0].result.same_as is None for one in copies)
    paid = sum(row.result.cost_pico or 0 for row in found)
    assert paid == house.store.money(run.id).spent_pico == total(house.store.spending_since(0)).sums.cost_pico


@pytest.mark.parametrize(
    ("rows", "bodies"), [(1_500, 600), pytest.param(10_000, 4_000, marks=pytest.mark.exhaustive)]
)
async def test_live_rows_with_one_question_are_one_call(house: House, rows: int, bodies: int) -> None:
    service = Direct(house.clock, latency_s=0.2)
    run = house.new_run(alike(rows, bodies), **JOB)
    end = await house.work(run, service)
    assert (end.tally.done, service.simulator.ledger.counts["accepted"]) == (rows, bodies)
    check_alike(house, run, rows, bodies)


@pytest.mark.parametrize(
    ("rows", "bodies"), [(1_500, 600), pytest.param(10_000, 4_000, marks=pytest.mark.exhaustive)]
)
async def test_rows_of_batches_with_one_question_ride_once(house: House, rows: int, bodies: int) -> None:
    async with office(house) as api:
        run = house.new_run(alike(rows, bodies), **JOB, **batch_job(max_requests=max(bodies // 3, 1), probe=False))
        end = await api.work(run)
        assert end.tally.done == rows
        assert sum(one.n for one in api.submissions(run)) == bodies
        assert api.simulator.ledger.counts["billed"] == bodies
        check_alike(house, run, rows, bodies)


async def test_without_being_told_each_row_is_asked(house: House) -> None:
    service = Direct(house.clock)
    await house.work(house.new_run(alike(9, 3), prompt="Answer {{ text }}"), service)
    assert service.simulator.ledger.counts["accepted"] == 9


async def test_repeats_are_never_one_call(house: House) -> None:
    service = Direct(house.clock)
    run = house.new_run(alike(8, 4), **JOB, repeat=3)
    await house.work(run, service)
    assert service.simulator.ledger.counts["accepted"] == 12
    assert house.statuses(run) == Counter(succeeded=24)


async def test_where_a_leader_fails_the_next_row_asks(house: House) -> None:
    """The first call of a body is refused for good; the others of it are answered by the second."""
    service = Direct(house.clock)
    asked: Counter[bytes] = Counter()
    answer = service.messages

    async def messages(request: Any) -> Any:
        asked[request.body] += 1
        if asked[request.body] == 1:
            wrong = request.body.replace(b'"max_tokens":', b'"max_tokens":-')
            return await answer(type(request)(**{**_fields(request), "body": wrong}))
        return await answer(request)

    service.messages = messages  # type: ignore[method-assign]
    run = house.new_run(alike(20, 4), **JOB)
    await house.work(run, service)
    assert house.statuses(run) == Counter(succeeded=16, errored=4)
    assert set(asked.values()) == {2}
    assert sum(row.result.same_as is not None for row in house.rows(run)) == 12


def _fields(request: Any) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__slots__}


async def test_a_refused_answer_is_never_copied(house: House) -> None:
    service = Direct(house.clock)
    run = house.new_run(alike(6, 2, "[[sim:refusal]]"), **JOB)
    await house.work(run, service)
    assert house.statuses(run) == Counter(refused=6)


async def test_a_later_chunk_finds_the_answer_that_is_there(house: House) -> None:
    """Far more rows than are ever in hand: most leaders have ended long before their followers are claimed."""
    service = Direct(house.clock)
    run = house.new_run(alike(4_000, 3), **JOB)
    await house.work(run, service)
    assert service.simulator.ledger.counts["accepted"] == 3
    check_alike(house, run, 4_000, 3)


async def test_a_failed_round_asks_once_too(house: House) -> None:
    service = Direct(house.clock)
    run = house.new_run(alike(6, 2, "[[sim:refusal]]"), **JOB)
    await house.work(run, service)
    calls = service.simulator.ledger.counts["accepted"]
    await house.work(run, service, retry=True)
    assert house.statuses(run) == Counter(refused=6)
    assert service.simulator.ledger.counts["accepted"] == 2 * calls
