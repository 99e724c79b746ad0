"""Where results go: the whole file or nothing of it.

The path holds the old file or the complete new one, whenever the process dies; nobody but the owner may read it.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from runner.errors import JobInvalid, StoreFault
from runner.failpoints import Failpoint, failpoint

STDOUT = "-"
BUFFER_BYTES = 1 << 20


class AtomicFile:
    """A file that appears under its name when the `with` ends well, and leaves nothing when it does not.

    `-` is stdout, and a device or pipe is written to as it is: there is nothing to replace.
    """

    def __init__(self, path: str, stdout: BinaryIO | None = None) -> None:
        self.path = path
        self._stdout = stdout
        self._target = Path(path).absolute()
        self._part: Path | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self._opened()
        except OSError as problem:
            raise JobInvalid(
                f"{self.path} cannot be written: {problem.strerror}.",
                name="output",
                hints=("fix: name another file with -o FILE, or - for stdout",),
            ) from None
        return self

    def write(self, data: bytes) -> int:
        try:
            return self._opened_file().write(data)
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise self._fault(problem) from problem

    def flush(self) -> None:
        """For those who write packed bytes here; what is written is on the disk when the file is complete."""

    def complete(self) -> None:
        """All is written: safe on the disk, and still under a name of its own."""
        try:
            file = self._opened_file()
            file.flush()
            if self._part is not None:
                os.fsync(file.fileno())
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise self._fault(problem) from problem
        if self._part is not None:
            file.close()

    def discard(self) -> None:
        """Nothing is left of a file that has not appeared."""
        self._leave_nothing()

    def appear(self) -> None:
        """The complete file gets its name."""
        if self._part is None:
            return
        failpoint(Failpoint.EXPORT_BEFORE)
        self._part.replace(self._target)
        self._part = None
        _sync_folder(self._target.parent)
        failpoint(Failpoint.EXPORT_AFTER)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._file is not None and not self._file.closed:
                self.complete()
                self.appear()
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise self._fault(problem) from problem
        finally:
            self._leave_nothing()

    def _opened_file(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("an AtomicFile is written to inside its `with`")
        return self._file

    def _opened(self) -> BinaryIO:
        if self.path == STDOUT:
            return self._stdout or sys.stdout.buffer
        if self._is_special():
            return self._target.open("wb", buffering=BUFFER_BYTES)
        if self._target.is_dir():
            raise IsADirectoryError(0, "it is a directory")
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._part = self._target.with_name(f".{self._target.name[:200]}.{secrets.token_hex(4)}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(self._part, flags, 0o600), "wb", buffering=BUFFER_BYTES)

    def _is_special(self) -> bool:
        """A device, pipe or socket. A symbolic link to one counts too; a link to a file is replaced, not followed."""
        try:
            mode = self._target.stat().st_mode
        except OSError:
            return False
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))

    def _leave_nothing(self) -> None:
        if self._file is not None and self.path != STDOUT:
            _close_quietly(self._file)
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def _fault(self, problem: OSError) -> StoreFault:
        return StoreFault(
            f"{self.path} could not be written: {problem.strerror or problem}.",
            name="output",
            hints=(
                "every answer is saved; nothing is lost",
                "fix: make room or name another file, then export again",
            ),
        )


def _close_quietly(file: BinaryIO) -> None:
    """Closing flushes once more; after a full disk that fails again, and has been said already."""
    try:
        file.close()
    except OSError:
        return


def _sync_folder(folder: Path) -> None:
    """The new name itself must survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
