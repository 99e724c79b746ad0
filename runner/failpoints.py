"""Named places where a test can make the process die, to prove that dying there costs nothing.

Off, and almost free, unless `RUNNER_FAILPOINTS` is set: `name=kill@3` sends SIGKILL to this very process when the
place is reached for the third time; `name=stop@1` sends SIGSTOP; `name=raise@1` raises. Several are joined by `;`.
With `RUNNER_FAILPOINTS_SEEN=FILE` every name that is reached is appended to FILE, so that a test can show that no
place is dead.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from enum import StrEnum
from pathlib import Path


class Failpoint(StrEnum):
    """Every place, in the order in which a run meets them. The kill tests walk this list."""

    RUN_CREATE_BEFORE = "run.create.before"
    RUN_CREATE_AFTER = "run.create.after"
    STAGE_BEFORE = "stage.commit.before"
    STAGE_AFTER = "stage.commit.after"
    CLAIM_BEFORE = "claim.commit.before"
    CLAIM_AFTER = "claim.commit.after"
    GROUP_BEFORE = "group.commit.before"
    GROUP_AFTER = "group.commit.after"
    SEND_BEFORE = "send.before"
    SEND_AFTER = "send.after"
    FIRST_BYTE = "reply.first_byte"
    BATCH_SPOOLED = "batch.spooled"
    BATCH_INTENT_BEFORE = "batch.intent.before"
    BATCH_INTENT_AFTER = "batch.intent.after"
    BATCH_POST_BEFORE = "batch.post.before"
    BATCH_POST_AFTER = "batch.post.after"
    BATCH_STATE_BEFORE = "batch.state.before"
    BATCH_STATE_AFTER = "batch.state.after"
    BATCH_FETCHED = "batch.fetched"
    BATCH_INGEST_BEFORE = "batch.ingest.before"
    BATCH_INGEST_AFTER = "batch.ingest.after"
    RUN_STATE_BEFORE = "run.state.before"
    RUN_STATE_AFTER = "run.state.after"
    EXPORT_BEFORE = "export.rename.before"
    EXPORT_AFTER = "export.rename.after"


class FailpointRaised(Exception):
    """What the action `raise` throws."""


_plan: dict[str, tuple[str, int]] | None = None
_hits: Counter[str] = Counter()
_seen: str | None = None


def _load() -> dict[str, tuple[str, int]]:
    global _plan, _seen
    _seen = os.environ.get("RUNNER_FAILPOINTS_SEEN")
    plan: dict[str, tuple[str, int]] = {}
    for part in filter(None, os.environ.get("RUNNER_FAILPOINTS", "").split(";")):
        name, _, action = part.partition("=")
        verb, _, hit = action.partition("@")
        plan[Failpoint(name)] = (verb, int(hit or 1))
    _plan = plan
    return plan


def failpoint(point: Failpoint) -> None:
    """Die here, if a test has asked for it."""
    plan = _load() if _plan is None else _plan
    if not plan and _seen is None:
        return
    _hits[point] += 1
    if _seen is not None and _hits[point] == 1:
        with Path(_seen).open("a") as names:
            names.write(point + "\n")
    verb, hit = plan.get(point, ("", 0))
    if verb and _hits[point] == hit:
        _act(verb, point)


def _act(verb: str, point: Failpoint) -> None:
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif verb == "raise":
        raise FailpointRaised(point)
    else:
        raise ValueError(f"unknown failpoint action {verb!r}")
