"""Rows that ask the same, with kills in the middle: no question is paid for again that was answered, every row has
its answer, and the books are the bill."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from functools import partial
from typing import Any

import msgspec
import pytest

from runner.failpoints import Failpoint
from runner.files.render import Renderer
from runner.simulator import expected_message
from runner.store import ledger
from tests.faults.batches import batch_case
from tests.faults.conftest import Cases
from tests.faults.harness import Case, Row, seed_of

ROWS, BODIES = 60, 24
KILLS = 2
JOB = 'prompt: "Answer {{ text }}"\nask_once: true\n'


def alike() -> list[Row]:
    told = [{"custom_id": f"r{number}", "text": f"letter {number % BODIES}"} for number in range(ROWS)]
    return [Row(line=json.dumps(one).encode()) for one in told]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    ("batch", "point"),
    [
        (False, Failpoint.GROUP_BEFORE),
        (False, Failpoint.GROUP_AFTER),
        (True, Failpoint.BATCH_INTENT_AFTER),
        (True, Failpoint.BATCH_INGEST_AFTER),
    ],
)
def test_a_kill_in_the_middle_pays_for_no_answer_twice(
    cases: Cases, kind: str, batch: bool, point: Failpoint
) -> None:
    dice = seed_of(f"{kind}:{point}")
    make = partial(batch_case, cases, rows_a_batch=10) if batch else cases
    case = make(kind, alike(), more=JOB)
    for _ in range(KILLS):
        case.run_killed_at(point, dice.randint(1, 2 if batch else 9))
    case.finish()
    simulator = case.simulator

    lines = [json.loads(line) for line in case.output.read_bytes().splitlines()]
    assert [line["status"] for line in lines] == ["succeeded"] * ROWS
    assert [line["text"] for line in lines] == [text_of(case, row) for row in case.rows]
    bill = simulator.bill()
    calls = Counter(charge["body_sha256"] for charge in bill)
    assert len(calls) == BODIES
    lost = 0 if batch else case.kills * case.slots
    assert calls.total() <= BODIES + lost
    with case.store() as store:
        (run,) = store.recent_runs(1)
        entries = store.database.read(lambda c: list(ledger.lines_of(c, run.id)))
    known = sum(entry.cost_pico for entry in entries if entry.cost_pico is not None)
    bounds = sum(entry.bound_pico for entry in entries if entry.cost_pico is None)
    billed = sum((Fraction(charge["pico"]) for charge in bill), Fraction())
    assert known <= billed <= known + bounds
    spent = [entry.cost_pico for entry in entries if entry.kind == "spend"]
    assert sum(round(line["cost_usd"] * 10**12) for line in lines) == sum(spent)


def text_of(case: Case, row: Row) -> str:
    """What the server says to this row's request, in a batch or alone."""
    with case.store() as store:
        (run,) = store.recent_runs(1)
    renderer = Renderer(run.job)
    request = renderer.request(renderer.parse(row.line), batch=case.batch is not None)
    message = expected_message(case.simulator.config, request.body, batch=case.batch is not None)
    told = msgspec.convert(message, dict[str, Any])
    return "".join(block["text"] for block in told["content"] if block["type"] == "text")
