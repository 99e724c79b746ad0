"""Three commands at once over one store, killed in between, under one cap of a day: the bill stays below it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from tests.acceptance.house import Api, Desk, api_process, ended
from tests.store.building import ready_store

WORKERS, MAX_TOKENS = 3, 200


@dataclass(frozen=True, kw_only=True)
class Size:
    """Each command has so many rows and calls at once; together they would cost more than the cap."""

    slots: int
    rows: int
    cap_usd: Fraction
    kills: int
    longest_s: float

    def job(self) -> str:
        return (
            f"name: shared\nmodel: claude-haiku-5-5\nrequest: {{ max_tokens: {MAX_TOKENS} }}\n"
            f"limits: {{ concurrency: {self.slots} }}\n"
            f"budget: {{ per: {{ day: {float(self.cap_usd)} }}, warn_at: 100% }}\n"
        )


SMALL = Size(slots=32, rows=400, cap_usd=Fraction(12, 100), kills=4, longest_s=90)
# A kill leaves up to 256 calls of unknown end, which stay reserved at three times what they cost.
LARGE = Size(slots=256, rows=4_000, cap_usd=Fraction(1), kills=4, longest_s=240)


def bill(api: Api) -> Fraction:
    return Fraction(str(api._get("tallies")["cost_usd"]))


def rows(worker: int, number_of: int) -> list[str]:
    """Answers at full length."""
    wish = f"[[sim:tokens={MAX_TOKENS}]]"
    return [json.dumps({"prompt": f"{wish} worker {worker} row {number}"}) for number in range(number_of)]


@pytest.mark.timeout(180)
def test_three_processes_with_kills_never_pass_the_cap_of_a_day(tmp_path: Path, pg_url: str) -> None:
    shared(tmp_path, pg_url, SMALL)


@pytest.mark.exhaustive
@pytest.mark.timeout(180)
def test_three_processes_of_one_file_with_kills_never_pass_the_cap_of_a_day(tmp_path: Path) -> None:
    shared(tmp_path, f"sqlite:///{tmp_path / 'runner.db'}", SMALL)


@pytest.mark.exhaustive
@pytest.mark.timeout(400)
def test_three_processes_of_256_slots_with_kills_never_pass_the_cap_of_a_day(tmp_path: Path, pg_url: str) -> None:
    shared(tmp_path, pg_url, LARGE)


def shared(folder: Path, url: str, size: Size) -> None:
    name = os.environ.get("RUNNER_TEST_SEED", "1")
    dice = random.Random(f"{name}:shared budget")
    ready_store(url).close()
    desk = Desk(folder, {"RUNNER_DATABASE_URL": url, "RUNNER_NO_INPUT": "1"})
    (folder / "job.yaml").write_text(size.job())
    words = []
    for worker in range(WORKERS):
        desk.write(f"rows-{worker}.jsonl", rows(worker, size.rows))
        words.append(["run", "job.yaml", "-i", f"rows-{worker}.jsonl", "-o", f"out-{worker}.jsonl", "-y"])
    with api_process(latency_s=0.3, latency_jitter_s=0.2) as api:
        desk.env |= api.env
        codes = played(desk, api, words, dice, size)
        total = bill(api)
    assert set(codes) <= {0, 4}, codes
    assert 4 in codes, "the cap is below what all rows cost"
    assert total <= size.cap_usd, f"seed {name}: {float(total)} on the bill"
    with ready_store(url) as store:
        money = [store.money(run.id) for run in store.recent_runs(10)]
    unknown = sum(Fraction(one.unknown_bound_pico, 10**12) for one in money)
    print(f"cap {float(size.cap_usd)}, bill {float(total)}, unknown {float(unknown)}")
    assert total >= Fraction(97, 100) * (size.cap_usd - unknown), (float(total), float(unknown))


def played(desk: Desk, api: Api, words: list[list[str]], dice: random.Random, size: Size) -> list[int]:
    """Start all, kill one now and then and start it again; how each ended that was left alone."""
    running: dict[int, subprocess.Popen[bytes]] = {worker: desk.start(*told) for worker, told in enumerate(words)}
    began_s, kills, codes = time.monotonic(), 0, []
    next_kill_s = began_s + 2.5
    while running:
        assert time.monotonic() - began_s < size.longest_s, "it does not come to an end"
        assert bill(api) <= size.cap_usd
        if kills < size.kills and time.monotonic() > next_kill_s:
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
