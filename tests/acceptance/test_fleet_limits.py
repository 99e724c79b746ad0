"""Four workers, one of them on a machine whose clock is an hour off, under one organisation's limits."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from tests.acceptance.fleet import Fleet, check_every_row_once, ended_rows, launched, until
from tests.acceptance.house import Api, Desk, api_process
from tests.minutes import Minutes, check, rows

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(900)]

NAMES = ("first", "second", "third", "ahead")
AHEAD_S = 3_600
WORKER_SLOTS = 24
# What binds, and rows of a size that makes it so, for three minutes and a half.
BINDING = {
    "rpm": ({"rpm": 1_500, "itpm": 10**7, "otpm": 10**7}, {"count": 5_250, "input_tokens": 30, "output_tokens": 20}),
    "itpm": (
        {"rpm": 6_000, "itpm": 300_000, "otpm": 10**7},
        {"count": 5_250, "input_tokens": 200, "output_tokens": 20},
    ),
}
RETRY_AFTER_S = 6.0
# A slice is good for so long; and what the machine may dawdle.
SLICE_S = 1.5
DAWDLING_S = 0.5
# What left before the word was heard, and is seen by the other side after it.
ON_ITS_WAY_S = 0.05


@contextmanager
def at_work(
    desk: Desk, pg_url: str, limits: dict[str, int], size: dict[str, int]
) -> Iterator[tuple[Fleet, Api, str]]:
    with api_process(latency_s=0.3, latency_jitter_s=0.1, burst_s=1.0, **limits) as api:
        desk.env |= api.env | {"RUNNER_DATABASE_URL": pg_url, "RUNNER_LOG_LEVEL": "debug"}
        desk.type("db", "upgrade").check(0)
        desk.write("rows.jsonl", rows(**size))
        fleet = Fleet(desk)
        try:
            run = launched(desk, "--concurrency", str(WORKER_SLOTS))
            for name in NAMES:
                off_s = AHEAD_S if name == "ahead" else 0
                words = ("--slots", str(WORKER_SLOTS), "--name", name, "--no-schedules")
                fleet.start(*words, clock_off_s=off_s)
            yield fleet, api, run
        finally:
            fleet.stop()


@pytest.mark.parametrize("binding", ["rpm", "itpm"])
def test_four_workers_use_a_limit_and_do_not_pass_it(desk: Desk, pg_url: str, binding: str) -> None:
    limits, size = BINDING[binding]
    with at_work(desk, pg_url, limits, size) as (fleet, api, run):
        until(lambda: ended_rows(desk) == size["count"], within_s=600)
        desk.type("attach", run, "-o", "out.jsonl").check(0)
        check_every_row_once(desk, size["count"])
        check(Minutes(api.offers), limits, binding, least=0.95)
        calls = [len(calls_of(fleet, number)) for number in range(len(NAMES))]
        assert min(calls) > size["count"] / 8, f"each had its part: {calls}"


def test_after_a_retry_after_nobody_sends_before_its_time(desk: Desk, pg_url: str) -> None:
    limits, size = BINDING["rpm"]
    with at_work(desk, pg_url, limits, size) as (fleet, api, _):
        until(lambda: ended_rows(desk) > 300)
        struck_s = time.time()
        api.faults({"kind": "rate_limit", "first": 1, "retry_after_s": RETRY_AFTER_S})
        time.sleep(RETRY_AFTER_S + 4)
        calls = [calls_of(fleet, number) for number in range(len(NAMES))]
        refused = [(one["at_s"], number) for number, told in enumerate(calls) for one in told if is_refused(one)]
        # While the limits were unknown there were others.
        ((heard_s, held),) = [(at_s, number) for at_s, number in refused if at_s > struck_s]
        sent_s = {one["request_id"]: one["at_us"] / 1e6 for one in api.bill()}
        for number, told in enumerate(calls):
            quiet_s = heard_s + (ON_ITS_WAY_S if number == held else SLICE_S + DAWDLING_S)
            mine = sorted(sent_s[one["request_id"]] for one in told if one["request_id"] in sent_s)
            early = [at_s - heard_s for at_s in mine if quiet_s < at_s < struck_s + RETRY_AFTER_S]
            assert early == [], f"{NAMES[number]} sent {early} s after the word; {NAMES[held]} had heard it"
            assert any(at_s > struck_s + RETRY_AFTER_S for at_s in mine), f"{NAMES[number]} goes on after it"


def is_refused(call: dict[str, Any]) -> bool:
    return bool(call["outcome"] == "rate_limited")


def calls_of(fleet: Fleet, number: int) -> list[dict[str, Any]]:
    """What a worker's log says of its calls; `at_s` by the right clock."""
    lines = map(json.loads, filter(lambda line: line.startswith("{"), fleet.said(fleet.workers[number]).splitlines()))
    off_s = AHEAD_S if NAMES[number] == "ahead" else 0
    return [
        {**line, "at_s": datetime.fromisoformat(line["ts"]).timestamp() - off_s}
        for line in lines
        if line["event"] == "call_ended"
    ]
