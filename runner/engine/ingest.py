"""Records in: the input is read block by block, numbered, and staged in the store while the first rows are sent.

A local file has been checked whole before; a stream is checked here, row by row. A killed ingest goes on after the
last block that was committed, once the bytes before it have proved to be the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from itertools import islice

import anyio
from msgspec import Struct, field

from runner.domain.job import OnBadRow
from runner.domain.run import Run
from runner.engine.stop import Stop
from runner.errors import InputChanged, InputInvalid
from runner.files.bad_row import BadLine, BadRow
from runner.files.check import InputReport
from runner.files.render import Renderer
from runner.files.source import Block, Input, records
from runner.store.staging import CHUNK_BYTES, CHUNK_RECORDS, IngestMark, StagedChunk, pack
from runner.store.store import Store

# Blocks of about 1 MB that share a transaction: a thousand rows of 1 KB, and as little in hand as that.
BLOCKS_A_COMMIT = 1


class _Part(Struct):
    """What one commit will stage."""

    lines: list[bytes] = field(default_factory=list)
    keys: dict[int, None] = field(default_factory=dict)
    skipped: int = 0
    end: Block | None = None
    ended: bool = False


class Ingest:
    """Stages the records of one run. `report` is the check of a local file; None makes it check as it goes."""

    def __init__(
        self,
        store: Store,
        run: Run,
        source: Input,
        renderer: Renderer,
        report: InputReport | None,
        writes: anyio.CapacityLimiter,
    ) -> None:
        self._store = store
        self._run = run
        self._source = source
        self._renderer = renderer
        self._checked = report is not None
        self._bad_lines = frozenset(report.bad_lines) if report else frozenset()
        self._skips = run.job.input.on_bad_row is OnBadRow.SKIP
        self._limit = run.job.input.limit
        if self._limit is not None and run.records is not None:
            self._limit = run.records  # of the rows within the limit some may share a key: then there are fewer
        self._last_byte = run.input_bytes or 0
        self._writes = writes
        self.records = run.ingested_upto
        self.done = run.ingest_done
        self._skipped = run.skipped if run.ingested_digest is not None else 0
        self._digest = run.ingested_digest or ""
        self._bytes = run.ingested_bytes

    @property
    def total(self) -> int | None:
        """All records of the run, once the input has been read to its end."""
        return self.records if self.done else self._run.records

    async def serve(self, stop: Stop, look: Callable[[], None] = lambda: None) -> None:
        """Stage until the input ends or the run is to stop; `look` whenever there is more to claim."""
        if self.done:
            return
        seq = await anyio.to_thread.run_sync(self._store.next_seq, self._run.id)
        blocks = self._source.blocks(self._run.ingested_bytes)
        with self._source:
            while not self.done and not stop.is_asked():
                part = await anyio.to_thread.run_sync(self._read, blocks)
                staged = await anyio.to_thread.run_sync(self._pack, part, seq)
                await anyio.to_thread.run_sync(self._commit, part, staged, limiter=self._writes)
                seq += len(staged)
                look()

    def _read(self, blocks: Iterator[Block]) -> _Part:
        """Some blocks' good records; with `ended` set when there are no more."""
        part = _Part()
        for block in islice(blocks, BLOCKS_A_COMMIT):
            self._check_prefix()
            self._take(block, part)
            part.end = block
            if len(part.lines) + self.records == self._limit and block.end_offset >= self._last_byte:
                part.ended = True
                return part
        part.ended = part.end is None
        return part

    def _take(self, block: Block, part: _Part) -> None:
        for number, line in records(block):
            if len(part.lines) + self.records == self._limit:
                return
            if number in self._bad_lines or (not self._checked and not self._is_good(number, line, part)):
                part.skipped += 1
            else:
                part.lines.append(line)

    def _is_good(self, number: int, line: bytes, part: _Part) -> bool:
        """Check a stream's row. A bad one is passed over if the job says so, else it ends the ingest."""
        try:
            row = self._renderer.parse(line)
            self._renderer.check(row, len(line))
            key = self._renderer.key(row)
            if key is not None:
                self._note_key(key, part)
        except BadRow as bad:
            if self._skips:
                return False
            raise self._bad_row(BadLine.of(number, self._source.where(number), line, bad)) from None
        return True

    def _bad_row(self, found: BadLine) -> InputInvalid:
        """Rows before it may have been sent already: said with how many there are."""
        return InputInvalid(
            found.sentence(),
            name="bad-row",
            hints=(
                f"{found.line} | {found.excerpt}",
                f"{self.records:,} records before it are staged; what was answered is kept.",
                "fix the row and run the same command again, or leave bad rows out: --on-bad-row skip",
            ),
        )

    def _note_key(self, key: str, part: _Part) -> None:
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        if number in part.keys or self._store.known_keys(self._run.id, [number]):
            raise BadRow(f"has a key that an earlier row has: {key[:60]}")
        part.keys[number] = None

    def _check_prefix(self) -> None:
        """Is what was staged before a kill still what the input begins with?"""
        before = self._run.ingested_digest
        if before is not None and self._source.prefix_digest != before:
            raise InputChanged(
                f"{self._source.place} is not what run {self._run.label} began with.",
                hints=(
                    f"the first {self._run.ingested_bytes:,} bytes, which are staged already, have changed",
                    "give the same input again, or start afresh with --new",
                ),
            )

    def _pack(self, part: _Part, seq: int) -> list[StagedChunk]:
        """Chunks of a few hundred records or 4 MB, whichever is first."""
        staged: list[StagedChunk] = []
        first = self.records
        for lines in _chunked(part.lines):
            staged.append(pack(seq + len(staged), first, lines))
            first += len(lines)
        return staged

    def _commit(self, part: _Part, staged: list[StagedChunk]) -> None:
        if part.end is not None:
            self._bytes, self._digest = part.end.end_offset, part.end.digest
        records_ = self.records + len(part.lines)
        self._skipped += part.skipped
        mark = IngestMark(
            records=records_,
            bytes=self._bytes,
            digest=self._digest,
            skipped=self._skipped,
            total=records_ if part.ended else None,
        )
        if part.ended or self._bytes >= (self._run.input_bytes or math.inf):
            self._check_whole()
        self._store.stage(self._run, staged, mark, list(part.keys))
        self.records = records_
        self.done = part.ended

    def _check_whole(self) -> None:
        """Is the file still the one that was checked?"""
        if self._run.input_digest not in {None, self._digest}:
            raise InputChanged(
                f"{self._source.place} was changed while it was being read.",
                hints=(
                    f"{self.records:,} records are staged; their answers are kept",
                    "restore the file and run the same command again, or start afresh with --new",
                ),
            )


def _chunked(lines: list[bytes]) -> Iterator[list[bytes]]:
    first = size = 0
    for number, line in enumerate(lines):
        if number > first and (number - first == CHUNK_RECORDS or size + len(line) > CHUNK_BYTES):
            yield lines[first:number]
            first, size = number, 0
        size += len(line)
    if first < len(lines):
        yield lines[first:]
