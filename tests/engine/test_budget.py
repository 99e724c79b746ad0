"""A cap is a ceiling at every moment; what is reserved and not needed is there for the next call."""

from __future__ import annotations

import anyio
import pytest
from msgspec.structs import replace

from runner.domain.budget import BudgetKey
from runner.domain.outcome import Outcome
from runner.domain.pricing import shipped_prices
from runner.domain.request import MessagesRequest
from runner.domain.run import Run
from runner.domain.states import PauseReason
from runner.engine.parts import RunEnd
from runner.engine.run import work_on
from tests.engine.house import MODEL, Books, House, Scripted, answered, charged_pico, prompts, served

pytestmark = pytest.mark.anyio


def worst_pico(max_tokens: int) -> int:
    """About what one of these calls reserves; a little more."""
    bound = shipped_prices().bound_pico(MODEL, prompt_tokens=1_200, max_tokens=max_tokens)
    assert bound is not None
    return bound


async def test_a_cap_is_never_passed_and_a_higher_one_ends_the_run(house: House) -> None:
    cap_pico = worst_pico(500) * 2
    run = house.new_run(prompts(200), request={"max_tokens": 500}, budget_pico=cap_pico, limits={"concurrency": 32})
    async with served(house) as api:
        end = await house.work(run, api)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.BUDGET
        assert charged_pico(api.simulator) <= cap_pico
        assert 0 < end.tally.done < 200
        books = Books(house, api.simulator, run)
        books.check()
        books.check_budget_row()
        assert house.sends_left() == 0
        end = await house.work(run, api, job=replace(end.run.job, budget_pico=10**12))
        assert end.run.state == "done"
        books.check_budget_row()


async def test_spent_and_committed_stay_within_the_cap_at_every_moment(house: House) -> None:
    cap_pico = worst_pico(500) * 5
    run = house.new_run(prompts(80), request={"max_tokens": 500}, budget_pico=cap_pico)
    seen: list[int] = []

    def answer(request: MessagesRequest, number: int) -> Outcome:
        budget = next(row for row in house.table("budgets") if row.scope.startswith("run:"))
        seen.append(budget.spent_pico + budget.committed_pico)
        return answered(request, number)

    await house.work(run, Scripted(house.clock, answer, latency_s=0.5))
    assert len(seen) > 10
    assert max(seen) <= cap_pico


async def test_the_run_pauses_for_what_is_spent_and_not_for_what_is_only_reserved(house: House) -> None:
    """The cap admits only a few calls at their worst at once; all rows fit in by what they really cost."""
    run = house.new_run(prompts(100), request={"max_tokens": 4_000}, budget_pico=4 * worst_pico(4_000))
    service = Scripted(house.clock, answered, latency_s=1.0)
    end = await house.work(run, service)
    assert end.pause is None
    assert end.run.state == "done"
    assert service.most_in_flight <= 4


async def test_a_cap_below_the_first_call_sends_nothing(house: House) -> None:
    run = house.new_run(prompts(10), budget_pico=1)
    service = Scripted(house.clock, answered)
    end = await house.work(run, service)
    assert end.pause is not None
    assert end.pause.reason is PauseReason.BUDGET
    assert service.sent == []
    assert house.sends_left() == 0


async def test_rows_without_a_bound_pause_a_run_that_has_a_cap(house: House) -> None:
    tools = [{"type": "web_search_20260318", "name": "web_search"}]
    run = house.new_run(prompts(5), request={"tools": tools}, budget_pico=10**12)
    service = Scripted(house.clock, answered)
    end = await house.work(run, service)
    assert end.pause is not None
    assert end.pause.reason is PauseReason.BUDGET
    assert "no computable upper bound" in end.pause.message
    assert service.sent == []


@pytest.mark.parametrize(("limits", "most"), [({"max_failures": 5}, 5), ({"max_failures_share": 0.1}, 20)])
async def test_more_failures_than_allowed_pause_the_run(house: House, limits: dict[str, float], most: int) -> None:
    run = house.new_run(prompts(200, "[[sim:error=400:invalid_request_error]]"), limits={**limits, "concurrency": 4})
    async with served(house) as api:
        end = await house.work(run, api)
    assert end.pause is not None
    assert end.pause.reason is PauseReason.MAX_FAILURES
    assert str(most) in end.pause.message
    assert most < end.tally.failed <= most + 4


async def test_repeats_are_rows_of_their_own(house: House) -> None:
    run = house.new_run(prompts(7), repeat=3)
    async with served(house) as api:
        await house.work(run, api)
        assert api.calls == 21
    told = [(row.result.idx, row.result.record, row.result.repeat) for row in house.rows(run)]
    assert told == [(record * 3 + repeat, record, repeat) for record in range(7) for repeat in range(3)]


async def test_rows_bring_models_of_their_own(house: House) -> None:
    lines = [
        (
            b'{"custom_id":"a","params":{"model":"claude-haiku-5-5","max_tokens":50,'
            b'"messages":[{"role":"user","content":"x"}]}}'
        ),
        (
            b'{"custom_id":"b","params":{"model":"claude-sonnet-5-5","max_tokens":50,'
            b'"messages":[{"role":"user","content":"x"}]}}'
        ),
    ]
    run = house.new_run(lines, model=None)
    service = Scripted(house.clock, answered)
    await house.work(run, service)
    assert [row.result.model for row in house.rows(run)] == ["claude-haiku-5-5", "claude-sonnet-5-5"]
    assert [row.result.key for row in house.rows(run)] == ["a", "b"]


async def test_a_run_without_rows_is_done_at_once(house: House) -> None:
    house.streamed = True
    run = house.new_run([])
    service = Scripted(house.clock, answered)
    end = await house.work(run, service)
    assert (end.run.state, end.run.records, service.sent) == ("done", 0, [])


async def test_runs_that_share_a_budget_wait_for_what_the_others_give_back(house: House) -> None:
    """The budget of the job's day holds one call at its worst at a time, and there are two runs of it."""
    lines = prompts(12)
    job = {"request": {"max_tokens": 500}, "limits": {"concurrency": 4}}
    runs = [house.new_run(lines, **job), house.new_run(lines, **job)]
    house.store.set_job_caps("letters", worst_pico(500) * 7 // 4, None)
    service = Scripted(house.clock, answered, latency_s=2.0)
    ends: list[RunEnd] = []

    async def worked(run: Run) -> None:
        ends.append(await work_on(run, house.parts(run, service)))

    async with house.clock.autojump(), anyio.create_task_group() as both:
        for run in runs:
            both.start_soon(worked, run)
    assert [end.run.state for end in ends] == ["done", "done"]
    assert service.most_in_flight == 1


async def test_a_run_says_which_budget_is_full_and_goes_on_when_it_is_raised(house: House) -> None:
    run = house.new_run(prompts(20), request={"max_tokens": 500})
    house.store.set_cap(BudgetKey("all", "month"), 1)
    service = Scripted(house.clock, answered)
    end = await house.work(run, service)
    assert end.pause is not None
    assert "the budget for 2026-11" in end.pause.message
    assert service.sent == []
    house.store.set_cap(BudgetKey("all", "month"), None)
    assert (await house.work(run, service)).run.state == "done"


async def test_only_the_rows_of_a_sample_are_asked_and_the_run_goes_on_with_the_others(house: House) -> None:
    run = house.new_run(prompts(1_200))
    service = Scripted(house.clock, answered)
    end = await house.work(run, service, only=frozenset({3, 700, 701, 1_199}))
    assert end.pause is not None
    assert end.pause.reason is PauseReason.SAMPLED
    assert sorted(row.result.idx for row in house.rows(run)) == [3, 700, 701, 1_199]
    assert len(service.sent) == 4
    end = await house.work(run, service)
    assert (end.run.state, len(service.sent)) == ("done", 1_200)
