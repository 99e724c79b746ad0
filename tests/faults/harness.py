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
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import msgspec
from sqlalchemy import Connection, inspect, text

from runner.domain.run import Run
from runner.engine.turns import continued, joined
from runner.files.render import Renderer
from runner.simulator import Fault, SimulatorConfig, expected_message
from runner.store import reports
from runner.store.database import Database
from runner.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
MODEL = "claude-haiku-5-5"
SLOTS = 6
LEASE_S = 1.0
PATIENCE_S = 60.0
FOREIGN = (
    "ANTHROPIC_",
    "RUNNER_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
)
KILLED = -signal.SIGKILL


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
        self._ask("faults", json.dumps([asdict(fault) for fault in faults]).encode())

    def bill(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._ask("ledger").splitlines()]

    def tallies(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._ask("tallies"))
        return told

    @property
    def accepted(self) -> int:
        """How many calls were executed."""
        return int(self.tallies().get("accepted", 0))

    def wait_for(self, calls: int) -> None:
        """Until so many calls have been executed."""
        wait_until(lambda: self.accepted >= calls, f"{calls} calls at the simulator")

    def _ask(self, door: str, body: bytes | None = None) -> bytes:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self.url}/_simulator/{door}", data=body)
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


def clean_environment(**told: str) -> dict[str, str]:
    """This one, without anything that could reach a real service or somebody's store."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, "PYTHONPATH": str(ROOT), **told}


def wait_until(holds: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


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
    """One run from its first start to its last, in a folder and a store of its own."""

    folder: Path
    url: str
    simulator: SimulatorProcess
    rows: Sequence[Row]
    slots: int = SLOTS
    max_attempts: int = 5
    kills: int = 0
    _seen: dict[int, bytes] = field(default_factory=dict)
    _started: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rows.jsonl").write_bytes(b"".join(row.line + b"\n" for row in self.rows))
        limits = f"concurrency: {self.slots}, max_attempts: {self.max_attempts}"
        (self.folder / "job.yaml").write_text(
            f"version: 1\nname: letters\nmodel: {MODEL}\ninput: {{ path: rows.jsonl }}\n"
            f"output: {{ path: out.jsonl }}\nlimits: {{ {limits} }}\nbudget: {{ usd: 500 }}\n"
        )

    @property
    def output(self) -> Path:
        return self.folder / "out.jsonl"

    @contextmanager
    def started(self, *arguments: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """The command, running. Whatever is left of it at the end is killed."""
        told = clean_environment(
            **env,
            RUNNER_HOME=str(self.folder / "state"),
            RUNNER_DATABASE_URL=self.url,
            RUNNER_LEASE_S=str(LEASE_S),
            ANTHROPIC_BASE_URL=self.simulator.url,
            ANTHROPIC_API_KEY="sk-ant-of-a-test",
            HOME=str(self.folder),
        )
        self._started += 1
        line = [sys.executable, "-m", "runner", "run", "job.yaml", "--progress", "none", *arguments]
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
        code = process.wait(patience_s)
        self.kills += code == KILLED
        said: str = process.said.read_text()  # type: ignore[attr-defined]
        if "Fatal Python error: init" in said:
            code = -signal.SIGINT  # it met the interpreter before our first line, which says so in its own way
        assert code not in (1, 2, 11), said
        self.compare_final_rows()
        return Ended(code=code, stderr=said)

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
        changed = [idx for idx, digest in self._seen.items() if now.get(idx) != digest]
        assert changed == [], f"final rows have changed: {changed}"
        self._seen = now

    @contextmanager
    def store(self) -> Iterator[Store]:
        with Store.open(self.url) as store:
            yield store


def final_rows(url: str) -> dict[int, bytes]:
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


def _final_rows(connection: Connection) -> dict[int, bytes]:
    if not inspect(connection).has_table("results"):
        return {}
    found = connection.execute(
        text("SELECT r.*, a.message FROM results r LEFT JOIN answers a USING (run, idx) WHERE status = 'succeeded'")
    )
    return {row.idx: hashlib.sha256(repr(tuple(row)).encode()).digest() for row in found}


# -- the promises -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ExpectedCall:
    body: bytes
    message: dict[str, Any]

    @property
    def encoded(self) -> bytes:
        return msgspec.json.encode(self.message)


def expected_calls(renderer: Renderer, config: SimulatorConfig, told: Row) -> list[ExpectedCall]:
    """The calls that a row takes when nothing goes wrong, a turn each; none when it cannot succeed."""
    if told.status == "errored":
        return []
    request = renderer.request(renderer.parse(told.line))
    calls: list[ExpectedCall] = []
    while not calls or calls[-1].message["stop_reason"] == "pause_turn":
        body = continued(request, [call.encoded for call in calls]).body
        calls.append(ExpectedCall(body=body, message=expected_message(config, body)))
    return calls


class Entry(Protocol):
    """A line of the command's own books."""

    idx: int
    kind: str
    cost_pico: int | None
    bound_pico: int | None
    request_id: str | None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a test may want to look at beside the promises."""

    accepted: int
    undisturbed: int
    unknown: int
    lines: list[dict[str, Any]]


def check_promises(case: Case, *, lost_calls: int | None = None, more_calls: int = 0) -> Checked:
    """Everything that holds when the last command has ended, however those before it did.

    `lost_calls` is how many calls may have been lost on the way (each kill can lose as many as there are slots);
    `more_calls` are those that faults of the service made the command repeat.
    """
    lost_calls = case.kills * case.slots if lost_calls is None else lost_calls
    case.compare_final_rows()
    with case.store() as store:
        (run,) = store.recent_runs(10)
        renderer = Renderer(run.job)
        calls = [expected_calls(renderer, case.simulator.config, told) for told in case.rows]
        lines = check_output(case, calls)
        _check_answers(store, run, calls)
        _check_tables(case, store, run)
        unknown = _check_books(case, store, run, calls)
    undisturbed = sum(map(len, calls)) + more_calls
    accepted = case.simulator.accepted
    assert undisturbed <= accepted <= undisturbed + lost_calls, (undisturbed, accepted, lost_calls)
    assert unknown <= 2 * (lost_calls + more_calls), (unknown, lost_calls)
    return Checked(accepted=accepted, undisturbed=undisturbed, unknown=unknown, lines=lines)


def check_output(case: Case, calls: Sequence[Sequence[ExpectedCall]]) -> list[dict[str, Any]]:
    """Every row once, in order, with its own bytes, its status, and the answer that the server gives for its body."""
    lines = [json.loads(line) for line in case.output.read_bytes().splitlines()]
    assert [line["index"] for line in lines] == list(range(len(case.rows)))
    for line, told, turns in zip(lines, case.rows, calls, strict=True):
        assert line["row"] == json.loads(told.line)
        assert line["status"] == told.status, line
        if turns:
            assert line["text"] == "".join(_text(turn.message) for turn in turns)
    return lines


def _text(message: dict[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def _check_answers(store: Store, run: Run, calls: Sequence[Sequence[ExpectedCall]]) -> None:
    """What is stored is what the server said, byte for byte; a streamed answer is put together to the same value."""
    for exported in store.exported(run):
        turns = calls[exported.result.idx]
        if not turns:
            assert exported.message is None
            continue
        expected = joined([turn.encoded for turn in turns[:-1]], turns[-1].encoded)
        if b'"stream":true' in turns[-1].body:
            assert json.loads(exported.message or b"")["content"] == json.loads(expected)["content"]
        else:
            assert exported.message == expected


def _check_tables(case: Case, store: Store, run: Run) -> None:
    failed = sum(told.status != "succeeded" for told in case.rows)
    assert run.state == ("done_with_failures" if failed else "done")
    tally = store.tally(run.id)
    assert (tally.staged, tally.done, tally.failed) == (len(case.rows), len(case.rows) - failed, failed)
    assert store.unfinished_chunks(run.id) == 0
    assert store.database.read(lambda c: c.execute(text("SELECT count(*) FROM sends")).scalar()) == 0


def _check_books(case: Case, store: Store, run: Run, calls: Sequence[Sequence[ExpectedCall]]) -> int:
    """Every charge on the bill is in the books, exactly or as an unknown call of its row; how many of those."""
    row_of = {hashlib.sha256(call.body).hexdigest(): idx for idx, turns in enumerate(calls) for call in turns}
    charges: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for charge in case.simulator.bill():
        charges[row_of[charge["body_sha256"]]].append(charge)
    entries: dict[int, list[Entry]] = defaultdict(list)
    for entry in store.database.read(lambda c: list(reports.ledger(c, run.id))):
        entries[entry.idx].append(entry)
    unknown = bounds = 0
    known = matched = Fraction()
    for idx in sorted({*charges, *entries}):
        left = {charge["request_id"]: Fraction(charge["pico"]) for charge in charges[idx]}
        for entry in entries[idx]:
            if entry.cost_pico is not None:
                assert entry.request_id in left, f"row {idx}: {entry} is on no bill"
                matched += left[entry.request_id]
                assert left.pop(entry.request_id) == entry.cost_pico
                known += entry.cost_pico
        guesses = [entry for entry in entries[idx] if entry.cost_pico is None]
        assert {entry.kind for entry in guesses} <= {"unknown"}
        assert None not in {entry.bound_pico for entry in guesses}
        _match_unknown(idx, sorted(left.values()), sorted(entry.bound_pico or 0 for entry in guesses))
        unknown += len(guesses)
        bounds += sum(entry.bound_pico or 0 for entry in guesses)
    assert known == matched
    _check_budget(store, run, known, bounds)
    return unknown


def _match_unknown(idx: int, costs: list[Fraction], bounds: list[int]) -> None:
    """Each charge without an entry of its own needs an unknown one of the same row that is at least as large."""
    assert len(costs) <= len(bounds), f"row {idx}: charges that are in no book: {costs}, unknown: {bounds}"
    largest = bounds[len(bounds) - len(costs) :]
    assert all(cost <= bound for cost, bound in zip(costs, largest, strict=True)), (idx, costs, bounds)


def _check_budget(store: Store, run: Run, known: Fraction, bounds: int) -> None:
    query = text("SELECT spent_pico, committed_pico FROM budgets WHERE scope = :scope")
    budget = store.database.read(lambda c: c.execute(query, {"scope": f"run:{run.id}"}).one())
    assert (budget.spent_pico, budget.committed_pico) == (known, bounds)
    money = store.money(run.id)
    assert (money.spent_pico, money.unknown_bound_pico) == (known, bounds)
