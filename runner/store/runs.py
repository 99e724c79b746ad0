"""Runs as rows: made, found, moved from state to state."""

from __future__ import annotations

import json
import secrets
from typing import Any

from sqlalchemy import Connection

from runner.domain.budget import WHOLE_RUN, BudgetKey, Payer, run_scope
from runner.domain.forecast import Forecast
from runner.domain.job import Job
from runner.domain.run import NewRun, Run
from runner.domain.states import RUN_MOVES, PauseReason, RunState, leading_to
from runner.errors import RunnerError, UsageInvalid
from runner.store import budgets, queries

# Letters and digits that are hard to mistake for one another when read aloud.
_LABEL_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_LABEL_LENGTH = 6


class MadeMeanwhile(Exception):
    """Another process has made a run of the same question since the caller looked."""


def new_label() -> str:
    return "r_" + "".join(secrets.choice(_LABEL_LETTERS) for _ in range(_LABEL_LENGTH))


def create(connection: Connection, new: NewRun, label: str, now_us: int, *, newest: int | None = None) -> Run:
    """A new run in state `running`, with nothing staged, and its budget row.

    The label is chosen before the transaction: by it, a replay knows the run that was made already. Raises
    MadeMeanwhile when there is a run of the same question that is newer than `newest`; None asks for a run anyway.
    """
    made = connection.execute(queries.run_by_label(label)).first()
    if made is not None and (made.identity, made.created_us) == (new.job.identity(), now_us):
        return _value(made)
    if newest is not None:
        _refuse_newer(connection, new, newest)
    values = {
        "label": label,
        "job_name": new.job.name,
        "job": new.job.to_json().encode(),
        "identity": new.job.identity(),
        "key": new.key,
        "simulated": new.job.simulated,
        "mode": new.job.mode,
        "state": RunState.RUNNING,
        "round": 1,
        "fan": new.job.fan,
        "input_uri": new.input_uri,
        "input_digest": new.input_digest,
        "input_bytes": new.input_bytes,
        "records": new.records,
        "skipped": new.skipped,
        "ingested_upto": 0,
        "ingested_bytes": 0,
        "ingest_done": False,
        "output": new.output,
        "epoch": 0,
        "detached": False,
        "priority": 0,
        "created_us": now_us,
    }
    run = connection.execute(queries.create_run(), values).scalar_one()
    set_cap(connection, run, new.job.budget_pico)
    return by_id(connection, run)


def _refuse_newer(connection: Connection, new: NewRun, newest: int) -> None:
    """Of two commands that begin at once the second waits here for the first, and then sees its run."""
    identity = new.job.identity()
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyhow
        connection.execute(queries.lock_question(new.key or identity))
    if any(run.id > newest for run in find(connection, identity, new.key)):
        raise MadeMeanwhile


def by_id(connection: Connection, run: int) -> Run:
    return _value(connection.execute(queries.run_by_id(run)).one())


def by_label(connection: Connection, label: str) -> Run:
    """By label, unique prefix, or `latest`. Raises UsageInvalid where that names no run or several."""
    if label == "latest":
        found = connection.execute(queries.latest_run(None)).all()
    else:
        typed = label.lower()
        prefix = typed if typed.startswith("r_") else f"r_{typed}"
        found = connection.execute(queries.run_by_label(prefix)).all()
    if not found:
        raise UsageInvalid(f"there is no run {label!r}.", name="no-run", hints=("runner status   lists them",))
    if len(found) > 1:
        raise UsageInvalid(f"{label!r} fits several runs.", name="ambiguous-run", hints=("type one more letter",))
    return _value(found[0])


def find(connection: Connection, identity: str, key: str | None) -> list[Run]:
    """Runs that the same command would mean, newest first: by key when there is one, else by identity."""
    query = queries.run_by_key(key) if key is not None else queries.runs_of_identity(identity)
    return [_value(row) for row in connection.execute(query)]


def recent(connection: Connection, limit: int) -> list[Run]:
    return [_value(row) for row in connection.execute(queries.all_runs(limit))]


def move(connection: Connection, run: int, event: str, *, replayed: bool = False, **values: Any) -> Run:
    """Carry out a move of the state table. Raises UsageInvalid when the run's state has no such move.

    A replay may find the run moved already.
    """
    changed = connection.execute(queries.move_run(run, event, **values)).rowcount
    found = by_id(connection, run)
    before = leading_to(RUN_MOVES, event)
    if changed == 0 and not (replayed and found.state in {RUN_MOVES[state][event] for state in before}):
        raise _no_move(found, event, " or ".join(before))
    return found


def _no_move(run: Run, event: str, expected: str) -> RunnerError:
    return UsageInvalid(
        f"run {run.label} is {run.state}; {event!r} needs one that is {expected}.",
        name="run-state",
        hints=(f"runner show {run.label}",),
    )


def change_job(connection: Connection, run: Run, job: Job) -> Run:
    """Take over what may change on resume: limits, budget, mode, output, tags."""
    changed = run.job.with_changes_of(job)
    output = job.output.path if job.output.path is not None else run.output
    connection.execute(queries.set_run(run.id, job=changed.to_json().encode(), output=output))
    set_cap(connection, run.id, changed.budget_pico)
    return by_id(connection, run.id)


def payer_of(connection: Connection, run: int) -> Payer:
    """Whose budgets pay for the run's calls."""
    return Payer(run=run, job=connection.execute(queries.run_by_id(run)).one().job_name)


def set_cap(connection: Connection, run: int, cap_pico: int | None) -> None:
    budgets.set_cap(connection, BudgetKey(run_scope(run), WHOLE_RUN), cap_pico)


def _value(row: Any) -> Run:
    return Run(
        id=row.id,
        label=row.label,
        job=Job.from_json(bytes(row.job).decode()),
        identity=row.identity,
        key=row.key,
        state=RunState(row.state),
        pause_reason=PauseReason(row.pause_reason) if row.pause_reason else None,
        pause_message=row.pause_message,
        wanted=row.wanted,
        round=row.round,
        fan=row.fan,
        input_uri=row.input_uri,
        input_digest=row.input_digest,
        input_bytes=row.input_bytes,
        records=row.records,
        skipped=row.skipped,
        ingested_upto=row.ingested_upto,
        ingested_bytes=row.ingested_bytes,
        ingested_digest=row.ingested_digest,
        ingest_done=row.ingest_done,
        output=row.output,
        exported_us=row.exported_us,
        epoch=row.epoch,
        holder=row.holder,
        heartbeat_us=row.heartbeat_us,
        organization=row.organization,
        workspace=row.workspace,
        estimates=row.estimates,
        detached=row.detached,
        priority=row.priority,
        purged_us=row.purged_us,
        forecast=Forecast(**json.loads(row.forecast)) if row.forecast else None,
        created_us=row.created_us,
        ended_us=row.ended_us,
    )
