"""Processes that are measured: each pinned to a core, with its time and memory as the kernel counted them.

This side imports little: a child counts the memory that it began with as its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.environment import clean_environment

PATIENCE_S = 3600.0
SHOWN_LOG = 3000
LOOK_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Where clients and the server run; None where processes cannot be pinned."""

    client: int | None
    server: int | None

    @property
    def sentence(self) -> str:
        if self.client is None:
            return "not pinned: this system cannot"
        if self.client == self.server:
            return f"client and server share core {self.client}"
        return f"client on core {self.client}, server on core {self.server}"


def cores() -> Cores:
    if not hasattr(os, "sched_getaffinity"):
        return Cores(client=None, server=None)
    ours = sorted(os.sched_getaffinity(0))
    return Cores(client=ours[-1], server=ours[0])


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a process took. `said` is its stdout."""

    started_s: float
    wall_s: float
    cpu_s: float
    peak_mb: float
    code: int
    said: str


class Measured:
    """A process that runs, to be waited for or stopped."""

    def __init__(
        self, line: Sequence[str], core: int | None, folder: Path, env: dict[str, str] | None = None
    ) -> None:
        self._out, self._log = folder / "stdout", folder / "stderr"
        self.started_s = time.monotonic()
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=env or clean_environment(),
                cwd=folder,
            )
        _pin(self._process, core)

    @property
    def runs(self) -> bool:
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self, *, codes: Sequence[int] = (0,)) -> Spent:
        """Until it ends; an exit code that is not one of `codes` is an error."""
        limit = threading.Timer(PATIENCE_S, self._process.kill)
        limit.start()
        try:
            _, status, used = os.wait4(self._process.pid, 0)
        except BaseException:
            self._process.kill()
            raise
        finally:
            limit.cancel()
        wall_s = time.monotonic() - self.started_s
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        if code not in codes:
            raise RuntimeError(f"{self._process.args} ended with {code}:\n{self._log.read_text()[-SHOWN_LOG:]}")
        return Spent(
            started_s=self.started_s,
            wall_s=wall_s,
            cpu_s=used.ru_utime + used.ru_stime,
            peak_mb=used.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10),
            code=code,
            said=self._out.read_text(),
        )


def _pin(process: subprocess.Popen[Any], core: int | None) -> None:
    """At once after its start, so that its threads inherit it."""
    if core is not None:
        os.sched_setaffinity(process.pid, {core})


class Server:
    """The simulator's process, seen from here."""

    def __init__(self, url: str) -> None:
        self.url = url

    def reset(self) -> None:
        self._ask("reset", b"")

    def notes(self) -> dict[str, Any]:
        """`first_s` (None before the first call), `accepted` calls, `cpu_s`."""
        return self._ask("notes")

    def wait_for_call(self, is_alive: Callable[[], bool]) -> float:
        """When the first call came, on the machine's clock."""
        while (first_s := self.notes()["first_s"]) is None:
            if not is_alive():
                raise RuntimeError("the client ended without a call")
            time.sleep(LOOK_S)
        return float(first_s)

    def _ask(self, door: str, body: bytes | None = None) -> dict[str, Any]:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(urllib.request.Request(f"{self.url}/_simulator/{door}", data=body), timeout=60) as reply:
            told: dict[str, Any] = json.loads(reply.read())
            return told


@contextmanager
def server(core: int | None, *, latency_s: float = 0.0, jitter_s: float = 0.0) -> Iterator[Server]:
    config = {"latency_s": latency_s, "latency_jitter_s": jitter_s, "keep_ledger": "totals"}
    line = [sys.executable, "-m", "tests.bench.server", json.dumps(config)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=clean_environment()) as process:
        try:
            _pin(process, core)
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, "the server did not start"
            yield Server(url)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
