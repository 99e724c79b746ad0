"""The submission protocol against a model of the service, driven by the pure decisions alone.

Each seed is one run: rows in a few batches, answers that get lost, batches that come to be late and are listed later
still, crashes, batches of other people with as many rows, a key that looks at another workspace for a while. What
the protocol promises is checked at the end; a failure names its seed, and `explain(seed)` tells the story again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from runner.domain.batch import DAY_US, BatchStatus, next_poll_s
from runner.domain.listings import Listing, Witness, Witnesses, listing_of, wants_another_page
from runner.domain.outcome import Origin
from runner.domain.settling import (
    LISTINGS_KEPT,
    Absent,
    AskPerson,
    ClaimProvisionally,
    Evidence,
    ListAgain,
    Question,
    ReadFirstLine,
    Wait,
    decide_unknown,
)
from runner.domain.states import BATCH_MOVES, BatchState, after
from runner.domain.submission import (
    EVENT_OF_END,
    CreateReply,
    Intent,
    ServerTime,
    Timing,
    Whose,
    classify_create,
    custom_id,
    new_submission_id,
    read_first_line,
    us,
    verify_first_line,
)
from runner.domain.sweep import sweep_targets

TIMING = Timing()
MINUTE_US, HOUR_US = us(60), us(3600)
START_US = 1_800_000_000_000_000
MOST_STEPS = 20_000
HOME, ELSEWHERE = ("org", "home"), ("org", "elsewhere")


class Crash(Exception):
    """The process dies; what is not in the store is forgotten."""


@dataclass
class Remote:
    """A batch as the service has it. Times are the server's; `submission` is None for other people's."""

    id: str
    n: int
    created_us: int
    listed_us: int
    ends_us: int
    submission: str | None = None
    results: dict[int, bool] = field(default_factory=dict)
    missing_us: tuple[int, int] = (0, 0)
    place: tuple[str, str] = HOME


class Service:
    """What exists, and what it shows of that."""

    def __init__(self, rng: random.Random, *, late: bool) -> None:
        self.rng, self.late = rng, late
        self.now_us = START_US
        self.skew_us = rng.randint(-HOUR_US, HOUR_US)
        self.has_headers = rng.random() < 0.85
        self.batches: list[Remote] = []
        self.posts: list[str] = []
        self.moved_us = (0, 0)

    def spend(self, most_s: float) -> None:
        self.now_us += self.rng.randint(0, us(most_s))

    @property
    def server_us(self) -> int:
        return self.now_us + self.skew_us

    @property
    def date_us(self) -> int:
        return self.server_us // 1_000_000 * 1_000_000

    @property
    def place(self) -> tuple[str, str]:
        return ELSEWHERE if self.moved_us[0] <= self.now_us < self.moved_us[1] else HOME

    @property
    def headers(self) -> tuple[str | None, str | None]:
        return self.place if self.has_headers else (None, None)

    def make(self, n: int, created_us: int, **told: object) -> Remote:
        rng = self.rng
        delay_s = TIMING.settle_s * (3 if self.late and rng.random() < 0.5 else 0.5)
        start = created_us + rng.randint(0, 2 * HOUR_US)
        remote = Remote(
            id=f"msgbatch_{len(self.batches)}",
            n=n,
            created_us=created_us,
            listed_us=created_us + rng.choice((0, rng.randint(0, us(delay_s)), us(delay_s))),
            ends_us=created_us + rng.choice((rng.randint(0, HOUR_US), rng.randint(0, 8 * HOUR_US))),
            missing_us=(start, start + rng.randint(0, HOUR_US)) if rng.random() < 0.3 else (0, 0),
        )
        for name, value in told.items():
            setattr(remote, name, value)
        self.batches.append(remote)
        return remote

    def make_ours(self, submission: str, rows: list[int], after_s: float = 0.0) -> Remote:
        created_us = self.server_us + self.rng.randint(0, us(after_s))
        results = {idx: self.rng.random() < 0.9 for idx in rows}
        return self.make(len(rows), created_us, submission=submission, results=results)

    def status(self, remote: Remote) -> BatchStatus:
        ended = self.server_us >= remote.ends_us
        return BatchStatus(
            id=remote.id,
            status="ended" if ended else "in_progress",
            counts={"processing": 0 if ended else remote.n, "succeeded": remote.n if ended else 0},
            created_us=remote.created_us,
        )

    def listed(self) -> list[BatchStatus]:
        shown = [r for r in self.batches if r.place == self.place and r.listed_us <= self.server_us]
        return [self.status(remote) for remote in sorted(shown, key=lambda r: -r.created_us)]

    def find(self, batch_id: str) -> Remote | None:
        """None is a 404."""
        for remote in self.batches:
            if remote.id == batch_id and remote.place == self.place:
                hidden = remote.missing_us[0] <= self.server_us < remote.missing_us[1]
                return None if hidden or remote.created_us > self.server_us else remote
        return None

    def first_line(self, remote: Remote) -> bytes:
        rows = sorted(remote.results, key=lambda _: self.rng.random())
        name = custom_id(remote.submission, rows[0]) if remote.submission else f"row-{self.rng.randint(0, 9)}"
        return b'{"custom_id":"%s","result":{"type":"expired"}}' % name.encode()


@dataclass
class Sub:
    """A submission as the store has it; what is under the line lives in memory."""

    intent: Intent
    rows: list[int]
    state: BatchState = BatchState.SENDING
    provider_id: str | None = None
    provisional: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()

    wake_us: int = 0
    listings: tuple[Listing, ...] = ()
    polled: dict[str, BatchStatus] = field(default_factory=dict)


OPEN = frozenset({BatchState.SENDING, BatchState.UNKNOWN, BatchState.ACCEPTED, BatchState.CLAIMED})


class Run:
    """A worker with its store: the smallest one that obeys the decisions."""

    def __init__(self, seed: int, *, late: bool, tell: bool = False) -> None:
        self.rng = random.Random(seed)
        self.service = Service(self.rng, late=late)
        self.tell = tell
        self.rows = list(range(self.rng.randint(1, 6)))
        self.size = self.rng.randint(1, 3)
        self.crashes = self.rng.randint(0, 3)
        self.subs: dict[str, Sub] = {}
        self.done: dict[int, int] = {}
        self.last_unknown_us = 0
        self.duplicates: set[str] = set()
        self.questions: set[Question] = set()
        self.witnesses = Witnesses()
        self._people_before()

    def _people_before(self) -> None:
        """Batches from before; where replies name no place there must be one, else a person would be asked."""
        service, rng = self.service, self.rng
        for _ in range(rng.randint(0 if service.has_headers else 1, 4)):
            created_us = service.server_us - rng.randint(2 * HOUR_US, 10 * DAY_US)
            service.make(self.size, created_us)
        for _ in range(rng.randint(0, 2)):
            created_us = service.server_us - rng.randint(0, 2 * HOUR_US)
            service.make(rng.randint(1, 3), created_us, place=ELSEWHERE)

    def say(self, *words: object) -> None:
        if self.tell:
            print(f"{(self.service.now_us - START_US) / 1e6:10.0f}", *words)

    # --- the loop

    def run(self) -> None:
        for _ in range(MOST_STEPS):
            try:
                if not self._step():
                    return self._sweep()
            except Crash:
                self._restart()
        raise AssertionError("the run hangs")

    def _step(self) -> bool:
        """One thing; False when all rows are done and nothing is open."""
        self._may_crash(0.01)
        bound = {idx for sub in self.subs.values() if sub.state in OPEN for idx in sub.rows}
        waiting = [idx for idx in self.rows if idx not in self.done and idx not in bound]
        if waiting and self.service.place == HOME:
            self._submit(waiting[: self.size])
            return True
        opened = [sub for sub in self.subs.values() if sub.state in OPEN]
        if not opened:
            self.service.now_us = max(self.service.now_us, self.service.moved_us[1])
            return bool(waiting)
        sub = min(opened, key=lambda one: one.wake_us)
        self.service.now_us = max(self.service.now_us, sub.wake_us)
        self._settle(sub) if sub.state is BatchState.UNKNOWN else self._poll(sub)
        return True

    def _may_crash(self, chance: float) -> None:
        if self.crashes and self.rng.random() < chance:
            self.crashes -= 1
            raise Crash

    def _restart(self) -> None:
        self.service.spend(self.rng.choice((5, 3 * 3600)))
        self.say("restarted")
        witnesses = Witnesses()
        for sub in self.subs.values():
            sub.wake_us, sub.listings, sub.polled = self.service.now_us, (), {}
            if sub.state is BatchState.SENDING:
                self._move(sub, "end unknown")
            if sub.provider_id is not None:
                witnesses = self._own_witness(witnesses, sub)
        self.witnesses = witnesses

    def _own_witness(self, witnesses: Witnesses, sub: Sub) -> Witnesses:
        remote = next(r for r in self.service.batches if r.id == sub.provider_id)
        witness = Witness(
            id=remote.id,
            created_us=remote.created_us,
            seen_us=sub.intent.intent_us,
            organization=sub.intent.organization,
            workspace=sub.intent.workspace,
        )
        return Witnesses(seen={**witnesses.seen, remote.id: witness})

    def _move(self, sub: Sub, event: str) -> None:
        self.say(sub.intent.submission, sub.state, "->", event)
        sub.state = BatchState(after(BATCH_MOVES, sub.state, event))
        if sub.state is BatchState.UNKNOWN:
            self.last_unknown_us = self.service.now_us

    # --- sending

    def _submit(self, rows: list[int]) -> None:
        service, rng = self.service, self.rng
        began_us = service.now_us
        listing = self._listing()
        self.witnesses = self.witnesses.with_listing(listing)
        if service.place != HOME:
            return
        organization, workspace = service.headers
        intent = Intent(
            submission=new_submission_id(rng.getrandbits),
            n=len(rows),
            asked=ServerTime(server_us=listing.server_us, shared_us=began_us),
            intent_us=service.now_us,
            organization=organization,
            workspace=workspace,
        )
        sub = self.subs[intent.submission] = Sub(intent=intent, rows=rows, wake_us=service.now_us)
        self._others_meanwhile(len(rows))
        self._may_crash(0.1)
        service.spend(TIMING.send_within_s)
        reply = self._post(intent.submission, rows)
        self._may_crash(0.2)
        self.say(intent.submission, rows, reply.status, reply.batch and reply.batch.id)
        state = classify_create(reply)
        self._move(sub, EVENT_OF_END[state])
        sub.wake_us = service.now_us
        if reply.batch is not None:
            sub.provider_id = reply.batch.id
            self.witnesses = self._own_witness(self.witnesses, sub)

    def _others_meanwhile(self, n: int) -> None:
        service, rng = self.service, self.rng
        if rng.random() < 0.4:
            for _ in range(rng.randint(1, 3)):
                at_us = service.server_us + rng.randint(-us(600), us(TIMING.settle_after_intent_s))
                service.make(n, at_us)
        if rng.random() < 0.15 and service.moved_us == (0, 0):
            start = service.now_us + rng.randint(us(1200), us(3000))
            service.moved_us = (start, start + rng.randint(600_000_000, 6 * HOUR_US))

    def _post(self, submission: str, rows: list[int]) -> CreateReply:
        """The one POST, and everything that can become of it."""
        service, rng = self.service, self.rng
        service.posts.append(submission)
        kind = rng.choice(("ok", "ok", "ok", "lost", "lost", "late", "500", "413", "refused", "unsent", "overloaded"))
        shaped = {"shaped": True, "origin": Origin(request_id="req_1")}
        if kind == "ok":
            service.spend(30)
            remote = service.make_ours(submission, rows)
            self._may_crash(0.2)
            return CreateReply(status=200, batch=service.status(remote))
        if kind == "refused":
            return CreateReply(status=429, error_type="rate_limit_error", **shaped)
        if kind == "overloaded":
            return CreateReply(status=529, error_type="overloaded_error", **shaped)
        if kind == "unsent":
            return CreateReply(nothing_sent=True)
        if kind == "late":
            longest_s = TIMING.create_limit_s + TIMING.window_s
            service.make_ours(submission, rows, longest_s * (4 if service.late else 1))
        elif rng.random() < 0.6:
            service.make_ours(submission, rows)
        self._may_crash(0.2)
        service.spend(TIMING.create_limit_s if kind in ("lost", "late") else 30)
        if kind == "500":
            return CreateReply(status=500, error_type="api_error", **shaped)
        return CreateReply(status=413 if kind == "413" else None)

    # --- asking

    def _listing(self) -> Listing:
        """A walk over small pages, no further than needed."""
        service, rng = self.service, self.rng
        taken_us = service.now_us
        service.spend(1)
        server_us, (organization, workspace), told = service.date_us, service.headers, service.listed()
        intents = [sub.intent for sub in self.subs.values() if sub.state is BatchState.UNKNOWN]
        page, cut = rng.randint(2, 5), 0
        while True:
            cut += page
            listing = listing_of(
                [tuple(told[:cut])],
                taken_us=taken_us,
                server_us=server_us,
                organization=organization,
                workspace=workspace,
                to_the_end=cut >= len(told),
            )
            if not wants_another_page(intents, listing, self.witnesses, TIMING):
                return listing

    def _settle(self, sub: Sub) -> None:
        evidence = self._evidence(sub)
        decision = decide_unknown(sub.intent, evidence, TIMING, now_us=self.service.now_us)
        self.say(sub.intent.submission, decision)
        self._may_crash(0.02)
        if isinstance(decision, Wait):
            sub.wake_us = decision.until_us
        elif isinstance(decision, ListAgain):
            sub.wake_us = decision.at_us
            if decision.at_us <= self.service.now_us:
                self._list()
        elif isinstance(decision, ReadFirstLine):
            self._read_line(sub, decision.batch_id)
        elif isinstance(decision, ClaimProvisionally):
            sub.provisional = frozenset(decision.batch_ids)
            self._poll_candidates(sub)
        elif isinstance(decision, Absent):
            self._move(sub, "settled and not listed")
        else:
            assert isinstance(decision, AskPerson)
            self._ask_person(sub, decision.reason)

    def _ask_person(self, sub: Sub, reason: Question) -> None:
        """Who knows the workspace: the key is put right some time, and without any proof the console is looked at."""
        self.questions.add(reason)
        self.service.now_us += HOUR_US
        if reason is Question.ELSEWHERE or (reason is Question.NO_WITNESS and self.service.late):
            self._list()
        else:
            assert reason is Question.NO_PROOF, reason
            assert not self.service.has_headers
            ours = [one.id for one in self.service.batches if one.submission == sub.intent.submission]
            sub.provider_id = ours[0] if ours else None
            self._move(sub, "found in a listing" if ours else "settled and not listed")

    def _evidence(self, sub: Sub) -> Evidence:
        others = [one for one in self.subs.values() if one is not sub]
        uncertain = [one for one in others if one.state in (BatchState.SENDING, BatchState.UNKNOWN)]
        return Evidence(
            listings=sub.listings,
            witnesses=self.witnesses,
            owned=frozenset(one.provider_id for one in self.subs.values() if one.provider_id),
            foreign=sub.foreign,
            polled=sub.polled,
            claimed_elsewhere=frozenset().union(*(one.provisional for one in uncertain)),
            rivals=tuple(one.intent for one in uncertain),
        )

    def _list(self) -> None:
        listing = self._listing()
        self.witnesses = self.witnesses.with_listing(listing)
        for sub in self.subs.values():
            if sub.state is BatchState.UNKNOWN:
                sub.listings = (*sub.listings, listing)[-LISTINGS_KEPT:]

    def _read_line(self, sub: Sub, batch_id: str) -> None:
        self.service.spend(5)
        remote = self.service.find(batch_id)
        if remote is None:
            sub.wake_us = self.service.now_us + us(TIMING.poll_s)
            return
        line = self.service.first_line(remote)
        self._may_crash(0.1)
        whose = verify_first_line(line, sub.intent.submission)
        self.say(sub.intent.submission, batch_id, whose)
        if whose is Whose.OURS:
            sub.provider_id, sub.provisional = batch_id, frozenset()
            self._move(sub, "found in a listing")
        else:
            assert whose is Whose.FOREIGN
            sub.foreign |= {batch_id}
            sub.provisional, sub.listings = sub.provisional - {batch_id}, ()

    def _poll_candidates(self, sub: Sub) -> None:
        self.service.spend(1)
        for batch_id in sub.provisional:
            remote = self.service.find(batch_id)
            if remote is not None:
                sub.polled[batch_id] = self.service.status(remote)
        sub.wake_us = self.service.now_us + us(next_poll_s(3600, sub.intent.n, TIMING.poll_s))

    def _poll(self, sub: Sub) -> None:
        self.service.spend(1)
        remote = self.service.find(sub.provider_id or "")
        if remote is None or not self.service.status(remote).has_ended:
            sub.wake_us = self.service.now_us + us(next_poll_s(3600, sub.intent.n, TIMING.poll_s))
            return
        assert remote.submission == sub.intent.submission, "results of somebody else"
        self._may_crash(0.05)
        self._move(sub, "ended")
        self._move(sub, "all lines stored")
        for idx, succeeded in remote.results.items():
            if succeeded:
                self.done[idx] = self.done.get(idx, 0) + 1

    # --- the end

    def _sweep(self) -> None:
        service = self.service
        service.now_us = max(service.now_us, self.last_unknown_us + us(TIMING.sweep_after_s), service.moved_us[1])
        owned = {sub.provider_id for sub in self.subs.values() if sub.provider_id}
        sizes = {sub.intent.n for sub in self.subs.values()}
        foreign: set[str] = set()
        while True:
            targets = sweep_targets(service.listed(), sizes, owned=owned | self.duplicates, foreign=foreign)
            assert not targets.unreadable
            for batch_id in targets.read:
                remote = service.find(batch_id)
                if remote is not None:
                    told = read_first_line(service.first_line(remote))
                    (self.duplicates if told.submission in self.subs else foreign).add(batch_id)
            if not targets.read and not targets.later:
                return
            service.now_us += HOUR_US

    @property
    def unowned(self) -> set[str]:
        """Batches that our POSTs made and that nobody owns."""
        owned = {sub.provider_id for sub in self.subs.values()}
        return {remote.id for remote in self.service.batches if remote.submission and remote.id not in owned}

    @property
    def doubled_rows(self) -> set[int]:
        """Rows that succeeded in two batches, whoever knows of them."""
        ran = [idx for r in self.service.batches if r.submission for idx, succeeded in r.results.items() if succeeded]
        return {idx for idx in ran if ran.count(idx) > 1}


def explain(seed: int, *, late: bool = False) -> None:
    """For a person with a failing seed."""
    Run(seed, late=late, tell=True).run()


def checked(seed: int, *, late: bool) -> Run:
    run = Run(seed, late=late)
    try:
        run.run()
        assert sorted(run.done) == run.rows, "a row without a result"
        assert set(run.done.values()) == {1}, "a row with two results"
        assert len(set(run.service.posts)) == len(run.service.posts), "a submission was posted twice"
        assert run.duplicates == run.unowned, "the sweep and the service disagree"
        assert late or not run.unowned, "a batch that nobody owns"
        assert late or not run.doubled_rows, "a row was paid twice"
    except BaseException as error:
        error.add_note(f"explain({seed}, late={late})")
        raise
    return run


BLOCK = 500


@pytest.mark.parametrize("first", range(0, 2_000, BLOCK))
def test_no_row_runs_twice_while_the_list_keeps_its_promise(first: int) -> None:
    for seed in range(first, first + BLOCK):
        checked(seed, late=False)


def test_the_runs_meet_what_they_are_meant_to_meet() -> None:
    runs = [checked(seed, late=False) for seed in range(100)]
    states = {sub.state for run in runs for sub in run.subs.values()}
    assert states == {BatchState.REFUSED, BatchState.NOT_SENT, BatchState.ABSENT, BatchState.INGESTED}
    assert any(sub.foreign for run in runs for sub in run.subs.values())
    assert any(Question.ELSEWHERE in run.questions for run in runs)
    assert any(run.crashes == 0 for run in runs)


def test_batches_shown_too_late_are_all_found_by_the_sweep() -> None:
    runs = [checked(seed, late=True) for seed in range(500)]
    found = [run for run in runs if run.duplicates]
    assert len(found) > 20
    assert any(run.doubled_rows for run in runs)
