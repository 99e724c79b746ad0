"""Inside every limit, at full speed: what the simulator's own buckets let in and refuse, minute by minute."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from runner.domain.limits import KnownLimits, LimitSource, RateLimits
from runner.domain.pace import FIRST_CALLS
from tests.engine.house import Direct, House
from tests.engine.process import ORGANIZATION, Process, all_at_work
from tests.minutes import Minutes, check, rows

pytestmark = pytest.mark.anyio

LATENCY = {"latency_s": 0.2, "latency_jitter_s": 0.05}
RPM = 3_000


async def worked(house: House, lines: list[bytes], service: Direct, **more: Any) -> Minutes:
    await all_at_work(house.clock, Process(house.store, house.clock, service, lines, **more))
    assert sum(offer.kind == "accepted" for offer in service.simulator.ledger.offers) == len(lines)
    return Minutes(service.simulator.ledger.offers)


def known(limits: dict[str, int]) -> dict[str, KnownLimits]:
    return {"haiku-5.5": KnownLimits(limits=RateLimits(**limits), source=LimitSource.TIER)}


# Which limit binds, and rows of a size that make it so for a little more than two minutes.
BINDING = {
    "rpm": ({"rpm": RPM, "itpm": 10**7, "otpm": 10**7}, {"count": 6_600, "input_tokens": 30, "output_tokens": 20}),
    "itpm": (
        {"rpm": RPM, "itpm": 400_000, "otpm": 10**7},
        {"count": 4_400, "input_tokens": 200, "output_tokens": 20},
    ),
    "otpm": (
        {"rpm": RPM, "itpm": 10**7, "otpm": 300_000},
        {"count": 4_400, "input_tokens": 30, "output_tokens": 150},
    ),
}


# A service that enforces over a minute forgives what one that enforces over a second does not.
A_MINUTE = pytest.param(60.0, marks=pytest.mark.exhaustive)


def in_the_long_form(value: Any) -> Any:
    return pytest.param(value, marks=pytest.mark.exhaustive)


@pytest.mark.parametrize("burst_s", [1.0, A_MINUTE])
@pytest.mark.parametrize("binding", ["rpm", in_the_long_form("itpm"), "otpm"])
async def test_a_known_limit_is_used_and_not_passed(house: House, binding: str, burst_s: float) -> None:
    limits, size = BINDING[binding]
    service = Direct(house.clock, burst_s=burst_s, **limits, **LATENCY)
    minutes = await worked(house, rows(**size), service, known=known(limits))
    check(minutes, limits, binding)


@pytest.mark.parametrize("burst_s", [1.0, A_MINUTE])
async def test_an_unknown_limit_is_learned_from_the_first_answers(house: House, burst_s: float) -> None:
    limits, size = BINDING["itpm"]
    service = Direct(house.clock, burst_s=burst_s, **limits, **LATENCY)
    check(await worked(house, rows(**size), service), limits, "itpm")


async def test_reads_of_the_cache_are_not_counted(house: House) -> None:
    limits, size = BINDING["itpm"]
    service = Direct(house.clock, burst_s=1.0, **limits, **LATENCY)
    lines = rows(size["count"] * 10 // 7, input_tokens=200, output_tokens=20, cached=0.3)
    check(await worked(house, lines, service, known=known(limits)), limits, "itpm")


@pytest.mark.parametrize("binding", ["itpm", in_the_long_form("otpm")])
async def test_estimates_that_are_off_by_half_cost_little(house: House, binding: str) -> None:
    """Each row is up to half larger or smaller than the mean, and at the start the mean is unknown too."""
    limits, size = BINDING[binding]
    service = Direct(house.clock, burst_s=1.0, **limits, **LATENCY)
    lines = rows(
        size["count"] * 3 // 2, input_tokens=size["input_tokens"], output_tokens=size["output_tokens"], spread=0.5
    )
    minutes = await worked(house, lines, service, known=known(limits))
    check(minutes, limits, binding, from_s=120, least=0.90)


async def test_a_limit_of_the_run_itself_is_kept_as_well(house: House) -> None:
    service = Direct(house.clock, **LATENCY)
    process = Process(house.store, house.clock, service, rows(**BINDING["rpm"][1]), rpm=RPM)
    await all_at_work(house.clock, process)
    check(Minutes(service.simulator.ledger.offers), {"rpm": RPM}, "rpm")
    waited_s = process.scopes.waited_s
    assert max(waited_s, key=waited_s.__getitem__) == "requests", waited_s
    assert waited_s["requests"] > 60.0


@pytest.mark.parametrize("burst_s", [1.0, A_MINUTE])
@pytest.mark.parametrize("processes", [in_the_long_form(2), 5])
async def test_processes_share_one_limit(house: House, processes: int, burst_s: float) -> None:
    limits, size = BINDING["rpm"]
    service = Direct(house.clock, burst_s=burst_s, **limits, **LATENCY)
    lines = rows(**size)
    at_work = [
        Process(house.store, house.clock, service, lines[number::processes], number=number, known=known(limits))
        for number in range(processes)
    ]
    await all_at_work(house.clock, *at_work)
    check(Minutes(service.simulator.ledger.offers), limits, "rpm", least=0.94)
    ended = [process.meter.done for process in at_work]
    assert sum(ended) == len(lines)


async def test_a_process_takes_what_the_others_leave(house: House) -> None:
    """One has little to do, one has nothing left after a while: the third has the rest."""
    limits, size = BINDING["rpm"]
    service = Direct(house.clock, burst_s=1.0, **limits, **LATENCY)
    lines = rows(**size)
    slow = Process(house.store, house.clock, service, lines[:200], number=1, known=known(limits), rpm=120)
    short = Process(house.store, house.clock, service, lines[200:1200], number=2, known=known(limits))
    busy = Process(house.store, house.clock, service, lines[1200:], number=3, known=known(limits))
    await all_at_work(house.clock, slow, short, busy)
    check(Minutes(service.simulator.ledger.offers), limits, "rpm", from_s=60, least=0.94)


@pytest.mark.parametrize("organization", [ORGANIZATION, None])
async def test_until_the_first_answer_few_calls_meet_a_limit_that_nobody_knows(
    house: House, organization: str | None
) -> None:
    """Four processes begin in one moment, with more slots than the service lets in at once."""
    service = Direct(house.clock, burst_s=1.0, rpm=600, **LATENCY)
    lines = rows(400, input_tokens=30, output_tokens=20)
    at_work = [
        Process(house.store, house.clock, service, lines[number::4], number=number, organization=organization)
        for number in range(4)
    ]
    await all_at_work(house.clock, *at_work)
    offers = service.simulator.ledger.offers
    at_once = [offer for offer in offers if offer.at_s - offers[0].at_s < LATENCY["latency_s"] / 2]
    assert len(at_once) <= 4 * FIRST_CALLS
    refused = [offer.at_s - offers[0].at_s for offer in offers if offer.kind != "accepted"]
    assert len(refused) < len(at_once)
    assert max(refused) < LATENCY["latency_s"] / 2, "none was, once the limit was known"


@pytest.mark.parametrize("limits", [{}, {"rpm": 60_000}])
async def test_nobody_stops_when_the_first_answer_tells_whose_limits_they_are(
    house: House, limits: dict[str, int]
) -> None:
    service = Direct(house.clock, **limits, **LATENCY)
    lines = rows(1_000, input_tokens=30, output_tokens=20)
    process = Process(house.store, house.clock, service, lines, organization=None, concurrency=64)
    await all_at_work(house.clock, process)
    came_s = [offer.at_s for offer in service.simulator.ledger.offers]
    assert max(later - earlier for earlier, later in pairwise(came_s)) <= 0.3


async def test_answers_that_come_together_let_twice_as_many_go(house: House) -> None:
    """8, 64, 128 and then the other 100 calls, each round of them answered in the same instant."""
    service = Direct(house.clock, latency_s=3.0)
    lines = rows(300, input_tokens=30, output_tokens=20)
    process = Process(house.store, house.clock, service, lines, concurrency=256)
    await all_at_work(house.clock, process)
    offers = service.simulator.ledger.offers
    assert offers[-1].at_s - offers[0].at_s < 3 * 3.0 + 1.0
