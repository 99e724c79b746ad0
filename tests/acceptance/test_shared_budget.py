"""Three commands at once over one store, killed in between, under one cap of a day: the bill stays below it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import pytest

from tests.acceptance.house import Api, Desk, api_process, ended
from tests.store.building import ready_store

WORKERS, ROWS, MAX_TOKENS = 3, 400, 200
CAP_USD = Fraction(12, 100)
KILLS = 6
LONGEST_S = 90

JOB = f"""\
name: shared
model: claude-haiku-5-5
request: {{ max_tokens: {MAX_TOKENS} }}
limits: {{ concurrency: 32 }}
budget: {{ per: {{ day: {float(CAP_USD)} }}, warn_at: 100% }}
"""


def bill(api: Api) -> Fraction:
    return Fraction(str(api._get("tallies")["cost_usd"]))


def rows(worker: int) -> list[str]:
    """Answers at full length."""
    wish = f"[[sim:tokens={MAX_TOKENS}]]"
    return [json.dumps({"prompt": f"{wish} worker {worker} row {number}"}) for number in range(ROWS)]


@pytest.mark.timeout(180)
def test_three_processes_with_kills_never_pass_the_cap_of_a_day(tmp_path: Path, store_url: str) -> None:
    name = os.environ.get("RUNNER_TEST_SEED", "1")
    dice = random.Random(f"{name}:shared budget")
    ready_store(store_url).close()
    desk = Desk(tmp_path, {"RUNNER_DATABASE_URL": store_url, "RUNNER_NO_INPUT": "1"})
    (tmp_path / "job.yaml").write_text(JOB)
    words = []
    for worker in range(WORKERS):
        desk.write(f"rows-{worker}.jsonl", rows(worker))
        words.append(["run", "job.yaml", "-i", f"rows-{worker}.jsonl", "-o", f"out-{worker}.jsonl", "-y"])
    with api_process(latency_s=0.3, latency_jitter_s=0.2) as api:
        desk.env |= api.env
        codes = played(desk, api, words, dice)
        total = bill(api)
    assert set(codes) <= {0, 4}, codes
    assert 4 in codes, "the cap is below what all rows cost"
    assert total <= CAP_USD, f"seed {name}: {float(total)} on the bill"
    with ready_store(store_url) as store:
        money = [store.money(run.id) for run in store.recent_runs(10)]
    unknown = sum(Fraction(one.unknown_bound_pico, 10**12) for one in money)
    assert total >= Fraction(97, 100) * (CAP_USD - unknown), (float(total), float(unknown))


def played(desk: Desk, api: Api, words: list[list[str]], dice: random.Random) -> list[int]:
    """Start all, kill one now and then and start it again; how each ended that was left alone."""
    running: dict[int, subprocess.Popen[bytes]] = {worker: desk.start(*told) for worker, told in enumerate(words)}
    began_s, kills, codes = time.monotonic(), 0, []
    next_kill_s = began_s + 2.5
    while running:
        assert time.monotonic() - began_s < LONGEST_S, "it does not come to an end"
        assert bill(api) <= CAP_USD
        if kills < KILLS and time.monotonic() > next_kill_s:
            worker = dice.choice(list(running))
            running[worker].send_signal(signal.SIGKILL)
            running[worker].communicate()
            running[worker] = desk.start(*words[worker])
            kills, next_kill_s = kills + 1, time.monotonic() + dice.uniform(0.5, 2.0)
        for worker, process in list(running.items()):
            if process.poll() is not None:
                codes.append(ended(running.pop(worker)).code)
        time.sleep(0.1)
    return codes
