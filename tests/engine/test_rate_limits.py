"""429: the scope waits for the server's word, no attempt is used up, and no wave starts when the wait is over."""

from __future__ import annotations

import pytest

from runner.domain.outcome import FailureKind, Outcome
from runner.domain.request import MessagesRequest
from runner.domain.states import PauseReason
from runner.simulator import Fault
from tests.engine.house import Books, House, Scripted, answered, failed, prompts, served

pytestmark = pytest.mark.anyio


async def test_an_endless_429_fails_no_row_and_pauses_after_900_seconds(house: House) -> None:
    run = house.new_run(prompts(20))
    began_us = house.clock.now_us()
    async with served(house, faults=(Fault(kind="rate_limit", retry_after_s=20),)) as api:
        end = await house.work(run, api)
    assert end.pause is not None
    assert end.pause.reason is PauseReason.STALLED
    assert (end.tally.ended, house.sends_left(), house.table("attempts")) == (0, 0, [])
    assert 900 <= (house.clock.now_us() - began_us) / 1e6 <= 900 + 60
    assert end.run.state == "paused"


@pytest.mark.parametrize("form", ["seconds", "ms", "http_date", "reset_only"])
async def test_nothing_is_sent_in_the_scope_before_the_servers_word(house: House, form: str) -> None:
    run = house.new_run(prompts(60), limits={"concurrency": 20})
    fault = Fault(kind="rate_limit", retry_after_s=30, retry_after=form, first=1, after=10)
    async with served(house, faults=(fault,)) as api:
        end = await house.work(run, api)
    assert end.run.state == "done"
    assert {row.result.attempts for row in house.rows(run)} == {1}
    told_us = next(times[0] for times in api.sent.values() if len(times) == 2)
    later = [at for at, _ in api.order if at > told_us]
    # What was on its way when the word came is sent at about the same time; after it comes a gap of 30 seconds.
    early = [at for at in later if at < told_us + 29_000_000]
    assert not [at for at in early if at > told_us + 1_500_000]
    assert [at for at in later if at >= told_us + 29_000_000]


async def test_a_call_that_has_passed_the_gate_when_the_word_comes_is_not_sent(house: House) -> None:
    """Between the gate and the wire lies a commit; what a 429 says in that time holds for those calls too."""
    held_until: list[int] = []
    broken: list[int] = []

    def answer(request: MessagesRequest, number: int) -> Outcome:
        now_us = house.clock.now_us()
        if held_until and now_us < held_until[-1]:
            broken.append(number)
        if number % 25 == 7:
            held_until.append(now_us + 30_000_000)
            return failed(FailureKind.RATE_LIMITED, retry_after_s=30.0)
        return answered(request, number)

    run = house.new_run(prompts(400), limits={"concurrency": 16})
    service = Scripted(house.clock, answer)
    end = await house.work(run, service)
    assert end.run.state == "done"
    assert len(held_until) > 10
    assert broken == []


async def test_after_a_hold_no_wave_starts_together(house: House) -> None:
    def answer(request: MessagesRequest, number: int) -> Outcome:
        if number < 1:
            return failed(FailureKind.RATE_LIMITED, retry_after_s=30.0)
        return answered(request, number)

    run = house.new_run(prompts(200), limits={"concurrency": 50})
    service = Scripted(house.clock, answer, latency_s=5.0)
    await house.work(run, service)
    after = [at for at in service.times_s if 5 < at < 37]
    assert len(after) >= 50
    assert min(after) >= 35 - 1e-3
    most = max(sum(1 for at in after if start <= at < start + 0.01) for start in after)
    assert most <= 3, f"{most} calls within 10 ms of 50 that waited"


async def test_a_long_hold_outlives_the_process(house: House) -> None:
    """The next start waits for what the last one was told, be it the run's first start or a later one."""
    run = house.new_run(prompts(30), limits={"concurrency": 2})
    for stage in range(2):
        faults = (Fault(kind="rate_limit", retry_after_s=500, first=1, after=5), Fault(kind="authentication"))
        async with served(house, faults=faults) as api:
            end = await _until_held(house, run, api, wait_s=500)
            assert end.pause is not None
        told_us = max(at for at, _ in api.order)
        async with served(house, faults=(Fault(kind="authentication", after=3),)) as again:
            await house.work(run, again)
        assert again.order[0][0] >= told_us + 500_000_000 - 2_000_000, f"start {stage}"


async def _until_held(house: House, run, api, wait_s: float):  # noqa: ANN001, ANN202
    """Work until the scope is held, then stop as a person would, who does not wait for it to pass."""
    import anyio

    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            while house.store.paused_until_us("x") is None and not house.table("buckets"):
                await anyio.sleep(0.01)
            house.store.ask(run.id, "pause")

        tasks.start_soon(ask)
        run = house.store.run_by_id(run.id)
        if run.state == "paused":
            run = house.store.resume_run(run, run.job)
        from runner.engine.run import work_on

        end = await work_on(run, house.parts(run, api))
        tasks.cancel_scope.cancel()
    return end


async def test_the_limits_of_the_service_cost_time_and_not_attempts(house: House) -> None:
    run = house.new_run(prompts(150), limits={"concurrency": 32})
    async with served(house, rpm=60, burst_s=1.0) as api:
        end = await house.work(run, api)
        assert end.run.state == "done"
        assert {row.result.attempts for row in house.rows(run)} == {1}
        Books(house, api.simulator, run).check()


async def test_our_own_limit_keeps_the_service_from_refusing(house: House) -> None:
    run = house.new_run(prompts(120), limits={"concurrency": 32, "rpm": 60})
    async with served(house, rpm=66, burst_s=10.0) as api:
        await house.work(run, api)
        assert api.simulator.ledger.refused == {}
    times = [at / 1e6 for at, _ in api.order]
    assert max(sum(1 for at in times if start <= at < start + 60) for start in times) <= 63
