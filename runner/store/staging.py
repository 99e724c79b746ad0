"""Records in: numbered, compressed, a few hundred to a chunk. A killed ingest goes on where it was."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from runner.domain.states import ChunkState
from runner.store import queries

# A chunk is what one claim takes: enough rows that claims are rare, few enough that resuming repeats little work.
CHUNK_RECORDS = 500
CHUNK_BYTES = 4 << 20
# Level 1 costs a third of the default's time and gives most of its gain on text.
COMPRESSION = 1


class StagedChunk(Struct, frozen=True, kw_only=True):
    """Consecutive records, ready to store. `lines` are their own bytes, compressed, joined by 0x0A."""

    seq: int
    first_record: int
    records: int
    lines: bytes


def pack(seq: int, first_record: int, lines: Sequence[bytes]) -> StagedChunk:
    """Compress records into a chunk; runs outside of any transaction."""
    return StagedChunk(
        seq=seq,
        first_record=first_record,
        records=len(lines),
        lines=zlib.compress(b"\n".join(lines), COMPRESSION),
    )


class IngestMark(Struct, frozen=True, kw_only=True):
    """How far the input is staged: records, decompressed bytes and their digest. `total` once the end is known."""

    records: int
    bytes: int
    digest: str
    skipped: int
    total: int | None = None


def stage(
    connection: Connection,
    run: int,
    fan: int,
    staged: Sequence[StagedChunk],
    mark: IngestMark,
    key_hashes: Sequence[int],
) -> None:
    """Store chunks, a stream's keys and how far the input is read, in one transaction."""
    ended = mark.total is not None
    if staged and _is_staged(connection, run, mark):
        return
    if staged:
        connection.execute(queries.insert_chunks(), [_chunk_row(run, fan, chunk) for chunk in staged])
        connection.execute(queries.insert_payloads(), [_payload_row(run, chunk) for chunk in staged])
    if key_hashes:
        connection.execute(queries.insert_keys(), [{"run": run, "hash": value} for value in key_hashes])
    connection.execute(
        queries.set_run(
            run,
            ingested_upto=mark.records,
            ingested_bytes=mark.bytes,
            ingested_digest=mark.digest,
            skipped=mark.skipped,
            ingest_done=ended,
            **({"records": mark.total, "input_digest": mark.digest, "input_bytes": mark.bytes} if ended else {}),
        )
    )
    if ended:
        connection.execute(queries.drop_keys(run))


def _is_staged(connection: Connection, run: int, mark: IngestMark) -> bool:
    """Chunks move the mark; one that stands there already is that of a transaction which is being replayed.

    Chunks are not inserted if absent: somebody else's with the same number must be an error.
    """
    now = connection.execute(queries.run_by_id(run)).one()
    there = (now.ingested_upto, now.ingested_digest, now.ingest_done)
    return there == (mark.records, mark.digest, mark.total is not None)


def _chunk_row(run: int, fan: int, chunk: StagedChunk) -> dict[str, Any]:
    return {
        "run": run,
        "seq": chunk.seq,
        "first_idx": chunk.first_record * fan,
        "n": chunk.records * fan,
        "state": ChunkState.PENDING,
        "epoch": 0,
        "done": 0,
        "failed": 0,
        "riding": 0,
    }


def _payload_row(run: int, chunk: StagedChunk) -> dict[str, Any]:
    return {
        "run": run,
        "seq": chunk.seq,
        "first_record": chunk.first_record,
        "records": chunk.records,
        "lines": chunk.lines,
    }


def known_keys(connection: Connection, run: int, hashes: Sequence[int]) -> set[int]:
    """Which of these keys an earlier record of the run already has."""
    return set(connection.scalars(queries.keys_among(run, hashes)))


def next_seq(connection: Connection, run: int) -> int:
    """The number that the next chunk gets."""
    last = connection.execute(queries.last_chunk(run)).first()
    return 0 if last is None else last.seq + 1


def staged_lines(connection: Connection, run: int, seq: int, limit: int) -> list[tuple[int, list[bytes]]]:
    """Some chunks' records as they were read, from `seq` on: (seq, lines)."""
    rows = connection.execute(queries.payloads_from(run, seq, limit))
    return [(row.seq, zlib.decompress(row.lines).split(b"\n")) for row in rows]
