"""Failpoints: silent unless asked, exact when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import failpoints
from runner.failpoints import Failpoint, FailpointRaised, failpoint

POINT, OTHER = Failpoint.GROUP_BEFORE, Failpoint.GROUP_AFTER


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins as a fresh process would, and leaves no plan behind."""
    monkeypatch.setattr(failpoints, "_plan", None)
    monkeypatch.setattr(failpoints, "_seen", None)
    monkeypatch.delenv("RUNNER_FAILPOINTS", raising=False)
    monkeypatch.delenv("RUNNER_FAILPOINTS_SEEN", raising=False)
    failpoints._hits.clear()
    yield
    failpoints._hits.clear()


def test_nothing_happens_and_nothing_is_counted_unless_asked() -> None:
    for point in Failpoint:
        failpoint(point)
    assert not failpoints._hits


@pytest.mark.parametrize("hit", [1, 2, 3])
def test_the_action_happens_at_the_asked_hit_and_only_there(hit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_FAILPOINTS", f"{POINT}=raise@{hit}")
    for _ in range(hit - 1):
        failpoint(POINT)
        failpoint(OTHER)
    with pytest.raises(FailpointRaised, match=POINT):
        failpoint(POINT)
    failpoint(POINT)


def test_without_a_number_the_first_hit_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_FAILPOINTS", f"{POINT}=raise")
    with pytest.raises(FailpointRaised):
        failpoint(POINT)


def test_several_places_can_be_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_FAILPOINTS", f"{POINT}=raise@2;{OTHER}=raise@1")
    failpoint(POINT)
    for point in (OTHER, POINT):
        with pytest.raises(FailpointRaised, match=point):
            failpoint(point)


@pytest.mark.parametrize("plan", ["no.such.place=kill", f"{POINT}=kill@often"])
def test_a_plan_that_names_nothing_real_is_refused(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_FAILPOINTS", plan)
    with pytest.raises(ValueError, match=r"no\.such\.place|often"):
        failpoint(POINT)


def test_an_unknown_action_is_refused_where_it_would_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_FAILPOINTS", f"{POINT}=explode")
    with pytest.raises(ValueError, match="explode"):
        failpoint(POINT)


def test_every_place_that_is_reached_is_written_down_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    monkeypatch.setenv("RUNNER_FAILPOINTS_SEEN", str(seen))
    for point in (POINT, OTHER, POINT):
        failpoint(point)
    assert seen.read_text().splitlines() == [POINT, OTHER]


def test_kill_is_a_real_sigkill_and_the_place_is_on_record(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = (
        "from runner.failpoints import Failpoint, failpoint\n"
        "failpoint(Failpoint.SEND_BEFORE); print('once', flush=True)\n"
        "failpoint(Failpoint.SEND_BEFORE); print('never', flush=True)\n"
    )
    told = {"RUNNER_FAILPOINTS": "send.before=kill@2", "RUNNER_FAILPOINTS_SEEN": str(seen)}
    died = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **told}, capture_output=True, text=True, timeout=30
    )
    assert died.returncode == -signal.SIGKILL
    assert died.stdout == "once\n"
    assert seen.read_text() == "send.before\n"


def test_the_names_are_unique_and_in_pairs_around_each_commit() -> None:
    names = [str(point) for point in Failpoint]
    assert len(set(names)) == len(names)
    for name in names:
        if name.endswith(".before"):
            assert name.removesuffix("before") + "after" in names
