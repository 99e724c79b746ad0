"""Rows of claimed chunks written into the body of one create, chunk by chunk: its size and hash, who rides, and what
it may cost. Blocks; memory does not grow with the number of rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from anyio import from_thread
from msgspec import Struct, field

from runner.domain.attachment import Attachment
from runner.domain.outcome import Failure, FailureKind
from runner.domain.packing import BODY_HEAD, BODY_SEPARATOR, BODY_TAIL, Fits, Full, Limit, Packer, TooLarge, entry
from runner.domain.pricing import PriceBook
from runner.domain.probe import shape_of
from runner.domain.request import MessagesRequest
from runner.domain.reservation import worst_pico
from runner.domain.submission import custom_id
from runner.engine.file_desk import BATCH_MARGIN_S, FileDesk
from runner.errors import StoreFault
from runner.files.bad_row import BadRow
from runner.files.render import Renderer
from runner.store.claims import ClaimedChunk
from runner.store.submissions import Rider


class Misfit(Struct, frozen=True, kw_only=True):
    """A row that cannot ride, and why."""

    chunk: ClaimedChunk
    idx: int
    reason: str


class Added(Struct, kw_only=True):
    """What became of a chunk's rows. `full`: the next rows are for another submission, and which limit says so;
    `trouble`: no files can be uploaded now, for a reason that is not the row's."""

    misfits: list[Misfit] = field(default_factory=list)
    full: Full | TooLarge | None = None
    trouble: Failure | None = None
    riding: int = 0


class Parcel(Struct, frozen=True, kw_only=True):
    """A body on the disk, ready to be sent. `idxs` are its rows in their order."""

    submission: str
    path: Path
    size: int
    digest: str
    idxs: list[int]
    riders: list[Rider]
    worst_pico: int | None
    reserved_pico: int | None
    betas: tuple[str, ...]


# Sees each body that may ride, as it is and with the mark for the prompt cache that it could have, and gives back how
# it is to be sent.
Look = Callable[[int, dict[str, Any], dict[str, Any]], dict[str, Any]]


class NoFiles(Exception):
    """Files of a row cannot be uploaded now, and it is not the row's fault."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Spool:
    """The body of one submission, being written. Readable by its owner alone; `close` without `finish` deletes it."""

    def __init__(
        self,
        submission: str,
        path: Path,
        packer: Packer,
        renderer: Renderer,
        prices: PriceBook,
        fan: int,
        row_pico: int | None = None,
        likely: bool = False,
        desk: FileDesk | None = None,
    ) -> None:
        self._desk = desk
        self.submission, self.path, self.packer = submission, path, packer
        self._renderer, self._prices, self._fan = renderer, prices, fan
        self._row_pico, self._likely = row_pico, likely
        self._riders: list[Rider] = []
        self._betas: tuple[str, ...] = ()
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = self._opened()

    def _opened(self) -> BinaryIO:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.unlink(missing_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise _fault(self.path, error) from error
        return os.fdopen(descriptor, "wb")

    def add(self, chunk: ClaimedChunk, passed_over: frozenset[int], look: Look) -> Added:
        """Write the chunk's rows that are free, in order, as far as they fit."""
        added = Added()
        idxs: list[int] = []
        self._bring_files(chunk, passed_over)
        for idx in range(chunk.first_idx, chunk.first_idx + chunk.n):
            if idx in chunk.taken or idx in passed_over:
                continue
            try:
                row = self._row(chunk, idx)
                variant = self._renderer.variant_at(row, idx)
                body = self._renderer.body(row, variant=variant, batch=True)
                betas = self._renderer.betas_of(body, batch=True)
                if self._rides_elsewhere(betas):
                    continue
                # A row that was tried before is not like the others.
                shape = shape_of(body) if self._likely and idx not in chunk.past else None
                marked = self._renderer.marked(body, variant)
                request = self._renderer.request_of(look(idx, body, marked), betas)
                if request.attachments:
                    request = self._with_files(request)
            except BadRow as bad:
                added.misfits.append(Misfit(chunk=chunk, idx=idx, reason=bad.reason))
                continue
            except NoFiles as trouble:
                added.trouble = trouble.failure
                break
            verdict = self._offer(idx, request, shape)
            if isinstance(verdict, TooLarge) and verdict.limit is Limit.BYTES:
                added.misfits.append(Misfit(chunk=chunk, idx=idx, reason=verdict.reason))
            elif not isinstance(verdict, Fits):
                added.full = verdict
                break
            else:
                idxs.append(idx)
        if idxs:
            self._riders.append(Rider(fence=chunk.fence, first_idx=chunk.first_idx, n=chunk.n, idxs=idxs))
        added.riding = len(idxs)
        return added

    def _bring_files(self, chunk: ClaimedChunk, passed_over: frozenset[int]) -> None:
        """The files of the chunk's rows side by side, before its rows are written one after the other."""
        if self._desk is None or not self._renderer.brings_files:
            return
        desk, found = self._desk, list[Attachment]()
        for idx in range(chunk.first_idx, chunk.first_idx + chunk.n):
            if idx not in chunk.taken and idx not in passed_over:
                row = self._row(chunk, idx)
                with suppress(BadRow):
                    variant = self._renderer.variant_at(row, idx)
                    found += self._renderer.request(row, variant=variant, batch=True).attachments
        from_thread.run(lambda: desk.bring(found, margin_s=BATCH_MARGIN_S))

    def _with_files(self, request: MessagesRequest) -> MessagesRequest:
        """Its files at the service first. Runs in a worker thread, and waits there for the uploads."""
        if self._desk is None:
            raise BadRow("brings files along, and there is nobody to upload them")
        desk = self._desk
        ready = from_thread.run(lambda: desk.resolved(request, margin_s=BATCH_MARGIN_S))
        if not isinstance(ready, Failure):
            return ready
        if ready.kind is FailureKind.ROW:
            raise BadRow(f"brings a file along that the service refuses: {ready.message}")
        raise NoFiles(ready)

    def _rides_elsewhere(self, betas: tuple[str, ...]) -> bool:
        """Betas are told once for a whole batch: a row that goes with others waits for a batch of such rows."""
        return bool(len(self.packer)) and set(betas) != set(self._betas)

    def _row(self, chunk: ClaimedChunk, idx: int) -> dict[str, object]:
        return self._renderer.parse(chunk.lines[idx // self._fan - chunk.first_record])

    def _offer(self, idx: int, request: MessagesRequest, shape: str | None) -> Fits | Full | TooLarge:
        line = entry(custom_id(self.submission, idx), request.body)
        first = not len(self.packer)
        worst = worst_pico(self._prices, request, row_pico=self._row_pico, batch=True)
        verdict = self.packer.offer(idx, len(line), worst, shape)
        if isinstance(verdict, Fits):
            self._write(BODY_HEAD if first else BODY_SEPARATOR, line)
            self._betas = request.betas
        return verdict

    def _write(self, *pieces: bytes) -> None:
        if self._file is None:
            raise ValueError("the spool is closed")
        try:
            for piece in pieces:
                self._hash.update(piece)
                self._file.write(piece)
        except OSError as error:
            raise _fault(self.path, error) from error

    def finish(self) -> Parcel | None:
        """The body is on the disk; None, and no file, where no row rides."""
        if not len(self.packer):
            self.close()
            return None
        self._write(BODY_TAIL)
        if self._file is not None:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
            except OSError as error:
                raise _fault(self.path, error) from error
            self._file = None
        return Parcel(
            submission=self.submission,
            path=self.path,
            size=self.packer.size_bytes,
            digest=self._hash.hexdigest(),
            idxs=self.packer.idxs,
            riders=self._riders,
            worst_pico=self.packer.worst_pico,
            reserved_pico=None if self.packer.worst_pico is None else self.packer.held.pico,
            betas=self._betas,
        )

    def close(self) -> None:
        """Give up what is not finished."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self.path.unlink(missing_ok=True)


def _fault(path: Path, error: OSError) -> StoreFault:
    return StoreFault(f"cannot write {path}: {error.strerror or error}.", name="spool")
