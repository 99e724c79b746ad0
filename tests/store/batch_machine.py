"""Submissions in random steps on several stores at once, beside a model made of plain dicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.domain.run import Run
from runner.domain.states import RIDING_BATCH, BatchState
from runner.store.store import Store
from runner.store.submissions import IntentVerdict
from tests.store import building
from tests.store.building import COST_PICO, NOW_US, PRICES, WORST_PICO, line_of, packing, remote, rows_of

Deed = Callable[[Store, Run], Any]
NUMBERS = count()  # one store has many lives, and names are for ever
LINES = ["success", "success", "failure", "again", "lost"]


@dataclass
class Sub:
    """A submission as it should stand."""

    name: str
    rows: list[int]
    state: BatchState = BatchState.SENDING
    epoch: int = 1
    upto: int = 0

    @property
    def worst_pico(self) -> int:
        return WORST_PICO * len(self.rows)


@dataclass
class Model:
    """What the stores should hold. `results` are the kinds of lines by row."""

    sizes: list[int] = field(default_factory=list)
    cap: int | None = None
    subs: list[Sub] = field(default_factory=list)
    results: dict[int, str] = field(default_factory=dict)
    spent: int = 0
    bounds: int = 0

    def span(self, seq: int) -> range:
        first = sum(self.sizes[:seq])
        return range(first, first + self.sizes[seq])

    def riding(self) -> list[int]:
        return [idx for sub in self.subs if sub.state in RIDING_BATCH for idx in sub.rows]

    def free(self, seq: int) -> list[int]:
        taken = {*self.results, *self.riding()}
        return [idx for idx in self.span(seq) if idx not in taken]

    @property
    def committed(self) -> int:
        return self.bounds + sum(sub.worst_pico for sub in self.subs if sub.state in RIDING_BATCH)


class BatchesOfTwoStores(RuleBasedStateMachine):
    """Every step is done on all stores and on the model; after each, all say the same."""

    def __init__(self, stores: Sequence[Store]) -> None:
        super().__init__()
        self.stores = stores
        self.runs: list[Run] = []
        self.model = Model()
        self.last: Deed | None = None
        self.workspace = f"w{next(NUMBERS)}"  # one POST at a time in each: other lives are no concern of this one

    def done(self, deed: Deed) -> Any:
        """On every store; what it gives is the same everywhere."""
        told = [deed(store, run) for store, run in zip(self.stores, self.runs, strict=True)]
        assert all(one == told[0] for one in told)
        self.last = deed
        return told[0]

    def one_in(self, data: st.DataObject, *states: BatchState) -> Sub | None:
        found = [sub for sub in self.model.subs if sub.state in states]
        return data.draw(st.sampled_from(found)) if found else None

    @initialize(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3), cap=st.sampled_from([10**9, 3_500]))
    def create(self, sizes: list[int], cap: int) -> None:
        self.model = Model(sizes=sizes, cap=cap)
        self.runs = [building.staged_run(store, *sizes, budget_pico=cap) for store in self.stores]

    # --- before and after the POST

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        model = self.model
        claimed = self.done(building.free_chunk)
        self.last = None
        seq = next((seq for seq in range(len(model.sizes)) if model.free(seq)), None)
        if seq is None:
            assert claimed is None
            return
        assert (claimed.fence.seq, set(model.span(seq)) - claimed.taken) == (seq, set(model.free(seq)))
        rows = sorted(data.draw(st.sets(st.sampled_from(model.free(seq)), min_size=1)))
        sub = Sub(name=f"{next(NUMBERS):010}", rows=rows)
        verdict = self.done(
            lambda store, run: store.intend(
                packing(run, sub.name, (claimed, rows), worst_pico=sub.worst_pico, workspace=self.workspace),
                NOW_US - 1,
            )
        )
        expected = IntentVerdict.STORED
        if any(one.state is BatchState.SENDING for one in model.subs):
            expected = IntentVerdict.BUSY
        elif model.cap is not None and model.cap - model.spent - model.committed < sub.worst_pico:
            expected = IntentVerdict.OVER_BUDGET
        assert verdict is expected
        if verdict is IntentVerdict.STORED:
            model.subs.append(sub)
        else:
            self.done(lambda store, run: store.release_running(run.id))

    @rule(data=st.data(), end=st.sampled_from(["accepted", "refused", "not_sent", "unknown"]))
    def answer(self, data: st.DataObject, end: str) -> None:
        sub = self.one_in(data, BatchState.SENDING)
        if sub is None:
            return
        to = BatchState(end)
        if to is BatchState.ACCEPTED:
            self.done(lambda store, _: store.received(sub.name, remote(f"b-{sub.name}", len(sub.rows)), NOW_US))
        elif to is BatchState.UNKNOWN:
            self.done(lambda store, _: store.end_unknown(sub.name))
        else:
            self.done(lambda store, run: store.not_made(run.id, sub.name, to))
        sub.state = to

    @rule(data=st.data(), end=st.sampled_from(["claimed", "answered late", "absent", "let go"]))
    def settle(self, data: st.DataObject, end: str) -> None:
        sub = self.one_in(data, BatchState.UNKNOWN)
        if sub is None:
            return
        batch = remote(f"b-{sub.name}", len(sub.rows))
        if end == "claimed":
            assert self.done(lambda store, _: store.claim_batch(sub.name, batch))
        elif end == "answered late":
            self.done(lambda store, _: store.received(sub.name, batch, NOW_US))
        elif end == "absent":
            assert self.done(lambda store, run: store.absent(run.id, sub.name))
        else:
            self.let_go(sub)
        sub.state = BatchState.CLAIMED if end in {"claimed", "answered late"} else BatchState.ABSENT
        self.last = None if end != "answered late" else self.last  # the others tell that it was done before

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """Somebody has deleted it."""
        sub = self.one_in(data, BatchState.ACCEPTED, BatchState.CLAIMED)
        if sub is not None:
            self.let_go(sub)
            sub.state = BatchState.ABSENT

    def let_go(self, sub: Sub) -> None:
        told = {"model": building.MODEL, "price_version": PRICES, "now_us": NOW_US}
        assert self.done(lambda store, run: store.let_go(run.id, sub.name, **told))  # type: ignore[arg-type]
        self.model.bounds += sub.worst_pico
        self.last = None

    # --- results

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        sub = self.one_in(data, BatchState.ACCEPTED, BatchState.CLAIMED)
        if sub is not None:
            ended = remote(f"b-{sub.name}", len(sub.rows), status="ended", ended_us=NOW_US)
            self.done(lambda store, _: store.batch_ended(sub.name, ended))
            sub.state = BatchState.ENDED

    @rule(data=st.data(), stale=st.booleans(), most=st.integers(1, 3))
    def read(self, data: st.DataObject, stale: bool, most: int) -> None:
        sub = self.one_in(data, BatchState.ENDED)
        if sub is None or not (rows := [idx for idx in sub.rows if idx >= sub.upto][:most]):
            return
        kinds = {idx: data.draw(st.sampled_from(LINES)) for idx in rows}
        lines = [
            line_of(sub.name, kind, self.seq_of(idx), idx, try_=1 + self.model.subs.index(sub))
            for idx, kind in kinds.items()
        ]
        epoch = sub.epoch - stale
        assert self.done(lambda store, run: store.ingest(run.id, sub.name, epoch, lines)) is not stale
        if stale:
            return
        sub.upto = rows[-1] + 1
        for idx, kind in kinds.items():
            self.model.spent += COST_PICO * (kind == "success")
            self.model.bounds += WORST_PICO * (kind == "lost")
            if kind != "again":
                self.model.results[idx] = kind

    def seq_of(self, idx: int) -> int:
        return next(seq for seq in range(len(self.model.sizes)) if idx in self.model.span(seq))

    @rule(data=st.data(), stale=st.booleans())
    def all_read(self, data: st.DataObject, stale: bool) -> None:
        sub = self.one_in(data, BatchState.ENDED)
        if sub is None:
            return
        epoch = sub.epoch - stale
        assert self.done(lambda store, run: store.ingested(run.id, sub.name, epoch, NOW_US)) is not stale
        if not stale:
            sub.state = BatchState.INGESTED

    # --- deaths and lost answers

    @rule()
    def take_up(self) -> None:
        self.done(lambda store, run: [(one.id, one.state) for one in store.take_up_submissions(run.id)])
        self.last = None
        for sub in self.model.subs:
            if sub.state is BatchState.SENDING:
                sub.state = BatchState.UNKNOWN
            if sub.state in RIDING_BATCH:
                sub.epoch += 1

    @precondition(lambda self: self.last is not None)
    @rule()
    def replay(self) -> None:
        before = [building.whole_store(store) for store in self.stores]
        assert self.last is not None
        self.done(self.last)
        assert [building.whole_store(store) for store in self.stores] == before

    # --- what holds after each step

    @invariant()
    def stores_say_what_the_model_says(self) -> None:
        for store, run in zip(self.stores, self.runs, strict=True):
            told = {one.id: (one.state, one.epoch, one.read_upto) for one in store.submissions_of(run.id)}
            assert told == {sub.name: (sub.state, sub.epoch, sub.upto) for sub in self.model.subs}
            found = {row.result.idx for row in store.exported(run)}
            assert found == set(self.model.results)
            assert building.budget(store, run) == (self.model.spent, self.model.committed)
            chunks = [row for row in rows_of(store, "chunks") if row["run"] == run.id]
            riding = self.model.riding()
            for seq, chunk in enumerate(sorted(chunks, key=lambda row: row["seq"])):
                span = self.model.span(seq)
                assert chunk["riding"] == sum(idx in span for idx in riding)
                assert (chunk["state"] == "done") is all(idx in self.model.results for idx in span)

    @invariant()
    def no_row_rides_twice_and_none_that_has_ended_goes_again(self) -> None:
        riding = self.model.riding()
        assert len(riding) == len(set(riding))

    @invariant()
    def what_is_committed_stays_within_the_cap(self) -> None:
        if self.model.cap is not None:
            assert self.model.spent + self.model.committed <= self.model.cap + WORST_PICO * len(self.model.results)
