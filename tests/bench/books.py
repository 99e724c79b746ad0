"""What a run's own tables say of its batches."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Batches:
    """`rows_per_s` are results a second, from the first of a batch that is decided to the last that is committed."""

    batches: int
    rows: int
    body_bytes: int
    rows_per_s: float


def read_batches(database: Path) -> Batches:
    """Of a store with one run, whose batches have all been read."""
    with closing(sqlite3.connect(database)) as connection:
        told = connection.execute(
            "SELECT b.n, b.body_bytes, b.ingested_us - min(r.at_us) FROM batches b JOIN results r"
            " ON r.batch = b.provider_id WHERE b.state = 'ingested' GROUP BY b.submission"
        ).fetchall()
    rows = sum(n for n, _, _ in told)
    return Batches(
        batches=len(told),
        rows=rows,
        body_bytes=max(size for _, size, _ in told),
        rows_per_s=rows / (sum(us for _, _, us in told) / 1e6),
    )
