"""Databases: opened privately, written one transaction at a time, their faults told without anybody's prompt."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import psycopg
import pytest
from sqlalchemy import Connection, text
from tenacity import stop_after_attempt, wait_none

from runner.domain.budget import BudgetKey
from runner.errors import RunnerError, SchemaMismatch, StoreFault
from runner.store import budgets, lease, runs
from runner.store import database as database_module
from runner.store.budget_queries import change_budget
from runner.store.database import Database
from runner.store.store import Store
from tests.store.building import (
    NOW_US,
    claim,
    ended,
    execute,
    new_run,
    ready_store,
    rows_of,
    send,
    staged_run,
    stored,
    whole_store,
)

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-prompt-7261"

INCREMENT = textwrap.dedent(
    """
    import sys
    from sqlalchemy import text
    from runner.store.database import Database
    database = Database(sys.argv[1])
    def increment(connection):
        n = connection.execute(text("SELECT skipped FROM runs WHERE id = 1 " + sys.argv[2])).scalar()
        connection.execute(text("UPDATE runs SET skipped = :n WHERE id = 1"), {"n": n + 1})
    for _ in range(200):
        database.write(increment)
    """
)


def python(script: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


# -- transactions -------------------------------------------------------------------------------------------------


def test_three_processes_that_read_then_write_lose_no_update(store: Store, ready_url: str) -> None:
    store.create_run(new_run(), NOW_US)
    locking = "" if store.database.is_sqlite else "FOR UPDATE"
    children = [python(INCREMENT, ready_url, locking) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert store.run_by_id(1).skipped == 600


def test_threads_that_read_then_write_lose_no_update(tmp_path: Path) -> None:
    with ready_store(f"sqlite:///{tmp_path / 'runner.db'}") as store:
        store.create_run(new_run(), NOW_US)

        def increment(connection: Connection) -> None:
            found = runs.by_id(connection, 1)
            connection.execute(text("UPDATE runs SET skipped = :n"), {"n": found.skipped + 1})

        def work() -> None:
            for _ in range(50):
                store.database.write(increment)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.run_by_id(1).skipped == 150


def test_a_transaction_that_fails_leaves_nothing_behind(store: Store) -> None:
    run = store.create_run(new_run(), NOW_US)

    def work(connection: Connection) -> None:
        runs.set_cap(connection, run.id, 77)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        store.database.write(work)
    assert store.money(run.id).cap_pico is None
    assert store.create_run(new_run(), NOW_US).id != run.id


def test_reading_goes_on_while_somebody_writes(store: Store) -> None:
    run = store.create_run(new_run(), NOW_US)

    def work(connection: Connection) -> int | None:
        runs.set_cap(connection, run.id, 5)
        return store.money(run.id).cap_pico

    assert store.database.write(work) is None
    assert store.money(run.id).cap_pico == 5


# -- the SQLite file ----------------------------------------------------------------------------------------------


def test_sqlite_writes_ahead_and_syncs_every_commit(tmp_path: Path) -> None:
    with ready_store(f"sqlite:///{tmp_path / 'runner.db'}") as store:
        for run in (store.database.write, store.database.read):
            asked = {
                name: run(lambda c, name=name: c.exec_driver_sql(f"PRAGMA {name}").scalar())  # type: ignore[misc]
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "page_size")
            }
            assert asked == {
                "journal_mode": "wal",
                "synchronous": 2,
                "foreign_keys": 1,
                "busy_timeout": 10_000,
                "page_size": 8_192,
            }


def test_sqlite_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with ready_store(f"sqlite:///{tmp_path / 'new' / 'runner.db'}") as store:
            store.create_run(new_run(), NOW_US)
            modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    finally:
        os.umask(before)
    assert modes == {"runner.db": 0o600, "runner.db-wal": 0o600, "runner.db-shm": 0o600}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_several_processes_may_open_a_new_sqlite_database_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runner.db'}"
    script = "import sys; from runner.store.store import Store; Store.open(sys.argv[1]).close()"
    children = [python(script, url) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    with Store.open(url) as store:
        assert store.recent_runs(1) == []


@pytest.mark.parametrize("damage", ["head", "text", "middle"])
def test_a_damaged_file_is_left_as_it_is(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "runner.db"
    with ready_store(f"sqlite:///{path}") as store:
        staged_run(store, 500, 500, 500)
    whole = path.read_bytes()
    broken = {
        "head": b"\0" * 4_096 + whole[4_096:],
        "text": b"not a database at all\n" * 500,
        "middle": whole[:8_192] + b"\xa5" * (len(whole) - 8_192),
    }[damage]
    path.write_bytes(broken)
    with pytest.raises(StoreFault) as fault, Store.open(f"sqlite:///{path}") as store:
        store.tally(1)
    assert (fault.value.name, fault.value.exit_code) == ("database-damaged", 11)
    assert "left untouched" in fault.value.hints[1]
    assert path.read_bytes() == broken


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFault, match=r"cannot open the database .*file/runner.db: File exists"):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'runner.db'}")
    with pytest.raises(StoreFault, match="Is a directory"):
        Store.open(f"sqlite:///{tmp_path}")


def test_an_upgrade_keeps_a_copy_with_everything_that_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runner.db"
    with ready_store(f"sqlite:///{path}") as store:
        store.create_run(new_run(key="kept"), NOW_US)
        execute(store, "UPDATE alembic_version SET version_num = '0000'")
        monkeypatch.setattr(Database, "upgrade", lambda self: None)
        store.database.make_ready()
        copy = tmp_path / "runner.before-0001.db"
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("SELECT key FROM runs").fetchall() == [("kept",)]
            assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0000",)
        assert copy.stat().st_mode & 0o777 == 0o600


def test_a_database_of_a_newer_runner_is_refused_and_left_alone(store: Store, ready_url: str) -> None:
    execute(store, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="at revision 9999, this runner knows only") as refused:
        Store.open(ready_url)
    assert (refused.value.name, refused.value.exit_code) == ("db-ahead", 8)
    assert store.database.revision() == "9999"


# -- PostgreSQL ---------------------------------------------------------------------------------------------------


def test_postgresql_is_never_upgraded_without_being_told(pg_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="at revision none, this runner needs") as refused:
        Store.open(pg_url)
    assert refused.value.name == "db-behind"
    assert "runner db upgrade" in refused.value.hints
    database = Database(pg_url)
    assert database.revision() is None
    database.close()


def kill_own_connection(connection: Connection) -> None:
    """The server ends the connection that asks."""
    connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")


def test_a_process_that_was_stopped_between_statements_sent_together_keeps_its_locks_for_a_lease(
    pg_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server calls such a session active, so that its own limit for idle ones does not hold."""
    monkeypatch.setattr(lease, "LEASE_US", 500_000)
    with ready_store(pg_url) as store:
        key = BudgetKey("all", "2026-11")
        store.database.write(lambda c: budgets.insert_empty(c, [key]))
        change = {"of_scope": key.scope, "of_period": key.period, "more_spent": 1, "more_committed": 0}
        frozen = psycopg.connect(store.database.conninfo, application_name="runner")
        frozen.pipeline().__enter__()
        frozen.execute("UPDATE budgets SET spent_pico = 100")
        frozen.pgconn.send_flush_request()
        frozen.pgconn.flush()
        store.database.write(lambda c: c.execute(change_budget(), change))
        assert [row["spent_pico"] for row in rows_of(store, "budgets")] == [1]
        living = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        pid = frozen.info.backend_pid
        assert store.database.read(lambda c: c.scalar(living, {"pid": pid})) == 0
        frozen.close()


def test_of_two_transactions_that_wait_for_each_other_both_are_done(pg_url: str) -> None:
    """PostgreSQL undoes one of them after a second; it is done again."""
    with ready_store(pg_url) as store:
        keys = [BudgetKey("all", "2026-11"), BudgetKey("job:letters", "2026-11")]
        store.database.write(lambda c: budgets.insert_empty(c, keys))
        both_hold_one, times = Barrier(2, timeout=20), Counter[int]()

        def spend(first: int) -> None:
            def work(connection: Connection) -> None:
                times[first] += 1
                for place in (first, 1 - first):
                    change = {"of_scope": keys[place].scope, "of_period": keys[place].period}
                    connection.execute(change_budget(), change | {"more_spent": 1, "more_committed": 0})
                    if place == first and times[first] == 1:
                        both_hold_one.wait()

            store.database.write(work)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(spend, (0, 1)))
        assert [row["spent_pico"] for row in rows_of(store, "budgets")] == [2, 2]
        assert sorted(times.values()) == [1, 2]


def test_a_connection_lost_in_mid_write_is_replayed_once_and_correctly(pg_url: str) -> None:
    with ready_store(pg_url) as store:
        run = staged_run(store, 2, budget_pico=10**6)
        fence = claim(store, run).fence
        stored(store, run, send(fence, 0))
        before = whole_store(store)
        times: list[int] = []

        def work(connection: Connection) -> None:
            times.append(1)
            connection.execute(text("UPDATE budgets SET spent_pico = spent_pico + 1"))
            if len(times) == 1:
                kill_own_connection(connection)

        store.database.write(work)
        assert len(times) == 2
        assert whole_store(store)["budgets"][0]["spent_pico"] == before["budgets"][0]["spent_pico"] + 1


def test_a_server_that_is_the_primary_no_more_is_left_for_the_one_that_is(pg_url: str) -> None:
    with ready_store(pg_url) as store:
        staged_run(store, 1, budget_pico=10**6)
        asked: list[int] = []

        def work(connection: Connection) -> None:
            asked.append(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
            if len(asked) == 1:
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            connection.execute(text("UPDATE budgets SET spent_pico = spent_pico + 1"))

        store.database.write(work)
        assert len(asked) == 2
        assert asked[0] != asked[1]


def test_idle_connections_that_the_server_ended_are_not_noticed(pg_url: str) -> None:
    with ready_store(pg_url) as store, ready_store(pg_url) as other:
        run = staged_run(store, 1)
        for _ in range(3):
            execute(
                other,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            assert store.tally(run.id).staged == 1


def test_a_connection_that_is_lost_every_time_is_a_fault(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a failover may take it is taken up again; here, four times at once."""
    for reconnects in (database_module._RECONNECTS, database_module._WAITS_FOR_RETURN):
        monkeypatch.setattr(reconnects, "stop", stop_after_attempt(4))
        monkeypatch.setattr(reconnects, "wait", wait_none())
    with ready_store(pg_url) as store:
        times: list[int] = []

        def work(connection: Connection) -> None:
            times.append(1)
            kill_own_connection(connection)

        with pytest.raises(StoreFault, match="the database failed"):
            store.database.write(work)
        assert len(times) == 4


def test_more_threads_than_connections_wait_for_one_another(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "KEPT_CONNECTIONS", 1)
    monkeypatch.setattr(database_module, "MORE_CONNECTIONS", 1)
    with ready_store(pg_url) as store, ThreadPoolExecutor(20) as threads:
        sleep = text("SELECT pg_sleep(0.05)")
        told = list(threads.map(lambda _: store.database.read(lambda c: c.execute(sleep).rowcount), range(20)))
    assert told == [1] * 20


def test_connections_that_never_become_free_are_a_fault(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "KEPT_CONNECTIONS", 1)
    monkeypatch.setattr(database_module, "MORE_CONNECTIONS", 0)
    monkeypatch.setattr(database_module, "CONNECTION_WAIT_S", 0.1)
    for reconnects in (database_module._RECONNECTS, database_module._WAITS_FOR_RETURN):
        monkeypatch.setattr(reconnects, "stop", stop_after_attempt(2))
        monkeypatch.setattr(reconnects, "wait", wait_none())
    with ready_store(pg_url) as store:

        def work(_connection: Connection) -> None:
            with pytest.raises(StoreFault, match="no connection"):
                store.database.read(lambda c: c.execute(text("SELECT 1")))

        store.database.read(work)


@pytest.mark.parametrize("open_", [Store.open, lambda url: Database(url).upgrade()])
def test_a_server_that_is_not_there_is_told_without_the_password(open_: Callable[[str], object]) -> None:
    secret = "hunter2-7261"
    for url in (
        f"postgresql://somebody:{secret}@127.0.0.1:1/runner",
        f"postgresql://somebody@127.0.0.1:1/runner?password={secret}",
    ):
        with pytest.raises(StoreFault) as fault:
            open_(url)
        told = everything_told(fault.value)
        assert "database: postgresql" in told
        assert secret not in told


# -- what messages tell -------------------------------------------------------------------------------------------


def everything_told(error: RunnerError) -> str:
    """Message, hints and the whole traceback with its causes."""
    return "\n".join([*traceback.format_exception(error), error.message, *error.hints])


def test_a_fault_never_tells_a_statement_s_values(store: Store) -> None:
    run = staged_run(store, 1)
    fence = claim(store, run).fence
    stored(store, run, ended(fence, 0, message=CANARY.encode()))
    row = rows_of(store, "results")[0]
    answer = {"run": run.id, "idx": 0, "message": CANARY.encode()}
    for statement, values in (
        ("INSERT INTO answers (run, idx, message) VALUES (:run, :idx, :message)", answer),
        ("INSERT INTO answers (run, idx, message) VALUES (:run, :idx, :message)", [answer, answer]),
        ("INSERT INTO runs (label) VALUES (:label)", {"label": CANARY}),
        ("INSERT INTO keys (run, hash) VALUES (:run, 1)", {"run": CANARY}),
        ("UPDATE results SET status = :s WHERE idx = :i", {"s": CANARY, "i": row["idx"]}),
        ("SELECT * FROM no_such_table WHERE x = :x", {"x": CANARY}),
    ):
        with pytest.raises(StoreFault) as fault:
            store.database.write(lambda c, s=statement, v=values: c.execute(text(s), v))  # type: ignore[misc]
        assert CANARY not in everything_told(fault.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("no url", "cannot be read"),
        ("", "cannot be read"),
        ("mysql://host/db", "mysql is not a database"),
        ("oracle+thing://host/db", "not a database"),
    ],
)
def test_a_url_that_names_no_database_of_ours_is_refused(url: str, told: str) -> None:
    with pytest.raises(StoreFault, match=told) as refused:
        Database(url)
    assert refused.value.name == "database-url"


@pytest.mark.parametrize("name", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_name_of_postgresql_is_understood(name: str) -> None:
    database = Database(f"{name}://u:secret@h/db")
    assert database.url.drivername == "postgresql+psycopg"
    assert database.safe_url == "postgresql+psycopg://u:***@h/db"
    database.close()


def test_a_disk_that_is_full_is_said_so_and_what_was_stored_stays(tmp_path: Path) -> None:
    with ready_store(f"sqlite:///{tmp_path / 'runner.db'}") as store:
        run = staged_run(store, 1)
        pages = store.database.read(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one())

        def fill(connection: Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
            connection.execute(
                text("INSERT INTO answers (run, idx, message) VALUES (:run, 9, zeroblob(9000000))"), {"run": run.id}
            )

        with pytest.raises(StoreFault) as fault:
            store.database.write(fill)
        assert (fault.value.name, fault.value.message) == ("disk-full", "the disk is full.")
        assert (store.tally(run.id).staged, rows_of(store, "answers")) == (1, [])


def test_a_copied_sqlite_database_opens_elsewhere(tmp_path: Path) -> None:
    with ready_store(f"sqlite:///{tmp_path / 'runner.db'}") as store:
        run = staged_run(store, 3)
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "runner.db", tmp_path / "copy")
    with Store.open(f"sqlite:///{tmp_path / 'copy' / 'runner.db'}") as copy:
        assert copy.run(run.label).total_rows == 3


def test_the_locks_of_a_process_that_fell_asleep_in_a_transaction_are_free_after_the_lease(
    pg_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped or suspended in mid-transaction, it would else keep everybody out for as long as it sleeps."""
    monkeypatch.setattr(lease, "LEASE_US", 300_000)
    with ready_store(pg_url) as sleeper, ready_store(pg_url) as other:
        run = staged_run(sleeper, 1)
        locked, awake = threading.Event(), threading.Event()

        def fall_asleep(connection: Connection) -> None:
            connection.execute(text("UPDATE runs SET wanted = 'sleep'"))
            locked.set()
            awake.wait(30)

        asleep = threading.Thread(target=sleeper.database.write, args=(fall_asleep,))
        asleep.start()
        assert locked.wait(10)
        other.ask(run.id, "pause")
        assert other.wanted(run.id) == "pause"
        awake.set()
        asleep.join(30)
        # Awake again, its lost transaction is replayed like any other.
        assert other.wanted(run.id) == "sleep"
