"""Jobs that run by themselves, as somebody types it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from runner.files.job_file import load_job
from tests.acceptance.house import MODEL, Desk, ended

JOB = f"""\
version: 1
name: nightly
input: {{ path: rows.jsonl }}
model: {MODEL}
params: {{ date: yesterday }}
prompt: "On {{{{ params.date }}}}: {{{{ text }}}}"
output: {{ path: "out-{{{{ params.date }}}}.jsonl" }}
schedule: {{ cron: "30 2 * * *", timezone: Europe/Berlin, overlap: allow }}
notify: [{{ on: [finished, failed], command: [tee, -a, told.jsonl] }}]
"""


@pytest.fixture
def scheduled(live: Desk) -> Desk:
    live.write("rows.jsonl", ['{"text": "one"}', '{"text": "two"}'])
    live.write("job.yaml", [JOB])
    live.type("schedule", "add", "job.yaml").check(0)
    return live


def history(desk: Desk) -> list[dict[str, str]]:
    told = json.loads(desk.type("schedule", "history", "nightly", "--json").check(0).stdout)
    fires: list[dict[str, str]] = told["fires"]
    return fires


def test_days_of_the_past_run_with_the_parameters_of_their_day_and_once(scheduled: Desk) -> None:
    days = ("--from", "2026-11-01", "--to", "2026-11-02T23:59")
    scheduled.type("schedule", "backfill", "nightly", *days).check(0)
    scheduled.type("schedule", "tick").check(0)
    assert len(scheduled.lines("out-2026-10-31.jsonl")) == 2
    assert len(scheduled.lines("out-2026-11-01.jsonl")) == 2
    assert [fire["state"] for fire in history(scheduled)] == ["done", "done"]
    assert [fire["time"] for fire in history(scheduled)] == ["2026-11-02T02:30:00+01:00", "2026-11-01T02:30:00+01:00"]
    assert _told(scheduled).count(b'"occasions": ["finished"]') == 2
    again = scheduled.type("schedule", "backfill", "nightly", *days).check(0)
    assert "0 of 2" in again.stderr


def _told(desk: Desk) -> bytes:
    return (desk.folder / "told.jsonl").read_bytes()


def test_a_night_without_new_rows_is_a_good_night(scheduled: Desk) -> None:
    scheduled.write("rows.jsonl", ['{"id": 1, "text": "one"}', '{"id": 2, "text": "two"}'])
    chosen = JOB.replace("path: rows.jsonl", "path: rows.jsonl, id: id, unanswered: true")
    scheduled.write("job.yaml", [chosen])
    scheduled.type("schedule", "run", "nightly").check(0)
    again = scheduled.type("schedule", "run", "nightly").check(0)
    assert "nothing to do: none of the rows" in again.stderr
    assert [fire["state"] for fire in history(scheduled)] == ["done", "done"]
    assert b"failed" not in _told(scheduled).replace(b'"failed": 0', b"")


def test_the_scheduler_runs_what_is_asked_for_and_stops_on_a_signal(scheduled: Desk) -> None:
    process = scheduled.start("scheduler")
    scheduled.type("schedule", "backfill", "nightly", "--from", "2026-11-01", "--to", "2026-11-02").check(0)
    deadline = time.monotonic() + 40
    while not (scheduled.folder / "out-2026-10-31.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    ended(process).check(143)


def test_a_job_that_became_invalid_fails_its_fire_with_the_reason(scheduled: Desk) -> None:
    scheduled.write("job.yaml", [JOB.replace("model:", "modell:")])
    scheduled.type("schedule", "run", "nightly").check(6)
    (fire,) = history(scheduled)
    assert (fire["state"], fire["exit"]) == ("failed", 6)
    assert "error" in fire["reason"]


def test_lines_for_cron_and_for_kubernetes_say_what_the_schedule_says(scheduled: Desk) -> None:
    line = scheduled.type("cron", "line", "job.yaml").check(0).stdout.decode()
    assert "CRON_TZ=Europe/Berlin" in line
    assert "30 2 * * * cd " in line
    assert '--key "nightly@$(date +\\%FT\\%H:\\%M)"' in line
    from ruamel.yaml import YAML

    manifest = YAML(typ="safe").load(scheduled.type("k8s", "cronjob", "job.yaml").check(0).stdout.decode())
    spec = manifest["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("30 2 * * *", "Europe/Berlin", "Allow")
    rules = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["values"] == [2, 3, 4, 5, 6, 8, 9, 10, 12]
    assert 75 not in rules[0]["onExitCodes"]["values"]


def test_a_schedule_in_a_job_file_is_checked_like_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("30 2 * * *", "30 2 31 2 *").replace("Europe/Berlin", "Mars/Olympus"))
    with pytest.raises(Exception, match="2 errors") as caught:
        load_job(str(path))
    assert "never comes" in str(caught.value.hints)  # type: ignore[attr-defined]
    assert "time zone" in str(caught.value.hints)  # type: ignore[attr-defined]
