"""A fleet on PostgreSQL on ordinary days: workers as processes, who share runs, come and go, tell how they are."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.acceptance.fleet import Fleet, check_books, check_every_row_once, ended_rows, launched, sql, until
from tests.acceptance.house import MODEL, Api, Desk, api_process, ended, prompts
from tests.environment import ROOT

# Many processes: on a machine that has others to serve they take their time.
pytestmark = pytest.mark.timeout(300)

ROWS = 800
SLOTS = ("--slots", "8")
LEASE_S = 3
# A small run that comes beside a large one has its first answer by then.
BEGINS_S = 10.0
JOB = f"""\
version: 1
name: hourly
input: {{ path: rows.jsonl }}
model: {MODEL}
limits: {{ concurrency: 8 }}
notify: [{{ on: [finished], command: [tee, -a, {{TOLD}}] }}]
output: {{ path: out.jsonl }}
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Api]:
    """Calls take a moment, so that there is a middle of a run."""
    with api_process(latency_s=0.03) as api:
        yield api


@pytest.fixture
def fleet(live: Desk, pg_url: str) -> Iterator[Fleet]:
    live.env |= {"RUNNER_DATABASE_URL": pg_url, "RUNNER_LEASE_S": str(LEASE_S)}
    live.type("db", "upgrade").check(0)
    live.write("rows.jsonl", prompts(ROWS))
    fleet = Fleet(live)
    yield fleet
    fleet.stop()


def fired(desk: Desk) -> None:
    """A job on a schedule of which one fire is due."""
    desk.write("job.yaml", [JOB.replace("{TOLD}", str(desk.folder / "told.jsonl"))])
    desk.type("schedule", "add", "job.yaml", "--cron", "0 3 * * *").check(0)
    desk.type("schedule", "backfill", "hourly", "--from", "2026-11-01", "--to", "2026-11-01T12:00").check(0)


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    told = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in told.stdout.split()]


def test_a_run_goes_from_worker_to_worker_and_to_a_process_of_its_own_in_between(fleet: Fleet, api: Api) -> None:
    """Each leaves in order: nothing stays behind that it has started, and nothing is asked twice."""
    desk = fleet.desk
    fired(desk)
    api.hold(after=ROWS // 4)
    first = fleet.start(*SLOTS)
    until(lambda: ended_rows(desk) > ROWS // 10)
    started = children_of(first)
    assert len(started) == 1, "its scheduler has one fire at work"
    api.stop_in_mid_call(first, signal.SIGTERM)
    fleet.left(first)
    assert subprocess.run(["ps", "-p", str(started[0])], capture_output=True).returncode == 1
    assert fleet.told() == []
    assert sql(desk, "SELECT count(*) FROM sends") == [(0,)]

    run = str(sql(desk, "SELECT label FROM runs")[0][0])
    api.hold(after=ROWS // 4)
    here = desk.start("resume", run)
    until(lambda: sql(desk, "SELECT count(*) FROM chunks WHERE worker IS NULL AND state = 'running'")[0][0] > 0)
    api.stop_in_mid_call(here, signal.SIGTERM)
    ended(here).check(143)
    assert ended_rows(desk) < ROWS

    desk.type("resume", run, "--detach").check(0)
    fleet.start(*SLOTS, "--no-schedules")
    desk.type("attach", run, "-o", "out.jsonl").check(0)
    check_every_row_once(desk, ROWS)
    check_books(desk, api, ROWS, most_unknown=0)


def test_the_whole_topology_as_processes_fires_a_schedule_and_replaces_a_worker(fleet: Fleet, api: Api) -> None:
    """Database, upgrade, scheduler, two workers; a fire is due; one of the workers is replaced in mid-run, by one on
    a machine whose clock is an hour ahead: all go by the database's."""
    desk = fleet.desk
    fired(desk)
    api.hold(after=ROWS // 4)
    first = fleet.start(*SLOTS, "--health", "0", "--no-schedules")
    fleet.start(*SLOTS, "--no-schedules")
    scheduler = desk.start("scheduler", "--detach")
    try:
        until(lambda: ended_rows(desk) > ROWS // 10)
        api.stop_in_mid_call(first, signal.SIGTERM)
        fleet.left(first)
        fleet.start(*SLOTS, "--no-schedules", clock_off_s=3_600)
        until((desk.folder / "out.jsonl").exists, within_s=60)
        until(lambda: _newest_fire(desk)["state"] == "done")
        assert sql(desk, "SELECT max(epoch) FROM chunks") <= [(2,)], "none was taken from a living worker"
        told = (desk.folder / "told.jsonl").read_text()
        assert told.count('"occasions"') == 1, "whoever ended the run tells, and nobody else"
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
    first = fleet.start(*SLOTS)
    until(lambda: sql(desk, "SELECT count(*) FROM batches WHERE provider_id IS NOT NULL")[0][0] > 0)
    first.send_signal(signal.SIGKILL)
    fleet.start(*SLOTS)
    desk.type("attach", run, "-o", "out.jsonl").check(0)
    check_every_row_once(desk, ROWS)
    assert sql(desk, "SELECT count(*) FROM ledger WHERE kind <> 'spend'") == [(0,)]


def test_a_small_run_beside_a_large_one_begins_at_once_and_the_worker_tells_of_both(fleet: Fleet, api: Api) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return str(reply.read().decode())

    desk = fleet.desk
    desk.write("few.jsonl", [json.dumps({"prompt": f"tell {number}"}) for number in range(100)])
    held_large, held_small = ({"kind": "held", "body_contains": word, "after": 50} for word in ("say", "tell"))
    api.faults(held_large, held_small)
    large = launched(desk, "--concurrency", "4", "--max-usd", "5")
    process = fleet.start(*SLOTS, "--health", str(port))
    until(lambda: ended_rows(desk) > 20)
    told = desk.type("run", "few.jsonl", "-m", MODEL, "--detach", "--json").check(0)
    small = str(told.events[0]["run"])
    of_small = f"SELECT min(at_us) - min(created_us) FROM results JOIN runs ON runs.id = run WHERE label = '{small}'"
    until(lambda: sql(desk, of_small)[0][0] is not None, within_s=2 * BEGINS_S)
    health = json.loads(get("/healthz"))
    assert health["well"] is True
    assert set(health["runs"]) == {large, small}
    assert 'runner_budget_usd{job="rows",per="run"} 5.0' in get("/metrics")
    api.faults(held_large)
    desk.type("attach", small, "-o", "few.out.jsonl").check(0)
    assert ended_rows(desk) < ROWS
    (worker,) = fleet.told()
    assert (worker["state"], worker["runs"]) == ("working", [large])
    api.let_go()

    desk.type("attach", large, "-o", "out.jsonl").check(0)
    check_every_row_once(desk, ROWS)
    assert sql(desk, of_small)[0][0] < BEGINS_S * 1e6
    assert health_check(port) == 0
    numbers = get("/metrics")
    assert f'runner_rows_total{{job="rows",status="succeeded"}} {float(ROWS)}' in numbers
    assert 'runner_rows_total{job="few",status="succeeded"} 100.0' in numbers
    assert f'runner_requests_total{{model="{MODEL}",outcome="answer"}} {float(ROWS + 100)}' in numbers
    assert "runner_spend_usd_total" in numbers
    assert "# TYPE runner_rate_limit_wait_seconds_total counter" in numbers
    assert large not in numbers
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("/elsewhere")
    process.send_signal(signal.SIGTERM)
    fleet.left(process)
    assert health_check(port) != 0


def health_check(port: int) -> int:
    """The words of the compose file, against a worker on this machine."""
    compose = YAML(typ="safe").load(ROOT / "docker" / "compose.yaml")
    kind, python, *words = compose["services"]["worker-1"]["healthcheck"]["test"]
    assert (kind, python) == ("CMD", "python")
    told = [word.replace("8080", str(port)) for word in words]
    return subprocess.run([sys.executable, *told], capture_output=True).returncode
