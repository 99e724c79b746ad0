"""The real command against a simulator in a process of its own: started, killed, started again, and its books read.

Nothing in here looks inside the command. What happened is read from where everybody could: the exit code, the
output file, the tables, and the bill of the simulator.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from sqlalchemy import Connection, inspect, text

from runner.domain.job import API_VERSIONS
from runner.simulator import Fault, SimulatorConfig
from runner.store.database import Database
from runner.store.store import Store
from tests.environment import clean_environment

MODEL = "claude-haiku-5-5"
KEY = "sk-ant-of-a-test"
WORKSPACE = SimulatorConfig().workspace_id
SLOTS = 6
LEASE_S = 1.0
PATIENCE_S = 60.0
# Of batches. A POST leaves within a tenth of W or not at all, also on a busy machine; an unknown one is settled after
# some 2 W + S, and the up to two seconds that a `Date` in whole seconds adds.
POLL_S = 0.1
WINDOW_S = 1.2
SETTLE_S = 0.3
KILLED = -signal.SIGKILL

T = TypeVar("T")


def seed_of(name: str) -> random.Random:
    """Dice for a test. The seed is printed where the test fails; RUNNER_TEST_SEED replays it or asks for another."""
    seed = f"{os.environ.get('RUNNER_TEST_SEED', '1')}:{name}"
    print(f"seed: {seed}")
    return random.Random(seed)


# -- the simulator ------------------------------------------------------------------------------------------------


@dataclass
class SimulatorProcess:
    """A simulator that runs by itself, and its door for tests."""

    url: str
    config: SimulatorConfig

    def reset(self, *faults: Fault) -> None:
        self._ask("reset", b"")
        self._replace(*faults)

    def hold(self, after: int) -> None:
        """So many more calls are answered; those after them are executed, and answered when they are let go."""
        self._replace(Fault(kind="held", after=after))

    def let_go(self) -> None:
        self._replace()

    def _replace(self, *faults: Fault) -> None:
        self._ask("faults", json.dumps([asdict(fault) for fault in faults]).encode())

    def bill(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._ask("ledger").splitlines()]

    def tallies(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._ask("tallies"))
        return told

    def creates(self) -> list[dict[str, Any]]:
        """Every POST of a batch, and what became of it."""
        told: list[dict[str, Any]] = json.loads(self._ask("batches"))
        return told

    @property
    def batches(self) -> int:
        """How many batches were made by whoever posted."""
        return sum(create["batch_id"] is not None for create in self.creates())

    def wait_for_batches(self, count: int) -> None:
        wait_until(lambda: self.batches >= count, f"{count} batches at the simulator")

    def add_foreign(self, n: int, **more: Any) -> dict[str, Any]:
        """A batch of somebody else in our workspace, or in the one that is named."""
        told: dict[str, Any] = json.loads(self._ask("foreign_batch", json.dumps({"n": n, **more}).encode()))
        return told

    def batch(self, batch_id: str) -> dict[str, Any]:
        """As anybody sees it who has our key."""
        told: dict[str, Any] = json.loads(self._ask(f"/v1/messages/batches/{batch_id}"))
        return told

    def can_be_found(self) -> bool:
        """Whether the service knows all batches that it has made, by their ids."""
        try:
            return all(self.batch(create["batch_id"]) for create in self.creates() if create["batch_id"])
        except urllib.error.HTTPError:
            return False

    def cancel(self, batch_id: str) -> None:
        """As somebody does it in the console."""
        self._ask(f"/v1/messages/batches/{batch_id}/cancel", b"")

    def move_key(self, workspace_id: str) -> None:
        """From now on the test's key belongs to another workspace."""
        self._ask("workspaces", json.dumps({KEY: workspace_id}).encode())

    @property
    def accepted(self) -> int:
        """How many calls were executed."""
        return int(self.tallies().get("accepted", 0))

    def wait_for(self, calls: int) -> None:
        """Until so many calls have been executed."""
        wait_until(lambda: self.accepted >= calls, f"{calls} calls at the simulator")

    def _ask(self, door: str, body: bytes | None = None) -> bytes:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        path = door if door.startswith("/") else f"/_simulator/{door}"
        headers = {"x-api-key": KEY, "anthropic-version": API_VERSIONS[0]}
        request = urllib.request.Request(self.url + path, data=body, headers=headers)
        with direct.open(request, timeout=20) as reply:
            told: bytes = reply.read()
            return told


@contextmanager
def simulator_process(**config: Any) -> Iterator[SimulatorProcess]:
    line = [sys.executable, "-m", "runner.simulator", "--config", json.dumps(config)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=clean_environment(), text=True, cwd="/") as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().strip()
            assert said.startswith("listening on "), said
            yield SimulatorProcess(said.removeprefix("listening on "), SimulatorConfig(**config))
        finally:
            process.kill()


def wait_until(holds: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


def at_once(works: Sequence[Callable[[], T]]) -> list[T]:
    """Each in a thread of its own: most of a case's time goes by in waiting. What they gave, in order."""
    with ThreadPoolExecutor(max(1, len(works))) as threads:
        return [told.result() for told in [threads.submit(work) for work in works]]


def wait_until_stopped(process: subprocess.Popen[bytes]) -> None:
    """Until a failpoint has stopped it; a process that ended instead is an error."""
    how = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert how is not None
    assert how.si_code == os.CLD_STOPPED, f"ended instead: {how}"


# -- the input ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """An input row, and how it shall end."""

    line: bytes
    status: str = "succeeded"


def row(number: int, wish: str = "", status: str = "succeeded", **more: Any) -> Row:
    """A row whose prompt is like no other's."""
    told = {"prompt": f"row {number} of the letters {wish}".strip(), **more}
    return Row(line=json.dumps(told).encode(), status=status)


def plain_rows(count: int) -> list[Row]:
    return [row(number) for number in range(count)]


def large_rows(count: int, size: int = 200_000) -> list[Row]:
    """So large that some dozens make several chunks, and several commits of the ingest."""
    return [row(number, "long " * (size // 5)) for number in range(count)]


def mixed_rows(count: int, *, flaky: bool = True) -> list[Row]:
    """Mostly plain ones; some pause their turn, stream, are refused, fail once, or can never succeed."""
    special = {
        2: row(2, "[[sim:pause_turn=2]]"),
        5: row(5, "[[sim:flaky=1:500:api_error]]" if flaky else ""),
        7: row(7, "[[sim:refusal=mid]]", "refused"),
        9: row(9, params={"max_tokens": 9_000}),
        11: row(11, "[[sim:error=400:invalid_request_error]]", "errored"),
        13: row(13, "[[sim:refusal]]", "refused"),
        count - 2: row(count - 2, "[[sim:pause_turn=1]]"),
    }
    return [special.get(number) or row(number) for number in range(count)]


# -- the command --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended. The code is negative when a signal ended the process."""

    code: int
    stderr: str

    @property
    def finished(self) -> bool:
        """All rows have ended: all well, or some not."""
        return self.code in (0, 3)


@dataclass
class Case:
    """One run from its first start to its last, in a folder and a store of its own.

    `batch` is what the job says under that word; without it the rows are asked live.
    """

    folder: Path
    url: str
    simulator: SimulatorProcess
    rows: Sequence[Row]
    slots: int = SLOTS
    max_attempts: int = 5
    budget_usd: float = 500.0
    batch: Mapping[str, Any] | None = None
    more: str = ""  # further lines of the job file
    window_s: float = WINDOW_S
    settle_s: float = SETTLE_S
    base_url: str | None = None  # the simulator's own, unless a test puts something in between
    kills: int = 0
    _seen: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _started: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rows.jsonl").write_bytes(b"".join(row.line + b"\n" for row in self.rows))
        limits = f"concurrency: {self.slots}, max_attempts: {self.max_attempts}"
        (self.folder / "job.yaml").write_text(
            f"version: 1\nname: letters\nmodel: {MODEL}\ninput: {{ path: rows.jsonl }}\n"
            f"output: {{ path: out.jsonl }}\nlimits: {{ {limits} }}\nbudget: {{ usd: {self.budget_usd} }}\n"
            + ("" if self.batch is None else f"mode: batch\nbatch: {json.dumps(dict(self.batch))}\n")
            + self.more
        )

    @property
    def output(self) -> Path:
        return self.folder / "out.jsonl"

    @property
    def spool(self) -> list[Path]:
        """What lies in the folder for bodies and results."""
        return sorted((self.folder / "state" / "spool").glob("*"))

    @contextmanager
    def started(
        self, *arguments: str, command: Sequence[str] = ("run", "job.yaml"), **env: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The command, running. Whatever is left of it at the end is killed."""
        told = clean_environment(
            **env,
            RUNNER_HOME=str(self.folder / "state"),
            RUNNER_DATABASE_URL=self.url,
            RUNNER_LEASE_S=str(LEASE_S),
            RUNNER_BATCH_POLL_S=str(POLL_S),
            RUNNER_BATCH_WINDOW_S=str(self.window_s),
            RUNNER_BATCH_SETTLE_S=str(self.settle_s),
            ANTHROPIC_BASE_URL=self.base_url or self.simulator.url,
            ANTHROPIC_API_KEY=KEY,
            PYTHONFAULTHANDLER="1",
            HOME=str(self.folder),
        )
        self._started += 1
        line = [sys.executable, "-m", "runner", *command, "--progress", "none", *arguments]
        with (self.folder / f"stderr.{self._started}").open("w+b") as said:
            process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=said, env=told, cwd=self.folder)
            process.said = Path(said.name)  # type: ignore[attr-defined]
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()

    def end_of(self, process: subprocess.Popen[bytes], patience_s: float = PATIENCE_S) -> Ended:
        """Wait for its end, and see that nothing that was final has changed."""
        try:
            code = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end by itself:\n{self._where(process)}") from None
        self.kills += code == KILLED
        said: str = process.said.read_text()  # type: ignore[attr-defined]
        if "Fatal Python error: init" in said:
            code = -signal.SIGINT  # it met the interpreter before our first line, which says so in its own way
        crashes = [path.read_text() for path in sorted((self.folder / "state" / "crashes").glob("*"))]
        assert code not in (1, 2, 11), "\n".join([said, *crashes])
        self.compare_final_rows()
        return Ended(code=code, stderr=said)

    def _where(self, process: subprocess.Popen[bytes]) -> str:
        """What it is doing, from itself, from its store and from the other side."""
        process.send_signal(signal.SIGABRT)
        process.wait()
        with self.store() as store:
            submissions = store.submissions_of(store.recent_runs(1)[0].id)
            chunks = store.database.read(lambda c: c.execute(text("SELECT * FROM chunks")).all())
        said: str = process.said.read_text()  # type: ignore[attr-defined]
        return "\n".join([said, *map(str, submissions), *map(str, chunks), *map(str, self.simulator.creates())])

    def run(self, **env: str) -> Ended:
        with self.started(**env) as process:
            return self.end_of(process)

    def run_killed_at(self, failpoint: str, hit: int) -> bool:
        """Whether the place was reached so often, and the process died there."""
        ended = self.run(RUNNER_FAILPOINTS=f"{failpoint}=kill@{hit}")
        assert ended.finished or ended.code == KILLED, ended
        return ended.code == KILLED

    def finish(self) -> Ended:
        """The same command again, to the end."""
        ended = self.run()
        assert ended.finished, ended
        return ended

    def compare_final_rows(self) -> None:
        """Rows that have succeeded stay as they are, to the last column."""
        now = final_rows(self.url)
        changed = [row for row, digest in self._seen.items() if now.get(row) != digest]
        assert changed == [], f"final rows have changed: {changed}"
        self._seen = now

    @contextmanager
    def store(self) -> Iterator[Store]:
        with Store.open(self.url) as store:
            yield store


def final_rows(url: str) -> dict[tuple[int, int], bytes]:
    """A digest of everything that is stored of each succeeded row.

    A SQLite file is copied first: it is the next command that shall find what a killed one left, not we.
    """
    with _copied(url) as copy:
        database = Database(copy)
        try:
            return database.read(_final_rows)
        finally:
            database.close()


@contextmanager
def _copied(url: str) -> Iterator[str]:
    if not url.startswith("sqlite"):
        yield url
        return
    path = Path(url.removeprefix("sqlite:///"))
    with TemporaryDirectory(dir=path.parent) as folder:
        for name in (path.name, f"{path.name}-wal"):
            if (path.parent / name).exists():
                shutil.copyfile(path.parent / name, Path(folder) / name)
        yield f"sqlite:///{folder}/{path.name}"


def _final_rows(connection: Connection) -> dict[tuple[int, int], bytes]:
    if not inspect(connection).has_table("results"):
        return {}
    found = connection.execute(
        text("SELECT r.*, a.message FROM results r LEFT JOIN answers a USING (run, idx) WHERE status = 'succeeded'")
    )
    return {(row.run, row.idx): hashlib.sha256(repr(tuple(row)).encode()).digest() for row in found}
