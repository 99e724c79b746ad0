"""Runs in batches from a seed: creates that get lost, lists that lag, people with batches of the same size, results
that cannot be had, and a process that dies anywhere and comes back. What is promised is checked at the end.

It is the engine itself that runs here, with its store, on turned time. A failure names its seed;
`RUNNER_TEST_SEED=... pytest -k <number>` plays others, and the same again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from msgspec.structs import replace
from sqlalchemy import Connection

from runner.domain.job import DeleteAfter, WarmCache
from runner.domain.run import Run
from runner.domain.states import FINISHED_RUN, RIDING_BATCH, BatchState, PauseReason
from runner.domain.submission import Timing
from runner.files.render import Renderer
from runner.simulator import Fault, SimulatorConfig, expected_message
from runner.store.store import Store
from tests.engine.batch_house import (
    DAY_S,
    HOUR_S,
    Office,
    at_create,
    at_list,
    at_results,
    at_status,
    batch_job,
    check_rows,
    office,
)
from tests.engine.house import House
from tests.turned_clock import TurnedClock

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("long_looks", "small_chunks", "early_probes")]

SEEDS, MANY_SEEDS, BLOCK = 10, 3_000, 10
# The real times but for the pace of asking; and batches that live for hours, not for a day.
TIMING = Timing(poll_s=240.0)
EXPIRES_S = 4 * HOUR_S
# Afterwards the service is well, and whatever is open comes to an end.
TROUBLES_S = 6 * HOUR_S
MOST_STARTS = 60
LAST_S = 20 * DAY_S
GONE_WRONG = ("reset", "api_error", "html_502", "overloaded", "rate_limit", "timeout")
LOST = ("stall", "executed_reset", "executed_error", "executed_html_502", "reset_half")
MANGLED = ("results_duplicated", "results_foreign", "results_crlf", "results_blank", "results_unfinished")
# So few rows are probed for here, and with so many a shared prefix is worth priming.
PROBED_FROM, PRIMED_FROM = 2, 24
SYSTEM = "You weigh each word. " * 2_000


@pytest.fixture
def early_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.batch.ahead.PROBE_FROM", PROBED_FROM)


@dataclass
class World:
    """Everything that the dice decide, in the order in which they are thrown."""

    dice: random.Random
    rows: list[bytes] = field(default_factory=list)
    doomed: set[int] = field(default_factory=set)
    turns: set[int] = field(default_factory=set)
    job: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    kills: int = 0
    strangers: float = 0.0
    moves: bool = False
    probes: bool = False
    primes: bool = False
    deletes: bool = False

    @staticmethod
    def of(name: str) -> World:
        world = World(random.Random(name))
        world._make_rows()
        world._make_job()
        world._make_service()
        dice = world.dice
        world.kills = dice.choice((0, 1, 2, 4, 8))
        world.strangers = dice.choice((0.0, 0.02, 0.1))
        world.moves = dice.random() < 0.2
        world._make_more(random.Random(f"{name}:more"))
        return world

    def _make_rows(self) -> None:
        dice = self.dice
        for number in range(dice.randint(1, 10)):
            wish = dice.choices(
                (
                    "",
                    "[[sim:pause_turn=1]]",
                    "[[sim:flaky=1:500:api_error]]",
                    "[[sim:error=400:invalid_request_error]]",
                ),
                (10, 1, 1, 1),
            )[0]
            if "400" in wish:
                self.doomed.add(number)
            if "pause" in wish:
                self.turns.add(number)
            self.rows.append(b'{"prompt":"row %d %s"}' % (number, wish.encode()))

    def _make_job(self) -> None:
        dice = self.dice
        batch = batch_job(max_requests=dice.choice((1, 2, 3, 5, None)), max_queued=dice.choice((None, None, 6)))
        self.job = batch | {
            "limits": {"max_attempts": 90, "concurrency": 2, "stall_s": 10 * DAY_S},
            "budget_pico": dice.choice((None, 10**13)),
        }

    def _make_service(self) -> None:
        dice, s = self.dice, TIMING.settle_s
        kinds = dice.sample(GONE_WRONG, 2) + dice.sample(LOST, 3)
        faults: list[Fault] = [
            at_create(kind, first=None, probability=dice.choice((0.05, 0.25)), until_s=TROUBLES_S) for kind in kinds
        ]
        late = dice.uniform(0, TIMING.window_s)
        faults.append(at_create("batch_late", first=None, probability=0.1, lasts_s=late, until_s=TROUBLES_S))
        missing = {"status": 404, "error_type": "not_found_error", "message": "?", "until_s": TROUBLES_S}
        if dice.random() < 0.5:
            faults += [
                at_list("api_error", probability=0.2, until_s=TROUBLES_S),
                at_status("error", probability=0.2, **missing),
                at_results("error", probability=0.3, **missing),
                at_results("results_missing", probability=0.3, until_s=TROUBLES_S, first=2),
                at_results("reset", probability=0.2, until_s=TROUBLES_S),
            ]
        self.config = {
            "seed": dice.randrange(1 << 30),
            "faults": tuple(faults),
            "batch_seconds": dice.choice((0.0, 60.0, dice.uniform(0, EXPIRES_S))),
            "batch_expires_s": EXPIRES_S,
            "batch_list_delay_s": dice.choice((0.0, s / 2, s - 1)),
            "batch_404_s": dice.choice((0.0, 0.0, 90.0)),
            "batch_expired_share": dice.choice((0.0, 0.0, 0.0, 0.4)),
            "batch_errored_share": dice.choice((0.0, 0.0, 0.3)),
            "batch_queue": dice.choice((None, None, 12)),
        }

    def _make_more(self, dice: random.Random) -> None:
        """Rows that go ahead, files that are not as they should be, batches that are deleted when they are read."""
        if dice.random() < 0.4:
            kinds = dice.sample(MANGLED, 2)
            faults = tuple(at_results(kind, lines=2, probability=0.5) for kind in kinds)
            self.config["faults"] = (*self.config["faults"], *faults)
        self.probes = not self.doomed and dice.random() < 0.3
        self.primes = dice.random() < 0.2
        self.deletes = dice.random() < 0.3
        if self.primes:
            self.rows += [b'{"prompt":"more %d"}' % number for number in range(PRIMED_FROM)]
            mark = {"type": "ephemeral"}
            system = [{"type": "text", "text": SYSTEM, "cache_control": mark}]
            self.job["request"] = {"max_tokens": 200, "system": system}
            self.config |= {"batch_seconds": min(self.config["batch_seconds"], 60.0), "batch_queue": None}
        self.job["batch"] = replace(
            self.job["batch"],
            max_requests=None if self.primes else self.job["batch"].max_requests,
            probe=self.probes,
            warm_cache=WarmCache.AUTO if self.primes else WarmCache.NEVER,
            delete_after=DeleteAfter.INGEST if self.deletes else self.job["batch"].delete_after,
        )


class Life:
    """One run from its first start to its end, killed on the way."""

    def __init__(self, world: World, house: House, api: Office, run: Run) -> None:
        self.world, self.house, self.api, self.run = world, house, api, run
        self.dice = world.dice
        self.kills_left = world.kills
        self.deaths: Counter[str] = Counter()
        self.deleted = 0
        self.home: str | None = None  # the workspace of our key once the troubles are over
        self._scope: anyio.CancelScope | None = None
        self._loop = asyncio.get_running_loop()

    async def live(self) -> None:
        self.api.wire.before = self._on_the_way
        self.api.wire.after = self._done_and_unheard
        with self._deadly_commits(self.house.store):
            for _ in range(MOST_STARTS):
                await self._once()
                assert self.api.now_s < LAST_S, "the run hangs"
                if self.house.store.run_by_id(self.run.id).state in FINISHED_RUN:
                    return
                self._obey_question()
                await self.house.clock.advance(self.dice.choice((1.0, 300.0, HOUR_S)))
        raise AssertionError("the run does not come to its end")

    def _obey_question(self) -> None:
        """What was sent while the key looked elsewhere is held until somebody gives a key of that workspace."""
        run = self.house.store.run_by_id(self.run.id)
        held = [one for one in self.api.submissions(self.run) if one.question is not None]
        if held and run.pause_reason is PauseReason.UNKNOWN_BATCH:
            self.home = held[0].intent.workspace

    async def _once(self) -> None:
        with anyio.CancelScope() as self._scope:
            await self.api.work(self.run)

    # --- deaths

    def _dies(self, where: str, chance: float) -> bool:
        if not self.kills_left or self._scope is None or self.dice.random() >= chance:
            return False
        self.kills_left -= 1
        self.deaths[where] += 1
        return True

    async def _on_the_way(self, request: httpx.Request) -> None:
        await self._maybe_dies("before", request)
        if request.method == "DELETE":
            self.deleted += 1
            assert not [one for one in self.api.submissions(self.run) if one.state in RIDING_BATCH], (
                "not before all is read"
            )
        if self.dice.random() < self.world.strangers:
            size = self.dice.choice(self.api.batches).count if self.api.batches else 1
            self.api.foreign(size, self.dice.uniform(0, EXPIRES_S))
        if self.api.now_s > TROUBLES_S:
            self.api.move_key(self.home)
        elif self.world.moves and self.dice.random() < 0.05 and self._may_move():
            self.api.move_key(self.dice.choice(("wrkspc_elsewhere", None)))
        await self.house.clock.sleep(self.dice.uniform(0.0, 0.2))

    async def _done_and_unheard(self, request: httpx.Request) -> None:
        await self._maybe_dies("after", request)
        await self.house.clock.sleep(self.dice.uniform(0.0, 2.0))

    async def _maybe_dies(self, where: str, request: httpx.Request) -> None:
        if self._dies(where, 0.3 if request.method == "POST" else 0.02):
            assert self._scope is not None
            self._scope.cancel()
            await anyio.sleep_forever()

    @contextmanager
    def _deadly_commits(self, store: Store) -> Iterator[None]:
        """Now and then a transaction is the last thing that is done, or is not done any more."""
        database = store.database
        write = database.write

        def deadly(work: Callable[[Connection], Any]) -> Any:
            if self._dies("commit", 0.01):
                told = write(work)
                self._loop.call_soon_threadsafe(self._kill)
                return told
            return write(work)

        database.write = deadly  # type: ignore[method-assign]
        try:
            yield
        finally:
            database.write = write  # type: ignore[method-assign]

    def _kill(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def _may_move(self) -> bool:
        """Not in the seconds between the listing that tells where we are and the POST: nobody could see that."""
        return not any(name.endswith(".body") for name in self.api.spool_left())

    # --- what was promised

    def check(self) -> None:
        api, run, rows = self.api, self.run, len(self.world.rows)
        check_rows(api, run, rows)
        told = {row.result.idx: str(row.result.status) for row in self.house.rows(run)}
        assert told == {idx: "errored" if idx in self.world.doomed else "succeeded" for idx in range(rows)}
        self._check_answers()
        books = api.books(run)
        books.check()
        books.check_budget_row()
        states = set(api.states(run))
        final = {BatchState.INGESTED, BatchState.ABSENT, BatchState.REFUSED, BatchState.NOT_SENT}
        assert states <= final, states
        assert {(chunk.state, chunk.riding) for chunk in self.house.table("chunks")} == {("done", 0)}
        assert not [one for one in api.submissions(run) if one.question is not None]
        assert not self.house.table("candidates")
        assert not self.house.table("sends")
        assert api.spool_left() == []
        assert "batch_duplicate" not in api.names()
        self._check_strangers()

    def _check_answers(self) -> None:
        """Each row has the answer that the service gives for it and no other."""
        renderer = Renderer(self.run.job)
        config = SimulatorConfig(seed=self.api.simulator.config.seed)
        for row in self.house.rows(self.run):
            if row.message is None or row.result.idx in self.world.turns or self.world.primes:
                continue
            request = renderer.request(renderer.parse(self.world.rows[row.result.idx]), batch=True)
            expected = expected_message(config, request.body, batch=row.result.batch is not None)
            assert json.loads(row.message) == json.loads(json.dumps(expected))

    def _check_strangers(self) -> None:
        assert (self.deleted > 0) <= self.world.deletes
        theirs = {batch.id for batch in self.api.batches if batch.foreign}
        assert not theirs & {row.result.batch for row in self.house.rows(self.run)}
        assert not [batch for batch in self.api.batches if batch.foreign and batch.cancel_us is not None]


async def lived(number: int, folder: Path) -> Life:
    """The life of this number, checked."""
    name = f"{os.environ.get('RUNNER_TEST_SEED', '1')}:batches:{number}"
    world = World.of(name)
    folder.mkdir()
    clock = TurnedClock()
    try:
        with Store.open(f"sqlite:///{folder / 'runner.db'}") as store:
            house = House(folder=folder, clock=clock, store=store)
            run = house.new_run(world.rows, **world.job)
            async with office(house, timing=TIMING, **world.config) as api:
                life = Life(world, house, api, run)
                await life.live()
                life.check()
                return life
    except BaseException as error:
        error.add_note(f"seed: {name}")
        raise


async def all_of(first: int, folder: Path) -> list[Life]:
    return [await lived(number, folder / str(number)) for number in range(first, first + BLOCK)]


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
async def test_no_row_is_lost_or_paid_twice_whatever_happens_on_the_way(first: int, tmp_path: Path) -> None:
    await all_of(first, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(SEEDS, MANY_SEEDS, BLOCK))
async def test_no_row_is_lost_or_paid_twice_in_thousands_of_runs(first: int, tmp_path: Path) -> None:
    await all_of(first, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
async def test_the_runs_meet_what_they_are_meant_to_meet(tmp_path: Path) -> None:
    lives = [await lived(number, tmp_path / str(number)) for number in range(100)]
    states = {state for life in lives for state in life.api.states(life.run)}
    assert states == {BatchState.REFUSED, BatchState.ABSENT, BatchState.INGESTED}
    assert {where for life in lives for where in life.deaths} == {"before", "after", "commit"}
    names = {name for life in lives for name in life.api.names()}
    assert names >= {"batch_unknown", "batch_found", "batch_absent", "batch_missing", "batch_results_odd"}
    assert any(life.deaths.total() >= 8 for life in lives)
    assert any(batch.foreign for life in lives for batch in life.api.batches)
    assert any(life.api.live for life in lives if life.world.probes)
    assert "batch_priming" in names
    assert any(life.deleted for life in lives)
    assert any("candidate" in text for life in lives for text in life.api.texts("batch_unknown"))
    assert any("workspace" in text for life in lives for text in life.api.texts("batch_unknown"))
