"""One process works on a run. The others say which, and a dead one's run is free."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import ExitStack, closing

import pytest

from runner.failpoints import Failpoint
from tests.faults.conftest import Cases
from tests.faults.harness import LEASE_S, Case, Ended, plain_rows, wait_until, wait_until_stopped
from tests.faults.promises import check_promises

LOCKED = 7


def held_case(cases: Cases, kind: str) -> Case:
    """Whoever works on it gets six answers, and the next ones when they are let go."""
    case = cases(kind, plain_rows(60), slots=4)
    case.simulator.hold(after=6)
    return case


def wait_until_held(case: Case) -> None:
    """Until all slots of whoever works on it wait for an answer."""
    case.simulator.wait_for(6 + case.slots)


def assert_refused(ended: Ended, holder: subprocess.Popen[bytes]) -> None:
    assert ended.code == LOCKED, ended
    assert f"is held by {socket.gethostname()} (pid {holder.pid})" in ended.stderr


def stop_between_transactions(holder: subprocess.Popen[bytes], case: Case) -> None:
    """One that is stopped inside of one locks the whole file, and then nobody can even see whose the run is."""
    while True:
        holder.send_signal(signal.SIGSTOP)
        wait_until_stopped(holder)
        with closing(sqlite3.connect(case.folder / "runner.db", timeout=0, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                holder.send_signal(signal.SIGCONT)
                time.sleep(0.005)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_five_commands_at_once_one_works_and_the_others_say_which(cases: Cases, kind: str) -> None:
    case = held_case(cases, kind)
    with ExitStack() as open_:
        processes = [open_.enter_context(case.started()) for _ in range(5)]
        wait_until(lambda: sum(process.poll() is None for process in processes) <= 1, "four of five to end")
        (worker,) = (process for process in processes if process.poll() is None)
        for process in processes:
            if process is not worker:
                assert_refused(case.end_of(process), worker)
        case.simulator.let_go()
        assert case.end_of(worker).code == 0
    checked = check_promises(case)
    assert checked.accepted == checked.undisturbed


def test_on_sqlite_a_stopped_process_still_holds_its_run(cases: Cases) -> None:
    case = held_case(cases, "sqlite")
    with case.started() as holder:
        wait_until_held(case)
        stop_between_transactions(holder, case)
        assert_refused(case.run(), holder)
        holder.send_signal(signal.SIGCONT)
        case.simulator.let_go()
        assert case.end_of(holder).code == 0
    checked = check_promises(case)
    assert checked.accepted == checked.undisturbed


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_commands_that_begin_at_the_same_moment_make_one_run(cases: Cases, kind: str) -> None:
    """One is held up between looking for the run and making it, until the other has made it and is done."""
    case = cases(kind, plain_rows(12))
    with case.started(RUNNER_FAILPOINTS=f"{Failpoint.RUN_CREATE_BEFORE}=stop@1") as late:
        wait_until_stopped(late)
        case.finish()
        late.send_signal(signal.SIGCONT)
        assert case.end_of(late).code == 0
    checked = check_promises(case)
    assert checked.accepted == checked.undisturbed


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_run_of_a_killed_process_is_free(cases: Cases, kind: str) -> None:
    case = held_case(cases, kind)
    with case.started() as holder:
        wait_until_held(case)
        assert_refused(case.run(), holder)
        holder.kill()
        case.end_of(holder)
    case.simulator.let_go()
    case.finish()
    check_promises(case)


def test_on_postgresql_a_process_that_slept_before_a_claim_takes_no_chunk_away(cases: Cases) -> None:
    """It would be done by nobody: the sleeper ends, and the newcomer finds nothing pending and calls the run done."""
    case = cases("postgresql", plain_rows(3_000), slots=20)
    case.simulator.hold(after=20)
    with case.started(RUNNER_FAILPOINTS=f"{Failpoint.CLAIM_BEFORE}=stop@1") as sleeper:
        wait_until_stopped(sleeper)
        with case.started() as newcomer:
            case.simulator.wait_for(40)
            sleeper.send_signal(signal.SIGCONT)
            assert case.end_of(sleeper).code == LOCKED
            assert newcomer.poll() is None, "the newcomer should still be at work"
            case.simulator.let_go()
            assert case.end_of(newcomer).code == 0
    check_promises(case, lost_calls=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_postgresql_a_sleeper_that_is_told_to_stop_does_not_pause_another_s_run(
    cases: Cases, number: signal.Signals
) -> None:
    case = held_case(cases, "postgresql")
    with case.started() as sleeper:
        wait_until_held(case)
        sleeper.send_signal(signal.SIGSTOP)
        with case.started() as newcomer:
            case.simulator.wait_for(6 + 2 * case.slots)
            sleeper.send_signal(number)
            sleeper.send_signal(signal.SIGCONT)
            assert case.end_of(sleeper).code == LOCKED
            case.simulator.let_go()
            assert case.end_of(newcomer).code == 0
    check_promises(case, lost_calls=2 * case.slots)


def test_on_postgresql_a_process_that_slept_through_its_lease_leaves_the_run_alone(cases: Cases) -> None:
    """Another took the run over meanwhile; what the sleeper had paid for is kept, and it stops by itself."""
    case = held_case(cases, "postgresql")
    with case.started() as sleeper:
        wait_until_held(case)
        sleeper.send_signal(signal.SIGSTOP)
        with case.started() as newcomer:
            case.simulator.wait_for(6 + 2 * case.slots)
            sleeper.send_signal(signal.SIGCONT)
            slept = case.end_of(sleeper)
            assert slept.code == LOCKED, slept
            assert "taken over" in slept.stderr
            assert newcomer.poll() is None, "the newcomer should still be at work"
            case.simulator.let_go()
            assert case.end_of(newcomer).code == 0
    assert LEASE_S < 5
    check_promises(case, lost_calls=2 * case.slots)
