"""Scopes: holds, steps after them, setbacks, and whose limits a call counts against."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from runner.domain.limits import Amounts, KnownLimits, LimitSource, RateLimits, RateWord
from runner.domain.outcome import FailureKind, Outcome
from runner.domain.pricing import shipped_prices
from runner.domain.request import MessagesRequest
from runner.domain.retry_after import retry_after_s
from runner.domain.slices import Taken
from runner.engine.keeper import Keeper
from runner.engine.scopes import RAMP_S, Scope, Scopes
from tests.engine.house import Direct, House, Scripted, answered, failed, prompts
from tests.engine.process import ORGANIZATION, Process, all_at_work
from tests.turned_clock import START_US, TurnedClock

pytestmark = pytest.mark.anyio

ONE = Amounts(1.0, 1.0, 1.0)
LATENCY = {"latency_s": 0.2, "latency_jitter_s": 0.05}


def scopes(clock: TurnedClock, **told: Any) -> Scopes:
    plain: dict[str, Any] = {"run": 1, "own": RateLimits(), "organization": None, "known": {}, "concurrency": 4}
    return Scopes(clock, shipped_prices(), **(plain | told))


def test_models_of_a_class_share_a_scope_and_fast_calls_have_their_own(clock: TurnedClock) -> None:
    all_ = scopes(clock)
    assert all_.of("claude-opus-4-8") is all_.of("claude-opus-4-5")
    assert all_.of("claude-opus-5") is not all_.of("claude-opus-4-5")
    assert all_.of("claude-opus-5-5", "fast") is not all_.of("claude-opus-5-5")
    assert all_.of("claude-opus-5-5", "fast").name == "unknown/opus-5.5/fast"
    all_.belong_to("org")
    assert all_.of("claude-opus-4-8").name == "org/opus-4.x"


async def test_a_hold_that_grows_while_one_waits_is_waited_out(clock: TurnedClock) -> None:
    scope = Scope("a", clock, step_s=0.25)
    scope.hold(5.0)
    async with clock.autojump():
        await clock.sleep(5.1)  # in the first step after the hold
        assert scope.hold_wait_s(clock.monotonic()) > 0
        scope.hold(20.0)
        assert scope.is_held
        await clock.sleep(20.0)
        assert not scope.is_held


async def test_how_long_calls_wait_is_counted_by_what_they_wait_for(clock: TurnedClock) -> None:
    all_ = scopes(clock)
    scope = all_.of("claude-haiku-5-5")
    rpm = KnownLimits(limits=RateLimits(60, None, None), source=LimitSource.TIER)
    more = Taken(known=rpm, more=Amounts(1.0, 0.0, 0.0), share=1.0, wait_s=0.0, paused_until_us=None)

    async def call() -> None:
        while wait_s := all_.wait_s(scope, ONE, clock.monotonic()):
            await clock.sleep(min(wait_s, 0.1))
            scope.share.ask(clock.monotonic(), clock.now_us())
            scope.share.renewed(more, clock.monotonic())

    async with clock.autojump():
        for _ in range(4):  # one at once, then one a second
            await call()
        scope.hold(5.0)
        await call()
    assert set(all_.waited_s) == {"requests", "retry_after"}
    assert 2.0 < all_.waited_s["requests"] < 4.0
    assert 5.0 <= all_.waited_s["retry_after"] < 7.0


async def test_what_has_to_be_told_at_once_does_not_wait_for_the_next_renewal(house: House) -> None:
    clock = house.clock
    all_ = scopes(clock)
    scope = all_.of("claude-haiku-5-5")
    keeper = Keeper(house.store, all_, clock, anyio.CapacityLimiter(1))
    async with clock.autojump(), anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.serve)
        keeper.want(scope)
        await keeper.renewed()
        keeper.want(scope)  # which has time
        await clock.sleep(0.1)
        scope.share.heed(RateWord(limits=RateLimits(6_000, None, None), left=(None, None, None)), None)
        told_s = clock.monotonic()
        keeper.want(scope)
        await keeper.renewed()
        assert clock.monotonic() - told_s < 0.01
        assert scope.share.known.limits.rpm == 6_000
        tasks.cancel_scope.cancel()


async def test_a_wall_clock_that_is_set_forward_does_not_end_a_hold(clock: TurnedClock) -> None:
    scope = Scope("a", clock, step_s=0.25)
    scope.hold(30.0)
    clock.offset_us += 3_600_000_000
    assert scope.held_s == 30.0


async def test_after_a_hold_calls_leave_one_by_one_and_no_two_processes_in_step(clock: TurnedClock) -> None:
    left: list[float] = []
    every = [Scope(str(number), clock, step_s=RAMP_S / 20) for number in range(8)]
    for scope in every:
        scope.hold(10.0)
    async with clock.autojump():
        while clock.monotonic() < 10 + RAMP_S:
            now_s = clock.monotonic()
            for scope in every:
                if scope.hold_wait_s(now_s) == 0.0:
                    scope.stepped(now_s)
                    left.append(now_s)
            await clock.sleep(0.001)
    assert min(left) >= 10.0
    assert 8 * 10 <= len(left) <= 8 * 40
    assert max(sum(1 for at in left if start <= at < start + 0.01) for start in left) <= 8


def test_a_crowd_that_fails_together_is_one_setback(clock: TurnedClock) -> None:
    scope = Scope("a", clock, step_s=0.25)
    fresh = [scope.set_back(sent_us=100, now_us=200 + number) for number in range(50)]
    assert fresh == [True] + [False] * 49
    assert scope.history().setbacks == 1
    assert scope.set_back(sent_us=300, now_us=400)
    assert not scope.stalled(200 + 899_000_000, 900)
    assert scope.stalled(200 + 900_000_000, 900)
    scope.succeeded(500)
    assert scope.history().setbacks == 0
    assert not scope.stalled(10**12, 900)


# --- the server's word, in its forms

FORMS: dict[str, tuple[dict[str, str], float | None]] = {
    "milliseconds": ({"retry-after-ms": "2500"}, 2.5),
    "milliseconds before seconds": ({"retry-after-ms": "4000", "retry-after": "1"}, 4.0),
    "seconds": ({"retry-after": "30"}, 30.0),
    "parts of seconds": ({"retry-after": "2.5"}, 2.5),
    "an HTTP date": ({"retry-after": "Sat, 21 Nov 2026 10:00:42 GMT"}, 42.0),
    "a date in another zone": ({"retry-after": "Sat, 21 Nov 2026 12:00:42 +0200"}, 42.0),
    "huge": ({"retry-after": "4294967"}, 600.0),
    "zero": ({"retry-after": "0"}, None),
    "negative": ({"retry-after": "-5"}, None),
    "not finite": ({"retry-after": "inf"}, None),
    "junk": ({"retry-after": "soon"}, None),
    "only a reset": (
        {
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2026-11-21T10:00:20Z",
        },
        20.0,
    ),
}


@pytest.mark.parametrize("skew_s", [-3_600, 0, 3_600])
@pytest.mark.parametrize("form", FORMS)
async def test_nothing_is_sent_before_the_servers_word(house: House, form: str, skew_s: int) -> None:
    headers, wait_s = FORMS[form]
    clock = TurnedClock(offset_us=skew_s * 1_000_000)

    def answer(request: MessagesRequest, number: int) -> Outcome:
        if number == 10:
            return failed(FailureKind.RATE_LIMITED, retry_after_s=retry_after_s(headers, server_time_us=START_US))
        return answered(request, number)

    service = Scripted(clock, answer)
    await all_at_work(clock, Process(house.store, clock, service, prompts(40), concurrency=8))
    times = service.times_s
    after = min(at for at in times[11:])
    assert len(times) == 41
    if wait_s is None:
        assert 0.0 < after - times[10] < 5.0  # our own backoff
    else:
        assert wait_s <= after - times[10] <= wait_s + RAMP_S + 0.1


async def test_a_storm_of_429_makes_no_waves(house: House) -> None:
    """200 calls at once where the service lets in 50 a minute and says only `retry-after`."""
    service = Direct(house.clock, rpm=50, burst_s=1.0, **LATENCY)

    async def without_limits(request: MessagesRequest) -> Outcome:
        outcome = await service.messages(request)
        return replace(outcome, origin=replace(outcome.origin, rates=None))

    quiet = Scripted(house.clock, answered)
    quiet.messages = without_limits  # type: ignore[method-assign]
    process = Process(house.store, house.clock, quiet, prompts(100), concurrency=200)
    await all_at_work(house.clock, process)
    offers = service.simulator.ledger.offers
    assert process.meter.done == 100
    retried = [offer.at_s for offer in offers if offer.at_s > 60]
    most = max(sum(1 for at in retried if start <= at < start + 0.01) for start in retried)
    assert most <= 3, f"{most} calls within 10 ms"


async def test_with_its_headers_read_a_slow_service_refuses_hardly_anybody(house: House) -> None:
    service = Direct(house.clock, rpm=50, burst_s=1.0, **LATENCY)
    process = Process(house.store, house.clock, service, prompts(150), concurrency=200)
    await all_at_work(house.clock, process)
    offers = [offer for offer in service.simulator.ledger.offers if offer.at_s > 60]
    assert sum(offer.kind != "accepted" for offer in offers) / len(offers) < 0.02


async def test_other_processes_stop_within_one_slice(house: House) -> None:
    told_s: list[float] = []
    sent_by_other: list[float] = []

    def refusing(request: MessagesRequest, number: int) -> Outcome:
        if number == 40:
            told_s.append(house.clock.monotonic())
            return failed(FailureKind.RATE_LIMITED, retry_after_s=30.0)
        return answered(request, number)

    def noting(request: MessagesRequest, number: int) -> Outcome:
        sent_by_other.append(house.clock.monotonic())
        return answered(request, number)

    one = Process(house.store, house.clock, Scripted(house.clock, refusing, 0.1), prompts(800), concurrency=4)
    other = Process(
        house.store, house.clock, Scripted(house.clock, noting), prompts(4_000), number=2, rpm=6_000, concurrency=4
    )
    await all_at_work(house.clock, one, other)
    assert told_s
    during = [at for at in sent_by_other if told_s[0] + 1.0 < at < told_s[0] + 30.0]
    assert during == []
    assert [at for at in sent_by_other if at > told_s[0] + 30.0]


# --- several classes in one run


def of_models(count: int) -> list[bytes]:
    models = ("claude-haiku-5-5", "claude-opus-5")
    return [b'{"prompt":"row %d","params":{"model":"%s"}}' % (n, models[n % 2].encode()) for n in range(count)]


async def test_a_class_that_is_held_does_not_keep_the_other_waiting(house: House) -> None:
    ended: dict[str, list[float]] = {"claude-haiku-5-5": [], "claude-opus-5": []}

    def answer(request: MessagesRequest, number: int) -> Outcome:
        if request.model == "claude-opus-5" and house.clock.monotonic() < 300:
            return failed(FailureKind.RATE_LIMITED, retry_after_s=300.0)
        ended[request.model].append(house.clock.monotonic())
        return answered(request, number)

    service = Scripted(house.clock, answer, 0.5)
    process = Process(house.store, house.clock, service, of_models(400), concurrency=16)
    await all_at_work(house.clock, process)
    assert [len(times) for times in ended.values()] == [200, 200]
    assert max(ended["claude-haiku-5-5"]) < 60
    assert min(ended["claude-opus-5"]) >= 300


async def test_each_class_has_the_speed_of_its_own_limit(house: House) -> None:
    known = {
        "haiku-5.5": KnownLimits(limits=RateLimits(600, None, None), source=LimitSource.TIER),
        "opus-5": KnownLimits(limits=RateLimits(60, None, None), source=LimitSource.TIER),
    }
    service = Scripted(house.clock, answered, 0.2)
    process = Process(house.store, house.clock, service, of_models(240), concurrency=16, known=known)
    await all_at_work(house.clock, process)
    assert house.clock.monotonic() == pytest.approx(122, abs=6)
    times = {name: [at for (at, body) in service.sent if name in body] for name in (b"haiku", b"opus")}
    assert (max(times[b"haiku"]) - min(times[b"haiku"])) / 1e6 < 30


async def test_with_several_processes_the_first_word_on_the_limits_is_heard_by_all(house: House) -> None:
    service = Direct(house.clock, rpm=600, burst_s=1.0, **LATENCY)
    at_work = [Process(house.store, house.clock, service, prompts(300), number=number) for number in range(3)]
    chance = random.Random(1)
    async with house.clock.autojump(), anyio.create_task_group() as working:
        for process in at_work:
            working.start_soon(process.work)
            await house.clock.sleep(chance.uniform(0, 3))
    row = house.store.look_at_limits([f"{ORGANIZATION}/haiku-5.5"])[f"{ORGANIZATION}/haiku-5.5"]
    assert row.known == KnownLimits(limits=RateLimits(600, None, None), source=LimitSource.HEADERS)
    offers = service.simulator.ledger.offers
    assert sum(offer.kind != "accepted" for offer in offers) / len(offers) < 0.02
