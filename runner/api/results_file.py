"""Files between us and the service: the body of a create, read in pieces, and results as they came, line by line.

A download stands under its name only when it is whole and on the disk; until then it has `.part` behind it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread

from runner.errors import StoreFault

PIECE_BYTES = 256 * 1024
# Written in pieces of this size; beside the one in the kernel's hands, this is all that a download keeps in memory.
WRITE_BYTES = 1024 * 1024
# A line is one message and its id; what is longer is no result.
MAX_LINE_BYTES = 64_000_000


class LineTooLong(Exception):
    """A line of results beyond MAX_LINE_BYTES."""


class BodyFile:
    """The spooled body of a create. Opened, and its size checked, before anything is sent."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size = file, size

    @classmethod
    async def open(cls, path: Path, size: int) -> BodyFile:
        return await anyio.to_thread.run_sync(cls._open, path, size)

    @classmethod
    def _open(cls, path: Path, size: int) -> BodyFile:
        try:
            file = path.open("rb", buffering=0)
        except OSError as error:
            raise StoreFault(f"cannot read {path}: {error.strerror or error}", name="spool") from error
        found = os.fstat(file.fileno()).st_size
        if found != size:
            file.close()
            raise StoreFault(f"{path} has {found} bytes instead of {size}", name="spool")
        return cls(file, size)

    async def pieces(self) -> AsyncIterator[bytes]:
        while piece := await anyio.to_thread.run_sync(self._file.read, PIECE_BYTES):
            yield piece

    def close(self) -> None:
        self._file.close()


class Spool:
    """A download under way. `async with` gives it; leave it without `finish` and nothing is left on the disk."""

    def __init__(self, to: Path) -> None:
        self._to = to
        self._part = to.with_name(to.name + ".part")
        self._file: BinaryIO | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.size = 0
        self.last_byte = b""

    async def __aenter__(self) -> Spool:
        await self._do(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._do(self._abandon)

    async def write(self, piece: bytes) -> None:
        if not piece:
            return
        self.size += len(piece)
        self.last_byte = piece[-1:]
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= WRITE_BYTES:
            await self._do(self._write_waiting)

    async def finish(self) -> None:
        """On the disk, under its own name."""
        await self._do(self._finish)

    async def _do(self, step: Callable[[], None]) -> None:
        try:
            await anyio.to_thread.run_sync(step)
        except OSError as error:
            raise StoreFault(f"cannot write {self._part}: {error.strerror or error}", name="spool") from error

    def _open(self) -> None:
        self._part.unlink(missing_ok=True)
        descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def _write_waiting(self) -> None:
        data = memoryview(b"".join(self._waiting))
        self._waiting, self._waiting_bytes = [], 0
        while data and self._file is not None:
            data = data[self._file.write(data) :]

    def _finish(self) -> None:
        self._write_waiting()
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
        self._part.replace(self._to)
        folder = os.open(self._to.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _abandon(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._part.unlink(missing_ok=True)


class ResultLines:
    """The lines of a results file, without their ends; blank ones are left out.

    Only 0x0A ends a line: other line ends may stand inside JSON. What follows the last one is not given out but is
    in `unfinished` afterwards: a whole line where the server left its end out, else the sign of a cut download.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unfinished = b""
        self.unfinished_at = 0

    def __iter__(self) -> Iterator[bytes]:
        return (line for _, line in self.located())

    def located(self) -> Iterator[tuple[int, bytes]]:
        """Each line with the place in the file at which it begins."""
        self.unfinished = b""
        next_at = 0
        with self._path.open("rb", buffering=WRITE_BYTES) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                at, next_at = next_at, next_at + len(line)
                if not line.endswith(b"\n"):
                    if len(line) > MAX_LINE_BYTES:
                        raise LineTooLong(f"{self._path}: a line of more than {MAX_LINE_BYTES} bytes")
                    self.unfinished, self.unfinished_at = line.rstrip(b"\r \t"), at
                elif line := line.rstrip(b"\r\n \t"):
                    yield at, line


def result_lines(path: Path) -> ResultLines:
    return ResultLines(path)
