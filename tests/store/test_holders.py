"""One process works on a run: the next one is told who, and a dead one's run is free."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.domain.run import Run
from runner.errors import RunLocked
from runner.store.lease import LEASE_US, lease_from
from runner.store.store import Store
from tests.store.building import NOW_US, PRICES, claim, new_run, packed, ready_store, whole

HOLD_AND_WAIT = textwrap.dedent(
    """
    import sys
    from runner.store.store import Store
    with Store.open(sys.argv[1]) as store:
        hold = store.hold(store.run(sys.argv[2]), lambda: int(sys.argv[3]))
        print("held", flush=True)
        sys.stdin.read()
        hold.release()
    """
)


@contextmanager
def another_process_holding(url: str, run: Run) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_WAIT, url, run.label, str(NOW_US)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        try:
            assert child.stdout.readline() == "held\n"
            yield child
        finally:
            child.kill()
            child.wait()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    with ready_store(f"sqlite:///{tmp_path / 'runner.db'}") as store:
        yield store


@pytest.fixture
def pg_store(pg_url: str) -> Iterator[Store]:
    with ready_store(pg_url) as store:
        yield store


def test_on_sqlite_a_second_process_is_told_who_holds_the_run(sqlite_store: Store) -> None:
    run, other = (sqlite_store.create_run(new_run(), NOW_US) for _ in range(2))
    with another_process_holding(str(sqlite_store.database.url), run) as holder:
        with pytest.raises(RunLocked) as refused:
            sqlite_store.hold(run, lambda: NOW_US + 12_000_000)
        told = f"run {run.label} is held by {socket.gethostname()} (pid {holder.pid}) since 12 s."
        assert refused.value.message == told
        sqlite_store.hold(other, lambda: NOW_US).release()


def test_on_sqlite_a_run_is_free_the_moment_its_holder_is_killed(sqlite_store: Store) -> None:
    run = sqlite_store.create_run(new_run(), NOW_US)
    with another_process_holding(str(sqlite_store.database.url), run) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        hold = sqlite_store.hold(run, lambda: NOW_US)
    assert hold.extend(NOW_US)
    with pytest.raises(RunLocked, match=f"pid {os.getpid()}"):
        sqlite_store.hold(run, lambda: NOW_US)
    hold.release()


def test_on_sqlite_a_released_run_can_be_held_again(sqlite_store: Store) -> None:
    run = sqlite_store.create_run(new_run(), NOW_US)
    for _ in range(3):
        sqlite_store.hold(run, lambda: NOW_US).release()


def test_on_sqlite_a_holder_that_has_not_written_its_name_yet_is_still_refused(sqlite_store: Store) -> None:
    run = sqlite_store.create_run(new_run(), NOW_US)
    hold = sqlite_store.hold(run, lambda: NOW_US)
    (lock,) = sqlite_store.database.path.parent.glob("*.locks/*.lock")
    lock.write_text("")
    with pytest.raises(RunLocked, match="held by another process"):
        sqlite_store.hold(run, lambda: NOW_US)
    hold.release()


def test_on_sqlite_locks_are_private(sqlite_store: Store) -> None:
    run = sqlite_store.create_run(new_run(), NOW_US)
    hold = sqlite_store.hold(run, lambda: NOW_US)
    (lock,) = sqlite_store.database.path.parent.glob("*.locks/*.lock")
    assert (lock.stat().st_mode & 0o777, lock.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    hold.release()


class Turned:
    """Shared time that a newcomer reads; at each reading something may happen."""

    def __init__(self, *times_us: int) -> None:
        self.times_us = list(times_us)

    def __call__(self) -> int:
        return self.times_us.pop(0) if len(self.times_us) > 1 else self.times_us[0]


def test_on_postgresql_a_living_holder_s_lease_is_respected(pg_store: Store) -> None:
    run = pg_store.create_run(new_run(), NOW_US)
    mine = pg_store.hold(run, lambda: NOW_US)
    readings = 0

    def newcomer_s_time() -> int:
        nonlocal readings
        readings += 1
        assert mine.extend(NOW_US + readings * 5_000_000)
        return NOW_US + readings * 5_000_000

    with pytest.raises(RunLocked, match=rf"pid {os.getpid()}\) since \d+ s, last heartbeat 5 s ago"):
        pg_store.hold(run, newcomer_s_time)
    assert mine.extend(NOW_US + 60_000_000)


@pytest.mark.parametrize("waited_us", [LEASE_US, LEASE_US + 1, 10 * LEASE_US])
def test_on_postgresql_a_lease_that_ran_out_is_taken(pg_store: Store, waited_us: int) -> None:
    run = pg_store.create_run(new_run(), NOW_US)
    dead = pg_store.hold(run, lambda: NOW_US)
    mine = pg_store.hold(run, lambda: NOW_US + waited_us)
    assert not dead.extend(NOW_US + waited_us)
    assert mine.extend(NOW_US + waited_us)


def test_on_postgresql_a_newcomer_waits_a_silent_holder_s_lease_out(pg_store: Store) -> None:
    run = pg_store.create_run(new_run(), NOW_US)
    dead = pg_store.hold(run, lambda: NOW_US)
    almost, over = NOW_US + LEASE_US - 1, NOW_US + LEASE_US
    mine = pg_store.hold(run, Turned(almost, almost, over))
    assert not dead.extend(over)
    assert mine.extend(over)


def test_on_postgresql_a_heartbeat_moves_the_end_of_the_lease(pg_store: Store) -> None:
    run = pg_store.create_run(new_run(), NOW_US)
    mine = pg_store.hold(run, lambda: NOW_US)
    assert mine.extend(NOW_US + LEASE_US - 1)
    later = NOW_US + 2 * LEASE_US - 1
    other = pg_store.hold(run, Turned(later - 1, later - 1, later))
    assert not mine.extend(later)
    assert other.extend(later)


def test_on_postgresql_a_late_release_leaves_the_new_holder_alone(pg_store: Store) -> None:
    run = pg_store.create_run(new_run(), NOW_US)
    dead = pg_store.hold(run, lambda: NOW_US)
    mine = pg_store.hold(run, lambda: NOW_US + LEASE_US)
    dead.release()
    assert mine.extend(NOW_US + LEASE_US)
    mine.release()
    assert (pg_store.run_by_id(run.id).holder, pg_store.run_by_id(run.id).heartbeat_us) == (None, None)
    pg_store.hold(run, lambda: NOW_US).release()


def test_on_postgresql_a_store_that_lost_its_hold_claims_and_stages_no_more(pg_store: Store) -> None:
    """What it took would be done by nobody, and the new holder would call the run done."""
    run = pg_store.create_run(new_run(), NOW_US)
    pg_store.hold(run, lambda: NOW_US)
    pg_store.stage(run, packed((2,)), whole(2))
    with Store.open(pg_store.database.url.render_as_string(hide_password=False)) as another:
        another.hold(run, lambda: NOW_US + LEASE_US)
        with pytest.raises(RunLocked, match="was taken over by another process"):
            pg_store.claim_next(run.id, NOW_US, PRICES)
        with pytest.raises(RunLocked, match="was taken over by another process"):
            pg_store.stage(run, packed((2,)), whole(4))
        assert claim(another, run).fence.epoch == 1


def test_different_runs_are_held_side_by_side(store: Store) -> None:
    holds = [store.hold(store.create_run(new_run(), NOW_US), lambda: NOW_US) for _ in range(3)]
    assert all(hold.extend(NOW_US) for hold in holds)
    for hold in holds:
        hold.release()


@pytest.mark.parametrize(
    ("told", "lease_s"), [("", 30.0), ("2.5", 2.5), ("soon", 30.0), ("0", 30.0), ("-1", 30.0), ("inf", 30.0)]
)
def test_the_lease_is_thirty_seconds_unless_the_environment_says_another(told: str, lease_s: float) -> None:
    assert lease_from({"RUNNER_LEASE_S": told} if told else {}) == lease_s
