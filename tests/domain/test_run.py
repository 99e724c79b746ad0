"""A run's few numbers of its own."""

from __future__ import annotations

import pytest
from msgspec.structs import fields

from runner.domain.run import Run, Tally


@pytest.mark.parametrize(("records", "fan", "rows"), [(None, 1, None), (0, 3, 0), (7, 1, 7), (7, 6, 42)])
def test_rows_are_records_times_variants_times_repeats(records: int | None, fan: int, rows: int | None) -> None:
    run = Run(**dict.fromkeys((f.name for f in fields(Run)), None) | {"records": records, "fan": fan})
    assert run.total_rows == rows


def test_ended_rows_are_the_good_and_the_bad() -> None:
    assert Tally(staged=10, done=3, failed=2).ended == 5
