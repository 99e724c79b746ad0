"""Ctrl-C, a supervisor's stop and sleep beyond the lease on every part of the way: nothing is lost or made twice."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from functools import partial

import pytest
from sqlalchemy import text

from runner.failpoints import Failpoint
from runner.simulator import Fault
from tests.faults.batches import CREATE, ROWS, batch_case
from tests.faults.conftest import Cases
from tests.faults.harness import (
    LEASE_S,
    WINDOW_S,
    Case,
    Ended,
    at_once,
    plain_rows,
    seed_of,
    wait_until,
    wait_until_stopped,
)
from tests.faults.promises import check_posts, check_promises

SIGNALS = [signal.SIGINT, signal.SIGTERM]
LOCKED = 7
# What a stop may take that waits for nothing, on a busy machine too. That it waited for nothing, the states say.
AT_ONCE_S = 12.0


def stopped(case: Case, process: subprocess.Popen[bytes], number: signal.Signals, within_s: float) -> Ended:
    began = time.monotonic()
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    ended = case.end_of(process)
    took_s = time.monotonic() - began
    print(f"{number.name}: exit {ended.code} after {took_s:.2f} s")
    assert ended.code == 128 + number, ended
    assert took_s < within_s
    with case.store() as store:
        check_posts(case, store)
    return ended


def states(case: Case) -> list[str]:
    with case.store() as store:
        return [str(one.state) for one in store.submissions_of(store.recent_runs(1)[0].id)]


# -- stops --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stop_while_creating_waits_for_the_answer(cases: Cases, number: signal.Signals) -> None:
    case = batch_case(cases, rows=plain_rows(10))
    case.simulator.reset(Fault(kind="slow", **CREATE, after=1, first=1, lasts_s=WINDOW_S / 2))
    with case.started() as process:
        case.simulator.wait_for_batches(2)
        stopped(case, process, number, WINDOW_S + AT_ONCE_S)
    assert "unknown" not in states(case)
    assert case.finish().code == 0
    assert check_promises(case).batches == 2


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    "point", [Failpoint.BATCH_SPOOLED, Failpoint.BATCH_INTENT_BEFORE, Failpoint.BATCH_INTENT_AFTER]
)
def test_a_stop_before_the_first_byte_leaves_nothing_to_settle(cases: Cases, kind: str, point: Failpoint) -> None:
    """What was written down and not sent is given up in good order: nobody has to wait for it at the next start."""
    case = batch_case(cases, kind, rows=plain_rows(10))
    with case.started(RUNNER_FAILPOINTS=f"{point}=stop@2") as process:
        wait_until_stopped(process)
        sent = case.simulator.batches
        stopped(case, process, signal.SIGTERM, AT_ONCE_S)
    assert not {"sending", "unknown"}.intersection(states(case))
    assert case.simulator.batches == sent
    assert case.spool == []
    assert case.finish().code == 0
    assert check_promises(case).batches == 2


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stop_while_waiting_ends_at_once(cases: Cases, number: signal.Signals) -> None:
    case = batch_case(cases, rows=plain_rows(10), service={"batch_seconds": 2.5})
    with case.started() as process:
        case.simulator.wait_for_batches(2)
        time.sleep(0.3)
        stopped(case, process, number, AT_ONCE_S)
    assert states(case) == ["accepted", "accepted"]
    assert case.finish().code == 0
    assert check_promises(case).batches == 2


@pytest.mark.parametrize(
    "point", [Failpoint.BATCH_FETCHED, Failpoint.BATCH_INGEST_BEFORE, Failpoint.BATCH_INGEST_AFTER]
)
def test_a_stop_while_results_are_read_leaves_the_rest_of_them(cases: Cases, point: Failpoint) -> None:
    case = batch_case(cases)
    with case.started(RUNNER_FAILPOINTS=f"{point}=stop@2") as process:
        wait_until_stopped(process)
        stopped(case, process, signal.SIGINT, AT_ONCE_S)
    assert case.spool == []
    case.finish()
    check_promises(case, lost_calls=0)


def test_a_stop_while_settling_is_taken_up_where_it_was(cases: Cases) -> None:
    case = batch_case(cases, rows=plain_rows(5), window_s=4.0)
    case.simulator.reset(Fault(kind="executed_error", **CREATE, first=1))
    with case.started() as process:
        case.simulator.wait_for_batches(1)
        time.sleep(0.5)
        stopped(case, process, signal.SIGTERM, AT_ONCE_S)
    assert states(case) == ["unknown"]
    case.window_s = WINDOW_S
    assert case.finish().code == 0
    assert check_promises(case).batches == 1


def test_a_second_signal_while_creating_ends_at_once_and_the_batch_is_found(cases: Cases) -> None:
    case = batch_case(cases, rows=plain_rows(5), window_s=20.0)
    case.simulator.reset(Fault(kind="stall", **CREATE, first=1))
    with case.started() as process:
        case.simulator.wait_for_batches(1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None, "the first signal waits for the answer"
        stopped(case, process, signal.SIGINT, AT_ONCE_S)
    case.window_s = WINDOW_S
    assert case.finish().code == 0
    assert check_promises(case).batches == 1


def stop_often_then_finish(case: Case, dice: random.Random, stops: int) -> None:
    for _ in range(stops):
        moment_s, number = dice.uniform(0.4, 2.5), dice.choice(SIGNALS)
        with case.started() as process:
            time.sleep(moment_s)
            process.send_signal(number)
            ended = case.end_of(process)
        print(f"{number.name} after {moment_s:.2f} s: exit {ended.code}")
        assert ended.code in (-number, 128 + number, 3), ended
    case.finish()
    check_promises(case, lost_calls=0)


def test_stops_at_any_moment_leave_a_run_that_goes_on(cases: Cases) -> None:
    dice = seed_of("stops of batches")
    made = [batch_case(cases, simulator_number=number) for number in range(2)]
    at_once([partial(stop_often_then_finish, case, random.Random(dice.random()), 3) for case in made])


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("seed", range(10))
def test_many_stops_of_both_kinds(cases: Cases, kind: str, seed: int) -> None:
    stop_often_then_finish(batch_case(cases, kind), seed_of(f"many stops of batches, {seed}"), 8)


# -- sleep beyond the lease ---------------------------------------------------------------------------------------

# Where a process falls asleep, at which visit, and whether the batch it was about had been posted by then.
BEDS = [
    (Failpoint.BATCH_SPOOLED, 1, False),
    (Failpoint.BATCH_INTENT_BEFORE, 1, False),
    (Failpoint.BATCH_INTENT_AFTER, 1, False),
    (Failpoint.BATCH_POST_AFTER, 1, True),
    (Failpoint.BATCH_STATE_BEFORE, 1, True),
    (Failpoint.BATCH_STATE_AFTER, 1, True),
    (Failpoint.BATCH_FETCHED, 1, True),
    (Failpoint.BATCH_INGEST_BEFORE, 1, True),
    (Failpoint.BATCH_INGEST_AFTER, 1, True),
]


def sleep_and_wake(case: Case, point: Failpoint, visit: int, *, late: bool) -> None:
    """The newcomer settles what the sleeper left, or has even ended the run, when the sleeper wakes up."""
    with case.started(RUNNER_FAILPOINTS=f"{point}=stop@{visit}") as sleeper:
        wait_until_stopped(sleeper)
        time.sleep(LEASE_S)
        with case.started() as newcomer:
            if late:
                assert case.end_of(newcomer).code == 0
            else:
                wait_until_taken_over(case, newcomer)
            sleeper.send_signal(signal.SIGCONT)
            slept = case.end_of(sleeper)
            assert slept.code == LOCKED, (point, slept)
            assert late or case.end_of(newcomer).code == 0
    assert case.spool == [], point


def wait_until_taken_over(case: Case, process: subprocess.Popen[bytes]) -> None:
    """Until it holds the run, or has even ended it between two looks."""

    def holds() -> bool:
        with case.store() as store:
            held = store.database.read(lambda c: c.execute(text("SELECT holder FROM runs")).scalar())
        return f'"pid": {process.pid},' in (held or "") or process.poll() is not None

    wait_until(holds, "the newcomer to take the run over")


@pytest.mark.parametrize(("beds", "late"), [(BEDS[0::2], False), (BEDS[1::2], True)])
def test_on_postgresql_a_sleeper_leaves_a_run_alone_that_was_taken_over(
    cases: Cases, beds: list[tuple[Failpoint, int, bool]], late: bool
) -> None:
    rows = plain_rows(10)
    made = [batch_case(cases, "postgresql", rows, simulator_number=number) for number in range(len(beds))]
    works = [
        partial(sleep_and_wake, case, point, visit, late=late)
        for case, (point, visit, _) in zip(made, beds, strict=True)
    ]
    at_once(works)
    for case in made:
        assert check_promises(case).batches == 2
        assert len(case.simulator.creates()) == 2


def test_on_postgresql_a_sleeper_that_posts_before_all_is_settled_makes_the_only_batch(cases: Cases) -> None:
    """Asleep between the last look and the first byte. The newcomer finds what the sleeper has sent."""
    case = batch_case(cases, "postgresql", plain_rows(5))
    with case.started(RUNNER_FAILPOINTS=f"{Failpoint.BATCH_POST_BEFORE}=stop@1") as sleeper:
        wait_until_stopped(sleeper)
        time.sleep(LEASE_S)
        with case.started() as newcomer:
            wait_until_taken_over(case, newcomer)
            sleeper.send_signal(signal.SIGCONT)
            assert case.end_of(sleeper).code == LOCKED
            assert case.end_of(newcomer).code == 0
    assert check_promises(case).batches == 1
    assert len(case.simulator.creates()) == 1


def test_on_postgresql_a_sleeper_that_posts_after_all_was_settled_makes_a_duplicate_that_is_found(
    cases: Cases,
) -> None:
    """What nothing can prevent: it slept between the last look and the first byte for longer than everything."""
    case = batch_case(cases, "postgresql", plain_rows(ROWS), rows_a_batch=ROWS, service={"batch_seconds": 3.0})
    with case.started(RUNNER_FAILPOINTS=f"{Failpoint.BATCH_POST_BEFORE}=stop@1") as sleeper:
        wait_until_stopped(sleeper)
        time.sleep(LEASE_S)
        with case.started() as newcomer:
            case.simulator.wait_for_batches(1)
            sleeper.send_signal(signal.SIGCONT)
            assert case.end_of(sleeper).code == LOCKED
            assert case.end_of(newcomer).code in (0, 12)
    time.sleep(3.0)
    assert case.run().code in (0, 12)
    with case.store() as store:
        check_posts(case, store)
