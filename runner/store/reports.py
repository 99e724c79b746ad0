"""Reading: what views and exports ask. Short transactions, pages instead of whole tables."""

from __future__ import annotations

import sys
import zlib
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from runner.domain.booking import BookingKind
from runner.domain.outcome import Usage
from runner.domain.result import ExportedRow, RowResult
from runner.domain.run import Tally
from runner.domain.states import RowStatus
from runner.store import ledger_queries, report_queries


class Money(Struct, frozen=True, kw_only=True):
    """What a run cost. `unknown_bound_pico` is the most that calls of unknown end may add; `uncosted` counts
    billed calls whose price is not known, `unbounded` those of them without even a bound. What was `saved` is against
    the list price; by the cache it is below 0 where more was written than ever read."""

    spent_pico: int
    duplicate_pico: int
    unknown_calls: int
    unknown_bound_pico: int
    uncosted: int
    unbounded: int
    committed_pico: int
    cap_pico: int | None
    saved_by_batch_pico: int
    saved_by_cache_pico: int


class StatusCount(Struct, frozen=True, kw_only=True):
    status: RowStatus
    error_type: str | None
    stop_reason: str | None
    rows: int


class FailureGroup(Struct, frozen=True, kw_only=True):
    """Rows that ended the same wrong way. `example` is the idx of one of them."""

    status: RowStatus
    error_type: str | None
    rows: int
    attempts: int
    first_us: int
    example: RowResult


class FailedTries(Struct, frozen=True, kw_only=True):
    """Tries that were not the result: how many ended for this reason."""

    reason: str
    tries: int


class CutOff(Struct, frozen=True, kw_only=True):
    """Rows of one model whose answers were cut off by `max_tokens`, and the longest of their prompts."""

    model: str
    rows: int
    prompt_tokens: int


class PastAttempt(Struct, frozen=True, kw_only=True):
    try_: int
    round: int
    kind: str
    error_type: str | None
    error_message: str | None
    request_id: str | None
    cost_pico: int | None
    at_us: int


def tally(connection: Connection, run: int) -> Tally:
    row = connection.execute(report_queries.tally_of(run)).one()
    return Tally(staged=int(row.staged), done=int(row.done), failed=int(row.failed))


def statuses(connection: Connection, run: int) -> list[StatusCount]:
    rows = [
        StatusCount(
            status=RowStatus(row.status),
            error_type=row.error_type,
            stop_reason=row.stop_reason,
            rows=row._mapping["rows"],
        )
        for row in connection.execute(report_queries.statuses_of(run))
    ]
    return sorted(
        rows, key=lambda count: (-count.rows, count.status, count.error_type or "", count.stop_reason or "")
    )


def tokens(connection: Connection, run: int) -> Usage:
    row = connection.execute(report_queries.tokens_of(run)).one()
    counts: dict[str, Any] = {name: int(value) for name, value in row._mapping.items()}
    return Usage(**counts)


def money(connection: Connection, run: int, scope: str) -> Money:
    days = connection.execute(ledger_queries.spending_of(run)).all()
    unknown = [row for row in days if row.kind == BookingKind.UNKNOWN]
    budget = connection.execute(report_queries.budget_of(scope)).first()
    return Money(
        spent_pico=sum(row.cost_pico for row in days),
        duplicate_pico=sum(row.cost_pico for row in days if row.kind == BookingKind.DUPLICATE),
        unknown_calls=sum(row.calls for row in unknown),
        unknown_bound_pico=sum(row.bound_pico for row in unknown),
        uncosted=sum(row.uncosted for row in days if row.kind != BookingKind.UNKNOWN),
        unbounded=sum(row.unbounded for row in days),
        committed_pico=budget.committed_pico if budget else 0,
        cap_pico=budget.cap_pico if budget else None,
        saved_by_batch_pico=sum(row.unbatched_pico - row.cost_pico for row in days),
        saved_by_cache_pico=sum(row.list_pico - row.unbatched_pico for row in days),
    )


def failures(connection: Connection, run: int) -> list[FailureGroup]:
    groups = connection.execute(report_queries.failure_groups(run)).all()
    return [
        FailureGroup(
            status=RowStatus(row.status),
            error_type=row.error_type,
            rows=row._mapping["rows"],
            attempts=row.attempts,
            first_us=row.first_us,
            example=result_of(connection.execute(report_queries.results_in(run, row.example, row.example + 1)).one()),
        )
        for row in groups
    ]


def failed_tries(connection: Connection, run: int) -> list[FailedTries]:
    groups = connection.execute(report_queries.attempt_groups(run))
    found = [FailedTries(reason=str(group.error_type or group.kind), tries=group.tries) for group in groups]
    return sorted(found, key=lambda tries: (-tries.tries, tries.reason))


def cut_off(connection: Connection, run: int, max_tokens: float) -> list[CutOff]:
    found = connection.execute(report_queries.cut_off(run, min(max_tokens, sys.maxsize)))
    return [
        CutOff(model=row.model or "", rows=row._mapping["rows"], prompt_tokens=row.prompt_tokens or 0)
        for row in found
    ]


def attempts(connection: Connection, run: int, idx: int) -> list[PastAttempt]:
    return [
        PastAttempt(
            try_=row._mapping["try"],
            round=row.round,
            kind=row.kind,
            error_type=row.error_type,
            error_message=row.error_message,
            request_id=row.request_id,
            cost_pico=row.cost_pico,
            at_us=row.at_us,
        )
        for row in connection.execute(report_queries.attempts_of(run, idx))
    ]


class ChunkPage(Struct, frozen=True, kw_only=True):
    """One chunk's results with their rows' own bytes, in order; rows that have not ended are left out."""

    seq: int
    rows: list[ExportedRow]


def exported_chunk(connection: Connection, run: int, seq: int) -> ChunkPage | None:
    """The first chunk from `seq` on; None past the end."""
    chunk = connection.execute(report_queries.chunks_from(run, seq, 1)).first()
    if chunk is None:
        return None
    lines = zlib.decompress(chunk.lines).split(b"\n")
    found = connection.execute(report_queries.results_in(run, chunk.first_idx, chunk.first_idx + chunk.n))
    rows = []
    for row in found.all():
        result = result_of(row)
        message = None if row.message is None else bytes(row.message)
        rows.append(ExportedRow(result=result, row=lines[result.record - chunk.first_record], message=message))
    return ChunkPage(seq=chunk.seq, rows=rows)


def exported_row(connection: Connection, run: int, idx: int) -> ExportedRow | None:
    """One ended row by its number."""
    seq = connection.execute(report_queries.chunk_of_row(run, idx)).scalar()
    page = None if seq is None else exported_chunk(connection, run, seq)
    return next((row for row in page.rows if row.result.idx == idx), None) if page else None


def record_line(connection: Connection, run: int, fan: int, idx: int) -> bytes | None:
    """The row's own bytes, whether it has ended or not."""
    seq = connection.execute(report_queries.chunk_of_row(run, idx)).scalar()
    chunk = None if seq is None else connection.execute(report_queries.chunks_from(run, seq, 1)).first()
    if chunk is None or idx >= chunk.first_idx + chunk.n:
        return None
    lines: list[bytes] = zlib.decompress(chunk.lines).split(b"\n")
    return lines[idx // fan - int(chunk.first_record)]


def row_of_key(connection: Connection, run: int, key: str) -> int | None:
    found: int | None = connection.execute(
        report_queries.row_by_key(run, key.encode("utf-8", "surrogatepass"))
    ).scalar()
    return found


def answered_keys(connection: Connection, run: int, after: int, limit: int) -> list[tuple[int, str]]:
    """Some rows that succeeded, behind `after`: number and key."""
    found = connection.execute(report_queries.answered_keys(run, after, limit))
    return [(row.idx, bytes(row.key).decode("utf-8", "surrogatepass")) for row in found]


def result_of(row: Any) -> RowResult:
    """A row that begins with `report_queries.RESULT` as a value. To ask it for each by name takes twice as long."""
    (
        idx, record, variant, repeat, round_, key, status, stop_reason, model,
        input_tokens, cache_write_5m, cache_write_1h, cache_read, output_tokens, web_searches,
        cost_pico, price_version, request_id, organization, workspace,
        attempts, latency_us, batch, error_type, error_message, same_as, same_run, *_,
    ) = row  # fmt: skip
    usage = None
    if output_tokens is not None:
        usage = Usage(
            input_tokens=input_tokens,
            cache_write_5m=cache_write_5m,
            cache_write_1h=cache_write_1h,
            cache_read=cache_read,
            output_tokens=output_tokens,
            web_searches=web_searches,
        )
    return RowResult(
        idx=idx,
        record=record,
        variant=variant,
        repeat=repeat,
        round=round_,
        key=None if key is None else bytes(key).decode("utf-8", "surrogatepass"),
        status=RowStatus(status),
        stop_reason=stop_reason,
        model=model,
        usage=usage,
        cost_pico=cost_pico,
        price_version=price_version,
        request_id=request_id,
        attempts=attempts,
        latency_us=latency_us,
        batch=batch,
        error_type=error_type,
        error_message=error_message,
        organization=organization,
        workspace=workspace,
        same_as=same_as,
        same_run=same_run,
    )
