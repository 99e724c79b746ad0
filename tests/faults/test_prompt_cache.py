"""Calls that a mark of ours has read the prompt cache, with kills in the middle: the books are the bill."""

from __future__ import annotations

import json

import pytest

from runner.failpoints import Failpoint
from tests.faults.conftest import Cases
from tests.faults.harness import plain_rows, seed_of
from tests.faults.promises import check_promises

ROWS, KILLS = 60, 2
# 4,000 tokens, which 60 rows read for more than the cent that a wait is worth.
RULES = "Weigh each word. " * 1_000


@pytest.mark.parametrize(
    ("kind", "point"), [("sqlite", Failpoint.GROUP_BEFORE), ("postgresql", Failpoint.GROUP_AFTER)]
)
def test_what_was_written_to_the_cache_and_read_from_it_is_in_the_books(
    cases: Cases, kind: str, point: Failpoint
) -> None:
    dice = seed_of(f"{kind}:{point}")
    case = cases(kind, plain_rows(ROWS), more=f"system: {json.dumps(RULES)}\n")
    for _ in range(KILLS):
        case.run_killed_at(point, dice.randint(1, 9))
    case.finish()
    check_promises(case)
    with case.store() as store:
        (run,) = store.recent_runs(1)
        rows = [row.result.usage for row in store.exported(run)]
        saved_pico = store.money(run.id).saved_by_cache_pico
    read = sum(usage is not None and usage.cache_read > 0 for usage in rows)
    # One call writes what all others read; who was killed may have paid for it without hearing so.
    assert read >= ROWS - 1
    assert saved_pico > 0
