"""A fleet on PostgreSQL: workers as processes, one of them killed, the queue emptied, one leaving in order."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.fleet import Fleet, check_books, check_every_row_once, ended_rows, launched, sql, until
from tests.acceptance.house import MODEL, Api, Desk, ended, prompts

ROWS = 3_000
LEASE_S = 3


@pytest.fixture
def fleet(live: Desk, pg_url: str) -> Iterator[Fleet]:
    live.env |= {"RUNNER_DATABASE_URL": pg_url, "RUNNER_LEASE_S": str(LEASE_S)}
    live.type("db", "upgrade").check(0)
    live.write("rows.jsonl", prompts(ROWS))
    fleet = Fleet(live)
    yield fleet
    fleet.stop()


def test_two_workers_finish_a_run_though_one_is_killed(fleet: Fleet, api: Api) -> None:
    desk, slots = fleet.desk, 16
    run = launched(desk, "--concurrency", str(slots))
    first = fleet.start("--slots", str(slots))
    fleet.start("--slots", str(slots))
    until(lambda: ended_rows(desk) > ROWS // 10)
    assert {one["state"] for one in fleet.told()} == {"working"}
    first.send_signal(signal.SIGKILL)
    desk.type("attach", run, "-o", "out.jsonl").check(0)
    check_every_row_once(desk, ROWS)
    check_books(desk, api, ROWS, most_unknown=2 * slots)


def test_emptying_the_queue_in_mid_run_only_delays_it(fleet: Fleet, api: Api) -> None:
    desk = fleet.desk
    run = launched(desk, "--concurrency", "16")
    fleet.start("--slots", "16")
    until(lambda: ended_rows(desk) > ROWS // 10)
    sql(desk, "TRUNCATE procrastinate_jobs, procrastinate_workers, procrastinate_events CASCADE")
    desk.type("attach", run, "-o", "out.jsonl").check(0)
    check_every_row_once(desk, ROWS)
    check_books(desk, api, ROWS, most_unknown=0)


def test_a_worker_leaves_in_order_and_another_goes_on(fleet: Fleet, api: Api) -> None:
    desk = fleet.desk
    run = launched(desk, "--concurrency", "16")
    first = fleet.start("--slots", "16")
    until(lambda: ended_rows(desk) > ROWS // 10)
    first.send_signal(signal.SIGTERM)
    ended(first).check(143)
    assert fleet.told() == []
    assert sql(desk, "SELECT count(*) FROM sends") == [(0,)]
    fleet.start("--slots", "16")
    desk.type("attach", run, "-o", "out.jsonl").check(0)
    check_every_row_once(desk, ROWS)
    check_books(desk, api, ROWS, most_unknown=0)


def test_a_worker_that_slept_through_its_leases_changes_nothing_when_it_wakes(fleet: Fleet, api: Api) -> None:
    desk, slots = fleet.desk, 16
    run = launched(desk, "--concurrency", str(slots))
    sleeper = fleet.start("--slots", str(slots), "--name", "sleeper")
    until(lambda: ended_rows(desk) > ROWS // 10)
    sleeper.send_signal(signal.SIGSTOP)
    fleet.start("--slots", str(slots))
    until(lambda: "gone" in {one["state"] for one in fleet.told()})
    until(lambda: sql(desk, "SELECT count(*) FROM chunks WHERE worker = 'sleeper' AND state = 'running'") == [(0,)])
    before = sql(desk, "SELECT idx, at_us, request_id FROM results ORDER BY idx")
    sleeper.send_signal(signal.SIGCONT)
    desk.type("attach", run, "-o", "out.jsonl").check(0)
    check_every_row_once(desk, ROWS)
    check_books(desk, api, ROWS, most_unknown=slots)
    after = {row[0]: row for row in sql(desk, "SELECT idx, at_us, request_id FROM results")}
    assert [after[row[0]] for row in before] == before


def test_a_storm_of_lost_connections_costs_no_row(fleet: Fleet, api: Api) -> None:
    desk = fleet.desk
    run = launched(desk, "--concurrency", "16")
    for _ in range(2):
        fleet.start("--slots", "16")
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    for share in range(1, 8):
        until(lambda share=share: ended_rows(desk) >= share * ROWS // 10)  # type: ignore[misc]
        sql(desk, others + "pg_backend_pid()")
    desk.type("attach", run, "-o", "out.jsonl").check(0)
    check_every_row_once(desk, ROWS)
    # One that gives up ends in good order, for whoever supervises it to start it again.
    for process in fleet.workers:
        if process.poll() is not None:
            assert process.returncode > 2, process.communicate()


JOB = f"""\
version: 1
name: hourly
input: {{ path: rows.jsonl }}
model: {MODEL}
limits: {{ concurrency: 16 }}
notify: [{{ on: [finished], command: [tee, -a, {{TOLD}}] }}]
output: {{ path: out.jsonl }}
"""


def test_the_whole_topology_as_processes_fires_a_schedule_and_replaces_a_worker(fleet: Fleet, api: Api) -> None:
    """Database, upgrade, scheduler, two workers; a fire is due; one of the workers is replaced in mid-run."""
    desk = fleet.desk
    told = desk.folder / "told.jsonl"
    desk.write("job.yaml", [JOB.replace("{TOLD}", str(told))])
    desk.type("schedule", "add", "job.yaml", "--cron", "0 3 * * *").check(0)
    first = fleet.start("--slots", "16", "--health", "0", "--no-schedules")
    fleet.start("--slots", "16", "--no-schedules")
    scheduler = desk.start("scheduler", "--detach")
    try:
        desk.type("schedule", "backfill", "hourly", "--from", "2026-11-01", "--to", "2026-11-01T12:00").check(0)
        until(lambda: ended_rows(desk) > ROWS // 10)
        first.send_signal(signal.SIGTERM)
        ended(first).check(143)
        fleet.start("--slots", "16", "--no-schedules")
        until((desk.folder / "out.jsonl").exists, within_s=60)
        until(lambda: _newest_fire(desk)["state"] == "done")
        assert told.read_text().count('"occasions"') == 1, "whoever ended the run tells, and nobody else"
        check_every_row_once(desk, ROWS)
        check_books(desk, api, ROWS, most_unknown=0)
    finally:
        scheduler.send_signal(signal.SIGTERM)
        ended(scheduler).check(143)


def _newest_fire(desk: Desk) -> dict[str, Any]:
    told = json.loads(desk.type("schedule", "history", "hourly", "--json").check(0).stdout)
    fire: dict[str, Any] = told["fires"][0]
    return fire


def test_batches_hold_nothing_while_they_are_out_and_are_read_by_whoever_is_free(fleet: Fleet, api: Api) -> None:
    desk = fleet.desk
    desk.env |= {"RUNNER_BATCH_POLL_S": "1", "RUNNER_BATCH_WINDOW_S": "2", "RUNNER_BATCH_SETTLE_S": "1"}
    run = launched(desk, "--mode", "batch")
    first = fleet.start("--slots", "16")
    until(lambda: sql(desk, "SELECT count(*) FROM batches WHERE provider_id IS NOT NULL")[0][0] > 0)
    first.send_signal(signal.SIGKILL)
    fleet.start("--slots", "16")
    desk.type("attach", run, "-o", "out.jsonl").check(0)
    check_every_row_once(desk, ROWS)
    assert sql(desk, "SELECT count(*) FROM ledger WHERE kind <> 'spend'") == [(0,)]


def test_a_small_run_beside_a_large_one_begins_at_once(fleet: Fleet, api: Api) -> None:
    desk = fleet.desk
    desk.write("few.jsonl", prompts(20, first=100_000))
    launched(desk, "--concurrency", "4")
    fleet.start("--slots", "8")
    until(lambda: ended_rows(desk) > 20)
    began = time.monotonic()
    told = desk.type("run", "few.jsonl", "-m", MODEL, "--detach", "--json").check(0)
    desk.type("attach", str(told.events[0]["run"]), "-o", "few.out.jsonl").check(0)
    assert time.monotonic() - began < 30
    assert ended_rows(desk) < ROWS


def test_a_worker_tells_its_health_and_its_numbers(fleet: Fleet, api: Api) -> None:
    import socket
    import urllib.error
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    desk = fleet.desk
    run = launched(desk, "--concurrency", "16")
    fleet.start("--slots", "16", "--health", str(port))
    desk.type("attach", run, "-o", "out.jsonl").check(0)

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return str(reply.read().decode())

    assert json.loads(get("/healthz"))["well"] is True
    numbers = get("/metrics")
    assert f'runner_rows_total{{job="rows",status="succeeded"}} {float(ROWS)}' in numbers
    assert f'runner_requests_total{{model="{MODEL}",outcome="answer"}} {float(ROWS)}' in numbers
    assert "runner_spend_usd_total" in numbers
    assert run not in numbers
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("/elsewhere")


def test_a_run_is_taken_back_from_the_fleet_and_given_to_it_again(fleet: Fleet, api: Api) -> None:
    desk = fleet.desk
    run = launched(desk, "--concurrency", "16")
    fleet.start("--slots", "16")
    until(lambda: ended_rows(desk) > ROWS // 10)
    here = desk.start("resume", run)
    until(lambda: sql(desk, "SELECT count(*) FROM chunks WHERE worker IS NULL AND state = 'running'")[0][0] > 0)
    here.send_signal(signal.SIGTERM)
    ended(here).check(143)
    assert ended_rows(desk) < ROWS
    desk.type("resume", run, "--detach").check(0)
    desk.type("attach", run, "-o", "out.jsonl").check(0)
    check_every_row_once(desk, ROWS)
    check_books(desk, api, ROWS, most_unknown=0)
