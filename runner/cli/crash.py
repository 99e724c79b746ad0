"""What is kept of a bug: where it happened, never what the rows said.

A traceback as Python prints it ends in the exception's own text, and that of a ValueError or a database error often
quotes the value at fault, which here may be a prompt. So only exceptions whose text speaks of code keep theirs.
"""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from runner import __version__
from runner.cli.redact import redacted

# Their texts name attributes, types, modules or system errors.
SPEAK_OF_CODE = (AttributeError, ImportError, NameError, NotImplementedError, OSError, RuntimeError, TypeError)
DEEPEST = 20


def write_crash(error: BaseException, folder: Path) -> Path | None:
    """Write the traceback to a file of its own, for its owner's eyes; None where that cannot be done."""
    now = datetime.now(UTC)
    path = folder / f"crash-{now:%Y%m%dT%H%M%S}-{os.getpid()}.log"
    head = f"runner {__version__}, Python {platform.python_version()}, {platform.platform()}, {now.isoformat()}\n"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(redacted(head + crash_text(error)))
    except OSError:
        return None
    return path


def crash_text(error: BaseException) -> str:
    """Frames and types of the exception, of its causes and of the members of a group."""
    return "\n".join(_parts(error, depth=0))


def _parts(error: BaseException, depth: int) -> Iterator[str]:
    if depth == DEEPEST:
        yield "..."
        return
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _parts(before, depth + 1)
        yield "-- which led to --"
    yield "".join(traceback.format_tb(error.__traceback__)) + described(error)
    if isinstance(error, BaseExceptionGroup):
        for number, member in enumerate(error.exceptions, 1):
            yield f"-- member {number} of {len(error.exceptions)} --"
            yield from _parts(member, depth + 1)


def described(error: BaseException) -> str:
    """The exception's type, and its text if that cannot quote a row."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, SPEAK_OF_CODE) else name
