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
    return {name: getattr(request, name) for name in request.__struct_fields__}


async def test_answers_of_earlier_runs_are_taken_where_the_job_says_so(house: House) -> None:
    """The second run asks only what the first did not; its copies name whose they are."""
    service = Direct(house.clock)
    first = house.new_run(alike(6, 3), **{**JOB, "name": "first", "answer_cache": True})
    await house.work(first, service)
    calls = service.simulator.ledger.counts["accepted"]
    second = house.new_run(alike(10, 5), **{**JOB, "name": "second", "answer_cache": True})
    await house.work(second, service)
    assert (calls, service.simulator.ledger.counts["accepted"]) == (3, 5)
    copies = [row.result for row in house.rows(second) if row.result.same_run is not None]
    assert {(one.same_run, one.cost_pico, one.status) for one in copies} == {(first.label, 0, "succeeded")}
    assert sorted(one.idx for one in copies) == [0, 1, 2, 5, 6, 7]
    answers = [row.message for row in house.rows(second)]
    assert answers[:3] == [row.message for row in house.rows(first)][:3]
    assert answers[:5] == answers[5:]

    third = house.new_run(alike(10, 5), **{**JOB, "name": "third"})
    await house.work(third, service)
    assert service.simulator.ledger.counts["accepted"] == 10


@pytest.mark.parametrize(
    "other",
    [
        {"api_version": "2023-06-01"},
        {"betas": ("files-api-2025-04-14",)},
        {"model": "claude-sonnet-5-5"},
        {"system": "Be brief."},
    ],
    ids=str,
)
async def test_what_was_asked_otherwise_is_no_answer(house: House, other: dict[str, Any]) -> None:
    service = Direct(house.clock)
    told = {**JOB, "answer_cache": True}
    await house.work(house.new_run(alike(2, 2), **told), service)
    await house.work(house.new_run(alike(2, 2), **{**told, **other}), service)
    assert service.simulator.ledger.counts["accepted"] == 4


async def test_an_answer_that_is_too_old_is_asked_for_again(house: House) -> None:
    service = Direct(house.clock)
    told = {**JOB, "answer_cache": True, "answer_max_age_s": 7 * 86_400.0}
    await house.work(house.new_run(alike(3, 3), **{**told, "name": "first"}), service)
    for days, calls in ((6, 3), (2, 6)):
        await house.clock.advance(days * 86_400)
        await house.work(house.new_run(alike(3, 3), **{**told, "name": f"{days} days later"}), service)
        assert service.simulator.ledger.counts["accepted"] == calls


async def test_a_failure_is_never_an_answer_of_an_earlier_run(house: House) -> None:
    service = Direct(house.clock)
    told = {**JOB, "answer_cache": True}
    rows = alike(2, 2, "[[sim:refusal]]")
    await house.work(house.new_run(rows, **{**told, "name": "first"}), service)
    before = service.simulator.ledger.counts["accepted"]
    await house.work(house.new_run(rows, **{**told, "name": "second"}), service)
    assert service.simulator.ledger.counts["accepted"] == before + 2


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
