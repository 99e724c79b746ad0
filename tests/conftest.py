"""What all tests share: the async backend, stores to run against, and the rule that CI skips nothing.

Time is turned, not awaited: see `tests/turned_clock.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import postgres
from tests.turned_clock import TurnedClock

ROOM_VARIABLE = "RUNNER_TEST_PG_ROOM"  # the xdist workers inherit it

# The same cases on every machine and day; `--hypothesis-profile=deep` looks for new ones and prints how to replay.
settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("deep", derandomize=False, deadline=None, print_blob=True, max_examples=2_000)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    if not _is_worker(config) and ROOM_VARIABLE not in os.environ:
        os.environ[ROOM_VARIABLE] = str(postgres.make_room())
        config.add_cleanup(_close_room)


def _close_room() -> None:
    postgres.close_room(Path(os.environ.pop(ROOM_VARIABLE)))


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_report_header(config: pytest.Config) -> str:
    return f"hypothesis: derandomized unless --hypothesis-seed; skips are {'failures' if _in_ci() else 'allowed'}"


# -- CI skips nothing ---------------------------------------------------------------------------------------------


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if _in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, and under CI=true a skip is a failure: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    _refuse_skip(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if any("no PostgreSQL" in str(report.longrepr) for report in terminalreporter.getreports("skipped")):
        terminalreporter.write_line(
            "HALF OF THE STORE WAS NOT TESTED: no PostgreSQL here (RUNNER_TEST_PG=<url> names one)",
            red=True,
            bold=True,
        )


# -- fixtures -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": False}


@pytest.fixture
def clock() -> TurnedClock:
    """A clock that stands still until the test turns it."""
    return TurnedClock()


@pytest.fixture(scope="session")
def pg_server() -> str:
    """The URL of a PostgreSQL server on which databases can be created."""
    try:
        return postgres.server_url(Path(os.environ[ROOM_VARIABLE]))
    except postgres.NoPostgres as error:
        pytest.skip(f"no PostgreSQL for the tests: {error}")


@pytest.fixture
def pg_url(pg_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test's own."""
    url = postgres.create_database(pg_server)
    yield url
    postgres.drop_database(pg_server, url)


@pytest.fixture(scope="session")
def ready_database(pg_server: str) -> Iterator[str]:
    """A PostgreSQL database with the newest schema, to be copied."""
    url = postgres.create_database(pg_server)
    make_ready(url)
    yield url
    postgres.drop_database(pg_server, url)


@pytest.fixture(scope="session")
def ready_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("ready") / "runner.db"
    make_ready(f"sqlite:///{path}")
    return path


def make_ready(url: str) -> None:
    from tests.store.building import ready_store  # only where there is a store, not for each test of a function

    ready_store(url).close()


@pytest.fixture
def ready_pg_url(pg_server: str, ready_database: str) -> Iterator[str]:
    """The URL of a PostgreSQL database of this test's own, with the newest schema."""
    url = postgres.copy_database(pg_server, ready_database)
    yield url
    postgres.drop_database(pg_server, url)


@pytest.fixture(params=["sqlite", "postgresql"])
def ready_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of this test's own with the newest schema, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{shutil.copy(request.getfixturevalue('ready_file'), tmp_path)}"
    return str(request.getfixturevalue("ready_pg_url"))


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runner.db'}"
    return str(request.getfixturevalue("pg_url"))
