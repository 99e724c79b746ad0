"""Migrations: replayed from nothing they give exactly the tables of the code, wherever they lie."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, func, insert, inspect, select, text

import runner.store.database as database_module
from runner.store.database import Database, migrations_folder
from runner.store.tables import FINAL_RESULT_TRIGGERS, HEAD_REVISION, metadata

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def upgraded(store_url: str) -> Iterator[Database]:
    database = Database(store_url)
    database.upgrade()
    yield database
    database.close()


def difference(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def columns(connection: Connection) -> dict[str, list[tuple[str, str, bool]]]:
    """Every table's columns in their order; what alembic does not compare."""
    reflected = MetaData()
    reflected.reflect(connection)
    return {
        name: [(column.name, str(column.type), bool(column.nullable)) for column in table.columns]
        for name, table in reflected.tables.items()
        if name != "alembic_version"
    }


def test_an_upgrade_from_nothing_gives_exactly_the_tables_of_the_code(upgraded: Database) -> None:
    assert upgraded.read(difference) == []


def test_columns_keys_and_table_options_are_those_of_the_code(upgraded: Database, tmp_path: Path) -> None:
    def details(connection: Connection) -> dict[str, Any]:
        seen = inspect(connection)
        return {
            table: (
                columns(connection)[table],
                seen.get_pk_constraint(table)["constrained_columns"],
                sorted((key["constrained_columns"], key["referred_table"]) for key in seen.get_foreign_keys(table)),
                sorted((index["column_names"], index["unique"]) for index in seen.get_indexes(table)),
                sorted(unique["column_names"] for unique in seen.get_unique_constraints(table)),
            )
            for table in metadata.tables
        }

    migrated = upgraded.read(details)

    def from_code(connection: Connection) -> dict[str, Any]:
        for table in reversed(metadata.sorted_tables):
            connection.execute(text(f"DROP TABLE {table.name} CASCADE" if postgresql else f"DROP TABLE {table.name}"))
        metadata.create_all(connection)
        return details(connection)

    postgresql = not upgraded.is_sqlite
    assert upgraded.write(from_code) == migrated


def test_a_new_file_is_what_the_migrations_would_have_made(tmp_path: Path) -> None:
    def everything(name: str, make: Callable[[Database], None]) -> dict[tuple[str, str], list[str]]:
        """What there is, each with the words that made it; the order of constraints means nothing."""
        database = Database(f"sqlite:///{tmp_path / name}")
        make(database)
        said = database.read(lambda c: c.execute(text("SELECT type, name, sql FROM sqlite_master")).all())
        assert database.revision() == HEAD_REVISION
        database.close()
        return {(kind, name): sorted(re.findall(r"[^\s,()]+", sql or "")) for kind, name, sql in said}

    assert everything("new.db", Database.make_ready) == everything("migrated.db", Database.upgrade)


def test_the_triggers_of_the_code_are_there(upgraded: Database) -> None:
    if upgraded.is_sqlite:
        question = "SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name DESC"
        assert upgraded.read(lambda c: tuple(c.scalars(text(question)))) == FINAL_RESULT_TRIGGERS["sqlite"]
    else:
        question = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'"
        assert upgraded.read(lambda c: list(c.scalars(text(question)))) == ["final_result"]
        source = upgraded.read(lambda c: c.scalar(text("SELECT prosrc FROM pg_proc WHERE proname LIKE 'refuse%'")))
        assert str(source) in FINAL_RESULT_TRIGGERS["postgresql"][0]


def test_the_migration_s_triggers_are_those_of_the_code() -> None:
    scripts = ScriptDirectory(str(ROOT / "migrations"))
    assert scripts.get_revision("0001").module.TRIGGERS == FINAL_RESULT_TRIGGERS


def test_the_code_names_the_newest_migration() -> None:
    scripts = ScriptDirectory(str(ROOT / "migrations"))
    assert scripts.get_heads() == [HEAD_REVISION]
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)


def test_an_upgrade_twice_is_an_upgrade_once(upgraded: Database) -> None:
    upgraded.upgrade()
    assert upgraded.revision() == HEAD_REVISION
    assert upgraded.read(difference) == []


UPGRADE = "import sys; from runner.store.database import Database; Database(sys.argv[1]).upgrade()"


def test_several_upgrades_at_once_are_an_upgrade_once(store_url: str) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, store_url], env={**os.environ, "PYTHONPATH": str(ROOT)})
        for _ in range(3)
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    database = Database(store_url)
    assert database.revision() == HEAD_REVISION
    assert database.read(difference) == []
    database.close()


def test_a_failed_upgrade_leaves_nothing_behind(
    store_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "migrations"
    shutil.copytree(ROOT / "migrations", broken)
    (script,) = (broken / "versions").glob("0001_*.py")
    script.write_text(script.read_text().replace("CREATE TRIGGER", "CREATE NONSENSE"))
    monkeypatch.setattr(database_module, "migrations_folder", lambda: broken)
    database = Database(store_url)
    with pytest.raises(Exception, match="NONSENSE"):
        database.upgrade()
    assert database.read(lambda c: inspect(c).get_table_names()) == []
    monkeypatch.undo()
    database.upgrade()
    assert database.revision() == HEAD_REVISION
    database.close()


def test_in_a_checkout_migrations_lie_beside_the_package() -> None:
    assert migrations_folder() == ROOT / "migrations"


def test_in_an_installed_wheel_migrations_lie_inside_the_package(tmp_path: Path) -> None:
    site = tmp_path / "site 100% packages"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "runner", site / "runner", ignore=ignore)
    shutil.copytree(ROOT / "migrations", site / "runner" / "migrations", ignore=ignore)
    url = f"sqlite:///{tmp_path / 'runner.db'}"
    script = (
        "import sys; from runner.store import database; from runner.store.store import Store; "
        "Store.open(sys.argv[1]).close(); print(database.migrations_folder())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, url],
        cwd=site,
        env={**environment, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(site / "runner" / "migrations")
    database = Database(url)
    assert database.revision() == HEAD_REVISION
    database.close()


def test_a_developer_can_run_alembic_on_a_database_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'dev.db'}"
    monkeypatch.setenv("RUNNER_DATABASE_URL", url)
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    command.upgrade(config, "head")
    database = Database(url)
    assert database.revision() == HEAD_REVISION
    database.close()


REVISIONS = sorted(script.revision for script in ScriptDirectory(str(ROOT / "migrations")).walk_revisions())
ROWS = 3


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_database_with_rows_made_by_any_revision_becomes_one_of_today_and_keeps_them(
    store_url: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_DATABASE_URL", store_url)
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    command.upgrade(config, revision)
    database = Database(store_url)
    filled = database.write(fill)
    database.upgrade()
    assert database.revision() == HEAD_REVISION
    assert database.read(difference) == []
    rows = {
        table.name: database.read(lambda c, table=table: c.execute(select(func.count()).select_from(table)).scalar())
        for table in metadata.sorted_tables
        if table.name in filled
    }
    assert set(rows.values()) == {ROWS}, rows
    database.close()


def fill(connection: Connection) -> set[str]:
    """Some rows in every table that there is, those of one number belonging together; the tables' names."""
    reflected = MetaData()
    reflected.reflect(connection)
    tables = [table for table in reflected.sorted_tables if table.name != "alembic_version"]
    for table in tables:
        rows = [{column.name: value(column, number) for column in table.columns} for number in range(1, 1 + ROWS)]
        connection.execute(insert(table), rows)
    return {table.name for table in tables}


def value(column: Column[Any], number: int) -> object:
    kind = column.type.python_type
    return {int: number, bool: True, float: 0.5, bytes: b"x%d" % number, str: f"x{number}"}[kind]
