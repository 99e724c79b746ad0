"""A fleet to which everything happens in one run: workers killed and frozen, the database crashing, links cut, the
queue emptied. Every row once, nothing repeated that was not in flight, and the work goes on soon after each blow."""

from __future__ import annotations

import bisect
import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from tests import postgres
from tests.acceptance.fleet import Fleet, check_books, check_every_row_once, launched, sql, until
from tests.acceptance.house import Api, Desk, api_process
from tests.cutting_link import CuttingLink

# The promise is given for the lease that everybody has; with a shorter one the work is back sooner.
BACK_S, DEFAULT_LEASE_S = 45.0, 30.0
# What begins anew takes its time whatever the lease: a process starts, a database comes up.
START_S = 10.0
CUT_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of it. Work is looked at over `look_s`, and is back when `back_share` of what was done before is done
    again: one worker may be frozen, and a small machine may have others to serve."""

    rows: int
    workers: int
    slots: int
    row_bytes: int
    latency_s: float
    lease_s: float
    cuts: int
    terminations: int
    rounds: int
    look_s: float
    back_share: float

    @property
    def back_s(self) -> float:
        return START_S + (BACK_S - START_S) * self.lease_s / DEFAULT_LEASE_S


SMALL = Scale(
    rows=1_000, workers=3, slots=8, row_bytes=30_000, latency_s=0.5, lease_s=1.5, cuts=20, terminations=4, rounds=1,
    look_s=0.8, back_share=0.4,
)  # fmt: skip
WHOLE = Scale(
    rows=10_000, workers=4, slots=16, row_bytes=100, latency_s=1.6, lease_s=30, cuts=200, terminations=20, rounds=2,
    look_s=4.0, back_share=0.6,
)  # fmt: skip


class Pulse:
    """How many rows have ended, looked at five times a second, also while the database is away."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._times: list[float] = [time.monotonic()]
        self._counts: list[int] = [0]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    @property
    def ended(self) -> int:
        return self._counts[-1]

    def rate(self, over_s: float) -> float:
        """Rows a second in the last so many seconds."""
        now = time.monotonic()
        first = max(0, bisect.bisect_left(self._times, now - over_s) - 1)
        return (self._counts[-1] - self._counts[first]) / (now - self._times[first])

    def _look(self) -> None:
        while not self._over.is_set():
            with suppress(psycopg.Error), psycopg.connect(self._url, autocommit=True) as connection:
                while not self._over.wait(0.2):
                    found = connection.execute("SELECT count(*) FROM results").fetchone()
                    assert found is not None
                    self._times.append(time.monotonic())
                    self._counts.append(found[0])
            self._over.wait(0.2)


class Nemesis:
    """One blow after another, each when the work is going on; what each did to it."""

    def __init__(self, scale: Scale, fleet: Fleet, room: Path, link: CuttingLink, api: Api) -> None:
        self.scale, self.fleet, self.room, self.link, self.api = scale, fleet, room, link, api
        self.desk = fleet.desk
        self.url = self.desk.env["RUNNER_DATABASE_URL"].replace("postgresql+psycopg", "postgresql")
        self.pulse = Pulse(self.url)
        self.struck: list[tuple[str, float, float]] = []  # name, when, seconds until the work was back
        self.lost: list[subprocess.Popen[bytes]] = []

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        through = make_url(self.url).difference_update_query(["host"]).set(host="127.0.0.1", port=self.link.port)
        url = through.set(drivername="postgresql").render_as_string(hide_password=False)
        words = ("--slots", str(self.scale.slots), "--name", name, "--no-schedules")
        return self.fleet.start(*words, env={"RUNNER_DATABASE_URL": url})

    def strike(self, name: str, blow: Callable[[], object], *, lasts: bool = False) -> None:
        """Strike in mid-run and wait until the work is back. A blow that `lasts` is over when it returns."""
        look_s = self.scale.look_s
        time.sleep(look_s)
        until(lambda: self.pulse.rate(look_s) > 0)
        before = self.pulse.rate(look_s)
        assert self.pulse.ended < self.scale.rows - 2 * before * look_s, f"{name}: too few rows are left to see it"
        struck_s, struck_at = time.monotonic(), time.time()
        blow()
        if lasts:
            struck_s = time.monotonic()
        self._wait_until_back(name, before, struck_s)
        self.struck.append((name, struck_at, time.monotonic() - struck_s))
        print(f"{name}: {before:.0f} rows/s before, back after {self.struck[-1][2]:.1f} s, {self.pulse.ended:,} rows")

    def _wait_until_back(self, name: str, before: float, struck_s: float) -> None:
        look_s = self.scale.look_s
        while time.monotonic() < struck_s + look_s or self.pulse.rate(look_s) < self.scale.back_share * before:
            time.sleep(0.05)
            assert time.monotonic() - struck_s < self.scale.back_s + look_s, (
                f"{name}: {self.pulse.rate(look_s):.0f} rows/s now, {before:.0f} before"
            )

    # --- the blows

    def kill(self, victim: subprocess.Popen[bytes]) -> None:
        victim.send_signal(signal.SIGKILL)
        self.lost.append(victim)
        self.start_worker("successor")

    def freeze(self, victim: subprocess.Popen[bytes]) -> None:
        """And see that what it had is taken from it; three leases in all."""
        frozen_s = time.monotonic()
        victim.send_signal(signal.SIGSTOP)
        held = "SELECT count(*) FROM chunks WHERE worker = 'frozen' AND state = 'running'"
        until(lambda: sql(self.desk, held) == [(0,)], within_s=self.scale.back_s)
        time.sleep(max(0.0, frozen_s + 3 * self.scale.lease_s - time.monotonic()))

    def thaw(self, victim: subprocess.Popen[bytes]) -> None:
        """It wakes with chunks in hand that are not its own any more."""
        results = "SELECT idx, status, at_us, request_id, cost_pico FROM results ORDER BY idx"
        ended_chunks = "SELECT seq, epoch, state, done, failed, worker FROM chunks WHERE state = 'done' ORDER BY seq"
        before, chunks_before = sql(self.desk, results), sql(self.desk, ended_chunks)
        victim.send_signal(signal.SIGCONT)
        time.sleep(self.scale.look_s)
        after = {row[0]: row for row in sql(self.desk, results)}
        assert [after[row[0]] for row in before] == before
        chunks_after = {row[0]: row for row in sql(self.desk, ended_chunks)}
        assert [chunks_after[row[0]] for row in chunks_before] == chunks_before

    def cut(self) -> None:
        aim = self.link.cuts + self.scale.cuts
        self.link.cutting = True
        until(lambda: self.link.cuts >= aim)
        self.link.cutting = False

    def terminate(self) -> None:
        """Everybody's connections but this one's, again and again."""
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'runner%'"
        for _ in range(self.scale.terminations):
            sql(self.desk, others)
            time.sleep(0.25)

    def empty_the_queue(self) -> None:
        sql(self.desk, "TRUNCATE procrastinate_jobs, procrastinate_workers, procrastinate_events CASCADE")

    # --- what is to hold at the end

    def check_calls(self) -> None:
        """Repeated were calls that were in flight when something happened to their worker, and not many."""
        bill = self.api.bill()
        seen: set[str] = set()
        repeats: Counter[str] = Counter()
        for charge in bill:
            if charge["body_sha256"] in seen:
                at_s = charge["at_us"] / 1e6
                repeats[[name for name, struck, _ in self.struck if struck <= at_s][-1]] += 1
            seen.add(charge["body_sha256"])
        print(f"{len(bill) - len(seen)} calls repeated: {dict(repeats)}")
        assert len(seen) == self.scale.rows
        assert all(count <= 2 * self.scale.slots for count in repeats.values()), repeats

    def check_workers(self) -> None:
        for worker in self.fleet.workers:
            if worker not in self.lost:
                assert worker.poll() is None, f"a worker ended with {worker.returncode}: {self.fleet.said(worker)}"
            assert "Traceback" not in self.fleet.said(worker), self.fleet.said(worker)

    def check_chunks(self) -> None:
        found = sql(self.desk, "SELECT state, done = n, failed FROM chunks")
        assert set(found) == {("done", True, 0)}
        assert sql(self.desk, "SELECT count(*) FROM sends") == [(0,)]


def _row(number: int, size: int) -> str:
    """Long rows make small chunks: a small run has as many to give out as a large one."""
    return json.dumps({"prompt": f"say {number} {'.' * size}"})


@pytest.fixture
def room() -> Iterator[Path]:
    room = postgres.make_room()
    yield room
    postgres.close_room(room)


@pytest.mark.parametrize(
    "scale",
    [
        pytest.param(SMALL, id="small", marks=pytest.mark.timeout(300)),
        pytest.param(WHOLE, id="whole", marks=[pytest.mark.exhaustive, pytest.mark.timeout(1_800)]),
    ],
)
def test_whatever_happens_to_a_fleet_every_row_ends_once_and_the_work_goes_on(
    scale: Scale, desk: Desk, room: Path
) -> None:
    try:
        url = postgres.create_database(postgres.own_server(room))
    except postgres.NoPostgres as error:
        pytest.skip(f"no PostgreSQL that could be restarted: {error}")
    link = CuttingLink(str(next(room.glob(".s.PGSQL.*[0-9]"))), share=CUT_SHARE)
    with api_process(latency_s=scale.latency_s, latency_jitter_s=scale.latency_s / 4) as api:
        desk.env |= api.env | {"RUNNER_DATABASE_URL": url, "RUNNER_LEASE_S": str(scale.lease_s)}
        desk.type("db", "upgrade").check(0)
        desk.write("rows.jsonl", (_row(number, scale.row_bytes) for number in range(scale.rows)))
        fleet = Fleet(desk)
        nemesis = Nemesis(scale, fleet, room, link, api)
        try:
            run = launched(desk, "--concurrency", str(scale.slots))
            first, frozen, *_ = (
                nemesis.start_worker(name) for name in ("first", "frozen", "third", "fourth")[: scale.workers]
            )
            at_work = "SELECT count(DISTINCT worker) FROM chunks WHERE state = 'running'"
            until(lambda: sql(desk, at_work) == [(scale.workers,)])
            nemesis.strike("killed", lambda: nemesis.kill(first))
            nemesis.strike("frozen", lambda: nemesis.freeze(frozen))
            nemesis.strike("thawed", lambda: nemesis.thaw(frozen))
            for _ in range(scale.rounds):
                nemesis.strike("database restarted", lambda: postgres.restart_hard(room))
                nemesis.strike("cut after commits", nemesis.cut, lasts=True)
                nemesis.strike("queue emptied", nemesis.empty_the_queue)
                nemesis.strike("connections terminated", nemesis.terminate, lasts=True)
            until(lambda: nemesis.pulse.ended == scale.rows, within_s=scale.rows * scale.latency_s / scale.slots)
            desk.type("attach", run, "-o", "out.jsonl").check(0)
            nemesis.check_workers()
            check_every_row_once(desk, scale.rows)
            check_books(desk, api, scale.rows, most_unknown=2 * scale.slots * len(nemesis.struck))
            nemesis.check_calls()
            nemesis.check_chunks()
        finally:
            nemesis.pulse.stop()
            fleet.stop()
            link.close()
