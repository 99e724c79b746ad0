"""Ctrl-C and a supervisor's stop: calls in flight end, what was paid for is stored, and the same command goes on."""

from __future__ import annotations

import random
import signal
import time

import pytest

from runner.engine.parts import GRACE_S
from runner.failpoints import Failpoint
from runner.simulator import Fault
from tests.faults.conftest import Cases
from tests.faults.harness import Case, Ended, mixed_rows, plain_rows, seed_of, wait_until_stopped
from tests.faults.promises import check_promises

ROWS = 60
# What a stop may take that waits for nothing, on a busy machine too: otherwise it would take the whole grace.
AT_ONCE_S = GRACE_S / 2
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def stopped(case: Case, number: signal.Signals, dice: random.Random, after_calls: int) -> Ended:
    """Signalled once so many calls have been executed in all: the last of them are held until it is told."""
    case.simulator.hold(after=max(0, after_calls - case.simulator.accepted - 1))
    with case.started() as process:
        case.simulator.wait_for(after_calls)
        began = time.monotonic()
        process.send_signal(number)
        time.sleep(dice.uniform(0.0, 0.05))
        case.simulator.let_go()
        ended = case.end_of(process, GRACE_S + 2)
        print(f"{number.name} after {after_calls} calls: exit {ended.code} after {time.monotonic() - began:.2f} s")
        return ended


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("number", SIGNALS)
def test_calls_in_flight_end_and_nothing_is_paid_for_twice(cases: Cases, kind: str, number: signal.Signals) -> None:
    dice = seed_of(f"stop by {number.name} on {kind}")
    case = cases(kind, mixed_rows(ROWS, flaky=False), latency_s=0.05)
    for after_calls in sorted(dice.sample(range(1, ROWS - 15), 2)):
        ended = stopped(case, number, dice, after_calls)
        assert ended.code == 128 + number, ended
        assert f"stopped by {number.name}" in ended.stderr
        assert not case.output.exists()
    case.finish()
    checked = check_promises(case, lost_calls=0)
    assert checked.unknown == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_at_once_and_books_what_it_left_as_unknown(cases: Cases, number: signal.Signals) -> None:
    case = cases("sqlite", plain_rows(30))
    case.simulator.reset(Fault(kind="stall", first=case.slots))
    with case.started() as process:
        case.simulator.wait_for(case.slots)
        process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None, "the first signal waits for calls in flight"
        process.send_signal(number)
        assert case.end_of(process, AT_ONCE_S).code == 128 + number
    case.finish()
    checked = check_promises(case, lost_calls=case.slots)
    assert checked.unknown == case.slots


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("point", "ends"), [(Failpoint.STAGE_BEFORE, False), (Failpoint.RUN_STATE_BEFORE, True)])
def test_a_signal_before_the_first_call_stops_the_run_and_one_after_the_last_is_too_late(
    cases: Cases, point: Failpoint, ends: bool, number: signal.Signals
) -> None:
    case = cases("sqlite", plain_rows(8))
    with case.started(RUNNER_FAILPOINTS=f"{point}=stop@1") as process:
        wait_until_stopped(process)
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        assert case.end_of(process, AT_ONCE_S).code == (0 if ends else 128 + number)
    case.finish()
    check_promises(case, lost_calls=0)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_any_moment_leaves_a_run_that_goes_on(cases: Cases, number: signal.Signals) -> None:
    """From the first import to the export. Before there is anything to save, it may simply end the process."""
    dice = seed_of(f"any moment, {number.name}")
    case = cases("sqlite", plain_rows(ROWS), latency_s=0.05)
    for _ in range(4):
        moment_s = dice.uniform(0.0, 1.5)
        with case.started() as process:
            time.sleep(moment_s)
            process.send_signal(number)
            ended = case.end_of(process, GRACE_S + 2)
        print(f"{number.name} after {moment_s:.3f} s: exit {ended.code}")
        assert ended.code in (-number, 128 + number, 0), ended
    case.finish()
    check_promises(case, lost_calls=0)


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", SIGNALS)
def test_a_call_that_does_not_end_is_given_up_after_the_grace(cases: Cases, number: signal.Signals) -> None:
    case = cases("sqlite", plain_rows(30))
    case.simulator.reset(Fault(kind="stall", first=2))
    with case.started() as process:
        case.simulator.wait_for(20)
        began = time.monotonic()
        process.send_signal(number)
        assert case.end_of(process, GRACE_S + 2).code == 128 + number
        assert time.monotonic() - began > GRACE_S - 1
    case.finish()
    assert check_promises(case, lost_calls=2).unknown == 2


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_many_stops_of_both_kinds(cases: Cases, kind: str, seed: int) -> None:
    dice = seed_of(f"many stops, {seed}")
    case = cases(kind, mixed_rows(ROWS), latency_s=0.05)
    for after_calls in sorted(dice.sample(range(1, ROWS - 15), 4)):
        stopped(case, dice.choice(SIGNALS), dice, after_calls)
    case.finish()
    check_promises(case, lost_calls=0)
