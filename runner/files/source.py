"""An input: one or more files of records, read block by block as often as one likes, or a stream, read once."""

from __future__ import annotations

import os
import stat
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Self

from msgspec import Struct

from runner.domain.nearest import suggest
from runner.errors import InputInvalid
from runner.files.sources.blocks import Block, Position, records
from runner.files.sources.formats import AS_NAMED, Format, Reading, format_of, reader_of, unit_of
from runner.files.sources.opened import DAMAGED, opened_file

__all__ = ["STDIN", "Block", "Input", "Part", "open_input", "records"]

STDIN = "-"
# More than anybody means by a pattern; each is opened once a pass.
MAX_FILES = 10_000

Keep = Callable[[Block], Block]


class Part(Struct, frozen=True, kw_only=True):
    """One file of an input. `open` gives its bytes; `name` is what it is called in messages."""

    name: str
    open: Callable[[ExitStack], BinaryIO | IO[bytes]]
    format: Format


class Input:
    """An input that can be read block by block; a regular file as often as one likes.

    `place` names it in messages and in a run's identity; `checkable` says that it can be read before the first
    send and again after; `size` is in bytes as stored, None where it has none. `prefix_digest` is known once
    `blocks(start_offset)` has passed its start. `keep` leaves records out that are not asked for; digests and offsets
    are of all of them. `may_be_empty` says that rows are chosen, by a query or by what the job says of them, so that
    none is an answer too and no mistake.
    """

    def __init__(
        self,
        *,
        place: str,
        parts: Sequence[Part],
        size: int | None,
        checkable: bool,
        reading: Reading = AS_NAMED,
    ) -> None:
        self.place = place
        self.size = size
        self.checkable = checkable
        self.prefix_digest: str | None = None
        self.keep: Keep | None = None
        self.may_be_empty = False
        self._parts = parts
        self._reading = reading
        self._first_lines: list[int] = []
        self._open = ExitStack()

    @staticmethod
    def of_nothing(place: str) -> Input:
        """What stands for an input that is not needed any more."""
        return Input(place=place, parts=(), size=None, checkable=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def where(self, number: int) -> str:
        """`data/in.jsonl line 17`: the file and the line or row that a record's number means."""
        n = max(bisect_right(self._first_lines, number) - 1, 0)
        if len(self._first_lines) <= n:
            return f"{self.place} line {number}"
        part = self._parts[n]
        return f"{part.name} {unit_of(part.format)} {number - self._first_lines[n] + 1}"

    def blocks(self, start_offset: int = 0) -> Iterator[Block]:
        """The lines from `start_offset` on, which must be the end of a block; what is before is only hashed."""
        at = Position()
        self._first_lines = []
        self.prefix_digest = at.digest() if start_offset == 0 else None
        try:
            for part in self._parts:
                self._first_lines.append(at.line)
                yield from self._blocks_of(part, at, start_offset)
        except DAMAGED as problem:
            raise InputInvalid(
                f"{self.where(at.line).rsplit(' ', 2)[0]} is damaged: {problem}",
                hints=("fix: make or fetch the file again",)
                if at.line == 1
                else (f"it could be read up to line {at.line - 1}", "fix: make or fetch the file again"),
            ) from None
        except OSError as problem:
            raise InputInvalid(f"{self.place} could not be read: {problem.strerror or problem}") from None
        finally:
            self.close()
        if at.offset < start_offset:
            raise InputInvalid(
                f"{self.place} has become shorter: it ends at byte {at.offset:,}, "
                f"the run has read up to byte {start_offset:,}",
                name="input-changed",
            )

    def _blocks_of(self, part: Part, at: Position, start_offset: int) -> Iterator[Block]:
        with self._open:
            stream = part.open(self._open)
            reader = reader_of(stream, part.format, self._reading, at, part.name, self._open)
            reader.pass_over(start_offset)
            if at.offset < start_offset:
                return
            if self.prefix_digest is None:
                self.prefix_digest = at.digest()
            while (block := reader.next_block()) is not None:
                yield block if self.keep is None else self.keep(block)


def open_input(path: str, stdin: BinaryIO | None = None, reading: Reading = AS_NAMED) -> Input:
    """The local input at `path`: a file, a pattern of files, or `-` for stdin. Raises InputInvalid where none is."""
    if path == STDIN:
        return of_stream(stdin or sys.stdin.buffer, reading)
    if has_magic(path) and not Path(path).exists():
        return _of_pattern(path, reading)
    place = Path(path).absolute()
    format_ = reading.format or format_of(path)
    facts = _facts(path, place)
    regular = stat.S_ISREG(facts.st_mode)
    return Input(
        place=str(place),
        parts=(_part(place, format_),),
        size=facts.st_size if regular else None,
        checkable=regular,
        reading=reading,
    )


def of_stream(stream: BinaryIO, reading: Reading = AS_NAMED) -> Input:
    """What is piped in; it can be read once."""
    part = Part(name=STDIN, open=lambda _: stream, format=reading.format or Format.JSONL)
    return Input(place=STDIN, parts=(part,), size=None, checkable=False, reading=reading)


def of_files(place: str, files: Sequence[tuple[str, Path, Format]], reading: Reading = AS_NAMED) -> Input:
    """Files on the disk that stand for something else: (what each is called, where it lies, its format)."""
    return Input(
        place=place,
        parts=[_part(path, format_, name) for name, path, format_ in files],
        size=sum(path.stat().st_size for _, path, _ in files),
        checkable=True,
        reading=reading,
    )


def _part(path: Path, format_: Format, name: str | None = None) -> Part:
    return Part(name=name or str(path), open=partial(opened_file, path), format=format_)


def _of_pattern(pattern: str, reading: Reading) -> Input:
    """All files that fit, in the order of their names."""
    absolute = str(Path(pattern).absolute())
    found = sorted(path for path in glob(absolute, recursive=True) if Path(path).is_file())  # noqa: PTH207 - absolute
    if not found:
        raise InputInvalid(
            f"no file fits {pattern}.", hints=(f"looked for {absolute}", "fix: name existing files with -i")
        )
    if len(found) > MAX_FILES:
        raise InputInvalid(f"{pattern} fits more than {MAX_FILES:,} files.")
    files = [(path, Path(path), reading.format or format_of(path)) for path in found]
    for name, path, _ in files:
        _facts(name, path)
    return of_files(absolute, files, reading)


def _facts(path: str, place: Path) -> os.stat_result:
    try:
        facts = place.stat()
        if stat.S_ISDIR(facts.st_mode):
            hints = ("fix: name the file itself, or a pattern such as folder/*.jsonl, or - for stdin",)
            raise InputInvalid(f"{path} is a directory.", hints=hints)
        if stat.S_ISREG(facts.st_mode):
            with place.open("rb"):
                pass
    except FileNotFoundError:
        raise InputInvalid(f"there is no input file {path}.", hints=_where_looked(path, place)) from None
    except PermissionError:
        raise InputInvalid(f"{path} may not be read.", hints=(f"fix: chmod u+r {path}",)) from None
    except (OSError, ValueError) as problem:
        raise InputInvalid(f"{path!r} could not be opened: {problem}.") from None
    return facts


def _where_looked(path: str, place: Path) -> tuple[str, ...]:
    hints = [] if str(place) == path else [f"looked for {place}"]
    if place.parent.is_dir():
        near = suggest(place.name, [entry.name for entry in place.parent.iterdir() if entry.is_file()])
        hints += [f"did you mean {place.parent / near} ?"] if near else []
    return (*hints, "fix: name an existing file with -i FILE, or - for stdin")
