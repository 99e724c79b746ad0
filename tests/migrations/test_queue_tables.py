"""The queue's tables are no revision of ours: an upgrade makes and advances them where the extra is there."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect

from runner.errors import SchemaMismatch, UsageInvalid
from runner.store import fleet
from runner.store.database import Database
from runner.store.fleet import check_queue, queue_scripts, upgrade_queue
from tests.environment import clean_environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def database(pg_url: str) -> Iterator[Database]:
    database = Database(pg_url)
    yield database
    database.close()


def has_queue(database: Database) -> bool:
    return database.read(lambda c: inspect(c).has_table("procrastinate_jobs"))


def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "procrastinate"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "procrastinate", None)  # type: ignore[arg-type]


def test_without_the_extra_there_is_no_queue_and_a_worker_says_what_is_missing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        without_the_extra(patched)
        database.upgrade(upgrade_queue)
        database.make_ready()
        assert not has_queue(database)
        with pytest.raises(SchemaMismatch, match="needs the extra"):
            check_queue(database)
    with pytest.raises(SchemaMismatch, match="are not there"):
        check_queue(database)
    database.upgrade(upgrade_queue)
    check_queue(database)


def test_with_the_extra_an_upgrade_twice_is_an_upgrade_once(database: Database) -> None:
    for _ in range(2):
        database.upgrade(upgrade_queue)
        assert has_queue(database)
        check_queue(database)


def test_a_queue_of_an_earlier_release_is_refused_and_advanced_by_what_is_new(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.upgrade(upgrade_queue)
    newer = {**queue_scripts(), "99.01.01_01_a_new_table.sql": "CREATE TABLE of_a_newer_release (id int)"}
    with monkeypatch.context() as patched:
        patched.setattr(fleet, "queue_scripts", lambda: newer)
        with pytest.raises(SchemaMismatch, match="of another release") as caught:
            check_queue(database)
        assert caught.value.name == "db-behind"
        database.upgrade(upgrade_queue)
        check_queue(database)
    assert database.read(lambda c: inspect(c).has_table("of_a_newer_release"))
    with pytest.raises(SchemaMismatch, match="of another release") as caught:
        check_queue(database)
    assert caught.value.name == "db-ahead"


def test_several_upgrades_at_once_make_one_queue(database: Database, pg_url: str) -> None:
    env = clean_environment(RUNNER_DATABASE_URL=pg_url)
    words = [sys.executable, "-m", "runner", "db", "upgrade"]
    children = [subprocess.Popen(words, env=env, stderr=subprocess.PIPE) for _ in range(2)]
    assert [(child.communicate()[1], child.returncode)[1] for child in children] == [0, 0]
    check_queue(database)


def test_an_upgrade_that_fails_in_the_queue_leaves_nothing_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(connection: object) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        database.upgrade(upgrade_queue, broken)
    assert database.read(lambda c: inspect(c).get_table_names()) == []


@pytest.mark.parametrize("queue", [False, True])
def test_alembic_finds_nothing_to_change_whether_the_queue_is_there_or_not(
    store_url: str, monkeypatch: pytest.MonkeyPatch, queue: bool
) -> None:
    database = Database(store_url)
    if queue and database.is_sqlite:
        with pytest.raises(UsageInvalid, match="needs PostgreSQL"):
            check_queue(database)
    database.upgrade(*([upgrade_queue] if queue and not database.is_sqlite else []))
    database.close()
    monkeypatch.setenv("RUNNER_DATABASE_URL", store_url)
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(ROOT / "migrations"))
    command.check(config)
