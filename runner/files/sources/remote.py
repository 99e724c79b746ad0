"""Files at an address: object stores and HTTP, through fsspec.

They are fetched once into a private folder and read from there, so that they are checked before the first send like
a local file. What is too large for that is read as a stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from msgspec import Struct

from runner.errors import InputInvalid, UsageInvalid
from runner.files.source import MAX_FILES, Input, Part, of_files
from runner.files.sources.formats import Format, Reading, format_of

FETCH_BYTES = 1 << 20
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "az": "azure", "hf": "hf"}


def is_address(path: str) -> bool:
    return "://" in path


class RemoteFile(Struct, frozen=True, kw_only=True):
    name: str
    path: str
    size: int | None
    format: Format


def remote_input(url: str, reading: Reading, folder: Path, *, fetch_bytes: float) -> Input:
    """The files at `url`, a pattern or one file, fetched into `folder` unless they are larger than `fetch_bytes`."""
    if urlsplit(url).password:
        raise InputInvalid("the address of the input holds a password.", hints=("keys come from the environment",))
    with told_of(url):
        system, files = _files_at(url, reading)
        sizes = [file.size for file in files]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        if total is not None and total > fetch_bytes:
            parts = [
                Part(name=file.name, open=partial(_opened, system, file.path), format=file.format) for file in files
            ]
            return Input(place=url, parts=parts, size=total, checkable=False, reading=reading)
        fetched = [(file.name, _fetched(system, file, folder, n), file.format) for n, file in enumerate(files)]
    return of_files(url, fetched, reading)


def filesystem_of(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise _missing(url) from None
    try:
        system, path = url_to_fs(url)
    except ImportError:
        raise _missing(url) from None
    except ValueError as problem:
        raise InputInvalid(f"{shown(url)} is no address that can be read: {problem}.") from None
    return system, str(path)


def _files_at(url: str, reading: Reading) -> tuple[Any, list[RemoteFile]]:
    system, path = filesystem_of(url)
    # In an HTTP address `?` begins the query.
    of_web = urlsplit(url).scheme in ("http", "https")
    paths = sorted(system.glob(path)) if has_magic(path) and not of_web else [path]
    if not paths:
        raise InputInvalid(f"no file fits {shown(url)}.")
    if len(paths) > MAX_FILES:
        raise InputInvalid(f"{shown(url)} fits more than {MAX_FILES:,} files.")
    return system, [_described(system, path, reading, shown(url) if len(paths) == 1 else path) for path in paths]


def _described(system: Any, path: str, reading: Reading, name: str) -> RemoteFile:
    facts = system.info(path)
    if facts.get("type") == "directory":
        raise InputInvalid(f"{name} is a folder.", hints=("fix: name its files, such as folder/*.jsonl.gz",))
    return RemoteFile(
        name=name, path=path, size=facts.get("size"), format=reading.format or format_of(urlsplit(path).path)
    )


def _opened(system: Any, path: str, open_: ExitStack) -> IO[bytes]:
    opened: IO[bytes] = open_.enter_context(system.open(path, "rb"))
    return opened


def _fetched(system: Any, file: RemoteFile, folder: Path, number: int) -> Path:
    """The file on the disk. Its name there is a number: what the other side calls its files is no path of ours."""
    target = folder / f"{number:05}"
    with system.open(file.path, "rb") as source, target.open("xb") as copy:
        target.chmod(0o600)
        while piece := source.read(FETCH_BYTES):
            copy.write(piece)
    return target


@contextmanager
def told_of(url: str) -> Iterator[None]:
    """Turns what the libraries raise into one sentence. They have no common base but OSError."""
    try:
        yield
    except FileNotFoundError as problem:
        # What cannot be reached is told by the libraries as what is not there.
        cause = problem.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            raise InputInvalid(f"{shown(url)} could not be read: {_first_line(cause)}.") from None
        raise InputInvalid(f"there is nothing at {shown(url)}.") from None
    except PermissionError as problem:
        raise InputInvalid(f"{shown(url)} may not be read: {_first_line(problem)}.") from None
    except (TimeoutError, OSError) as problem:
        raise InputInvalid(f"{shown(url)} could not be read: {_first_line(problem)}.") from None
    except Exception as problem:
        if type(problem).__module__.partition(".")[0] in ("aiohttp", "botocore", "aiobotocore", "s3fs", "gcsfs"):
            raise InputInvalid(f"{shown(url)} could not be read: {_first_line(problem)}.") from None
        raise


def shown(url: str) -> str:
    """The address without its query, which may be a signature."""
    return url.partition("?")[0]


def _first_line(problem: BaseException) -> str:
    lines = str(problem).splitlines()
    return lines[0] if lines else type(problem).__name__


def _missing(url: str) -> UsageInvalid:
    scheme = urlsplit(url).scheme
    extra = EXTRAS.get(scheme, "http")
    return UsageInvalid(
        f"{scheme}:// needs a library that is not installed.",
        name="missing-extra",
        hints=(f"fix: pip install 'claude-job-runner[{extra}]'",),
    )
