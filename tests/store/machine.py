"""A run's life in random steps on several stores at once, beside a model made of plain dicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.domain.booking import BookingKind
from runner.domain.run import Run
from runner.domain.states import RowStatus
from runner.store.group import Fence, Operation, SendIntent, Settlement, Verdict
from runner.store.store import Store
from tests.store import building
from tests.store.building import COST_PICO, NOW_US, PRICES, WORST_PICO, rows_of, spend

ENDS = ["success", "success", "failure", "truncated", "retry", "maybe billed", "turn", "released"]


@dataclass
class Chunk:
    first_idx: int
    n: int
    state: str = "pending"
    epoch: int = 0


@dataclass
class Model:
    """What the stores should hold."""

    chunks: list[Chunk]
    cap: int | None
    sends: dict[tuple[int, int], SendIntent] = field(default_factory=dict)
    results: dict[int, tuple[RowStatus, bytes | None]] = field(default_factory=dict)
    ledger: dict[str, tuple[str, int | None, int | None]] = field(default_factory=dict)
    attempts: set[tuple[int, int]] = field(default_factory=set)
    round: int = 1

    def chunk(self, idx: int) -> Chunk:
        return next(c for c in self.chunks if c.first_idx <= idx < c.first_idx + c.n)

    def spent(self) -> int:
        return sum(cost or 0 for _, cost, _ in self.ledger.values())

    def committed(self) -> int:
        bounds = sum(bound or 0 for _, cost, bound in self.ledger.values() if cost is None)
        return bounds + sum(send.worst_pico or 0 for send in self.sends.values())

    def open_rows(self) -> list[int]:
        """Rows that may be sent under their chunk's fence."""
        return [
            idx
            for chunk in self.chunks
            if chunk.state == "running"
            for idx in range(chunk.first_idx, chunk.first_idx + chunk.n)
            if idx not in self.results
        ]

    def claim(self) -> tuple[int, Chunk] | None:
        found = next(((seq, c) for seq, c in enumerate(self.chunks) if c.state == "pending"), None)
        if found is None:
            return None
        chunk = found[1]
        chunk.state, chunk.epoch = "running", chunk.epoch + 1
        for (idx, epoch), send in list(self.sends.items()):
            if self.chunk(idx) is chunk:
                del self.sends[idx, epoch]
                self.ledger[key_of(send)] = ("unknown", None, send.worst_pico)
                self.attempts.add((idx, send.try_))
        return found

    def commit(self, operations: Sequence[Operation]) -> list[Verdict]:
        holding = {(seq, c.epoch) for seq, c in enumerate(self.chunks) if c.state in {"running", "done"}}
        for op in operations:
            if isinstance(op, Settlement):
                self.sends.pop((op.idx, op.fence.epoch), None)
        for op in operations:
            if isinstance(op, Settlement):
                self.settle(op, (op.fence.seq, op.fence.epoch) in holding)
        for chunk in self.chunks:
            if all(idx in self.results for idx in range(chunk.first_idx, chunk.first_idx + chunk.n)):
                chunk.state = "done"
        sending = {(seq, c.epoch) for seq, c in enumerate(self.chunks) if c.state == "running"}
        return [
            self.send(op, (op.fence.seq, op.fence.epoch) in sending)
            if isinstance(op, SendIntent)
            else (Verdict.STORED if (op.fence.seq, op.fence.epoch) in holding else Verdict.FENCED)
            for op in operations
        ]

    def settle(self, op: Settlement, holds: bool) -> None:
        taken = False
        if op.result is not None and op.idx not in self.results:
            taken = holds or op.result.status is RowStatus.SUCCEEDED
        if taken and op.result is not None:
            self.results[op.idx] = (op.result.status, op.message)
        if holds and op.attempt is not None:
            self.attempts.add((op.idx, op.try_))
        if op.booking is not None:
            beaten = op.result is not None and not taken and op.booking.kind is BookingKind.SPEND
            kind = BookingKind.DUPLICATE if beaten else op.booking.kind
            self.ledger.setdefault(key_of(op), (kind, op.booking.cost_pico, op.booking.bound_pico))

    def send(self, op: SendIntent, holds: bool) -> Verdict:
        if not holds:
            return Verdict.FENCED
        if self.cap is not None and op.worst_pico is None:
            return Verdict.UNBOUNDED
        if self.cap is not None and self.cap - self.spent() - self.committed() < (op.worst_pico or 0):
            return Verdict.OVER_BUDGET
        self.sends[op.idx, op.fence.epoch] = op
        return Verdict.STORED

    def open_round(self) -> int:
        failed = [idx for idx, (status, _) in self.results.items() if status is not RowStatus.SUCCEEDED]
        for idx in failed:
            del self.results[idx]
            self.chunk(idx).state = "pending"
        self.round += 1
        return len(failed)


def key_of(op: SendIntent | Settlement) -> str:
    return f"{op.idx}.{op.fence.epoch}.{op.try_}.{op.turn}"


class RunsOfTwoStores(RuleBasedStateMachine):
    """Every step is done on all stores and on the model; after each, all say the same."""

    def __init__(self, stores: Sequence[Store]) -> None:
        super().__init__()
        self.stores = stores
        self.runs: list[Run] = []
        self.model = Model([], None)
        self.calls: list[SendIntent] = []  # sent and not settled, under whichever fence
        self.last_try: dict[int, int] = {}
        self.last_group: tuple[list[Operation], list[Verdict]] | None = None
        self.final: dict[int, tuple[RowStatus, bytes | None]] = {}
        self.epochs: list[int] = []

    def alike(self, answers: Sequence[Any]) -> Any:
        assert all(answer == answers[0] for answer in answers)
        return answers[0]

    @initialize(
        sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        cap=st.sampled_from([None, 10**9, 2_500, 4_000]),
    )
    def create(self, sizes: list[int], cap: int | None) -> None:
        self.runs = [building.staged_run(store, *sizes, budget_pico=cap) for store in self.stores]
        firsts = [sum(sizes[:seq]) for seq in range(len(sizes))]
        chunks = [Chunk(first_idx=first, n=n) for first, n in zip(firsts, sizes, strict=True)]
        self.model = Model(chunks, cap)
        self.epochs = [0] * len(chunks)

    @rule()
    def claim(self) -> None:
        claimed = self.alike(
            [s.claim_next(run.id, NOW_US, PRICES) for s, run in zip(self.stores, self.runs, strict=True)]
        )
        expected = self.model.claim()
        self.last_group = None
        if expected is None:
            assert claimed is None
            return
        seq, chunk = expected
        assert claimed.fence == Fence(seq=seq, epoch=chunk.epoch)
        span = range(chunk.first_idx, chunk.first_idx + chunk.n)
        assert claimed.taken == {idx for idx in span if idx in self.model.results}
        for idx in span:
            tries = [try_ for row, try_ in self.model.attempts if row == idx]
            if tries:
                assert claimed.past[idx].last_try >= max(tries)

    @rule()
    def release(self) -> None:
        released = self.alike([s.release_running(run.id) for s, run in zip(self.stores, self.runs, strict=True)])
        assert released == sum(chunk.state == "running" for chunk in self.model.chunks)
        for chunk in self.model.chunks:
            if chunk.state == "running":
                chunk.state = "pending"
        self.last_group = None

    @rule(data=st.data())
    def group(self, data: st.DataObject) -> None:
        """Some calls end, in time or late, and some rows are sent."""
        ends = data.draw(st.lists(st.sampled_from(self.calls), unique_by=id, max_size=3)) if self.calls else []
        settled = {(call.idx, call.fence.epoch) for call in ends}
        free = [
            idx
            for idx in self.model.open_rows()
            if (where := (idx, self.model.chunk(idx).epoch)) not in self.model.sends or where in settled
        ]
        rows = data.draw(st.lists(st.sampled_from(free), unique=True, max_size=4)) if free else []
        operations: list[Operation] = [self.end(call, data.draw(st.sampled_from(ENDS))) for call in ends]
        operations += [self.intent(idx, data) for idx in rows]
        operations = data.draw(st.permutations(operations))
        self.calls = [call for call in self.calls if not any(call is end for end in ends)]
        self.commit(operations)

    def end(self, call: SendIntent, how: str) -> Settlement:
        place: dict[str, Any] = {"try_": call.try_}
        if how in {"success", "truncated"}:
            status = RowStatus.SUCCEEDED if how == "success" else RowStatus.TRUNCATED
            message = b"answer to " + key_of(call).encode()
            return building.ended(call.fence, call.idx, status, message=message, round=self.model.round, **place)
        if how == "failure":
            return building.ended(call.fence, call.idx, RowStatus.ERRORED, round=self.model.round, **place)
        if how == "turn":
            return building.turned(call.fence, call.idx, turn=0, **place)
        if how == "released":
            return Settlement(fence=call.fence, idx=call.idx, try_=call.try_, turn=0, at_us=NOW_US)
        unknown = spend(None, kind=BookingKind.UNKNOWN, bound_pico=call.worst_pico)
        booking = unknown if how == "maybe billed" else None
        return building.tried(call.fence, call.idx, booking=booking, round_=self.model.round, **place)

    def intent(self, idx: int, data: st.DataObject) -> SendIntent:
        chunk = self.model.chunk(idx)
        stale = chunk.epoch > 1 and data.draw(st.booleans())
        epoch = chunk.epoch - 1 if stale else chunk.epoch
        self.last_try[idx] = self.last_try.get(idx, 0) + 1
        worst = data.draw(st.sampled_from([WORST_PICO, WORST_PICO, COST_PICO, None]))
        fence = Fence(seq=self.model.chunks.index(chunk), epoch=epoch)
        return building.send(fence, idx, try_=self.last_try[idx], worst_pico=worst)

    def commit(self, operations: list[Operation]) -> None:
        verdicts = self.alike(
            [s.commit_group(run.id, operations) for s, run in zip(self.stores, self.runs, strict=True)]
        )
        assert verdicts == self.model.commit(operations)
        self.last_group = (operations, verdicts)
        self.calls += [
            op
            for op, verdict in zip(operations, verdicts, strict=True)
            if isinstance(op, SendIntent) and verdict is Verdict.STORED
        ]

    @precondition(lambda self: self.last_group is not None)
    @rule()
    def replay(self) -> None:
        assert self.last_group is not None
        operations, verdicts = self.last_group
        before = [building.whole_store(store) for store in self.stores]
        for store, run in zip(self.stores, self.runs, strict=True):
            assert store.commit_group(run.id, operations) == verdicts
        assert [building.whole_store(store) for store in self.stores] == before

    @precondition(lambda self: self.model.chunks and all(chunk.state == "done" for chunk in self.model.chunks))
    @rule()
    def open_round(self) -> None:
        for store, run in zip(self.stores, self.runs, strict=True):
            store.move_run(run.id, "all rows ended")
        moved = self.alike([s.open_round(run.id) for s, run in zip(self.stores, self.runs, strict=True)])
        assert moved == self.model.open_round()
        self.last_group = None

    @invariant()
    def stores_say_what_the_model_says(self) -> None:
        for store, run in zip(self.stores, self.runs, strict=True):
            tally = store.tally(run.id)
            ended = [status for status, _ in self.model.results.values()]
            assert (tally.done, tally.ended) == (ended.count(RowStatus.SUCCEEDED), len(ended))
            found = {row.result.idx: (row.result.status, row.message) for row in store.exported(run)}
            assert found == self.model.results
            money = store.money(run.id)
            assert (money.spent_pico, building.budget(store, run)) == (
                self.model.spent(),
                (self.model.spent(), self.model.committed()),
            )
            sends = [row for row in rows_of(store, "sends") if row["run"] == run.id]
            assert {(row["idx"], row["epoch"]) for row in sends} == set(self.model.sends)
            lines = {
                row["key"].partition(".")[2]: (row["kind"], row["cost_pico"], row["bound_pico"])
                for row in rows_of(store, "ledger")
                if row["run"] == run.id
            }
            assert lines == self.model.ledger

    @invariant()
    def exports_are_alike(self) -> None:
        if self.runs:
            self.alike([list(s.exported(run)) for s, run in zip(self.stores, self.runs, strict=True)])

    @invariant()
    def succeeded_rows_never_change(self) -> None:
        for idx, kept in self.final.items():
            assert self.model.results[idx] == kept
        self.final |= {idx: end for idx, end in self.model.results.items() if end[0] is RowStatus.SUCCEEDED}

    @invariant()
    def fences_only_go_up(self) -> None:
        for store, run in zip(self.stores, self.runs, strict=True):
            epochs = [row["epoch"] for row in rows_of(store, "chunks") if row["run"] == run.id]
            assert epochs == [chunk.epoch for chunk in self.model.chunks]
            assert all(now >= before for now, before in zip(epochs, self.epochs, strict=True))
        self.epochs = [chunk.epoch for chunk in self.model.chunks]

    @invariant()
    def what_is_committed_stays_within_the_cap(self) -> None:
        if self.model.cap is not None:
            assert self.model.spent() + self.model.committed() <= self.model.cap
