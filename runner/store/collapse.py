"""Rows that ask the same: one leads, the others wait for its answer or take a copy of it.

`bodies` says who leads for a body. A leader that has not succeeded and is nowhere under way is followed by whoever
comes next: leading is a right that passes on, never a reason for a row to be left without an answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from runner.domain.states import ChunkState, RowStatus
from runner.store import collapse_queries, prepared, queries, report_queries
from runner.store.group import Fence, result_row
from runner.store.reports import result_of


class Asking(Struct, frozen=True, kw_only=True):
    """A free row in our hands, and the hash of what it asks."""

    fence: Fence
    idx: int
    record: int
    repeat: int
    key: str | None
    hash: bytes


class Shared(Struct, frozen=True, kw_only=True):
    """What becomes of rows that ask what others ask: those that have a copy of an answer now, and those that wait,
    with their leaders. All others lead."""

    copied: frozenset[int]
    waiting: Mapping[int, int]


def share(
    connection: Connection,
    run: int,
    asking: Sequence[Asking],
    under_way: Collection[int],
    round_: int,
    now_us: int,
    elsewhere_since_us: int | None = None,
) -> Shared:
    """Give each row its leader, and a copy where that has succeeded. `under_way` are leaders in the caller's hands;
    others that are riding are found here. Answers that other runs had since `elsewhere_since_us` are taken first."""
    kept: frozenset[int] = frozenset()
    if elsewhere_since_us is not None and asking:
        kept = _taken_elsewhere(connection, run, asking, round_, now_us, elsewhere_since_us)
    asking = [one for one in asking if one.idx not in kept]
    if not asking:
        return Shared(copied=kept, waiting={})
    first = {one.hash: one.idx for one in sorted(asking, key=lambda one: -one.idx)}
    rows = [{"run": run, "hash": hash_, "leader_idx": idx} for hash_, idx in first.items()]
    connection.execute(collapse_queries.insert_bodies(connection.dialect.name), rows)
    leaders = _leaders(connection, run, list(first))
    strangers = {leader for hash_, leader in leaders.items() if leader != first[hash_]}
    succeeded = _succeeded(connection, run, strangers)
    busy = {*under_way, *_riding(connection, run, strangers - succeeded.keys())}
    copies: list[tuple[Asking, int]] = []
    waiting: dict[int, int] = {}
    taken_over: dict[bytes, int] = {}
    for one in sorted(asking, key=lambda one: one.idx):
        leader = taken_over.get(one.hash, leaders[one.hash])
        if leader in succeeded:
            copies.append((one, leader))
        elif leader not in busy and leader != first[one.hash]:
            taken_over[one.hash] = one.idx
        elif leader != one.idx:
            waiting[one.idx] = leader
    lead(connection, run, taken_over)
    copy(connection, run, copies, succeeded, round_, now_us)
    return Shared(copied=kept.union(one.idx for one, _ in copies), waiting=waiting)


def _taken_elsewhere(
    connection: Connection, run: int, asking: Sequence[Asking], round_: int, now_us: int, since_us: int
) -> frozenset[int]:
    """Rows that have an answer now which an earlier run has paid for."""
    answered = collapse_queries.answered_elsewhere(run, list({one.hash for one in asking}), since_us)
    found = {bytes(row.hash): row for row in connection.execute(answered)}
    rows = [one for one in asking if one.hash in found]
    # A row is its own key here: two answers of different runs may have the same number.
    copies = [(one, number) for number, one in enumerate(rows)]
    copy(connection, run, copies, {number: found[one.hash] for number, one in enumerate(rows)}, round_, now_us)
    return frozenset(one.idx for one in rows)


def lead(connection: Connection, run: int, leaders: Mapping[bytes, int]) -> None:
    """From now on these rows lead for these bodies."""
    if leaders:
        changes = [{"of_hash": hash_, "new_leader": idx} for hash_, idx in leaders.items()]
        connection.execute(collapse_queries.set_leader(run), changes)


def copy_from(
    connection: Connection, run: int, leader: int, rows: Sequence[Asking], round_: int, now_us: int
) -> frozenset[int]:
    """Give rows that waited for a leader its answer; those that have one now."""
    succeeded = _succeeded(connection, run, [leader])
    if not succeeded:
        return frozenset()
    copy(connection, run, [(one, leader) for one in rows], succeeded, round_, now_us)
    return frozenset(one.idx for one in rows)


def copy(
    connection: Connection,
    run: int,
    copies: Sequence[tuple[Asking, int]],
    answers: Mapping[int, Any],
    round_: int,
    now_us: int,
) -> None:
    """End rows with another's answer. It was paid for once, by the one that asked: a copy costs nothing."""
    held = _held(connection, run, {one.fence for one, _ in copies})
    ours = {one.idx: (one, leader) for one, leader in copies if one.fence in held}
    if not ours:
        return
    there = set(connection.scalars(queries.results_among(), {"of_run": run, "idxs": list(ours)}))
    fresh = [pair for idx, pair in ours.items() if idx not in there]
    if not fresh:
        return
    results = [_copied(run, one, answers[leader], round_, now_us) for one, leader in fresh]
    messages = [{"run": run, "idx": one.idx, "message": answers[leader].message} for one, leader in fresh]
    prepared.insert_results(connection, results)
    prepared.insert_answers(connection, messages)
    done: dict[int, int] = {}
    for one, _ in fresh:
        done[one.fence.seq] = done.get(one.fence.seq, 0) + 1
    tallies = [{"of_run": run, "of_seq": seq, "more_done": done[seq], "more_failed": 0} for seq in sorted(done)]
    connection.execute(queries.tally_chunk(), tallies)


def _copied(run: int, one: Asking, answer: Any, round_: int, now_us: int) -> dict[str, Any]:
    told = replace(
        result_of(answer),
        idx=one.idx,
        record=one.record,
        repeat=one.repeat,
        round=round_,
        key=one.key,
        usage=None,
        cost_pico=0,
        attempts=0,
        latency_us=None,
        same_as=answer.idx,
        same_run=answer._mapping.get("label"),
    )
    return result_row(run, told, 0, now_us)


def _held(connection: Connection, run: int, fences: set[Fence]) -> set[Fence]:
    if not fences:
        return set()
    seqs = sorted({fence.seq for fence in fences})
    found = connection.execute(queries.fences_of(), {"of_run": run, "seqs": seqs})
    return {Fence(seq=row.seq, epoch=row.epoch) for row in found if row.state == ChunkState.RUNNING} & fences


def _leaders(connection: Connection, run: int, hashes: Sequence[bytes]) -> dict[bytes, int]:
    return {bytes(row.hash): row.leader_idx for row in connection.execute(collapse_queries.leaders_of(run, hashes))}


def _succeeded(connection: Connection, run: int, idxs: Iterable[int]) -> dict[int, Any]:
    """Answers of these rows, with their messages."""
    found = connection.execute(report_queries.results_among(run, sorted(idxs), RowStatus.SUCCEEDED))
    return {row.idx: row for row in found}


def _riding(connection: Connection, run: int, idxs: Collection[int]) -> set[int]:
    """Which of these rows are in something that has not been read to its end."""
    if not idxs:
        return set()
    riding: set[int] = set()
    for row in connection.execute(collapse_queries.riding_between(run, min(idxs), max(idxs))):
        bits = bytes(row.rows)
        for idx in idxs:
            offset = idx - row.first_idx
            if 0 <= offset < row.n and bits[offset >> 3] >> (offset & 7) & 1:
                riding.add(idx)
    return riding
