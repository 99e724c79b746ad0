"""The clocks: the real one keeps its promises, the turned one is good enough to test the rest with."""

from __future__ import annotations

import threading
import time

import anyio
import anyio.to_thread
import pytest

from runner.clock import SECOND, Clock, SystemClock
from tests.turned_clock import START_US, TurnedClock

pytestmark = pytest.mark.anyio


async def test_shared_time_is_utc_microseconds_moved_by_the_offset() -> None:
    plain, ahead = SystemClock(), SystemClock(offset_us=3600 * SECOND)
    assert abs(plain.now_us() - time.time() * 1e6) < 5 * SECOND
    assert abs(ahead.now_us() - plain.now_us() - 3600 * SECOND) < 5 * SECOND


async def test_monotonic_time_ignores_the_offset() -> None:
    assert abs(SystemClock(offset_us=3600 * SECOND).monotonic() - time.monotonic()) < 5


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.01])
async def test_a_real_sleep_lasts_at_least_as_long_as_asked(seconds: float) -> None:
    clock: Clock = SystemClock()
    begun = time.monotonic()
    await clock.sleep(seconds)
    assert time.monotonic() - begun >= seconds


async def test_turned_time_stands_still_until_it_is_turned(clock: TurnedClock) -> None:
    assert (clock.now_us(), clock.monotonic()) == (START_US, 0.0)
    await anyio.sleep(0.002)
    assert (clock.now_us(), clock.monotonic()) == (START_US, 0.0)
    await clock.advance(1.5)
    assert (clock.now_us(), clock.monotonic()) == (START_US + 1_500_000, 1.5)


async def test_sleepers_wake_in_order_and_each_at_its_own_time(clock: TurnedClock) -> None:
    woken: list[tuple[float, float]] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    async with anyio.create_task_group() as tasks:
        for seconds in (3.0, 1.0, 2.0):
            tasks.start_soon(sleeper, seconds)
        await clock.advance(2.5)
        assert woken == [(1.0, 1.0), (2.0, 2.0)]
        assert clock.monotonic() == 2.5
        await clock.advance(0.5)
    assert woken[-1] == (3.0, 3.0)


async def test_advance_lets_a_woken_sleeper_sleep_again_on_the_way(clock: TurnedClock) -> None:
    beats: list[float] = []

    async def heart() -> None:
        for _ in range(5):
            await clock.sleep(1)
            beats.append(clock.monotonic())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heart)
        await clock.advance(10)
    assert beats == [1.0, 2.0, 3.0, 4.0, 5.0]


async def test_a_cancelled_sleeper_is_forgotten(clock: TurnedClock) -> None:
    with anyio.move_on_after(0.001):
        await clock.sleep(60)
    assert clock.sleepers == 0


async def test_autojump_passes_half_an_hour_of_slices_in_a_moment(clock: TurnedClock) -> None:
    begun = time.monotonic()
    async with clock.autojump():
        for _ in range(1800):
            await clock.sleep(1)
    assert clock.monotonic() == 1800.0
    assert time.monotonic() - begun < 5  # about 0.3 s; a loaded machine may take longer


async def test_autojump_is_as_quick_when_each_slice_hands_work_to_a_thread(clock: TurnedClock) -> None:
    begun = time.monotonic()
    async with clock.autojump():
        for _ in range(300):
            await clock.sleep(6)
            await anyio.to_thread.run_sync(lambda: None)
    assert clock.monotonic() == 1800.0
    assert time.monotonic() - begun < 5


async def test_autojump_waits_for_worker_threads(clock: TurnedClock) -> None:
    """A slow commit in a thread must not make a sleeping timeout fire."""
    order: list[str] = []

    async def commit() -> None:
        await anyio.to_thread.run_sync(time.sleep, 0.05, limiter=anyio.CapacityLimiter(1))
        order.append("committed")

    async def timeout() -> None:
        await clock.sleep(600)
        order.append("timeout")

    async with clock.autojump(), anyio.create_task_group() as tasks:
        tasks.start_soon(timeout)
        tasks.start_soon(commit)
    assert order == ["committed", "timeout"]


async def test_autojump_waits_for_announced_work_in_a_thread_of_its_own(clock: TurnedClock) -> None:
    order: list[str] = []

    def work() -> None:
        time.sleep(0.05)
        order.append("worked")
        entered.__exit__(None, None, None)

    entered = clock.busy()
    entered.__enter__()
    thread = threading.Thread(target=work)
    thread.start()
    async with clock.autojump():
        await clock.sleep(600)
        order.append("slept")
    thread.join()
    assert order == ["worked", "slept"]


async def test_autojump_does_not_overtake_an_answer_on_a_socket(clock: TurnedClock) -> None:
    answered_at: list[float] = []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            while True:
                try:
                    await stream.send(await stream.receive())
                except anyio.EndOfStream:
                    return

    async def ask(port: int) -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            for _ in range(20):
                await stream.send(b"?")
                await stream.receive()
                answered_at.append(clock.monotonic())

    async def timeout() -> None:
        await clock.sleep(600)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as server:
            server.start_soon(listener.serve, serve)
            async with clock.autojump(silence_s=0.1), anyio.create_task_group() as tasks:
                tasks.start_soon(timeout)
                tasks.start_soon(ask, port)
            server.cancel_scope.cancel()
    assert answered_at == [0.0] * 20
    assert clock.monotonic() == 600.0


async def test_leaving_autojump_leaves_the_loop_as_it_was(clock: TurnedClock) -> None:
    with pytest.raises(RuntimeError, match="from inside"):
        async with clock.autojump():
            raise RuntimeError("from inside")
    before = clock.jumps
    with anyio.move_on_after(0.02):
        await clock.sleep(1)
    assert clock.jumps == before
