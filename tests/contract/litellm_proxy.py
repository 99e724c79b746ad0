"""LiteLLM's proxy as a process: a server of the Messages API that nobody here has written.

It is installed by pip into a virtual environment of its own, once for a machine, in the user's cache folder, because
its dependencies meet ours in few versions. RUNNER_TEST_LITELLM names the `litellm` command of one that is there.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.environment import clean_environment

# Exact: what is run here is chosen, not whatever is newest.
VERSION = "1.106.2"
INSTALL_S = 600
START_S = 120


@dataclass(frozen=True)
class Gateway:
    """Where it is, and the one key that it takes."""

    url: str
    key: str

    @property
    def env(self) -> dict[str, str]:
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": self.key}


def litellm_command() -> Path:
    """The command, installed if need be; without a package index the test is skipped, and says so."""
    if told := os.environ.get("RUNNER_TEST_LITELLM"):
        return Path(told)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "claude-job-runner"
    place = cache / f"litellm-{VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"
    command, ready = place / "bin" / "litellm", place / "ready"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "litellm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True, capture_output=True)
            install = [place / "bin" / "python", "-m", "pip", "install", "--quiet", f"litellm[proxy]=={VERSION}"]
            done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S)
            if done.returncode:
                pytest.skip(f"LiteLLM cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
            ready.touch()
    return command


@contextmanager
def litellm_proxy(folder: Path, models: dict[str, dict[str, Any]]) -> Iterator[Gateway]:
    """`models`: the parameters of each model name that it serves."""
    gateway = Gateway(url=f"http://127.0.0.1:{_free_port()}", key=f"sk-{secrets.token_urlsafe(32)}")
    named = [{"model_name": name, "litellm_params": told} for name, told in models.items()]
    # JSON is YAML too. It would repeat calls by itself, and rest a model after a few failures.
    config = {
        "model_list": named,
        "general_settings": {"master_key": gateway.key},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "litellm_settings": {"num_retries": 0, "telemetry": False},
    }
    path, log = folder / "litellm.yaml", folder / "litellm.log"
    path.write_text(json.dumps(config))
    words = [litellm_command(), "--config", path, "--host", "127.0.0.1", "--port", gateway.url.rpartition(":")[2]]
    environment = clean_environment(HOME=str(folder), LITELLM_LOCAL_MODEL_COST_MAP="True", PYTHONPATH="")
    with log.open("wb") as told:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=told, stderr=told)
    try:
        _wait_for(gateway, process, log)
        yield gateway
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(gateway: Gateway, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, log.read_text()[-2_000:]
        try:
            with urllib.request.urlopen(f"{gateway.url}/health/liveliness", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    raise AssertionError(f"it did not come up in {START_S} s:\n{log.read_text()[-2_000:]}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
