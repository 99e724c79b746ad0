"""A fleet whose PostgreSQL crashes and comes back in mid-run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.acceptance.house import Api, Desk
from tests.acceptance.test_fleet import (
    ROWS,
    Fleet,
    check_every_row_once,
    ended_rows,
    launched,
    prompts,
    until,
)


@pytest.fixture
def room() -> Iterator[Path]:
    room = postgres.make_room()
    yield room
    postgres.close_room(room)


def test_a_fleet_survives_a_crash_of_its_database(live: Desk, room: Path, api: Api) -> None:
    try:
        url, why = postgres._system_server(room)
    except postgres.NoPostgres as error:
        pytest.skip(str(error))
    if url is None:
        pytest.skip(f"no PostgreSQL that could be restarted: {why}")
    live.env |= {"RUNNER_DATABASE_URL": url, "RUNNER_LEASE_S": "3"}
    live.type("db", "upgrade").check(0)
    live.write("rows.jsonl", prompts(ROWS))
    fleet = Fleet(live)
    try:
        run = launched(live, "--concurrency", "16")
        for _ in range(2):
            fleet.start("--slots", "16")
        for share in (1, 3):
            until(lambda share=share: ended_rows(live) >= share * ROWS // 10)  # type: ignore[misc]
            postgres.restart_hard(room)
        live.type("attach", run, "-o", "out.jsonl").check(0)
        check_every_row_once(live)
        assert all(process.poll() is None for process in fleet.workers)
    finally:
        fleet.stop()
