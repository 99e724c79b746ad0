"""A fleet on PostgreSQL: one large run for four workers, and a small one that comes beside it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests import postgres
from tests.bench.measures import STOPPED, Wish, folder_for_one
from tests.bench.processes import Measured, Server, Spent, server
from tests.bench.prompts import MODEL, check_answers, write_prompts
from tests.bench.tables import number, table
from tests.environment import clean_environment

WORKERS = 4
SLOTS = 128
LATENCY_S, JITTER_S = 0.2, 0.05
SMALL_ROWS = 100
# The small run comes when so much of the large one is done.
SMALL_AT_SHARE = 0.1
LOOK_S = 0.2
# From the moment at which a run is there to its first row.
BEGAN_US = """SELECT min(at_us) - min(created_us) FROM results JOIN runs ON runs.id = run WHERE label = '{run}'"""


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A large run from its input to its output. Seconds, rows a second, megabytes."""

    staged_per_s: float
    worked_per_s: float
    small_began_s: float
    database_bytes: int
    exported_per_s: float
    workers: list[Spent]


def fleet(wish: Wish) -> Iterator[str]:
    """Rows a second, what the database takes, how soon a small run begins. Needs an installed PostgreSQL."""
    lines = []
    for rows in wish.sizes:
        with (
            folder_for_one() as folder,
            _database() as url,
            server(None, latency_s=LATENCY_S, jitter_s=JITTER_S) as api,
        ):
            told = _Desk(folder, url, api).worked(rows)
        lines.append(
            [
                f"{rows:,}",
                number(told.staged_per_s),
                number(told.worked_per_s),
                number(told.small_began_s, 1),
                number(told.database_bytes / 1e6),
                number(told.database_bytes / rows),
                number(told.exported_per_s),
                number(max(one.peak_mb for one in told.workers)),
                number(sum(one.cpu_s for one in told.workers) / rows * 1000, 2),
            ]
        )
    head = (
        "rows of 1 KB",
        "staged rows/s",
        "worked rows/s",
        f"first of {SMALL_ROWS} rows beside, after s",
        "database MB",
        "bytes per row",
        "written rows/s",
        "peak MB of a worker",
        "CPU s of workers per 1,000",
    )
    at_most = WORKERS * SLOTS / LATENCY_S
    yield table(
        f"A fleet: {WORKERS} workers of {SLOTS} slots, 200 ± 50 ms (at most {at_most:,.0f} requests/s), PostgreSQL, "
        "simulator and workers on this machine, nothing pinned",
        head,
        lines,
    )


@contextmanager
def _database() -> Iterator[str]:
    """On a server of its own that syncs each commit."""
    room = postgres.make_room()
    try:
        yield postgres.create_database(postgres.own_server(room, durable=True))
    finally:
        postgres.close_room(room)


class _Desk:
    """Where the commands are typed."""

    def __init__(self, folder: Path, url: str, api: Server) -> None:
        self._folder, self._plain = folder, url.replace("postgresql+psycopg", "postgresql")
        self._env = clean_environment(
            RUNNER_HOME=str(folder / "home"),
            RUNNER_DATABASE_URL=url,
            ANTHROPIC_API_KEY="bench",
            ANTHROPIC_BASE_URL=api.url,
        )

    def worked(self, rows: int) -> Passed:
        self._type("db", "upgrade")
        write_prompts(self._folder / "large.jsonl", rows)
        write_prompts(self._folder / "small.jsonl", SMALL_ROWS, 900)
        staging_s, large = self._launched("large.jsonl")
        workers = [
            self._start(f"w{one}", "worker", "--slots", str(SLOTS), "--no-schedules") for one in range(WORKERS)
        ]
        try:
            self._until(large, 1)
            began_s = time.monotonic()
            self._until(large, round(rows * SMALL_AT_SHARE))
            _, small = self._launched("small.jsonl")
            self._until(small, 1)
            small_began_s = self._ask(BEGAN_US.format(run=small)) / 1e6
            self._until(large, rows)
            worked_s = time.monotonic() - began_s
            export_s = time.monotonic()
            self._type("attach", large, "-o", "large.out.jsonl")
            export_s = time.monotonic() - export_s
            check_answers(self._folder / "large.out.jsonl", rows)
            size = int(self._ask("SELECT pg_database_size(current_database())"))
        finally:
            for worker in workers:
                worker.stop()
        return Passed(
            staged_per_s=rows / staging_s,
            worked_per_s=rows / worked_s,
            small_began_s=small_began_s,
            database_bytes=size,
            exported_per_s=rows / export_s,
            workers=[worker.wait(codes=(STOPPED,)) for worker in workers],
        )

    def _launched(self, name: str) -> tuple[float, str]:
        spent = self._type("run", name, "-m", MODEL, "--concurrency", str(SLOTS), "--detach", "--json", "-y")
        return spent.wall_s, str(json.loads(spent.said.splitlines()[0])["run"])

    def _type(self, *words: str) -> Spent:
        return self._start("typed", *words).wait()

    def _start(self, name: str, *words: str) -> Measured:
        # Each writes what it says to files of its own; paths in `words` are relative to the folder above.
        place = self._folder / name
        place.mkdir(exist_ok=True)
        told = [str(self._folder / word) if word.endswith(".jsonl") else word for word in words]
        return Measured((sys.executable, "-m", "runner", *told), None, place, self._env)

    def _until(self, run: str, ended: int) -> None:
        asked = f"SELECT coalesce(sum(done + failed), 0) FROM chunks JOIN runs ON runs.id = run WHERE label = '{run}'"
        while int(self._ask(asked)) < ended:
            time.sleep(LOOK_S)

    def _ask(self, question: str) -> int:
        with psycopg.connect(self._plain, autocommit=True) as connection:
            row = connection.execute(question).fetchone()  # type: ignore[arg-type]
            assert row is not None
            return int(row[0])
