"""What the members of a fleet share: who lives, who has which chunk, what is to be put into the queue.

The rows here are the truth and the queue is a list of hints: what it has lost is put in again, what it has twice
is claimed once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from runner.domain.budget import EVERYTHING, Level, day_of, job_scope
from runner.domain.seen import BudgetSeen, StoreSeen
from runner.errors import SchemaMismatch, UsageInvalid
from runner.store import budgets, claims, fleet_queries
from runner.store.database import Database
from runner.store.group import Fence
from runner.store.lease import LEASE_US

# After this a worker that has gone without a word is no longer listed.
FORGET_US = 24 * 3_600 * 1_000_000


class Hint(Struct, frozen=True, kw_only=True):
    """What is to be put into the queue: a chunk, or a run as a whole, now or `later`.

    `place` is a chunk's place among those of its run: of equal priority lower ones go first, so that a run which
    comes later does not wait behind all of an earlier one.
    """

    run: int
    priority: int
    place: int = 0
    seq: int | None = None
    later: bool = False


class Worker(Struct, frozen=True, kw_only=True):
    """A member of the fleet."""

    name: str
    host: str
    pid: int
    slots: int
    version: str
    state: str
    since_us: int
    beat_us: int
    chunks: int = 0
    runs: tuple[str, ...] = ()

    def is_alive(self, now_us: int) -> bool:
        return now_us - self.beat_us < LEASE_US


class Fleet:
    """The fleet's side of one store; PostgreSQL only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def detach(self, run: int, *, detached: bool, priority: int = 0) -> None:
        """Give a run to the fleet, or take it back."""
        self._database.write(lambda c: c.execute(fleet_queries.change_run(run, detached=detached, priority=priority)))

    def at_work(self, run: int, now_us: int) -> bool:
        """Whether living workers have chunks of this run."""
        return bool(self._database.read(lambda c: c.execute(fleet_queries.at_work(run, now_us, LEASE_US)).first()))

    # --- chunks

    def claim(self, run: int, seq: int, worker: str, now_us: int, price_version: str) -> claims.ClaimedChunk | None:
        """Take this chunk; None when it is done, somebody else's, or its run does not go on."""
        first: list[claims.ClaimedChunk] = []  # a replay goes on with what it has claimed

        def work(connection: Connection) -> claims.ClaimedChunk | None:
            if first and claims.is_held(connection, run, first[-1].fence):
                return first[-1]
            found = connection.execute(fleet_queries.chunk_to_claim(run, seq, now_us, LEASE_US)).first()
            if found is None:
                return None
            taken = claims.claim_found(connection, run, found, now_us, price_version, worker)
            first.append(taken)
            return taken

        return self._database.write(work)

    def still_ours(self, run: int, fences: Collection[Fence], now_us: int) -> set[int]:
        """Say that these chunks are worked on; the seqs of those that are still ours and not done."""
        told = [(fence.seq, fence.epoch) for fence in fences]
        if not told:
            return set()
        return self._database.write(lambda c: set(c.scalars(fleet_queries.beat_chunks(run, told, now_us))))

    def release_silent(self, now_us: int) -> int:
        """Let chunks go whose workers are gone; how many there were."""
        return self._database.write(lambda c: c.execute(fleet_queries.release_silent(now_us, LEASE_US)).rowcount)

    def hints(self, window: int, now_us: int) -> list[Hint]:
        """What the queue lacks, in turns between the runs."""

        def work(connection: Connection) -> list[Hint]:
            told = {"now_us": now_us, "silent_us": LEASE_US}
            rows = connection.execute(fleet_queries.chunks_to_enqueue(), {**told, "window": window})
            found = [Hint(run=row.run, priority=row.priority, place=row.place, seq=row.seq) for row in rows]
            whole = connection.execute(fleet_queries.runs_to_enqueue(), told)
            return found + [Hint(run=row.run, priority=row.priority, later=row.later) for row in whole]

        return self._database.read(work)

    # --- workers

    def register(self, worker: Worker) -> None:
        row = {name: getattr(worker, name) for name in Worker.__struct_fields__ if name not in ("chunks", "runs")}

        def work(connection: Connection) -> None:
            connection.execute(fleet_queries.drop_old_workers(worker.since_us - FORGET_US))
            connection.execute(fleet_queries.add_worker(connection.dialect.name), row)

        self._database.write(work)

    def beat(self, name: str, state: str, now_us: int) -> None:
        self._database.write(lambda c: c.execute(fleet_queries.beat_worker(name, state, now_us)))

    def leave(self, name: str) -> None:
        self._database.write(lambda c: c.execute(fleet_queries.drop_worker(name)))

    def living_slots(self, now_us: int) -> list[int]:
        """The slots of each worker that gives signs of life."""
        return self._database.read(lambda c: list(c.scalars(fleet_queries.living(now_us, LEASE_US))))

    def workers(self) -> list[Worker]:
        def work(connection: Connection) -> list[Worker]:
            runs: dict[str, list[str]] = {}
            for row in connection.execute(fleet_queries.runs_held()):
                runs.setdefault(row.worker, []).append(row.label)
            return [_worker(row, runs.get(row.name, [])) for row in connection.execute(fleet_queries.all_workers())]

        return self._database.read(work)

    def seen(self, now_us: int) -> StoreSeen:
        """What all who share this store have, for those who count."""

        def work(connection: Connection) -> StoreSeen:
            of_runs = [
                BudgetSeen(job=row.job_name, per="run", cap_pico=int(row.cap_pico), used_pico=int(row.used_pico))
                for row in connection.execute(fleet_queries.budgets_of_open_runs())
            ]
            standing = [_budget_seen(level) for level in budgets.standing(connection, day_of(now_us))]
            batches = {row.state: row.batches for row in connection.execute(fleet_queries.open_batches())}
            return StoreSeen(budgets=of_runs + standing, batches=batches)

        return self._database.read(work)

    def offset_us(self, now_us: int) -> int:
        """How far the database's clock is ahead of `now_us`."""
        told: int = self._database.read(lambda c: c.execute(fleet_queries.server_time()).scalar_one())
        return told - now_us


def _budget_seen(level: Level) -> BudgetSeen:
    key = level.key
    return BudgetSeen(
        job="" if key.scope == EVERYTHING else key.scope.removeprefix(job_scope("")),
        per=key.cap_key.period,
        cap_pico=level.cap_pico or 0,
        used_pico=level.spent_pico + level.committed_pico,
    )


def _worker(row: Any, runs: Sequence[str]) -> Worker:
    own = {name: getattr(row, name) for name in Worker.__struct_fields__ if name != "runs"}
    return Worker(**own, runs=tuple(runs))


# --- the queue's own tables


def queue_scripts() -> dict[str, str]:
    """procrastinate's scripts by name, in order; empty without the extra."""
    try:
        from procrastinate.schema import SchemaManager
    except ImportError:
        return {}
    from pathlib import Path

    folder = Path(SchemaManager.get_migrations_path())
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))}


def upgrade_queue(connection: Connection) -> str | None:
    """Make or advance the queue's tables, in this transaction; the last script, None without the extra.

    They have no version of their own, so the last script is noted as the comment of a table.
    """
    scripts = queue_scripts()
    if not scripts:
        return None
    from procrastinate.schema import SchemaManager

    last = list(scripts)[-1]
    driver: Any = connection.connection.driver_connection  # its SQL holds signs that SQLAlchemy would read
    if not connection.execute(fleet_queries.queue_exists()).scalar():
        driver.execute(SchemaManager.get_schema())
    else:
        noted = connection.execute(fleet_queries.queue_script()).scalar() or last
        for name, script in scripts.items():
            if name > noted:
                driver.execute(script)
    driver.execute(f"COMMENT ON TABLE procrastinate_jobs IS '{last}'")
    return last


def check_queue(database: Database) -> None:
    """Raises UsageInvalid or SchemaMismatch where a worker could not work."""
    if database.is_sqlite:
        raise UsageInvalid(
            "a fleet needs PostgreSQL, and this store is a SQLite file.",
            name="fleet-database",
            hints=("export RUNNER_DATABASE_URL=postgresql://...", "runner run   works with SQLite"),
        )
    scripts = queue_scripts()
    if not scripts:
        raise SchemaMismatch(
            "a fleet needs the extra that brings its queue.",
            name="fleet-extra",
            hints=("pip install 'claude-job-runner[fleet]'",),
        )
    noted = database.read(lambda c: c.execute(fleet_queries.queue_script()).scalar())
    if noted != list(scripts)[-1]:
        raise SchemaMismatch(
            "the queue's tables are not there." if noted is None else "the queue's tables are of another release.",
            name="db-behind" if noted is None or noted < list(scripts)[-1] else "db-ahead",
            hints=(f"database: {database.safe_url}", "runner db upgrade"),
        )
