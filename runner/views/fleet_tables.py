"""The fleet as a table and as values for JSON; a run that others work on as a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.domain.run import Run, Tally
from runner.store.fleet import Worker
from runner.store.reports import Money
from runner.views.durations import ago, utc
from runner.views.money import dollars
from runner.views.numbers import count
from runner.views.tables import Column, table_lines

COLUMNS = (
    Column(title="WORKER", most=48),
    Column(title="STATE"),
    Column(title="CHUNKS", right=True),
    Column(title="SLOTS", right=True),
    Column(title="SINCE"),
    Column(title="LAST SIGN"),
    Column(title="RUNS", most=60),
)


def workers_table(found: Sequence[Worker], now_us: int, width: int | None, *, plain: bool) -> list[str]:
    """One line a worker; one that is silent is said to be gone."""
    rows = [
        [
            one.name,
            state_words(one, now_us),
            str(one.chunks),
            str(one.slots),
            ago(one.since_us, now_us),
            ago(one.beat_us, now_us),
            " ".join(one.runs) or "-",
        ]
        for one in found
    ]
    return table_lines(COLUMNS, rows, width, plain=plain)


def state_words(one: Worker, now_us: int) -> str:
    """Its own word, as long as it gives signs of life."""
    return one.state if one.is_alive(now_us) else "gone"


def worker_json(one: Worker, now_us: int) -> dict[str, Any]:
    """One worker for machines."""
    return {
        "name": one.name,
        "host": one.host,
        "pid": one.pid,
        "state": state_words(one, now_us),
        "slots": one.slots,
        "chunks": one.chunks,
        "runs": list(one.runs),
        "version": one.version,
        "since": utc(one.since_us),
        "last_sign": utc(one.beat_us),
    }


def attach_line(run: Run, tally: Tally, money: Money) -> str:
    """How far a run is that others work on."""
    total = "?" if run.total_rows is None else count(run.total_rows)
    return (
        f"run {run.label}  {count(tally.ended)} of {total} rows  failed {count(tally.failed)}  "
        f"spent {dollars(money.spent_pico)}"
    )
