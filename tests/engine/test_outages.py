"""The service is overloaded or out of reach: the scope backs off, and nothing is lost over it."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import pytest

from runner.api.client import Client, Connection
from runner.domain.outcome import FailureKind, Outcome
from runner.domain.request import MessagesRequest
from runner.domain.states import PauseReason
from runner.simulator import Fault, Simulator, SimulatorConfig, serve
from tests.engine.house import KEY, Books, House, Scripted, answered, failed, prompts, served

pytestmark = pytest.mark.anyio


async def test_half_an_hour_of_overload_fails_no_row_and_uses_up_no_attempt(house: House) -> None:
    run = house.new_run(prompts(40), limits={"stall_s": 3_600.0, "concurrency": 16})
    async with served(house, faults=(Fault(kind="overloaded", until_s=1_800),)) as api:
        end = await house.work(run, api)
        assert end.run.state == "done"
        assert {row.result.attempts for row in house.rows(run)} == {1}
        assert house.table("attempts") == []
        assert api.simulator.ledger.faults["overloaded"] < 40 * 20, "it backs off"
        Books(house, api.simulator, run).check()


async def test_an_overload_that_outlasts_the_patience_pauses_and_the_next_start_ends_it(house: House) -> None:
    run = house.new_run(prompts(40), limits={"concurrency": 16})
    async with served(house, faults=(Fault(kind="overloaded", until_s=1_800),)) as api:
        reasons = []
        for _ in range(10):
            end = await house.work(run, api)
            if end.pause is None:
                break
            reasons.append(end.pause.reason)
        assert set(reasons) == {PauseReason.STALLED}
        assert house.statuses(run) == {"succeeded": 40}
        assert {row.result.attempts for row in house.rows(run)} == {1}


async def test_a_row_that_alone_meets_the_overload_ends_after_its_attempts(house: House) -> None:
    lines = [*prompts(30), b'{"prompt":"poison"}', *(b'{"prompt":"more %d"}' % n for n in range(400))]
    run = house.new_run(lines, limits={"max_attempts": 4, "concurrency": 4})
    poison: list[int] = []

    def answer(request: MessagesRequest, number: int) -> Outcome:
        if b"poison" in request.body:
            poison.append(number)
            return failed(FailureKind.OVERLOADED, "overloaded_error")
        return answered(request, number)

    end = await house.work(run, Scripted(house.clock, answer, latency_s=1.0))
    assert end.pause is None
    assert house.statuses(run) == {"succeeded": 430, "errored": 1}
    assert len(poison) <= 4 + 1, "the first time nobody can tell whose trouble it is"


async def test_ten_minutes_without_a_network_lose_nothing(house: House) -> None:
    run = house.new_run(prompts(40), limits={"concurrency": 8})
    async with AsyncExitStack() as stack:
        gone = await serve(Simulator(SimulatorConfig(), house.clock))
        port = gone.port
        await gone.close()
        simulator = Simulator(SimulatorConfig(), house.clock)
        connection = Connection(credential=KEY, base_url=f"http://127.0.0.1:{port}", concurrency=8)
        client = await stack.enter_async_context(Client(connection, clock=house.clock, env={}))

        async def comes_up() -> None:
            await house.clock.sleep(600)
            server = await serve(simulator, port=port)
            stack.push_async_callback(server.close)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(comes_up)
            end = await house.work(run, client)
        assert end.run.state == "done"
        assert {row.result.attempts for row in house.rows(run)} == {1}
        assert house.table("attempts") == []
        Books(house, simulator, run).check()


async def test_without_a_network_for_ever_the_run_pauses_and_nothing_is_booked(house: House) -> None:
    run = house.new_run(prompts(20))
    gone = await serve(Simulator(SimulatorConfig(), house.clock))
    await gone.close()
    connection = Connection(credential=KEY, base_url=gone.url, concurrency=8)
    async with Client(connection, clock=house.clock, env={}) as client:
        end = await house.work(run, client)
    assert end.pause is not None
    assert end.pause.reason is PauseReason.STALLED
    assert (end.tally.ended, house.sends_left(), house.table("ledger")) == (0, 0, [])
