"""Who works on a run, as far as it can be told without taking anything from anybody.

A look must not take the run's lock, not even for a moment: a process that is just starting would find it held.
"""

from __future__ import annotations

import json
import os
import socket

from msgspec import Struct

from runner.domain.run import Run
from runner.store.holder import Holder
from runner.store.lease import LEASE_US
from runner.store.store import Store


class Seen(Struct, frozen=True, kw_only=True):
    """A process that holds a run. `beat_us` is its last heartbeat, where there are such."""

    holder: Holder
    beat_us: int | None


def seen_holder(store: Store, run: Run, now_us: int) -> Seen | None:
    """The living holder of the run, None where nobody works on it."""
    database = store.database
    if not database.is_sqlite:
        alive = run.holder is not None and now_us - (run.heartbeat_us or 0) < LEASE_US
        holder = _read(run.holder or "") if alive else None
        return Seen(holder=holder, beat_us=run.heartbeat_us) if holder else None
    path = database.path.parent / f"{database.path.name}.locks" / f"{run.label}.lock"
    try:
        holder = _read(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    return Seen(holder=holder, beat_us=None) if holder is not None and _lives(holder) else None


def _read(text: str) -> Holder | None:
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        return None


def _lives(holder: Holder) -> bool:
    """A process of another machine (a shared folder) is believed."""
    if holder.host != socket.gethostname():
        return True
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
