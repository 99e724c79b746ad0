"""The real command in a folder of its own, and a simulator in a process that stands for the real API."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.simulator.ledger import Offer
from tests.environment import clean_environment

MODEL = "claude-haiku-5-5"
KEY = "sk-ant-api03-an-ordinary-key-for-tests-0123456789"


@dataclass
class Done:
    """How a command ended. Output is bytes: it is compared as such."""

    code: int
    stdout: bytes
    stderr: str

    def check(self, code: int) -> Done:
        assert self.code == code, f"exit {self.code}, expected {code}\n{self.stderr}\n{self.stdout[:2000]!r}"
        assert "Traceback" not in self.stderr
        return self

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]


@dataclass
class Desk:
    """Where somebody sits and types commands."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self) -> dict[str, str]:
        return clean_environment(RUNNER_HOME=str(self.home), HOME=str(self.folder), PYTHONWARNINGS="error") | self.env

    def start(self, *words: str, **told: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *words],
            cwd=self.folder,
            env=self.environment(),
            stdin=told.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=told.pop("stderr", subprocess.PIPE),
            **told,
        )

    def type(self, *words: str, stdin: bytes | None = None) -> Done:
        process = self.start(*words, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL)
        return ended(process, stdin)

    def write(self, name: str, lines: Iterable[bytes | str]) -> Path:
        path = self.folder / name
        path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
        return path

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_bytes().split(b"\n") if line]


def ended(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Done:
    try:
        stdout, stderr = process.communicate(stdin, timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Done(process.returncode, stdout, stderr.decode())


@dataclass
class Api:
    """The simulator's process."""

    url: str

    @property
    def env(self) -> dict[str, str]:
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": KEY}

    @property
    def billed(self) -> int:
        return int(self._get("tallies").get("billed", 0))

    @property
    def offers(self) -> list[Offer]:
        """Each call as the limits saw it, in the order in which they came."""
        return [Offer(*told) for told in self._get("tallies")["offers"]]

    def bill(self) -> list[dict[str, Any]]:
        """Each call that was executed, in the order in which they came."""
        with urllib.request.urlopen(f"{self.url}/_simulator/ledger", timeout=60) as reply:
            return [json.loads(line) for line in reply]

    def hold(self, after: int) -> None:
        """So many more calls are answered; those after them are executed, and answered when they are let go."""
        self.faults({"kind": "held", "after": after})

    def let_go(self) -> None:
        self.faults()

    def stop_in_mid_call(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """The calls that it has in flight are held, and are answered after it was told."""
        process.send_signal(number)
        time.sleep(0.1)
        self.let_go()

    def faults(self, *faults: dict[str, Any]) -> None:
        self._send("faults", json.dumps(faults).encode())

    def reset(self) -> None:
        self._send("reset", b"")

    def _get(self, door: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/_simulator/{door}", timeout=10) as reply:
            told: dict[str, Any] = json.loads(reply.read())
            return told

    def _send(self, door: str, body: bytes) -> None:
        with urllib.request.urlopen(f"{self.url}/_simulator/{door}", data=body, timeout=10) as reply:
            reply.read()


@contextmanager
def api_process(**config: Any) -> Iterator[Api]:
    words = ["-m", "runner.simulator", "--config", json.dumps(config)]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, env=clean_environment())
    assert process.stdout is not None
    try:
        yield Api(process.stdout.readline().decode().split()[-1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


def prompts(count: int, first: int = 0) -> list[str]:
    return [json.dumps({"prompt": f"say {number}"}) for number in range(first, first + count)]
