"""Records in: what was read comes back byte for byte, and a killed ingest knows where it was."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.store.staging import IngestMark, pack
from runner.store.store import Store
from tests.store.building import (
    NOW_US,
    a_job,
    claim,
    ended,
    every_answer_lost_once,
    new_run,
    packed,
    rows_of,
    stored,
    whole,
)

NASTY = (
    b"",
    b"\x00",
    b'{"t":"\x00\x01"}',
    '{"t":"\u2028\u2029\u0085"}'.encode(),
    b'{"t":"\\ud83d"}',
    b"\xff\xfe\xed\xa0\x80",
    b"\r",
    b" \t ",
    "\ufeff{}".encode(),
    b"'; DROP TABLE results; --",
)


@pytest.fixture(scope="module")
def long_line() -> bytes:
    return random.Random(1).randbytes(4 << 20).replace(b"\n", b" ")


def test_records_come_back_byte_for_byte_in_order(store: Store, long_line: bytes) -> None:
    run = store.create_run(new_run(), NOW_US)
    parts = [list(NASTY), [b""], [long_line], [b"", b""], [b"last"]]
    chunks, first = [], 0
    for seq, lines in enumerate(parts):
        chunks.append(pack(seq, first, lines))
        first += len(lines)
    store.stage(run, chunks, whole(first))
    assert list(store.staged_lines(run.id)) == [line for lines in parts for line in lines]
    for lines in parts:
        chunk = claim(store, run)
        assert (chunk.lines, chunk.n) == (lines, len(lines))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=6))
def test_any_bytes_without_a_line_feed_can_be_a_record(store: Store, lines: list[bytes]) -> None:
    run = store.create_run(new_run(), NOW_US)
    store.stage(run, [pack(0, 0, lines)], whole(len(lines)))
    assert list(store.staged_lines(run.id)) == lines
    assert [store.record_line(run, idx) for idx in range(len(lines) + 1)] == [*lines, None]


def test_a_killed_ingest_finds_how_far_it_was(store: Store) -> None:
    run = store.create_run(new_run(), NOW_US)
    assert store.next_seq(run.id) == 0
    chunks = packed([3, 2, 4])
    store.stage(run, chunks[:2], IngestMark(records=5, bytes=50, digest="of 50", skipped=1))
    again = store.run_by_id(run.id)
    assert (again.ingested_upto, again.ingested_bytes, again.ingested_digest) == (5, 50, "of 50")
    assert (again.skipped, again.ingest_done, again.records, again.total_rows) == (1, False, None, None)
    assert store.next_seq(run.id) == 2
    store.stage(again, chunks[2:], IngestMark(records=9, bytes=90, digest="of 90", skipped=1, total=9))
    done = store.run_by_id(run.id)
    assert (done.ingest_done, done.records, done.input_digest, done.input_bytes) == (True, 9, "of 90", 90)
    assert store.tally(run.id).staged == 9


def test_a_mark_can_move_without_chunks(store: Store) -> None:
    run = store.create_run(new_run(), NOW_US)
    store.stage(run, [], IngestMark(records=0, bytes=0, digest="empty", skipped=0, total=0))
    assert (store.run_by_id(run.id).records, store.unfinished_chunks(run.id)) == (0, 0)
    assert list(store.staged_lines(run.id)) == []


def test_keys_of_a_stream_are_known_until_its_end(store: Store) -> None:
    run, other = (store.create_run(new_run(), NOW_US) for _ in range(2))
    hashes = [-(1 << 63), -1, 0, (1 << 63) - 1]
    mark = IngestMark(records=4, bytes=4, digest="d", skipped=0)
    store.stage(run, packed([4]), mark, hashes)
    store.stage(other, packed([1]), mark, [5])
    assert store.known_keys(run.id, [*hashes, 5]) == set(hashes)
    assert store.known_keys(run.id, []) == set()
    store.stage(run, [], whole(4))
    assert store.known_keys(run.id, hashes) == set()
    assert store.known_keys(other.id, [5]) == {5}


@pytest.mark.parametrize("repeat", [1, 2, 5])
def test_every_record_has_a_row_for_each_repeat(store: Store, repeat: int) -> None:
    run = store.create_run(new_run(a_job(repeat=repeat)), NOW_US)
    store.stage(run, packed([3, 2]), whole(5))
    run = store.run_by_id(run.id)
    assert run.total_rows == 5 * repeat == store.tally(run.id).staged
    found = [(row["first_idx"], row["n"]) for row in rows_of(store, "chunks")]
    assert found == [(0, 3 * repeat), (3 * repeat, 2 * repeat)]
    for chunk in (claim(store, run), claim(store, run)):
        rows = range(chunk.first_idx, chunk.first_idx + chunk.n)
        places = [(idx // repeat, idx % repeat) for idx in rows]
        ends = [
            ended(chunk.fence, idx, record=record, repeat=nth)
            for idx, (record, nth) in zip(rows, places, strict=True)
        ]
        stored(store, run, *ends)
    lines = list(store.staged_lines(run.id))
    assert [row.row for row in store.exported(run)] == [line for line in lines for _ in range(repeat)]
    assert [store.record_line(run, idx) for idx in range(5 * repeat)] == [row.row for row in store.exported(run)]


def test_staging_again_after_a_lost_answer_changes_nothing(store: Store) -> None:
    run = store.create_run(new_run(), NOW_US)
    with every_answer_lost_once(store):
        store.stage(run, packed([2, 3]), IngestMark(records=5, bytes=5, digest="d", skipped=0), [7, 8])
    assert store.known_keys(run.id, [7, 8]) == {7, 8}
    assert (store.tally(run.id).staged, len(list(store.staged_lines(run.id)))) == (5, 5)
