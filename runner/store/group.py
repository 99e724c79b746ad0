"""The group commit: what gathered while the last commit ran, in one transaction that may be replayed.

What is there already is looked up first, and only what is not is written and counted: doing the same group twice (a
commit whose answer was lost) changes nothing the second time. The chunks' rows are locked before the look, so that
nobody else can write between it and the insert. Plain inserts of many rows have one text, whatever their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from runner.domain.booking import Booking, BookingKind
from runner.domain.budget import Admission, Changes, Payer, day_of
from runner.domain.result import RowResult
from runner.domain.states import ChunkState, RowStatus
from runner.store import budgets, ledger, prepared, queries
from runner.store.ledger import plain_text


class Fence(Struct, frozen=True, kw_only=True):
    """The right to settle a chunk's rows: valid while the chunk still has this epoch."""

    seq: int
    epoch: int


class SendIntent(Struct, frozen=True, kw_only=True):
    """Written ahead of a call. `worst_pico` is what it reserves; None where no bound can be computed."""

    fence: Fence
    idx: int
    try_: int
    turn: int
    model: str
    worst_pico: int | None
    at_us: int


class AttemptRecord(Struct, frozen=True, kw_only=True):
    """A try that failed, or was paid for without being the result."""

    round: int
    counted: bool
    kind: str
    error_type: str | None = None
    error_message: str | None = None
    request_id: str | None = None
    cost_pico: int | None = None
    latency_us: int | None = None
    message: bytes | None = None


class TurnRecord(Struct, frozen=True, kw_only=True):
    """A paid call inside an attempt that needs several."""

    message: bytes
    usage: bytes
    cost_pico: int | None


class Settlement(Struct, frozen=True, kw_only=True):
    """The end of one call: its send is taken out, and whatever it gave is stored with its cost."""

    fence: Fence
    idx: int
    try_: int
    turn: int
    at_us: int
    booking: Booking | None = None
    attempt: AttemptRecord | None = None
    turn_record: TurnRecord | None = None
    result: RowResult | None = None
    message: bytes | None = None


Operation = SendIntent | Settlement


class Verdict(StrEnum):
    """What became of an operation."""

    STORED = "stored"
    FENCED = "fenced"  # the chunk was taken over; what was paid is booked all the same
    OVER_BUDGET = "over_budget"
    UNBOUNDED = "unbounded"  # a cap is set and this call has no computable bound


def commit_group(connection: Connection, payer: Payer, operations: Sequence[Operation]) -> list[Verdict]:
    """Carry out a group of the payer's run; one verdict for each operation, in order."""
    run = payer.run
    fences = _fences(connection, run, operations)
    settled = [op for op in operations if isinstance(op, Settlement)]
    written = _written(connection, run, operations)
    taken_out = _take_out_sends(connection, run, settled, written)

    def day_of_send(op: Settlement) -> str:
        sent = taken_out.get(_call(op))
        return day_of(op.at_us if sent is None else sent.at_us)

    # A send leaves in the transaction that books it: what was still there is not in the books. That of a later try is
    # what a replay finds.
    absent = {
        _key(run, op)
        for op in settled
        if (sent := taken_out.get(_call(op))) and (sent.try_, sent.turn) == (op.try_, op.turn)
    }
    changes = settle(connection, run, settled, fences, day_of_send, absent)
    for send in taken_out.values():
        changes.commit(day_of(send.at_us), -(send.worst_pico or 0))
    sends = [op for op in operations if isinstance(op, SendIntent) and _holds(op.fence, fences.sending)]
    there = written.keys() - taken_out.keys()
    refused = _admit(connection, payer, [op for op in sends if _call(op) not in there], changes)
    return [refused.get(id(op)) or _verdict(op, fences) for op in operations]


class Fences(Struct, kw_only=True):
    """The (seq, epoch) that hold. A chunk that its last row has closed, in this group or before, takes no more
    sends, but its holder may still settle: a replay of the group that closed it must say the same."""

    sending: set[tuple[int, int]]
    settling: set[tuple[int, int]]
    left: dict[int, int]  # rows of each chunk that have not ended


_SETTLING = frozenset({ChunkState.RUNNING, ChunkState.DONE})


def _fences(connection: Connection, run: int, operations: Iterable[Operation]) -> Fences:
    seqs = {op.fence.seq for op in operations}
    found = prepared.execute(connection, queries.fences_of(), {"of_run": run, "seqs": list(seqs)}).all()
    return Fences(
        sending={(row.seq, row.epoch) for row in found if row.state == ChunkState.RUNNING},
        settling={(row.seq, row.epoch) for row in found if row.state in _SETTLING},
        left={row.seq: row.n - row.done - row.failed for row in found},
    )


def _holds(fence: Fence, fences: Collection[tuple[int, int]]) -> bool:
    return (fence.seq, fence.epoch) in fences


def _verdict(operation: Operation, fences: Fences) -> Verdict:
    held = fences.sending if isinstance(operation, SendIntent) else fences.settling
    return Verdict.STORED if _holds(operation.fence, held) else Verdict.FENCED


def settle(
    connection: Connection,
    run: int,
    settled: Sequence[Settlement],
    fences: Fences,
    day_of_call: Callable[[Settlement], str],
    absent: Collection[str] = (),
) -> Changes:
    """Store what these calls gave, as far as it is not there yet; what that changes in the budgets of the days on
    which they were sent. Keys of the ledger that are `absent` are not looked for."""
    if not settled:
        return Changes()
    dialect = connection.dialect.name
    taken = _insert_results(connection, run, settled, fences.settling)
    _tally(connection, run, taken, fences)
    holding = [op for op in settled if _holds(op.fence, fences.settling)]
    _insert_attempts(connection, dialect, run, holding)
    _insert_turns(connection, dialect, run, holding)
    return _book(connection, run, settled, taken, day_of_call, absent)


def _written(connection: Connection, run: int, operations: Sequence[Operation]) -> dict[tuple[int, int], Any]:
    """The sends of these calls that are there. In a replay those of its settlements are gone, those of its intents
    are there, and must not be refused for lack of the room that they themselves took."""
    found = prepared.execute(connection, queries.sends_of(), {"of_run": run, "idxs": [op.idx for op in operations]})
    return {(row.idx, row.epoch): row for row in found}


def _take_out_sends(
    connection: Connection, run: int, settled: Sequence[Settlement], written: Mapping[tuple[int, int], Any]
) -> dict[tuple[int, int], Any]:
    found = {call: written[call] for op in settled if (call := _call(op)) in written}
    if found:
        gone = [{"of_run": run, "of_idx": idx, "of_epoch": epoch} for idx, epoch in found]
        prepared.execute(connection, queries.delete_send(), gone)
    return found


def _insert_results(
    connection: Connection,
    run: int,
    settled: Sequence[Settlement],
    fences: Collection[tuple[int, int]],
) -> dict[int, Settlement]:
    """The ends that became their rows' results, by idx; of two in one group the earlier one.

    A fenced writer may still offer a succeeded answer: it was paid for.
    """
    offered: dict[int, Settlement] = {}
    for op in settled:
        if op.result is not None and (_holds(op.fence, fences) or op.result.status is RowStatus.SUCCEEDED):
            offered.setdefault(op.idx, op)
    if not offered:
        return {}
    asked = {"of_run": run, "idxs": list(offered)}
    there = set(prepared.execute(connection, queries.results_among(), asked).scalars())
    taken = {idx: op for idx, op in offered.items() if idx not in there}
    rows = (result_row(run, op.result, op.try_, op.at_us) for op in taken.values() if op.result is not None)
    prepared.insert_results(connection, rows)
    messages = (
        {"run": run, "idx": idx, "message": op.message} for idx, op in taken.items() if op.message is not None
    )
    prepared.insert_answers(connection, messages)
    return taken


def result_row(run: int, result: RowResult, try_: int, at_us: int) -> dict[str, Any]:
    """A result as a row of its table."""
    usage = result.usage
    return {
        "run": run,
        "idx": result.idx,
        "record": result.record,
        "variant": result.variant,
        "repeat": result.repeat,
        "round": result.round,
        "key": None if result.key is None else result.key.encode("utf-8", "surrogatepass"),
        "status": result.status,
        "stop_reason": plain_text(result.stop_reason),
        "model": plain_text(result.model),
        "input_tokens": usage and usage.input_tokens,
        "cache_write_5m": usage and usage.cache_write_5m,
        "cache_write_1h": usage and usage.cache_write_1h,
        "cache_read": usage and usage.cache_read,
        "output_tokens": usage and usage.output_tokens,
        "web_searches": usage and usage.web_searches,
        "cost_pico": result.cost_pico,
        "price_version": result.price_version,
        "request_id": plain_text(result.request_id),
        "organization": plain_text(result.organization),
        "workspace": plain_text(result.workspace),
        "try": try_,
        "attempts": result.attempts,
        "latency_us": result.latency_us,
        "batch": plain_text(result.batch),
        "error_type": plain_text(result.error_type),
        "error_message": plain_text(result.error_message),
        "same_as": result.same_as,
        "same_run": result.same_run,
        "at_us": at_us,
    }


def _tally(connection: Connection, run: int, taken: Mapping[int, Settlement], fences: Fences) -> None:
    """Count the rows that have ended; a chunk whose last one that was takes no more sends."""
    done: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    for op in taken.values():
        succeeded = op.result is not None and op.result.status is RowStatus.SUCCEEDED
        (done if succeeded else failed)[op.fence.seq] += 1
    tallies = [
        {"of_run": run, "of_seq": seq, "more_done": done[seq], "more_failed": failed[seq]}
        for seq in sorted({*done, *failed})
    ]
    if tallies:
        prepared.execute(connection, queries.tally_chunk(), tallies)
    closed = {seq for seq in {*done, *failed} if fences.left.get(seq) == done[seq] + failed[seq]}
    fences.sending = {fence for fence in fences.sending if fence[0] not in closed}


def _insert_attempts(connection: Connection, dialect: str, run: int, settled: Sequence[Settlement]) -> None:
    rows = [attempt_row(run, op.idx, op.try_, op.attempt, op.at_us) for op in settled if op.attempt]
    if rows:
        connection.execute(queries.insert_attempts(dialect), rows)


def attempt_row(run: int, idx: int, try_: int, attempt: AttemptRecord, at_us: int) -> dict[str, Any]:
    """An attempt as a row of its table."""
    return {
        "run": run,
        "idx": idx,
        "try": try_,
        "round": attempt.round,
        "counted": attempt.counted,
        "kind": attempt.kind,
        "error_type": plain_text(attempt.error_type),
        "error_message": plain_text(attempt.error_message),
        "request_id": plain_text(attempt.request_id),
        "cost_pico": attempt.cost_pico,
        "latency_us": attempt.latency_us,
        "message": attempt.message,
        "at_us": at_us,
    }


def _insert_turns(connection: Connection, dialect: str, run: int, settled: Sequence[Settlement]) -> None:
    rows = [
        {
            "run": run,
            "idx": op.idx,
            "try": op.try_,
            "turn": op.turn,
            "message": op.turn_record.message,
            "usage": op.turn_record.usage,
            "cost_pico": op.turn_record.cost_pico,
            "tool_results": None,
            "at_us": op.at_us,
        }
        for op in settled
        if op.turn_record is not None
    ]
    if rows:
        connection.execute(queries.insert_turns(dialect), rows)


def _book(
    connection: Connection,
    run: int,
    settled: Sequence[Settlement],
    taken: Mapping[int, Settlement],
    day_of_call: Callable[[Settlement], str],
    absent: Collection[str],
) -> Changes:
    """Put these calls in the books, each once. A paid answer that did not become the result was paid for twice."""
    calls: dict[str, Settlement] = {}
    lines = []
    for op in settled:
        if op.booking is not None:
            gave = op.result is not None and taken.get(op.idx) is op
            beaten = op.result is not None and not gave and op.booking.kind is BookingKind.SPEND
            booking = replace(op.booking, kind=BookingKind.DUPLICATE) if beaten else op.booking
            line = ledger.line(run, op.idx, _key(run, op), booking, op.at_us, rows=int(gave))
            calls[line.told["key"]] = op
            lines.append(line)
    changes = Changes()
    for told in ledger.book(connection, lines, absent):
        day = day_of_call(calls[told["key"]])
        if told["cost_pico"] is None:
            changes.commit(day, told["bound_pico"] or 0)
        else:
            changes.spend(day, told["cost_pico"])
    return changes


_REFUSED = {Admission.OVER: Verdict.OVER_BUDGET, Admission.UNBOUNDED: Verdict.UNBOUNDED}


def _admit(connection: Connection, payer: Payer, sends: Sequence[SendIntent], changes: Changes) -> dict[int, Verdict]:
    """Reserve and write new sends, in order, as far as the budgets and this group's `changes` to them reach, and
    write the budgets down; the verdicts of those that are refused."""
    days = {*changes.by_day, *(day_of(op.at_us) for op in sends)}
    if not days:
        return {}
    account = budgets.open_account(connection, payer, days, changes)
    refused: dict[int, Verdict] = {}
    admitted: list[SendIntent] = []
    for op in sends:
        admission = account.reserve(day_of(op.at_us), op.worst_pico)
        if admission is Admission.TAKEN:
            admitted.append(op)
        else:
            refused[id(op)] = _REFUSED[admission]
    prepared.insert_sends(connection, (_send_row(payer.run, op) for op in admitted))
    budgets.close_account(connection, account)
    return refused


def _key(run: int, op: Settlement) -> str:
    return ledger.key_of(run, op.idx, op.fence.epoch, op.try_, op.turn)


def _call(op: Operation) -> tuple[int, int]:
    return op.idx, op.fence.epoch


def _send_row(run: int, op: SendIntent) -> dict[str, Any]:
    return {
        "run": run,
        "idx": op.idx,
        "epoch": op.fence.epoch,
        "try": op.try_,
        "turn": op.turn,
        "model": plain_text(op.model),
        "worst_pico": op.worst_pico,
        "at_us": op.at_us,
    }
