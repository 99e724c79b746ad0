"""Who holds a run: exactly one process works on it at a time.

SQLite: an operating system lock on a file beside the database, free the moment its process dies, however it dies.
PostgreSQL: a lease of 30 s in shared time, extended by the holder's heartbeat; a newcomer waits it out.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Connection

from runner.domain.run import Run
from runner.errors import RunLocked
from runner.store import queries
from runner.store.database import Database
from runner.store.lease import LEASE_US

# Several beats a lease: one or two may be late.
HEARTBEAT_S = LEASE_US / 6e6
# How long a newcomer waits between two looks at a lease.
LOOK_S = min(0.5, HEARTBEAT_S)


class Holder(Struct, frozen=True, kw_only=True):
    """A process, told apart from every other one that ever ran: pids and host names come back, `token` does not."""

    host: str
    pid: int
    since_us: int
    token: str

    @staticmethod
    def this_process(now_us: int) -> Holder:
        return Holder(host=socket.gethostname(), pid=os.getpid(), since_us=now_us, token=secrets.token_hex(8))

    def to_text(self) -> str:
        return json.dumps(asdict(self))


class Hold(Protocol):
    """A run that is ours until released."""

    def extend(self, now_us: int, /) -> bool:
        """Say that we live; False when somebody took the run over."""

    def check(self, connection: Connection, /) -> None:
        """Raises RunLocked when somebody took the run over; if not, nobody does before this transaction ends."""

    def release(self) -> None: ...


def take(database: Database, run: Run, now_us: Callable[[], int]) -> Hold:
    """Hold the run, or raise RunLocked saying who does. On PostgreSQL a dead holder's lease is waited out."""
    if database.is_sqlite:
        return _LockedFile(database.path.parent / f"{database.path.name}.locks", run, now_us())
    return _Lease(database, run, now_us)


class _LockedFile:
    def __init__(self, folder: Path, run: Run, now_us: int) -> None:
        folder.mkdir(exist_ok=True, mode=0o700)
        self._file = _open_private(folder / f"{run.label}.lock")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            text = self._file.read()
            self._file.close()
            raise _locked(run, text, now_us, None) from None
        self._file.truncate(0)
        self._file.write(Holder.this_process(now_us).to_text())
        self._file.flush()

    def extend(self, _now_us: int) -> bool:
        return True

    def check(self, _connection: Connection) -> None:
        """A lock is not lost while its process lives."""

    def release(self) -> None:
        self._file.truncate(0)
        self._file.close()


def _open_private(path: Path) -> IO[str]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")


class _Lease:
    def __init__(self, database: Database, run: Run, now_us: Callable[[], int]) -> None:
        self._database = database
        self._run = run
        self._me = Holder.this_process(now_us()).to_text()
        asked_s = time.monotonic()
        deadline = asked_s + LEASE_US / 1e6 + 1
        first_beat: int | None = None
        while (other := self._try(now_us())) is not None:
            beat = other[1]
            first_beat = beat if first_beat is None else first_beat
            # By the time before the look: a frozen holder may have kept the row itself for a whole lease.
            if beat != first_beat or asked_s > deadline:
                raise _locked(run, other[0], now_us(), beat)
            time.sleep(LOOK_S)
            asked_s = time.monotonic()

    def _try(self, now_us: int) -> tuple[str, int] | None:
        """None when the lease is ours now, else the living holder and its last heartbeat."""

        def work(connection: Connection) -> tuple[str, int] | None:
            row = connection.execute(queries.holder_of(self._run.id)).one()
            alive = row.holder is not None and now_us - (row.heartbeat_us or 0) < LEASE_US
            if alive and row.holder != self._me:
                return row.holder, row.heartbeat_us
            connection.execute(queries.take_lease(self._run.id, self._me, now_us))
            return None

        return self._database.write(work)

    def extend(self, now_us: int) -> bool:
        changed = self._database.write(
            lambda c: c.execute(queries.extend_lease(self._run.id, self._me, now_us)).rowcount
        )
        return changed == 1

    def check(self, connection: Connection) -> None:
        if connection.execute(queries.holder_of(self._run.id)).one().holder != self._me:
            raise taken_over(self._run)

    def release(self) -> None:
        self._database.write(lambda c: c.execute(queries.release_lease(self._run.id, self._me)))


def taken_over(run: Run) -> RunLocked:
    """Whoever slept through its lease has lost the run."""
    return RunLocked(
        f"run {run.label} was taken over by another process.",
        hints=(f"runner show {run.label}   shows how far it is",),
    )


def _locked(run: Run, holder_text: str, now_us: int, beat_us: int | None) -> RunLocked:
    try:
        holder = Holder(**json.loads(holder_text))
        who = f"{holder.host} (pid {holder.pid}) since {(now_us - holder.since_us) / 1e6:.0f} s"
    except (ValueError, TypeError):
        who = "another process"
    heartbeat = "" if beat_us is None else f", last heartbeat {(now_us - beat_us) / 1e6:.0f} s ago"
    return RunLocked(
        f"run {run.label} is held by {who}{heartbeat}.",
        hints=(
            f"runner show {run.label}   shows how far it is",
            f"runner pause {run.label}   asks it to stop; then run the same command again",
        ),
    )
