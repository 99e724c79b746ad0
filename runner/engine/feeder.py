"""Rows for the slots: chunks are claimed ahead, rows that must go again come back when they are due.

A chunk is bookkeeping, never a barrier: its stragglers do not hold up the next one. What is bounded is the number
of rows in hand, so memory stays flat however large the run is.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio
from msgspec import Struct, field

from runner.clock import SECOND, Clock
from runner.domain.decide import RowHistory
from runner.domain.prefix import Prefix
from runner.engine.collapse import Waiting
from runner.engine.stop import Stop
from runner.store.claims import ClaimedChunk, PastTries, StoredTurn
from runner.store.group import Fence

# At least four chunks' worth of rows in hand, so that stragglers of one never starve the slots.
MIN_ROWS_IN_HAND = 2_000
ROWS_IN_HAND_PER_SLOT = 4
# How long the feeder rests when there is nothing to claim but the input is still being read.
IDLE_S = 0.2

NOTHING_BEHIND = PastTries(last_try=0, history=RowHistory())


class Work(Struct):
    """A row in hand. `line` is its record's own bytes, `prefixes` what its present try may read from the cache.

    `variant` is the one that it is asked by at present, `paused` how many of its last turns belong to the answer that
    is being made; both follow from the turns.
    """

    fence: Fence
    idx: int
    record: int
    repeat: int
    line: bytes
    last_try: int
    history: RowHistory
    turns: list[StoredTurn] = field(default_factory=list)
    prefixes: Sequence[Prefix] = ()
    waiting_again: bool = False
    variant: int = 0
    paused: int = 0


Claim = Callable[[], Awaitable[ClaimedChunk | None]]


class Feeder:
    """Rows of claimed chunks, and rows that are due again. `serve` sees to it that there are some; `due` and `fresh`
    take them."""

    def __init__(
        self,
        claim: Claim,
        clock: Clock,
        stop: Stop,
        *,
        fan: int,
        repeats: int,
        slots: int,
        staged_all: Callable[[], bool],
        waiting: Waiting | None = None,
    ) -> None:
        self._claim = claim
        self._clock = clock
        self._stop = stop
        self._fan = fan
        self._repeats = repeats
        self._staged_all = staged_all
        self._waiting = waiting
        self._followers: dict[int, Work] = {}  # rows that wait for one that asks the same
        self._fewest_fresh = slots
        self._most_in_hand = max(MIN_ROWS_IN_HAND, ROWS_IN_HAND_PER_SLOT * slots)
        self._fresh: deque[Work] = deque()
        self._later: list[tuple[int, int, Work]] = []
        self._in_hand = 0
        self._changed = anyio.Event()
        self._news = anyio.Event()
        self.is_over = False  # nobody is fed any more

    @property
    def retrying(self) -> int:
        """Rows that wait for their next try."""
        return len(self._later)

    # --- taking rows

    def due(self) -> Work | None:
        """A row whose time to be tried again has come."""
        if not self._is_due():
            return None
        work = heapq.heappop(self._later)[2]
        work.waiting_again = False
        return work

    def fresh(self) -> Work | None:
        """The next row that was not tried before, if it is in hand."""
        if len(self._fresh) == self._fewest_fresh:
            self._changed.set()
        return self._fresh.popleft() if self._fresh else None

    async def more(self) -> bool:
        """Returns when there is a row to take, or False when there will be none."""
        while not self.is_over and not self._has_row():
            await self.news().wait()
        return not self.is_over

    def news(self) -> anyio.Event:
        """Set once there may be another row than at this moment, or nobody is fed any more."""
        if self._news.is_set() and not self.is_over:
            self._news = anyio.Event()
        return self._news

    def _has_row(self) -> bool:
        return bool(self._fresh) or self._is_due()

    def _is_due(self) -> bool:
        return bool(self._later) and self._later[0][0] <= self._clock.now_us()

    # --- giving them back

    def ended(self, idx: int, *, succeeded: bool = False) -> None:
        """A row left our hands: its result is stored, or its chunk is no longer ours."""
        self._in_hand -= 1
        if self._waiting is not None:
            self._waiting.ended(idx, succeeded=succeeded)
        if self._waiting is not None or self._in_hand in (0, self._most_in_hand - 1):
            self._changed.set()

    def again(self, work: Work, at_us: int) -> None:
        """The row is to be tried again at `at_us`."""
        work.waiting_again = True
        heapq.heappush(self._later, (at_us, work.idx, work))
        self._changed.set()

    # --- having some

    async def serve(self) -> None:
        """Have rows ready until every row has ended or the run is to stop; then it is over."""
        try:
            while not self._stop.is_asked():
                await self._share_answers()
                if self._has_row():
                    self._news.set()
                wanted = len(self._fresh) < self._fewest_fresh and self._in_hand < self._most_in_hand
                if wanted and await self._open_chunk():
                    continue
                if self._in_hand == 0 and self._staged_all() and not await self._open_chunk():
                    return
                await self._rest()
        finally:
            self.close()

    def look_again(self) -> None:
        """There may be something to claim."""
        self._changed.set()

    async def _share_answers(self) -> None:
        """Rows whose leader has ended have its answer, or one of them asks in its place."""
        if self._waiting is None:
            return
        copied, lead = await self._waiting.settled()
        for idx in copied:
            del self._followers[idx]
        self._in_hand -= len(copied)
        self._fresh.extend(self._followers.pop(idx) for idx in lead)

    def close(self) -> None:
        """Nobody is fed any more."""
        self.is_over = True
        self._news.set()

    async def _open_chunk(self) -> bool:
        """Claim a chunk and take its rows that are free; False when there is none to claim now."""
        chunk = await self._claim()
        if chunk is None:
            return False
        copied: frozenset[int] = frozenset()
        follows: frozenset[int] = frozenset()
        if self._waiting is not None:
            copied, follows = await self._waiting.opened(chunk)
        for idx in range(chunk.first_idx, chunk.first_idx + chunk.n):
            if idx in chunk.taken or idx in copied:
                continue
            work = self._work(chunk, idx)
            self._in_hand += 1
            if idx in follows:
                self._followers[idx] = work
            else:
                self._fresh.append(work)
        return True

    def _work(self, chunk: ClaimedChunk, idx: int) -> Work:
        record, place = divmod(idx, self._fan)
        past = chunk.past.get(idx, NOTHING_BEHIND)
        return Work(
            fence=chunk.fence,
            idx=idx,
            record=record,
            repeat=place % self._repeats,
            line=chunk.lines[record - chunk.first_record],
            last_try=past.last_try,
            history=past.history,
            turns=list(past.turns),
        )

    async def _rest(self) -> None:
        """Until something changes: a row ends, comes back, is due, or more has been staged."""
        wait_s = IDLE_S
        if self._later and not self._is_due():
            due_s = (self._later[0][0] - self._clock.now_us()) / SECOND
            wait_s = due_s if self._staged_all() else min(due_s, IDLE_S)
        self._changed = anyio.Event()
        await first_of([self._changed.wait, self._stop.asked.wait, lambda: self._clock.sleep(wait_s)])


async def first_of(signs: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Until one of them has come."""
    async with anyio.create_task_group() as waiting:

        async def wait(sign: Callable[[], Awaitable[object]]) -> None:
            await sign()
            waiting.cancel_scope.cancel()

        for sign in signs:
            waiting.start_soon(wait, sign)
