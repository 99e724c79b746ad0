"""Taking chunks: the fence goes up, and calls of unknown end that an older holder left are put in the books."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from runner.domain.booking import Booking, BookingKind
from runner.domain.decide import RowHistory
from runner.domain.packing import rows_of
from runner.domain.states import ChunkState
from runner.store import batch_queries, ledger, queries
from runner.store.group import (
    AttemptRecord,
    Fence,
    attempt_row,
)
from runner.store.queries import Wanted
from runner.store.submissions import Riding


class StoredTurn(Struct, frozen=True, kw_only=True):
    """A turn that was paid for: the next call goes on after it."""

    message: bytes
    usage: bytes
    cost_pico: int | None


class PastTries(Struct, frozen=True, kw_only=True):
    """What a row has behind it: the number of its last try, its history, and the turns of an unfinished try."""

    last_try: int
    history: RowHistory
    turns: tuple[StoredTurn, ...] = ()


class ClaimedChunk(Struct, frozen=True, kw_only=True):
    """A chunk that is ours: its records' bytes, the rows that are not to be taken because they have ended or ride
    in a batch, and the past of the others by idx."""

    fence: Fence
    first_idx: int
    n: int
    first_record: int
    lines: list[bytes]
    taken: frozenset[int]
    past: Mapping[int, PastTries]


def claim_next(
    connection: Connection,
    run: int,
    now_us: int,
    price_version: str,
    wanted: Wanted = Wanted.WAITING,
    after_seq: int = -1,
) -> ClaimedChunk | None:
    """Claim the first chunk of this kind behind `after_seq` that is due; None when there is none now."""
    found = connection.execute(queries.next_claimable(run, now_us, wanted, after_seq)).first()
    return None if found is None else claim_found(connection, run, found, now_us, price_version)


def claim_found(
    connection: Connection, run: int, found: Any, now_us: int, price_version: str, worker: str | None = None
) -> ClaimedChunk:
    """Claim a chunk whose row is locked; `worker` is the member of the fleet that takes it."""
    connection.execute(queries.claim_chunk(run, found.seq, worker=worker, beat_us=now_us))
    fence = Fence(seq=found.seq, epoch=found.epoch + 1)
    span = (run, found.first_idx, found.first_idx + found.n)
    round_ = connection.execute(queries.run_by_id(run)).one().round
    lost = connection.execute(queries.sends_in(*span, fence.epoch)).all()
    _book_unknown(connection, run, lost, round_, now_us, price_version)
    payload = connection.execute(queries.payload_of(run, found.seq)).one()
    return ClaimedChunk(
        fence=fence,
        first_idx=found.first_idx,
        n=found.n,
        first_record=payload.first_record,
        lines=zlib.decompress(payload.lines).split(b"\n"),
        taken=frozenset(connection.scalars(queries.ended_in(), _bound(span))).union(_riding(connection, run, found)),
        past=past_of(connection, span, round_),
    )


def _riding(connection: Connection, run: int, chunk: Any) -> list[int]:
    if not chunk.riding:
        return []
    bitmaps = connection.scalars(batch_queries.riding_in(run, chunk.seq))
    return [idx for bits in bitmaps for idx in rows_of(chunk.first_idx, chunk.n, bits)]


def is_held(connection: Connection, run: int, fence: Fence) -> bool:
    """Whether the chunk is still open under this fence."""
    found = connection.execute(queries.fences_of(), {"of_run": run, "seqs": [fence.seq]}).first()
    return found is not None and (found.state, found.epoch) == (ChunkState.RUNNING, fence.epoch)


def book_left_over(connection: Connection, run: int, now_us: int, price_version: str) -> None:
    """Put calls of unknown end in the books whose chunk no claim will find any more."""
    round_ = connection.execute(queries.run_by_id(run)).one().round
    lost = connection.execute(queries.sends_of_ended_chunks(run)).all()
    _book_unknown(connection, run, lost, round_, now_us, price_version)


def cancel(connection: Connection, run: int, now_us: int, price_version: str) -> None:
    """Take every chunk that has not ended out of the run; calls of unknown end are put in the books."""
    round_ = connection.execute(queries.run_by_id(run)).one().round
    connection.execute(queries.cancel_chunks(run))
    lost = connection.execute(queries.all_sends(run)).all()
    _book_unknown(connection, run, lost, round_, now_us, price_version)


def _book_unknown(
    connection: Connection, run: int, lost: Sequence[Any], round_: int, now_us: int, price_version: str
) -> None:
    """A send without an end is a call whose end nobody knows: booked at its worst, no attempt used up."""
    dialect = connection.dialect.name
    if not lost:
        return
    lines, tries = [], []
    for send in lost:
        booking = Booking(
            kind=BookingKind.UNKNOWN,
            model=send.model,
            price=None,
            bound_pico=send.worst_pico,
            usage=None,
            price_version=price_version,
            request_id=None,
        )
        past = AttemptRecord(
            round=round_,
            counted=False,
            kind="unknown",
            error_message="the process ended before the reply was stored",
        )
        number = send._mapping["try"]
        key = ledger.key_of(run, send.idx, send.epoch, number, send.turn)
        lines.append(ledger.line(run, send.idx, key, booking, now_us))
        tries.append(attempt_row(run, send.idx, number, past, now_us))
    ledger.book(connection, lines)
    connection.execute(queries.insert_attempts(dialect), tries)


def records_and_past(
    connection: Connection, run: int, riding: Sequence[Riding], without: Collection[int]
) -> tuple[dict[int, list[bytes]], dict[int, PastTries], frozenset[int]]:
    """Of some chunks: their records' lines by chunk (but for those `without`), their rows' past, and the rows that
    have ended."""
    round_ = connection.execute(queries.run_by_id(run)).one().round
    seqs = sorted({one.seq for one in riding}.difference(without))
    payloads = connection.execute(batch_queries.payloads_of(), {"of_run": run, "seqs": seqs})
    lines = {row.seq: zlib.decompress(row.lines).split(b"\n") for row in payloads}
    past: dict[int, PastTries] = {}
    ended: set[int] = set()
    for span in _spans(run, riding):
        past |= past_of(connection, span, round_)
        ended.update(connection.scalars(queries.ended_in(), _bound(span)))
    return lines, past, frozenset(ended)


def _spans(run: int, riding: Sequence[Riding]) -> list[tuple[int, int, int]]:
    """The rows of these chunks, ascending; chunks that follow one another are one question."""
    spans: list[tuple[int, int, int]] = []
    for one in riding:
        end = one.first_idx + one.n
        if spans and spans[-1][2] == one.first_idx:
            spans[-1] = (run, spans[-1][1], end)
        elif not spans or spans[-1][2] < end:
            spans.append((run, one.first_idx, end))
    return spans


def _bound(span: tuple[int, int, int]) -> dict[str, int]:
    run, first_idx, end_idx = span
    return {"of_run": run, "first_idx": first_idx, "end_idx": end_idx}


def past_of(connection: Connection, span: tuple[int, int, int], round_: int) -> dict[int, PastTries]:
    tries = {row.idx: row for row in connection.execute(queries.history_in(), _bound(span) | {"in_round": round_})}
    turns = _turns(connection, span)
    return {idx: _past_of(tries.get(idx), turns.get(idx, [])) for idx in sorted({*tries, *turns})}


def _turns(connection: Connection, span: tuple[int, int, int]) -> dict[int, list[tuple[int, StoredTurn]]]:
    turns: dict[int, list[tuple[int, StoredTurn]]] = defaultdict(list)
    for row in connection.execute(queries.turns_in(), _bound(span)):
        turn = StoredTurn(message=row.message, usage=row.usage, cost_pico=row.cost_pico)
        turns[row.idx].append((row._mapping["try"], turn))
    return turns


def _past_of(tried: Any, turns: list[tuple[int, StoredTurn]]) -> PastTries:
    """Turns outlive the try in which they were made: within a round, the next try goes on after the last."""
    closed = tried.closed_try if tried else 0
    kept = tuple(turn for try_, turn in turns if try_ > closed)
    return PastTries(
        last_try=max([tried.last_try if tried else 0, *(try_ for try_, _turn in turns)]),
        history=RowHistory(
            counted=int(tried.counted) if tried else 0,
            turns=len(kept),
            last_try_us=tried.last_us if tried else None,
        ),
        turns=kept,
    )


def release_running(connection: Connection, run: int) -> int:
    """Give back the chunks that a dead or leaving holder had open; how many there were."""
    return connection.execute(queries.release_running(run)).rowcount


def open_round(connection: Connection, run: int, max_tokens: float = math.inf) -> int:
    """Move every failed result into the attempts and set its chunk to go again; how many rows that are.

    Answers that were cut off go again only where `max_tokens` leaves them more room than they had.
    """
    moved, seq = 0, -1
    dialect = connection.dialect.name
    round_ = connection.execute(queries.run_by_id(run)).one().round
    while (chunk := connection.execute(queries.chunks_with_failures(run, seq)).first()) is not None:
        seq = chunk.seq
        span = (run, chunk.first_idx, chunk.first_idx + chunk.n)
        failed = connection.execute(queries.failed_results(*span, max_tokens)).all()
        if not failed:
            continue
        tries = [_attempt_of_result(run, row) for row in failed]
        connection.execute(queries.insert_attempts(dialect), tries)
        idxs = [row.idx for row in failed]
        connection.execute(queries.delete_answers(run, idxs))
        connection.execute(queries.delete_results(run, idxs))
        connection.execute(queries.reopen_chunk(run, seq, len(failed)))
        moved += len(failed)
    connection.execute(queries.reopen_canceled(run))
    connection.execute(queries.move_run(run, "new round", round=round_ + 1, ended_us=None, pause_reason=None))
    return moved


def _attempt_of_result(run: int, row: Any) -> dict[str, Any]:
    past = AttemptRecord(
        round=row.round,
        counted=True,
        kind=row.status,
        error_type=row.error_type,
        error_message=row.error_message,
        request_id=row.request_id,
        cost_pico=row.cost_pico,
        latency_us=row.latency_us,
        message=row.message,
    )
    return attempt_row(run, row.idx, row._mapping["try"], past, row.at_us)
