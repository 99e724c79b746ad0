"""Webhooks hear how a run ended, and nothing else of it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runner.cli.notify import notify
from runner.domain.job import Job, NotifySpec
from runner.domain.run import Tally
from runner.domain.states import PauseReason
from runner.engine.run import RunEnd
from runner.engine.stop import Pause

JOB = Job(name="nightly")
ENDS: list[tuple[PauseReason | None, int, str]] = [
    (None, 0, "done"),
    (None, 3, "failed"),
    (PauseReason.BUDGET, 4, "budget"),
    (PauseReason.STALLED, 75, "deadline"),
]


@pytest.fixture
def heard() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    told: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", told
    server.shutdown()
    thread.join()
    server.server_close()


def ended(reason: PauseReason | None, job: Job) -> RunEnd:
    run = SimpleNamespace(job=job, label="r_1", state="done" if reason is None else "paused")
    pause = None if reason is None else Pause(reason=reason, message="x")
    return RunEnd(run=run, tally=Tally(staged=5, done=3, failed=2), pause=pause)  # type: ignore[arg-type]


@pytest.mark.parametrize(("reason", "code", "event"), ENDS)
def test_a_webhook_hears_of_the_events_that_it_asked_for(
    heard: Any, monkeypatch: pytest.MonkeyPatch, reason: PauseReason | None, code: int, event: str
) -> None:
    url, told = heard
    monkeypatch.setenv("HOOK", url)
    job = replace(JOB, notify=(NotifySpec(on=(event,), webhook="${HOOK}/x"),))
    notify(job, ended(reason, job), code, 1_500_000_000_000)
    (one,) = told
    assert (one["job"], one["done"], one["failed"], one["spent_usd"], one["exit"]) == ("nightly", 3, 2, 1.5, code)
    other = replace(JOB, notify=(NotifySpec(on=("done",) if event != "done" else ("budget",), webhook=url),))
    notify(other, ended(reason, other), code, 0)
    assert len(told) == 1


def test_a_simulated_run_tells_nobody(heard: Any) -> None:
    url, told = heard
    job = replace(JOB, simulated=True, notify=(NotifySpec(on=("done",), webhook=url),))
    notify(job, ended(None, job), 0, 0)
    assert told == []


@pytest.mark.parametrize("path", ["/broken", None])
def test_a_webhook_that_cannot_be_told_is_a_warning_without_its_address(
    heard: Any, capsys: pytest.CaptureFixture[str], path: str | None
) -> None:
    url = heard[0] + path if path else "http://127.0.0.1:9/secret-token"
    job = replace(JOB, notify=(NotifySpec(on=("done",), webhook=url),))
    notify(job, ended(None, job), 0, 0)
    said = capsys.readouterr().err
    assert "could not be told" in said
    assert "secret-token" not in said
    assert heard[0] not in said
