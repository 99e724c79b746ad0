"""Workers of one desk, as processes, and what can be seen of them in their database."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from tests.acceptance.house import MODEL, Api, Desk
from tests.environment import ROOT

WRONG_CLOCK = """\
import time

right, right_ns = time.time, time.time_ns
time.time = lambda: right() + {off_s}
time.time_ns = lambda: right_ns() + {off_s} * 10**9
"""


class Fleet:
    """Workers of one desk. What they say goes to files: nobody reads it while they work."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, env: dict[str, str] | None = None, clock_off_s: int = 0) -> subprocess.Popen[bytes]:
        """Start one, with `env` of its own beside the desk's, on a machine whose clock is wrong by so much."""
        desk = replace(self.desk, env=self.desk.env | (env or {}))
        if clock_off_s:
            desk.env["PYTHONPATH"] = f"{self._wrong_clock(clock_off_s)}{os.pathsep}{ROOT}"
        with (self.desk.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            process = desk.start("worker", *words, stderr=log)
        self.workers.append(process)
        return process

    def _wrong_clock(self, off_s: int) -> Path:
        """A folder from which the interpreter takes another clock when it starts."""
        folder = self.desk.folder / f"clock{off_s:+}"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(WRONG_CLOCK.format(off_s=off_s))
        return folder

    def said(self, worker: subprocess.Popen[bytes]) -> str:
        return (self.desk.folder / f"worker-{self.workers.index(worker)}.log").read_text()

    def left(self, worker: subprocess.Popen[bytes]) -> None:
        """It ends in order after SIGTERM."""
        assert worker.wait(60) == 143, self.said(worker)
        assert "Traceback" not in self.said(worker)

    def told(self) -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = json.loads(self.desk.type("workers", "--json").check(0).stdout)["workers"]
        return workers

    def stop(self) -> None:
        for process in self.workers:
            with suppress(ProcessLookupError):
                process.kill()
            process.communicate()


def sql(desk: Desk, statement: str) -> list[tuple[Any, ...]]:
    url = desk.env["RUNNER_DATABASE_URL"].replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(statement)  # type: ignore[arg-type]
        return done.fetchall() if done.description else []


def until(true: Callable[[], object], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def ended_rows(desk: Desk) -> int:
    return int(sql(desk, "SELECT count(*) FROM results")[0][0])


def launched(desk: Desk, *words: str) -> str:
    told = desk.type("run", "rows.jsonl", "-m", MODEL, "--detach", "--json", *words).check(0)
    return str(told.events[0]["run"])


def check_every_row_once(desk: Desk, rows: int, name: str = "out.jsonl") -> None:
    lines = desk.lines(name)
    assert [line["index"] for line in lines] == list(range(rows))
    assert Counter(line["status"] for line in lines) == {"succeeded": rows}


def check_books(desk: Desk, api: Api, rows: int, most_unknown: int) -> None:
    """Each call on the bill is in the books with exactly its cost, or as unknown with a bound of it."""
    booked = dict(sql(desk, "SELECT request_id, cost_pico FROM ledger WHERE kind <> 'unknown'"))
    bill = {charge["request_id"]: int(charge["pico"]) for charge in api.bill()}
    missing = [pico for request_id, pico in bill.items() if request_id not in booked]
    assert {one: booked.get(one, bill[one]) for one in bill} == bill
    bounds = [bound for (bound,) in sql(desk, "SELECT bound_pico FROM ledger WHERE kind = 'unknown'")]
    assert len(missing) <= len(bounds)
    assert max(missing, default=0) <= min(bounds, default=0)
    kinds = dict(sql(desk, "SELECT kind, count(*) FROM ledger GROUP BY kind"))
    assert sum(kinds.values()) >= api.billed
    assert kinds.get("unknown", 0) <= most_unknown
    # A call that was given up as unknown may still have brought its row's answer.
    assert rows - kinds.get("unknown", 0) <= kinds["spend"] <= rows, kinds
    twice = (
        "SELECT request_id, array_agg(kind) FROM ledger WHERE request_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
    )
    assert sql(desk, twice) == []
