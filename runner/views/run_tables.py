"""The tables of runs and of failures, and the same as values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from runner.domain.run import Run, Tally
from runner.domain.states import RIDING_BATCH, BatchState, RunState
from runner.store.reports import FailureGroup, Money
from runner.store.submissions import Submission
from runner.views.batch_words import out_words
from runner.views.durations import moment, utc
from runner.views.failure_advice import advice
from runner.views.money import dollars, usd
from runner.views.numbers import count
from runner.views.run_facts import pause_of, state_words
from runner.views.tables import Column, table_lines

STATUS_COLUMNS = (
    Column(title="RUN"),
    Column(title="JOB", most=24),
    Column(title="STATE", most=40),
    Column(title="ROWS", right=True),
    Column(title="FAILED", right=True),
    Column(title="SPENT", right=True),
    Column(title="STARTED"),
    Column(title="NOTE", most=60),
)
FAILURE_COLUMNS = (
    Column(title="ROWS", right=True),
    Column(title="STATUS"),
    Column(title="REASON", most=32),
    Column(title="TRIES", right=True),
    Column(title="FIRST SEEN"),
    Column(title="EXAMPLE", most=32),
)


class StatusRow(Struct, frozen=True, kw_only=True):
    """A run in the list. `left_alone`: it should be worked on, and no process does. `submissions` are those of a run
    that has some with the service."""

    run: Run
    tally: Tally
    money: Money
    left_alone: bool
    submissions: Sequence[Submission] = ()

    @property
    def note(self) -> str:
        run, out = self.run, out_words(self.submissions)
        if run.purged_us is not None:
            return "purged: its rows are gone, its cost stays"
        if run.state is RunState.CANCELING and out:
            return f"{out}: runner collect {run.label}"
        if self.left_alone and run.detached:
            return f"with the fleet: runner attach {run.label}"
        if self.left_alone:
            return f"nobody works on it: runner resume {run.label}"
        if run.wanted is not None:
            return f"asked to {run.wanted}"
        twice = self.money.duplicate_pico
        return out or pause_of(run)[1] or (f"in it {dollars(twice)} paid twice" if twice else "")

    @property
    def _riding(self) -> list[Submission]:
        return [one for one in self.submissions if one.state in RIDING_BATCH]

    @property
    def state(self) -> str:
        """A rehearsal says so here, in a column that is not dropped soon."""
        return state_words(self.run) + (", simulated" if self.run.job.simulated else "")

    @property
    def rows(self) -> str:
        total = self.run.total_rows
        return f"{count(self.tally.ended)}/{'?' if total is None else count(total)}"

    @property
    def spent(self) -> str:
        unknown = "+?" if self.money.unknown_calls or self.money.uncosted else ""
        return dollars(self.money.spent_pico) + unknown

    def as_json(self) -> dict[str, Any]:
        run = self.run
        pause_reason, pause_message = pause_of(run)
        return {
            "run": run.label,
            "job": run.job.name,
            "state": run.state,
            "pause_reason": pause_reason,
            "pause_message": pause_message,
            "simulated": run.job.simulated,
            "tags": dict(run.job.tags),
            "worked_on": run.state is RunState.RUNNING and not self.left_alone,
            "rows": run.total_rows,
            "done": self.tally.done,
            "failed": self.tally.failed,
            "batches_out": len(self._riding),
            "rows_in_batches": sum(one.n for one in self._riding),
            "batches_unknown": sum(one.state is BatchState.UNKNOWN for one in self._riding),
            "spent_usd": usd(self.money.spent_pico),
            "unknown_usd_at_most": usd(self.money.unknown_bound_pico),
            "budget_usd": usd(self.money.cap_pico),
            "started": utc(run.created_us),
            "ended": utc(run.ended_us),
        }


def status_table(rows: Sequence[StatusRow], width: int | None, *, plain: bool = False) -> list[str]:
    cells = [
        [
            row.run.label,
            row.run.job.name,
            row.state,
            row.rows,
            count(row.tally.failed),
            row.spent,
            moment(row.run.created_us)[:-3],
            row.note,
        ]
        for row in rows
    ]
    return table_lines(STATUS_COLUMNS, cells, width, plain=plain)


def failure_table(groups: Sequence[FailureGroup], width: int | None, *, plain: bool = False) -> list[str]:
    cells = [
        [
            count(group.rows),
            str(group.status),
            group.error_type or group.example.stop_reason or "-",
            count(group.attempts),
            moment(group.first_us)[:-3],
            group.example.key if group.example.key is not None else f"row {group.example.idx}",
        ]
        for group in groups
    ]
    return table_lines(FAILURE_COLUMNS, cells, width, plain=plain)


def failure_json(group: FailureGroup, run: str) -> dict[str, Any]:
    return {
        "status": group.status,
        "error_type": group.error_type,
        "rows": group.rows,
        "most_tries": group.attempts,
        "first_seen": utc(group.first_us),
        "example": {
            "index": group.example.idx,
            "key": group.example.key,
            "message": group.example.error_message,
            "stop_reason": group.example.stop_reason,
            "request_id": group.example.request_id,
        },
        "fix": advice(group.status, group.error_type, run, group.example.error_message),
    }
