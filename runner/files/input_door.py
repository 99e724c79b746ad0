"""The door that a job names for its rows: opened, spooled where it must be, and ready to be read again and again."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from runner.domain.job import InputSpec, Job
from runner.errors import UsageInvalid
from runner.files.check import CHECK_FIRST_BYTES
from runner.files.environment import filled_in
from runner.files.selection import Selection
from runner.files.source import STDIN, Input, of_files, open_input
from runner.files.sources.formats import Format, Reading
from runner.files.sources.remote import is_address, remote_input

# The rows of another run, by the words of `input.run` and `input.rows`.
RowsOfRun = Callable[[InputSpec], Iterable[bytes]]
# Which of some keys have been answered before.
Answered = Callable[[list[str]], set[str]]


@contextmanager
def opened_door(
    job: Job,
    spool: Path,
    *,
    stdin: BinaryIO | None = None,
    rows_of_run: RowsOfRun | None = None,
    answered: Answered | None = None,
) -> Iterator[Input]:
    """The job's input. What cannot be read twice is spooled into a private file first, so that it is checked whole
    before anything is sent, like a file."""
    spec = job.input
    if len(spec.doors) != 1:
        raise UsageInvalid("there is no input.", hints=("give one with -i FILE, or input: { path: ... } in the job",))
    with ExitStack() as open_:
        folder = Path() if is_local(spec) else open_.enter_context(_private_folder(spool))
        source = open_.enter_context(_opened(job, folder, stdin, rows_of_run))
        source.may_be_empty = spec.path is None
        selection = Selection.of(job, answered)
        if selection is not None:
            selection.prepare(source)
            source.keep = selection.kept
            source.may_be_empty = True
        yield source


@contextmanager
def _private_folder(spool: Path) -> Iterator[Path]:
    """For as long as this process needs it; what killed ones left there is taken away."""
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in spool.glob("input-*-*"):
        owner = left.name.split("-")[1]
        if owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=spool, prefix=f"input-{os.getpid()}-") as folder:
        yield Path(folder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def place_of(job: Job) -> str:
    """What the input is called, in a run's page and in messages."""
    spec = job.input
    if spec.path is not None:
        return spec.path
    if spec.dataset is not None:
        return f"dataset {spec.dataset}"
    return f"run {spec.run}" if spec.run is not None else "the query of input.sql"


def _opened(job: Job, folder: Path, stdin: BinaryIO | None, rows_of_run: RowsOfRun | None) -> Input:
    spec = job.input
    reading = Reading(
        format=Format(spec.format) if spec.format else None, encoding=spec.encoding, delimiter=spec.delimiter
    )
    if spec.path is None:
        return _spooled(place_of(job), _lines(job, rows_of_run), folder)
    if spec.path == STDIN:
        return _spooled_stdin(stdin, folder, reading)
    if is_address(spec.path):
        return remote_input(spec.path, reading, folder, fetch_bytes=CHECK_FIRST_BYTES)
    return open_input(spec.path, reading=reading)


def _lines(job: Job, rows_of_run: RowsOfRun | None) -> Iterable[bytes]:
    spec = job.input
    if spec.run is not None:
        if rows_of_run is None:
            raise UsageInvalid("the rows of a run can be read only where there is a store.")
        return rows_of_run(spec)
    if spec.dataset is not None:
        from runner.files.sources.dataset_rows import dataset_rows

        return dataset_rows(spec.dataset, spec.dataset_config, spec.split, spec.revision)
    from runner.files.foreign_database import sql_rows

    url = filled_in(spec.database or "", os.environ, "input.database")
    return sql_rows(url, spec.sql or "", _bindable(job.params))


def _bindable(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if not isinstance(value, (list, dict))}


def _spooled(place: str, lines: Iterable[bytes], folder: Path) -> Input:
    path = folder / "rows"
    with path.open("xb", buffering=1 << 20) as file:
        path.chmod(0o600)
        for line in lines:
            file.write(line)
            file.write(b"\n")
    return of_files(place, [(place, path, Format.JSONL)])


def _spooled_stdin(stdin: BinaryIO | None, folder: Path, reading: Reading) -> Input:
    if stdin is None and sys.stdin.isatty():
        raise UsageInvalid("the input is stdin, and nothing is piped into it.", hints=("-i FILE reads a file",))
    path = folder / "stdin"
    with path.open("xb") as spool:
        path.chmod(0o600)
        shutil.copyfileobj(stdin or sys.stdin.buffer, spool, 1 << 20)
    return of_files("stdin", [("stdin", path, reading.format or Format.JSONL)], reading)


def is_local(spec: InputSpec) -> bool:
    """Can the input be opened again without asking anybody?"""
    return spec.path is not None and spec.path != STDIN and not is_address(spec.path)
