"""The built wheel, not only the checkout: what it holds is enough to make a database and run a job."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_what_the_wheel_holds_is_enough_to_make_a_database_and_run_a_job(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path / "site"),
        "RUNNER_HOME": str(tmp_path / "home"),
    }
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Say hello"}\n')
    command = [sys.executable, "-m", "runner", "run", str(rows), "-m", "claude-haiku-5-5", "--simulate", "-o", "-"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert b'"status":"succeeded"' in done.stdout
