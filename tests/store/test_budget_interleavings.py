"""Three workers over one store, interleaved by a seed and killed at any moment: the bill never passes a cap.

Each worker has a connection and runs of its own; they share the day of their job. Beside them stands the bill, which
knows nothing of the store: it grows when a call is answered, by anything up to what it reserved, whether or not the
worker lives to hear of it. After every step the bill of each day is compared with the cap. A failure names its seed;
`RUNNER_TEST_SEED=... pytest -k <number>` plays others, and the same again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier, Lock

import pytest
from msgspec.structs import replace

from runner.domain.budget import day_of
from runner.domain.run import Run
from runner.store.claims import ClaimedChunk
from runner.store.group import Fence, SendIntent, Settlement, Verdict
from runner.store.store import Store
from runner.store.submissions import FIRST_EPOCH, IntentVerdict
from tests.store.building import (
    NOW_US,
    PRICES,
    claim,
    ended,
    packing,
    ready_store,
    remote,
    rows_of,
    send,
    spend,
    staged_run,
)

WORKERS = 3
SEEDS, MANY_SEEDS, BLOCK = {"sqlite": 200, "postgresql": 40}, 2_000, 40
BLOCKS = [(kind, first) for kind, seeds in SEEDS.items() for first in range(0, seeds, BLOCK)]
MANY_BLOCKS = [(kind, first) for kind, seeds in SEEDS.items() for first in range(seeds, MANY_SEEDS, BLOCK)]
STEPS = 45
CROWDED_STEPS = 60
ROUNDS = 60
MEMORY = Path("/dev/shm")
SECONDS_US = 1_000_000
MIDNIGHT_US = NOW_US - NOW_US % 86_400_000_000 + 86_400_000_000


@dataclass
class Office:
    """The bill, by the UTC day on which a call was sent."""

    cap: int
    now_us: int
    row: int  # the most that a row can cost
    bill: Counter[str] = field(default_factory=Counter)

    def charge(self, sent_us: int, pico: int) -> None:
        self.bill[day_of(sent_us)] += pico

    def check(self, seed: int) -> None:
        for day, pico in self.bill.items():
            assert pico <= self.cap, f"seed {seed}: {pico} on the bill of {day}, and the cap is {self.cap}"


@dataclass
class SharedOffice(Office):
    """One that several threads charge: what is on the bill is compared with the cap at each charge."""

    lock: Lock = field(default_factory=Lock)

    def charge(self, sent_us: int, pico: int) -> None:
        with self.lock:
            super().charge(sent_us, pico)
            self.check(0)


@dataclass
class Call:
    op: SendIntent
    cost: int | None = None  # None while the service works on it


@dataclass
class Batch:
    name: str
    fence: Fence
    idxs: list[int]
    sent_us: int
    worst: int
    costs: dict[int, int] = field(default_factory=dict)
    read: int = 0


class Worker:
    """What one process does, a step at a time. Everything but the store is lost when it is killed."""

    def __init__(self, store: Store, office: Office, dice: random.Random, name: str, chunks: int = 3) -> None:
        self.store, self.office, self.dice, self.name = store, office, dice, name
        self.run: Run = staged_run(store, *[12] * chunks, name=name)
        self.chunk: ClaimedChunk | None = None
        self.free: list[int] = []
        self.calls: list[Call] = []
        self.batches: list[Batch] = []
        self.tries = 1
        self.met: Counter[str] = Counter()

    def step(self) -> None:
        self.dice.choices(
            [self.send, self.answer, self.settle, self.submit, self.read, self.kill], [5, 5, 5, 1, 3, 1]
        )[0]()

    def worst(self) -> int:
        """Mostly as much as a row may cost here; answers at full length."""
        most = self.office.row
        return self.dice.choice([most, most, self.dice.randint(1, most)])

    def send(self) -> None:
        if not self.free:
            self.claim()
        idxs = [self.free.pop() for _ in range(min(len(self.free), self.dice.randint(1, 8)))]
        ops = [self.intent(idx) for idx in idxs]
        for op, verdict in zip(ops, self.commit(ops), strict=True):
            if verdict is Verdict.STORED:
                self.calls.append(Call(op))
            elif verdict is Verdict.OVER_BUDGET:
                self.met["refused"] += 1
                self.free.append(op.idx)

    def intent(self, idx: int) -> SendIntent:
        assert self.chunk is not None
        self.tries += 1
        return replace(
            send(self.chunk.fence, idx, try_=self.tries, worst_pico=self.worst()), at_us=self.office.now_us
        )

    def commit(self, ops: list[SendIntent] | list[Settlement]) -> list[Verdict]:
        """At times the answer of the commit is lost, and it is done again."""
        verdicts = self.store.commit_group(self.run.id, ops)
        return self.store.commit_group(self.run.id, ops) if self.dice.random() < 0.1 else verdicts

    def claim(self) -> None:
        self.chunk, self.free = self.store.claim_next(self.run.id, self.office.now_us, PRICES), []
        if self.chunk is not None:
            rows = range(self.chunk.first_idx, self.chunk.first_idx + self.chunk.n)
            self.free = [idx for idx in rows if idx not in self.chunk.taken]

    def answer(self) -> None:
        """The service ends some calls and lines of batches: from then on they are on the bill."""
        for call in self.calls:
            if call.cost is None and self.dice.random() < 0.6:
                call.cost = self.price(call.op.worst_pico or 0)
                self.office.charge(call.op.at_us, call.cost)
        for batch in self.batches:
            for idx in batch.idxs:
                if idx not in batch.costs:
                    batch.costs[idx] = self.price(batch.worst // len(batch.idxs))
                    self.office.charge(batch.sent_us, batch.costs[idx])

    def price(self, worst: int) -> int:
        return self.dice.choice([worst, worst, self.dice.randint(0, worst)])

    def settle(self) -> None:
        done = [call for call in self.calls if call.cost is not None]
        ops = [
            ended(call.op.fence, call.op.idx, try_=call.op.try_, booking=spend(call.cost), cost_pico=call.cost)
            for call in done
        ]
        self.commit([replace(op, at_us=self.office.now_us) for op in ops])
        self.calls = [call for call in self.calls if call.cost is None]

    def submit(self) -> None:
        """The free rows of a chunk nobody else has hands on, as one batch."""
        if not self.calls:
            self.claim()
        if not self.free or self.calls or self.chunk is None:
            return
        name = f"{self.name[:4]}{self.dice.getrandbits(40):08x}"
        idxs, worst = sorted(self.free), self.worst() * len(self.free)
        new = packing(self.run, name, (self.chunk, idxs), worst_pico=worst, at_us=self.office.now_us, workspace=name)
        if self.store.intend(new, 0) is IntentVerdict.STORED:
            self.met["batches"] += 1
            self.batches.append(Batch(name, self.chunk.fence, idxs, self.office.now_us, worst))
            self.store.received(name, remote(f"msgbatch_{name}", len(idxs)), self.office.now_us)
            self.free, self.chunk = [], None

    def read(self) -> None:
        """A portion of an ended batch's lines, or its end."""
        for batch in [one for one in self.batches if len(one.costs) == len(one.idxs)]:
            self.store.batch_ended(batch.name, remote(f"msgbatch_{batch.name}", len(batch.idxs), "ended"))
            part = batch.idxs[batch.read : batch.read + self.dice.randint(1, 5)]
            lines = [self.line(batch, idx) for idx in part]
            if part and self.store.ingest(self.run.id, batch.name, FIRST_EPOCH, lines):
                batch.read += len(part)
            elif not part and self.store.ingested(self.run.id, batch.name, FIRST_EPOCH, self.office.now_us):
                self.batches.remove(batch)

    def line(self, batch: Batch, idx: int) -> Settlement:
        booking = spend(batch.costs[idx], key=f"{batch.name}-{idx}")
        told = ended(batch.fence, idx, booking=booking, cost_pico=batch.costs[idx])
        return replace(told, at_us=self.office.now_us)

    def kill(self) -> None:
        """Calls that were out may be answered and billed, and nobody will ever hear of it; then it starts again."""
        for call in self.calls:
            if call.cost is None and self.dice.random() < 0.5:
                self.office.charge(call.op.at_us, self.price(call.op.worst_pico or 0))
        self.met["killed"] += len(self.calls)
        self.calls, self.free, self.chunk = [], [], None
        self.store.release_running(self.run.id)


def play(stores: list[Store], name: str, seed: int) -> Counter[str]:
    """One interleaving; what happened in it."""
    dice = random.Random(f"{os.environ.get('RUNNER_TEST_SEED', '1')}:budgets:{seed}")
    # Far apart, so that each seed has days of its own; now and then just before midnight.
    cap = dice.randint(2_000, 9_000)
    start_us = MIDNIGHT_US + seed * 10 * 86_400 * SECONDS_US
    office = Office(cap=cap, row=cap // dice.choice([8, 20, 60]), now_us=start_us)
    office.now_us -= dice.choice([1, 20, 4_000]) * SECONDS_US
    stores[0].set_job_caps(name, office.cap, None)
    workers = [Worker(store, office, dice, name) for store in stores]
    for _ in range(STEPS):
        office.now_us += dice.randrange(3) * SECONDS_US
        dice.choice(workers).step()
        office.check(seed)
        within_the_cap(stores[0], name, office, seed)
    balance(stores[0], workers, office, name, seed)
    told = sum((worker.met for worker in workers), Counter[str]())
    return told + Counter({"midnights": len(office.bill) > 1})


def within_the_cap(store: Store, name: str, office: Office, seed: int) -> None:
    for row in rows_of(store, "budgets", scope=[f"job:{name}"]):
        if row["period"] in office.bill:
            assert row["spent_pico"] + row["committed_pico"] <= office.cap, f"seed {seed}: {row}"
            assert row["committed_pico"] >= 0, f"seed {seed}: {row}"


def balance(store: Store, workers: list[Worker], office: Office, name: str, seed: int) -> None:
    """What the budgets say is what the books and the open reservations say; no charge is in neither."""
    runs = {worker.run.id for worker in workers}
    lines = rows_of(store, "ledger", run=runs)
    open_ = sum(one["worst_pico"] for one in rows_of(store, "sends", run=runs))
    open_ += sum(one["reserved_pico"] for one in rows_of(store, "batches", run=runs))
    unknown = sum(line["bound_pico"] or 0 for line in lines if line["cost_pico"] is None)
    spent = sum(line["cost_pico"] or 0 for line in lines)
    of_days = [row for row in rows_of(store, "budgets", scope=[f"job:{name}"]) if len(row["period"]) == 10]
    assert sum(row["spent_pico"] for row in of_days) == spent, f"seed {seed}"
    assert sum(row["committed_pico"] for row in of_days) == unknown + open_, f"seed {seed}"
    assert sum(office.bill.values()) <= spent + unknown + open_, f"seed {seed}"


@contextmanager
def opened(url: str) -> Iterator[list[Store]]:
    """A store for each worker, all of one database."""
    with ExitStack() as stack:
        first = stack.enter_context(ready_store(url))
        yield [first, *(stack.enter_context(Store.open(url)) for _ in range(WORKERS - 1))]


def played(url: str, first: int) -> None:
    met: Counter[str] = Counter()
    with opened(url) as stores:
        for seed in range(first, first + BLOCK):
            met += play(stores, f"job-{seed}", seed)
    assert {"refused", "killed", "batches", "midnights"} <= met.keys(), met


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database. SQLite's lies in memory where there is such a folder: nobody pulls a plug here."""
    if kind == "postgresql":
        yield str(request.getfixturevalue("pg_url"))
        return
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else tmp_path) as folder:
        yield f"sqlite:///{folder}/runner.db"


@pytest.mark.parametrize(("kind", "first"), BLOCKS)
def test_the_bill_never_passes_the_cap(url: str, first: int) -> None:
    played(url, first)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "first"), MANY_BLOCKS)
def test_the_bill_never_passes_the_cap_in_thousands_of_interleavings(url: str, first: int) -> None:
    played(url, first)


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind in SEEDS for seed in range(3)])
def test_the_bill_never_passes_the_cap_when_all_work_at_the_same_moment(url: str, seed: int) -> None:
    """In threads, whose transactions meet in the database and nowhere else."""
    with opened(url) as stores, ThreadPoolExecutor(WORKERS) as threads:
        office = SharedOffice(cap=6_000, row=300, now_us=NOW_US)
        stores[0].set_job_caps("crowded", office.cap, None)
        workers = [
            Worker(store, office, random.Random(f"{seed}:{n}"), "crowded", chunks=6) for n, store in enumerate(stores)
        ]

        def work(worker: Worker) -> None:
            for _ in range(CROWDED_STEPS):
                worker.step()

        list(threads.map(work, workers))
        balance(stores[0], workers, office, "crowded", seed)
    met = sum((worker.met for worker in workers), Counter[str]())
    assert "refused" in met, met


@pytest.mark.parametrize("kind", SEEDS)
def test_of_those_who_ask_at_the_same_moment_one_gets_the_last_room(url: str) -> None:
    """Round by round there is room for one call more, and all ask for it at once."""
    worst, start = 100, Barrier(WORKERS)
    with opened(url) as stores, ThreadPoolExecutor(WORKERS) as threads:
        runs = [staged_run(store, ROUNDS, name="crowded") for store in stores]
        fences = [claim(store, run).fence for store, run in zip(stores, runs, strict=True)]

        def ask(worker: int, idx: int) -> Verdict:
            op = send(fences[worker], idx, worst_pico=worst)
            start.wait()
            return stores[worker].commit_group(runs[worker].id, [op])[0]

        for idx in range(ROUNDS):
            stores[0].set_job_caps("crowded", (idx + 1) * worst, None)
            verdicts = list(threads.map(ask, range(WORKERS), [idx] * WORKERS))
            assert sorted(verdicts) == sorted([Verdict.STORED, *[Verdict.OVER_BUDGET] * (WORKERS - 1)]), idx


@pytest.mark.parametrize("seed", range(3))
def test_nearly_all_of_a_cap_is_used(store_url: str, seed: int) -> None:
    """Three workers until none of them has room: at most a row's worth is left, and nothing is held back."""
    dice = random.Random(seed)
    with opened(store_url) as stores:
        office = Office(cap=5_000, row=50, now_us=NOW_US)
        stores[0].set_job_caps("thrifty", office.cap, None)
        workers = [Worker(store, office, dice, "thrifty", chunks=8) for store in stores]
        idle = 0
        while idle < 4 * WORKERS:
            worker = dice.choice(workers)
            before = office.bill.total()
            for act in (worker.send, worker.answer, worker.settle):
                act()
            idle = 0 if office.bill.total() > before else idle + 1
            office.check(seed)
        assert not rows_of(stores[0], "sends")
        assert office.bill.total() >= 0.97 * office.cap
