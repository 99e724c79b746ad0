"""Identical requests of one run are asked once: what is in hand of rows that ask the same.

The store knows who leads for a body (`store/collapse`); here wait the rows of a live pass whose leader is in hand.
A process that dies forgets who waited: the next claim finds the leader's answer, or asks in its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import anyio
import msgspec
from anyio import to_thread

from runner.clock import SECOND, Clock
from runner.domain.run import Run
from runner.engine.meter import Meter
from runner.files.bad_row import BadRow
from runner.files.render import Renderer
from runner.store.claims import ClaimedChunk
from runner.store.collapse import Asking, Shared
from runner.store.store import Store

HASH_BYTES = 16
_encode = msgspec.json.Encoder(order="deterministic").encode


class Collapse:
    """The rows of one run that ask the same."""

    def __init__(
        self,
        store: Store,
        run: Run,
        renderer: Renderer,
        meter: Meter,
        clock: Clock,
        writes: anyio.CapacityLimiter,
    ) -> None:
        self._store, self._run, self._renderer = store, run, renderer
        self._meter, self._clock, self._writes = meter, clock, writes

    async def shared(
        self, chunk: ClaimedChunk, passed_over: Collection[int], under_way: Collection[int], *, batch: bool
    ) -> tuple[Shared, Mapping[int, Asking]]:
        """What becomes of a chunk's free rows, and what they ask. Those with turns behind them go on alone."""
        asking = await to_thread.run_sync(self._asking, chunk, passed_over, batch)
        now_us = self._clock.now_us()
        told = await to_thread.run_sync(
            lambda: self._store.share(
                self._run.id,
                list(asking.values()),
                under_way,
                self._run.round,
                now_us,
                elsewhere_since_us=self._elsewhere_since_us(now_us),
            ),
            limiter=self._writes,
        )
        self._count(len(told.copied))
        return told, asking

    def _elsewhere_since_us(self, now_us: int) -> int | None:
        """From when on answers of earlier runs are taken; None where none are."""
        if not self._run.job.answer_cache:
            return None
        age_s = self._run.job.answer_max_age_s
        return 0 if age_s is None else now_us - round(age_s * SECOND)

    async def copied(self, leader: int, rows: Sequence[Asking]) -> frozenset[int]:
        """Give the rows that waited for a leader its answer; empty where it has none to give."""
        told = await to_thread.run_sync(
            lambda: self._store.copy_from(self._run.id, leader, rows, self._run.round, self._clock.now_us()),
            limiter=self._writes,
        )
        self._count(len(told))
        return told

    async def lead(self, row: Asking) -> None:
        """The row asks in the place of a leader that failed."""
        await to_thread.run_sync(lambda: self._store.lead(self._run.id, row.hash, row.idx), limiter=self._writes)

    def _count(self, rows: int) -> None:
        for _ in range(rows):
            self._meter.ended(self._clock.monotonic(), failure=None)

    def _asking(self, chunk: ClaimedChunk, passed_over: Collection[int], batch: bool) -> dict[int, Asking]:
        found: dict[int, Asking] = {}
        fan, repeats = self._run.fan, self._run.job.repeat
        for idx in range(chunk.first_idx, chunk.first_idx + chunk.n):
            past = chunk.past.get(idx)
            if idx in chunk.taken or idx in passed_over or (past is not None and past.turns):
                continue
            record, place = divmod(idx, fan)
            try:
                row = self._renderer.parse(chunk.lines[record - chunk.first_record])
                body = self._renderer.body(row, variant=self._renderer.variant_at(row, idx), batch=batch)
                key = self._renderer.key(row)
            except BadRow:
                continue  # it ends by itself, with its reason
            body.pop("stream", None)
            found[idx] = Asking(
                fence=chunk.fence,
                idx=idx,
                record=record,
                repeat=place % repeats,
                key=key,
                hash=self._hash(body, place),
            )
        return found

    def _hash(self, body: Mapping[str, object], place: int) -> bytes:
        """Of all that decides an answer. Repeats and variants of a record are to be answered each by itself: they
        never ask the same."""
        job = self._run.job
        asked = [body, job.api_version, sorted(job.betas), job.base_url, sorted(job.headers.items())]
        return hashlib.blake2b(_encode(asked), digest_size=HASH_BYTES, salt=place.to_bytes(8, "big")).digest()


class Waiting:
    """Rows of a live pass that wait for leaders in hand, and what is to be done about those that have ended."""

    def __init__(self, collapse: Collapse) -> None:
        self._collapse = collapse
        self._asking: dict[int, Asking] = {}  # of every row in hand
        self._followers: dict[int, list[int]] = {}  # by leader
        self._ended: list[tuple[int, bool]] = []

    async def opened(self, chunk: ClaimedChunk) -> tuple[frozenset[int], frozenset[int]]:
        """Of a chunk's free rows: those that have ended with a copy, and those that wait."""
        told, asking = await self._collapse.shared(chunk, (), set(self._asking), batch=False)
        for idx in asking.keys() - told.copied:
            self._asking[idx] = asking[idx]
        for idx, leader in sorted(told.waiting.items()):
            self._followers.setdefault(leader, []).append(idx)
            if leader not in self._asking:
                self._ended.append((leader, True))  # while we asked, or it rides: then one of these asks itself
        return told.copied, frozenset(told.waiting)

    def ended(self, idx: int, *, succeeded: bool) -> None:
        """A row has left our hands."""
        if idx in self._followers:
            self._ended.append((idx, succeeded))
        self._asking.pop(idx, None)

    async def settled(self) -> tuple[frozenset[int], list[int]]:
        """Rows that have ended with a copy since, and rows that are to ask in the place of a leader that failed."""
        copied: set[int] = set()
        lead: list[int] = []
        while self._ended:
            leader, succeeded = self._ended.pop()
            rows = [self._asking[idx] for idx in self._followers.pop(leader, [])]
            told = await self._collapse.copied(leader, rows) if succeeded else frozenset()
            copied |= told
            left = [row for row in rows if row.idx not in told]
            for row in rows:
                if row.idx in told:
                    self._asking.pop(row.idx, None)
            if left:
                await self._collapse.lead(left[0])
                lead.append(left[0].idx)
                self._followers[left[0].idx] = [row.idx for row in left[1:]]
        return frozenset(copied), lead
