"""init, check, preview, doctor, db and simulator: nothing of them sends a prompt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli.doctor_checks import file_system_of
from tests.cli.conftest import Cli

KEY = "sk-ant-CANARY-wxyz"


@pytest.fixture
def job(cli: Cli) -> str:
    assert cli("init").exit_code == 0
    return "job.yaml"


def test_init_overwrites_nothing(cli: Cli, folder: Path) -> None:
    (folder / "job.yaml").write_text("mine")
    done = cli("init")
    assert done.exit_code == 0
    assert "kept  job.yaml" in done.stderr
    assert (folder / "job.yaml").read_text() == "mine"
    assert (folder / "rows.jsonl").exists()


def test_init_makes_a_folder(cli: Cli, folder: Path) -> None:
    done = cli("init", "a/b", "--json")
    written = ["a/b/runner.toml", "a/b/job.yaml", "a/b/rows.jsonl", "a/b/.runner/job.schema.json"]
    assert json.loads(done.stdout)["written"] == written


def test_init_where_a_file_is_in_the_way(cli: Cli, folder: Path) -> None:
    (folder / "x").write_text("")
    assert cli("init", "x").exit_code == 2


def test_the_first_job_is_valid(cli: Cli, job: str) -> None:
    done = cli("check", job)
    assert done.exit_code == 0, done.stderr
    assert "3 rows" in done.stdout
    assert "columns   message" in done.stdout
    assert "keys      all different" in done.stdout
    told = json.loads(cli("check", job, "--json").stdout)
    assert (told["rows"], told["bad_count"], told["warnings"]) == (3, 0, [])
    assert told["usd_at_most"] > 0


def test_check_tells_all_that_is_wrong_with_a_job(cli: Cli, folder: Path) -> None:
    (folder / "job.yaml").write_text("version: 1\nmodle: x\nprompt: '{{ a'\nlimits: { rmp: 3 }\n")
    done = cli("check", "job.yaml")
    assert done.exit_code == 6
    assert "job.yaml:2:1" in done.stderr
    assert 'did you mean "rpm"' in done.stderr or "rpm" in done.stderr


def test_check_refuses_bad_rows_and_double_keys(cli: Cli, job: str, folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"id": 1, "message": "a"}\nnot json\n{"id": 1, "message": "b"}\n')
    done = cli("check", job)
    assert done.exit_code == 6
    assert "line 2" in done.stderr
    assert "line 3" in done.stderr
    skipped = cli("check", job, "--on-bad-row", "skip")
    assert skipped.exit_code == 0
    assert "2 rows that cannot be sent" in skipped.stdout


def test_check_knows_models(cli: Cli, job: str) -> None:
    done = cli("check", job, "-m", "claude-haiku-5.5")
    assert done.exit_code == 6
    assert "did you mean claude-haiku-5-5 ?" in done.stderr


def test_check_warns_of_little_room_and_refuses_too_much(cli: Cli, job: str, folder: Path) -> None:
    text = (folder / job).read_text()
    (folder / job).write_text(text.replace("max_tokens: 2000 ", "max_tokens: 300 "))
    assert "warning[little-room]" in cli("check", job).stderr
    (folder / job).write_text(text.replace("max_tokens: 2000 ", "max_tokens: 9000000 "))
    assert "is more than claude-haiku-5-5 writes: at most 128,000" in cli("check", job).stderr


def test_an_input_without_rows(cli: Cli, job: str, folder: Path) -> None:
    (folder / "rows.jsonl").write_text("\n")
    assert cli("check", job).exit_code == 6


def test_preview_shows_bodies_and_hides_keys(cli: Cli, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-team: red\nx-gateway-key: CANARY2")
    done = cli("preview", job, "-n", "2")
    assert done.exit_code == 0
    assert done.stdout.count("POST https://api.anthropic.com/v1/messages") == 2
    assert "x-api-key: ...wxyz" in done.stdout
    assert "x-team: red" in done.stdout
    assert "CANARY" not in done.output
    told = json.loads(cli("preview", job, "-n", "1", "--json").stdout)
    assert told["requests"][0]["body"]["model"] == "claude-haiku-5-5"
    assert told["requests"][0]["headers"]["x-api-key"] == "...wxyz"


def test_preview_needs_no_key(cli: Cli, job: str) -> None:
    assert "x-api-key: (no key is set)" in cli("preview", job).stdout


def test_an_address_with_a_password_is_refused_and_not_repeated(cli: Cli, job: str) -> None:
    for arguments in (("preview", job), ("doctor",)):
        done = cli(*arguments, "--base-url", "https://me:CANARY@example.com")
        assert done.exit_code == 5
        assert "CANARY" not in done.output


def test_preview_of_a_bad_row(cli: Cli, job: str, folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"id": "a"}\n')
    done = cli("preview", job)
    assert done.exit_code == 6
    assert '"message"' in done.stderr


def test_preview_is_inert(cli: Cli, job: str, folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"id": "a", "message": "\\u202e\\u001b]52;c;x\\u0007"}\n')
    shown = cli("preview", job).stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_the_doctor_without_a_key(cli: Cli) -> None:
    done = cli("doctor")
    assert done.exit_code == 5
    assert "made at first use" in done.stdout
    assert "error[no-credentials]" in done.stderr


def test_the_doctor_with_everything(cli: Cli, store: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "another-token")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:CANARY@proxy.example:3128")
    done = cli("doctor")
    assert done.exit_code == 0
    assert "key ...wxyz from ANTHROPIC_API_KEY" in done.stdout
    assert "ANTHROPIC_AUTH_TOKEN is set too and is not used" in done.stdout
    assert "proxy.example:3128 stands in between" in done.stdout
    assert "CANARY" not in done.output
    told = json.loads(cli("doctor", "--json").stdout)
    assert told["healthy"] is True


def test_the_doctor_asks_the_service(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    line = [sys.executable, "-m", "runner", "simulator", "--latency-ms", "0", "--seed", "4"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=env, text=True) as simulator:
        assert simulator.stdout is not None
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.stdout.readline().split()[-1])
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        done = cli("doctor", "--online")
        simulator.send_signal(signal.SIGINT)
        assert simulator.wait(10) == 0
    assert done.exit_code == 0, done.output
    assert "workspace wrkspc_" in done.stdout


def test_a_simulator_that_cannot_be_set_up(cli: Cli, folder: Path) -> None:
    (folder / "bad.json").write_text('{"no_such": 1}')
    done = cli("simulator", "--config", "bad.json")
    assert done.exit_code == 2
    assert "no_such" in done.stderr


def test_the_database_is_made_looked_at_and_left_alone(cli: Cli) -> None:
    assert "made at first use" in cli("db", "status").stdout
    assert "from revision none" in cli("db", "upgrade").stderr
    assert "nothing to do" in cli("db", "upgrade").stderr
    told = json.loads(cli("db", "status", "--json").stdout)
    assert told["revision"] == told["needed"]


def test_an_empty_database_server_is_behind(cli: Cli, pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_DATABASE_URL", pg_url)
    assert cli("db", "status").exit_code == 8
    assert cli("status").exit_code == 8
    assert cli("db", "upgrade").exit_code == 0
    assert cli("db", "status").exit_code == 0
    assert cli("status").exit_code == 0


def test_a_file_system_is_found_by_its_longest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("a / ext4 rw 0 0\nb /srv nfs4 rw 0 0\nc /srv/my\\040data tmpfs rw 0 0\n")
    assert file_system_of(Path("/srv/x.db"), str(mounts)) == "nfs4"
    assert file_system_of(Path("/srv/my data/x.db"), str(mounts)) == "tmpfs"
    assert file_system_of(Path("/srvx/x.db"), str(mounts)) == "ext4"
    assert file_system_of(Path("/x"), str(tmp_path / "none")) is None
