"""429: the scope waits for the server's word, no attempt is used up, and no wave starts when the wait is over."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runner.domain.limits import Amounts
from runner.domain.outcome import AccountTrouble, FailureKind, Origin, Outcome
from runner.domain.pace import Pace
from runner.domain.request import MessagesRequest
from runner.domain.share import Share
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
    await house.work(run, service, pace=Pace(50, first=50))
    after = [at for at in service.times_s if 5 < at < 37]
    assert len(after) >= 50
    assert min(after) >= 35 - 1e-3
    most = max(sum(1 for at in after if start <= at < start + 0.01) for start in after)
    # Not a few of them: the clock turns while a commit is on its way, and those who wait for it leave together.
    assert most <= 10, f"{most} calls within 10 ms of 50 that waited"


async def test_a_long_hold_outlives_the_process(house: House) -> None:
    """The next start waits for what the last one was told, be it the run's first start or a later one."""
    run = house.new_run(prompts(60), limits={"concurrency": 2})
    told_us: list[int] = []

    def answer(request: MessagesRequest, number: int) -> Outcome:
        if number == 4:
            told_us.append(house.clock.now_us())
            return failed(FailureKind.RATE_LIMITED, retry_after_s=500.0)
        if number == 5:  # on its way at the same time: what stops the run
            return failed(FailureKind.ACCOUNT, trouble=AccountTrouble.CREDENTIALS)
        origin = Origin(organization="an organisation", workspace="a workspace")
        return replace(answered(request, number), origin=origin)

    for start in range(3):
        service = Scripted(house.clock, answer, latency_s=1.0)
        end = await house.work(run, service)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.CREDENTIALS
        assert len(service.sent) == 6
        if start:
            assert service.sent[0][0] >= told_us[-2] + 500_000_000, f"start {start}"
    assert house.sends_left() == 0


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


async def test_the_limits_are_charged_what_the_answers_took_and_nothing_else(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls are admitted by an estimate that changes from answer to answer; each gives back by its own."""
    charged = [0.0, 0.0]
    take, give_back = Share.take, Share.give_back

    def seen_take(share: Share, amounts: Amounts) -> None:
        charged[0] += amounts.input_tokens
        charged[1] += amounts.output_tokens
        take(share, amounts)

    def seen_give_back(share: Share, amounts: Amounts) -> None:
        charged[0] -= amounts.input_tokens
        charged[1] -= amounts.output_tokens
        give_back(share, amounts)

    monkeypatch.setattr(Share, "take", seen_take)
    monkeypatch.setattr(Share, "give_back", seen_give_back)
    run = house.new_run([*prompts(40), *prompts(4, "[[sim:flaky=1:500:api_error]]")], repeat=2)
    async with served(house, rpm=600, burst_s=1.0) as api:
        await house.work(run, api)
    took = house.store.tokens(run.id)
    assert charged == pytest.approx([took.prompt_tokens, took.output_tokens])
