"""Token buckets: what fits is let in, what does not learns exactly when to come back."""

from __future__ import annotations

import pytest

from runner.simulator import Reply, Simulator, SimulatorConfig
from tests.simulator.calls import body, error_of, finished, header, post
from tests.turned_clock import TurnedClock


def send(simulator: Simulator, text: str = "x", model: str = "claude-haiku-5-5") -> Reply:
    return finished(post(simulator, body(text, model=model)))


def refused_after(simulator: Simulator, text: str = "x") -> tuple[int, Reply]:
    """How many got in before the first 429, and that 429."""
    for count in range(100_000):
        reply = send(simulator, text)
        if reply.status == 429:
            return count, reply
    raise AssertionError("never refused")


async def turn(clock: TurnedClock, seconds: float) -> None:
    await clock.advance(seconds)


def test_without_limits_nothing_is_refused_and_no_limit_is_told(clock: TurnedClock) -> None:
    reply = send(Simulator(SimulatorConfig(), clock))
    assert not [name for name, _ in reply.headers if name.startswith("anthropic-ratelimit")]


def test_a_bucket_holds_its_burst_of_requests(clock: TurnedClock) -> None:
    assert refused_after(Simulator(SimulatorConfig(rpm=60), clock))[0] == 60
    assert refused_after(Simulator(SimulatorConfig(rpm=600, burst_s=1.0), clock))[0] == 10


def test_the_429_says_its_kind_and_carries_the_limits(clock: TurnedClock) -> None:
    _, reply = refused_after(Simulator(SimulatorConfig(rpm=6, burst_s=10), clock))
    assert error_of(reply)["type"] == "rate_limit_error"
    assert header(reply, "retry-after") == "10"
    assert header(reply, "anthropic-ratelimit-requests-limit") == "6"
    assert header(reply, "anthropic-ratelimit-requests-remaining") == "0"
    assert header(reply, "anthropic-ratelimit-requests-reset") == "2026-11-21T10:00:10Z"


@pytest.mark.anyio
async def test_after_retry_after_the_call_gets_in_and_a_second_earlier_it_does_not(clock: TurnedClock) -> None:
    simulator = Simulator(SimulatorConfig(rpm=6, burst_s=10), clock)
    _, reply = refused_after(simulator)
    wait_s = int(header(reply, "retry-after") or 0)
    await clock.advance(wait_s - 1)
    assert send(simulator).status == 429
    await clock.advance(1)
    assert send(simulator).status == 200


@pytest.mark.anyio
async def test_never_more_than_burst_plus_refill_in_any_window(clock: TurnedClock) -> None:
    simulator = Simulator(SimulatorConfig(rpm=120, burst_s=1.0), clock)
    admitted = 0
    for _ in range(600):
        admitted += send(simulator).status == 200
        await clock.advance(0.1)
    assert 118 <= admitted <= 122


def test_input_tokens_are_charged_at_the_start_and_may_go_below_zero(clock: TurnedClock) -> None:
    simulator = Simulator(SimulatorConfig(itpm=60), clock)
    assert send(simulator, "x" * 4000).status == 200  # 1,000 tokens out of 60
    reply = send(simulator, "x")
    assert "input tokens" in error_of(reply)["message"]
    assert header(reply, "retry-after") == "940"


def test_output_tokens_are_charged_as_produced_whatever_max_tokens_says(clock: TurnedClock) -> None:
    simulator = Simulator(SimulatorConfig(otpm=60), clock)
    assert send(simulator, "[[sim:tokens=90]]").status == 200
    reply = send(simulator)
    assert "output tokens" in error_of(reply)["message"]
    assert header(reply, "retry-after") == "30"


def test_output_is_not_charged_before_the_answer_goes_out(clock: TurnedClock) -> None:
    simulator = Simulator(SimulatorConfig(otpm=60, latency_s=5), clock)
    waiting = post(simulator, body("[[sim:tokens=90]]"))
    assert post(simulator, body("x")).status == 200
    finished(waiting)
    assert post(simulator, body("x")).status == 429


def test_each_model_class_has_buckets_of_its_own_and_versions_of_a_class_share(clock: TurnedClock) -> None:
    simulator = Simulator(SimulatorConfig(rpm=1), clock)
    assert send(simulator, model="claude-opus-4-8").status == 200
    assert send(simulator, model="claude-opus-4-5").status == 429
    assert send(simulator, model="claude-opus-5").status == 200


@pytest.mark.parametrize(("tier", "rpm", "itpm"), [("start", 1000, 2_000_000), ("scale", 10_000, 10_000_000)])
def test_tiers_have_the_published_limits(clock: TurnedClock, tier: str, rpm: int, itpm: int) -> None:
    reply = send(Simulator(SimulatorConfig(tier=tier), clock))
    assert header(reply, "anthropic-ratelimit-requests-limit") == str(rpm)
    assert header(reply, "anthropic-ratelimit-requests-remaining") == str(rpm - 1)
    assert header(reply, "anthropic-ratelimit-input-tokens-limit") == str(itpm)
    assert header(reply, "anthropic-ratelimit-input-tokens-remaining") == str(itpm)


def test_counting_tokens_has_a_limit_of_its_own(clock: TurnedClock) -> None:
    simulator = Simulator(SimulatorConfig(tier="start", rpm=1), clock)
    assert send(simulator).status == 200
    assert send(simulator).status == 429
    reply = post(simulator, body(max_tokens=None), "/v1/messages/count_tokens")
    assert reply.status == 200
    assert header(reply, "anthropic-ratelimit-requests-limit") == "2000"


def test_the_spend_cap_refuses_without_retry_after(clock: TurnedClock) -> None:
    simulator = Simulator(SimulatorConfig(spend_cap_usd="0.00002"), clock)
    count, reply = refused_after(simulator)
    assert count >= 1
    assert error_of(reply)["details"]["error_code"] == "enforced_spend_limit_reached"
    assert header(reply, "retry-after") is None


def test_every_offer_is_noted_with_its_kind(clock: TurnedClock) -> None:
    simulator = Simulator(SimulatorConfig(rpm=1), clock)
    send(simulator)
    send(simulator)
    assert [offer.kind for offer in simulator.ledger.offers] == ["accepted", "requests"]
    assert simulator.ledger.refused == {"rate_limit_error": 1}
