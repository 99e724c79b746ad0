"""Laws of the single parts: room, writer, feeder."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from runner.engine.feeder import MIN_ROWS_IN_HAND, Feeder, Work
from runner.engine.room import Room
from runner.engine.stop import Stop
from runner.engine.writer import GROUP_BYTES, GROUP_OPERATIONS, PACE_SHARE, Writer
from runner.errors import StoreFault
from runner.store.claims import ClaimedChunk
from runner.store.group import Fence, SendIntent, Settlement, Verdict
from tests.turned_clock import TurnedClock

pytestmark = pytest.mark.anyio


async def test_room_wakes_one_for_each_that_ends_and_all_when_nothing_can_come() -> None:
    room = Room()
    told: list[bool] = []

    async def refused() -> None:
        since = room.asked()
        room.refused()
        told.append(await room.comes(since))
        if told[-1]:
            room.asked()
            room.refused()

    room.asked()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(refused)
        await anyio.wait_all_tasks_blocked()
        assert told == []
        room.given_back()
    assert told == [True, True, True]
    since = room.asked()
    room.refused()
    assert not await room.comes(since)


class Groups:
    """A store that notes its groups."""

    def __init__(self, fault_at: int | None = None, error: Exception | None = None) -> None:
        self.groups: list[list[int]] = []
        self._fault_at = fault_at
        self._error = error or StoreFault("the disk is full.")

    def commit_group(self, _run: int, operations: list[Any]) -> list[Verdict]:
        if self._fault_at == len(self.groups):
            raise self._error
        self.groups.append([operation.idx for operation in operations])
        return [Verdict.STORED] * len(operations)


def _settlement(idx: int, message: bytes | None = None) -> Settlement:
    return Settlement(fence=Fence(seq=0, epoch=1), idx=idx, try_=1, turn=0, at_us=0, message=message)


def _send(idx: int) -> SendIntent:
    return SendIntent(fence=Fence(seq=0, epoch=1), idx=idx, try_=1, turn=0, model="m", worst_pico=1, at_us=0)


async def _through(store: Groups, operations: list[Settlement]) -> list[object]:
    writer = Writer(store, 1, anyio.CapacityLimiter(1), TurnedClock())  # type: ignore[arg-type]
    told: list[object] = []

    async def submit(operation: Settlement) -> None:
        try:
            told.append(await writer.submit(operation))
        except StoreFault as fault:
            told.append(fault)

    async with serving(writer), anyio.create_task_group() as slots:
        for operation in operations:
            slots.start_soon(submit, operation)
    return told


@asynccontextmanager
async def serving(writer: Writer) -> AsyncIterator[list[StoreFault]]:
    """A writer at work; with what it has ended, if not in order."""
    faults: list[StoreFault] = []

    async def serve() -> None:
        try:
            await writer.serve()
        except StoreFault as fault:
            faults.append(fault)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        yield faults
        writer.close()
        await writer.closed.wait()


async def test_a_commit_takes_what_has_gathered_and_loses_nothing() -> None:
    store = Groups()
    told = await _through(store, [_settlement(idx) for idx in range(2_000)])
    assert told == [Verdict.STORED] * 2_000
    assert [idx for group in store.groups for idx in group] == list(range(2_000))
    assert max(map(len, store.groups)) <= GROUP_OPERATIONS
    assert len(store.groups) <= 6


async def _calls(clock: TurnedClock, store: Groups, *, slots: int, rows: int, call_s: float) -> float:
    """Seconds that the slots take for their rows, each of them a send, a call and its end."""
    writer = Writer(store, 1, anyio.CapacityLimiter(1), clock)  # type: ignore[arg-type]
    chance = random.Random(1)
    left = iter(range(rows))
    began_s = clock.monotonic()

    async def slot() -> None:
        for idx in left:
            assert await writer.submit(_send(idx)) is Verdict.STORED
            await clock.sleep(call_s * chance.uniform(0.75, 1.25))
            writer.hand_over(_settlement(idx), then=lambda: None)

    async with clock.autojump(), serving(writer):
        async with anyio.create_task_group() as pool:
            for _ in range(slots):
                pool.start_soon(slot)
        await writer.caught_up()
    return clock.monotonic() - began_s


async def test_with_calls_out_a_commit_waits_a_moment_for_more(clock: TurnedClock) -> None:
    store = Groups()
    took_s = await _calls(clock, store, slots=50, rows=1_000, call_s=0.3)
    rounds = 1_000 / 50 + 1  # the last one is not full
    assert took_s < rounds * 0.3 * (1 + PACE_SHARE)
    assert len(store.groups) < 1_000


async def test_nobody_waits_for_company_that_cannot_come(clock: TurnedClock) -> None:
    store = Groups()
    began_jumps = clock.jumps
    await _calls(clock, store, slots=1, rows=20, call_s=1.0)
    assert [len(group) for group in store.groups] == [1] + [2] * 19 + [1], "an end, and the next send with it"
    assert clock.jumps - began_jumps == 20


async def test_a_group_is_bounded_by_its_bytes() -> None:
    store = Groups()
    await _through(store, [_settlement(idx, b"x" * (GROUP_BYTES // 3)) for idx in range(10)])
    assert max(map(len, store.groups)) <= 3


async def test_a_store_fault_reaches_everybody_who_waits() -> None:
    told = await _through(Groups(fault_at=1), [_settlement(idx) for idx in range(1_500)])
    assert len(told) == 1_500
    assert sum(isinstance(one, StoreFault) for one in told) >= 1_500 - GROUP_OPERATIONS


async def test_what_follows_from_an_operation_follows_once_it_is_committed_and_never_after_a_fault() -> None:
    store, followed = Groups(fault_at=1), list[int]()
    writer = Writer(store, 1, anyio.CapacityLimiter(1), TurnedClock())  # type: ignore[arg-type]
    async with serving(writer) as faults:
        writer.hand_over(_settlement(1), then=partial(followed.append, 1))
        writer.hand_over(_settlement(2), then=partial(followed.append, 2))
        assert followed == []
        assert await writer.submit(_send(3)) is Verdict.STORED
        assert (store.groups, followed) == ([[1, 2, 3]], [1, 2])
        writer.hand_over(_settlement(4), then=partial(followed.append, 4))
        await writer.caught_up()
        assert followed == [1, 2]
        with pytest.raises(StoreFault):
            writer.hand_over(_settlement(5), then=partial(followed.append, 5))
    assert [str(fault) for fault in faults] == ["the disk is full."], "whoever started it hears of it, nobody waits"


async def test_a_mistake_of_our_own_ends_those_who_wait_as_well() -> None:
    writer = Writer(Groups(0, ValueError("a bug")), 1, anyio.CapacityLimiter(1), TurnedClock())  # type: ignore[arg-type]

    async def at_work() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.serve)
            tasks.start_soon(writer.submit, _send(1))

    with anyio.fail_after(30), pytest.raises(ExceptionGroup) as ended:
        await at_work()
    assert {str(error) for error in ended.value.exceptions} == {"a bug"}


async def test_whoever_has_handed_over_waits_for_that_and_not_for_what_others_hand_over_later() -> None:
    writer = Writer(Groups(), 1, anyio.CapacityLimiter(1), TurnedClock())  # type: ignore[arg-type]
    followed: list[int] = []

    async def others() -> None:
        for idx in itertools.count(2):
            await writer.submit(_send(idx))
            await anyio.lowlevel.checkpoint()

    async with serving(writer), anyio.create_task_group() as tasks:
        writer.hand_over(_settlement(1), then=partial(followed.append, 1))
        tasks.start_soon(others)
        with anyio.fail_after(30):
            await writer.caught_up()
        assert followed == [1]
        tasks.cancel_scope.cancel()


def _claims(chunks: int, rows: int) -> Callable[[], Any]:
    left = iter(range(chunks))

    async def claim() -> ClaimedChunk | None:
        await anyio.lowlevel.checkpoint()
        seq = next(left, None)
        if seq is None:
            return None
        return ClaimedChunk(
            fence=Fence(seq=seq, epoch=1), first_idx=seq * rows, n=rows, first_record=seq * rows,
            lines=[b"{}"] * rows, taken=frozenset(), past={},
        )  # fmt: skip

    return claim


@pytest.mark.parametrize("seed", range(4))
async def test_the_feeder_is_bounded_gives_due_rows_first_and_ends_when_all_have_ended(
    clock: TurnedClock, seed: int
) -> None:
    chance = random.Random(seed)
    print(f"seed {seed}")
    feeder = Feeder(_claims(12, 500), clock, Stop(), fan=1, repeats=1, slots=8, staged_all=lambda: True)
    ended: set[int] = set()
    in_hand: list[int] = []
    again: dict[int, int] = {}

    async def slot() -> None:
        while await feeder.more():
            work = feeder.due() or feeder.fresh()
            assert work is not None
            assert clock.now_us() >= again.get(work.idx, 0)
            in_hand.append(feeder._in_hand)
            await _try(work)

    async def _try(work: Work) -> None:
        if work.idx not in again and chance.random() < 0.1:
            again[work.idx] = clock.now_us() + round(chance.uniform(0, 30) * 1e6)
            feeder.again(work, again[work.idx])
            return
        assert work.idx not in ended
        ended.add(work.idx)
        feeder.ended(work.idx)

    async with clock.autojump(), anyio.create_task_group() as tasks:
        tasks.start_soon(feeder.serve)
        for _ in range(8):
            tasks.start_soon(slot)
    assert ended == set(range(6_000))
    assert max(in_hand) <= MIN_ROWS_IN_HAND + 500
    assert again
