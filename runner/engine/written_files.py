"""Files that code execution and skills have written for a run's rows, fetched into folders of this disk.

What is there already is not fetched again, so that whoever was interrupted goes on; nothing is ever written over.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from anyio import to_thread
from msgspec import Struct

from runner.api.files import FileInfo, free_paths, safe_name
from runner.domain.message_files import output_files
from runner.domain.outcome import Failure
from runner.domain.result import ExportedRow
from runner.errors import StoreFault

# Most answers tell of no file, and to read them would take longer than to look for this.
_TELLS_OF_FILES = b'"file_id"'


class WrittenFiles(Protocol):
    """What is needed of the Files API; `api.files.Files` is one."""

    async def show(self, file_id: str) -> FileInfo | Failure: ...

    async def download(self, file_id: str, to: Path) -> int | Failure: ...


class Fetched(Struct, frozen=True, kw_only=True):
    """One file of a row, and where it is; or why it could not be fetched."""

    file_id: str
    path: Path | None = None
    failure: Failure | None = None


async def fetch_written(
    service: WrittenFiles, rows: Iterable[ExportedRow], folder_of: Callable[[bytes, int], Path]
) -> AsyncIterator[Fetched]:
    """All files that the rows' answers tell of, one after another. `folder_of` gives a row's folder by its bytes and
    its number."""
    given: set[Path] = set()
    for row in rows:
        for file_id in _told_in(row):
            yield await _fetch(service, file_id, folder_of(row.row, row.result.idx), given)


def _told_in(row: ExportedRow) -> Iterator[str]:
    if row.message is not None and _TELLS_OF_FILES in row.message:
        yield from output_files(json.loads(row.message))


async def _fetch(service: WrittenFiles, file_id: str, folder: Path, given: set[Path]) -> Fetched:
    about = await service.show(file_id)
    if isinstance(about, Failure):
        return Fetched(file_id=file_id, failure=about)
    path, is_there = await to_thread.run_sync(_place_of, about, folder, given)
    given.add(path)
    told = None if is_there else await service.download(file_id, path)
    if isinstance(told, Failure):
        return Fetched(file_id=file_id, failure=told)
    return Fetched(file_id=file_id, path=path)


def _place_of(about: FileInfo, folder: Path, given: set[Path]) -> tuple[Path, bool]:
    """The first path that is free, or holds this file already; whether it does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in free_paths(folder, safe_name(about.filename, about.id)):
            if path not in given and not os.path.lexists(path):
                return path, False
            if path not in given and _is_there(path, about.size_bytes):
                return path, True
    except OSError as problem:
        raise StoreFault(f"{folder} cannot be written to: {problem.strerror or problem}.", name="output") from None
    raise AssertionError  # there is always a free path


def _is_there(path: Path, size: int) -> bool:
    about = path.lstat()
    return stat.S_ISREG(about.st_mode) and about.st_size == size
