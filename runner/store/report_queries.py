"""Every statement that only reads for people, one named function each: views and exports are made of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, func, select

from runner.domain.states import ChunkState, RowStatus
from runner.store.tables import answers, attempts, budgets, chunks, payloads, results

# Why an answer stops that has used up its max_tokens.
CUT_OFF = "max_tokens"


def tally_of(run: int) -> Select[Any]:
    return select(
        func.coalesce(func.sum(chunks.c.n), 0).label("staged"),
        func.coalesce(func.sum(chunks.c.done), 0).label("done"),
        func.coalesce(func.sum(chunks.c.failed), 0).label("failed"),
    ).where(chunks.c.run == run)


def unfinished_chunks(run: int) -> Select[Any]:
    return select(func.count()).where(
        chunks.c.run == run, chunks.c.state.not_in([ChunkState.DONE, ChunkState.CANCELED])
    )


def chunks_from(run: int, seq: int, limit: int) -> Select[Any]:
    return (
        select(chunks, payloads.c.lines, payloads.c.first_record, payloads.c.records)
        .join(payloads, and_(payloads.c.run == chunks.c.run, payloads.c.seq == chunks.c.seq))
        .where(chunks.c.run == run, chunks.c.seq >= seq)
        .order_by(chunks.c.seq)
        .limit(limit)
    )


def chunk_of_row(run: int, idx: int) -> Select[Any]:
    return (
        select(chunks.c.seq)
        .where(chunks.c.run == run, chunks.c.first_idx <= idx)
        .order_by(chunks.c.seq.desc())
        .limit(1)
    )


# What `reports.result_of` makes a value of, in this order.
RESULT = tuple(
    results.c[name]
    for name in (
        *("idx", "record", "variant", "repeat", "round", "key", "status", "stop_reason", "model"),
        *("input_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "output_tokens", "web_searches"),
        *("cost_pico", "price_version", "request_id", "organization", "workspace", "attempts", "latency_us"),
        *("batch", "error_type", "error_message", "same_as", "same_run", "try", "at_us"),
    )
)


def results_in(run: int, first_idx: int, end_idx: int) -> Select[Any]:
    return (
        select(*RESULT, answers.c.message)
        .join_from(
            results,
            answers,
            and_(answers.c.run == results.c.run, answers.c.idx == results.c.idx),
            isouter=True,
        )
        .where(results.c.run == run, results.c.idx >= first_idx, results.c.idx < end_idx)
        .order_by(results.c.idx)
    )


def copied_rows(run: int) -> Select[Any]:
    return select(func.count()).where(results.c.run == run, results.c.same_as.is_not(None))


def cut_off(run: int, max_tokens: float) -> Select[Any]:
    """Truncated rows that would have more room with this `max_tokens`, by model: how many, and their longest
    prompt."""
    prompt = results.c.input_tokens + results.c.cache_write_5m + results.c.cache_write_1h + results.c.cache_read
    return (
        select(results.c.model, func.count().label("rows"), func.max(prompt).label("prompt_tokens"))
        .where(
            results.c.run == run,
            results.c.status == RowStatus.TRUNCATED,
            results.c.stop_reason == CUT_OFF,
            results.c.output_tokens < max_tokens,
        )
        .group_by(results.c.model)
    )


def results_among(run: int, idxs: Sequence[int], status: RowStatus) -> Select[Any]:
    """Those of some rows that ended so, with their messages."""
    return (
        select(*RESULT, answers.c.message)
        .join_from(results, answers, and_(answers.c.run == results.c.run, answers.c.idx == results.c.idx))
        .where(results.c.run == run, results.c.idx.in_(idxs), results.c.status == status)
    )


def row_by_key(run: int, key: bytes) -> Select[Any]:
    return select(results.c.idx).where(results.c.run == run, results.c.key == key).order_by(results.c.idx).limit(1)


def answered_keys(run: int, after: int, limit: int) -> Select[Any]:
    """The keys of rows that succeeded, in the order of their numbers."""
    wanted = (
        results.c.run == run,
        results.c.idx > after,
        results.c.status == "succeeded",
        results.c.key.is_not(None),
    )
    return select(results.c.idx, results.c.key).where(*wanted).order_by(results.c.idx).limit(limit)


def statuses_of(run: int) -> Select[Any]:
    return (
        select(results.c.status, results.c.error_type, results.c.stop_reason, func.count().label("rows"))
        .where(results.c.run == run)
        .group_by(results.c.status, results.c.error_type, results.c.stop_reason)
    )


def tokens_of(run: int) -> Select[Any]:
    return select(
        *(
            func.coalesce(func.sum(results.c[name]), 0).label(name)
            for name in (
                "input_tokens",
                "cache_write_5m",
                "cache_write_1h",
                "cache_read",
                "output_tokens",
                "web_searches",
            )
        )
    ).where(results.c.run == run)


def failure_groups(run: int) -> Select[Any]:
    """Rows that did not succeed, by how they ended: how many, how often tried, an example."""
    return (
        select(
            results.c.status,
            results.c.error_type,
            func.count().label("rows"),
            func.max(results.c.attempts).label("attempts"),
            func.min(results.c.idx).label("example"),
            func.min(results.c.at_us).label("first_us"),
        )
        .where(results.c.run == run, results.c.status != RowStatus.SUCCEEDED)
        .group_by(results.c.status, results.c.error_type)
        .order_by(func.count().desc(), func.min(results.c.idx))
    )


def attempts_of(run: int, idx: int) -> Select[Any]:
    return select(attempts).where(attempts.c.run == run, attempts.c.idx == idx).order_by(attempts.c["try"])


def attempt_groups(run: int) -> Select[Any]:
    return (
        select(attempts.c.kind, attempts.c.error_type, func.count().label("tries"))
        .where(attempts.c.run == run)
        .group_by(attempts.c.kind, attempts.c.error_type)
    )


def budget_of(scope: str) -> Select[Any]:
    return select(budgets).where(budgets.c.scope == scope)
