"""Where files of results go: the disk or an address, each whole or not at all, in parts where the path has `{n}`.

Parts get their names together, when all of them are complete. An address gets a file in one upload, which object
stores make appear whole.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from runner.domain.job import OutputSpec
from runner.errors import JobInvalid, StoreFault
from runner.files.sink import STDOUT, AtomicFile
from runner.files.sinks.formats import format_of_output
from runner.files.sinks.writing import Bytes
from runner.files.sources.opened import packed
from runner.files.sources.remote import filesystem_of, is_address, shown, told_of

PART = "{n}"
PART_DIGITS = 5


class Target:
    """One file, packed as its name says."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._open = ExitStack()
        self._uploads = is_address(path)
        self._file: AtomicFile | None = None
        self._packed: BinaryIO | None = None
        self._local = path

    def open(self) -> Bytes:
        local = self.path
        if self._uploads:
            _check_can_be_written(self.path)
            folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="runner-out-"))
            local = str(Path(folder) / "part")
        self._file = self._open.enter_context(AtomicFile(local))
        self._local = local
        plain = cast("BinaryIO", self._file)
        stream = packed(plain, self.path)
        self._packed = None if stream is plain else stream
        return stream

    def complete(self) -> None:
        if self._packed is not None:
            self._packed.close()
        if self._file is not None:
            self._file.complete()

    def appear(self) -> None:
        if self._file is not None:
            self._file.appear()
        if self._uploads:
            _upload(self._local, self.path)

    def close(self) -> None:
        """What has not appeared is gone."""
        if self._file is not None:
            self._file.discard()
        self._open.close()


class Targets:
    """The files of one output, one after the other. Used in a `with`: at its good end they get their names."""

    def __init__(self, path: str, part_rows: int) -> None:
        self._path = path
        self._part_rows = part_rows if PART in path else None
        self._made: list[Target] = []
        self._rows = 0
        if path == STDOUT and self._part_rows is not None:
            raise JobInvalid("stdout has no parts.", name="output")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for target in self._made:
                    target.appear()
        finally:
            for target in self._made:
                target.close()

    @property
    def paths(self) -> list[str]:
        return [target.path for target in self._made]

    def next_file(self) -> Bytes:
        """The stream of the next file; the one before must be complete."""
        path = self._path
        if self._part_rows is not None:
            path = path.replace(PART, f"{len(self._made) + 1:0{PART_DIGITS}}")
        target = Target(path)
        self._made.append(target)
        self._rows = 0
        return target.open()

    def is_full(self) -> bool:
        """Has the present file as many rows as a part may have? Counts the row that is to be written."""
        full = self._part_rows is not None and self._rows >= self._part_rows
        self._rows += 1
        return full

    def complete(self) -> None:
        self._made[-1].complete()


def check_target(path: str, spec: OutputSpec) -> None:
    """Raises, before anything is paid for, where results could not be written: JobInvalid, UsageInvalid."""
    if path == STDOUT:
        return
    format_of_output(path, spec)
    if is_address(path):
        _check_can_be_written(path)
    else:
        try:
            _check_folder(Path(path).absolute())
        except (OSError, ValueError) as problem:
            raise JobInvalid(f"{path!r} cannot be written: {problem}.", name="output") from None


def _check_folder(path: Path) -> None:
    there = next(folder for folder in path.parents if folder.exists())
    why = "it is a directory" if path.is_dir() else None
    if not there.is_dir():
        why = f"{there} is no directory"
    elif not os.access(there, os.W_OK) and not path.exists():
        why = f"{there} may not be written to"
    if why is not None:
        raise JobInvalid(
            f"{path} cannot be written: {why}.",
            name="output",
            hints=("fix: name another file with -o FILE, or - for stdout",),
        )


def _check_can_be_written(url: str) -> None:
    if url.startswith(("http://", "https://")):
        raise JobInvalid(
            f"{shown(url)}: an HTTP address can be read and not written.",
            name="output",
            hints=("fix: a file, or an object store such as s3://bucket/out.jsonl",),
        )
    with told_of(url):
        filesystem_of(url)


def _upload(local: str, url: str) -> None:
    put: Callable[..., Any]
    try:
        with told_of(url):
            system, path = filesystem_of(url)
            put = system.put_file
            put(local, path)
    except JobInvalid as problem:
        raise StoreFault(
            problem.message.replace("could not be read", "could not be written"),
            name="output",
            hints=("every answer is saved; nothing is lost", "fix the address, then: runner export RUN -o ADDRESS"),
        ) from None
