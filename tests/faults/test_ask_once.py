"""Rows that ask the same, with kills in the middle: no question is paid for again that was answered, every row has
its answer, and the books are the bill."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
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
MANY_ROWS, MANY_BODIES = 10_000, 4_000
KILLS = 2
JOB = 'prompt: "Answer {{ text }}"\nask_once: true\n'


def alike(rows: int, bodies: int) -> list[Row]:
    told = [{"custom_id": f"r{number}", "text": f"letter {number % bodies}"} for number in range(rows)]
    return [Row(line=json.dumps(one).encode()) for one in told]


@pytest.mark.parametrize(
    ("kind", "batch", "point"),
    [
        ("sqlite", False, Failpoint.GROUP_BEFORE),
        ("postgresql", False, Failpoint.GROUP_AFTER),
        ("postgresql", True, Failpoint.BATCH_INTENT_AFTER),
        ("sqlite", True, Failpoint.BATCH_INGEST_AFTER),
    ],
)
def test_a_kill_in_the_middle_pays_for_no_answer_twice(
    cases: Cases, kind: str, batch: bool, point: Failpoint
) -> None:
    dice = seed_of(f"{kind}:{point}")
    make = partial(batch_case, cases, rows_a_batch=10) if batch else cases
    case = make(kind, alike(ROWS, BODIES), more=JOB)
    for _ in range(KILLS):
        case.run_killed_at(point, dice.randint(1, 2 if batch else 9))
    case.finish()
    check(case, ROWS, BODIES)


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize(("batch", "point"), [(False, Failpoint.GROUP_AFTER), (True, Failpoint.BATCH_INGEST_AFTER)])
def test_ten_thousand_rows_of_four_thousand_questions_and_a_kill(
    cases: Cases, kind: str, batch: bool, point: Failpoint
) -> None:
    dice = seed_of(f"many:{kind}:{point}")
    make = partial(batch_case, cases, rows_a_batch=1_500) if batch else cases
    case = make(kind, alike(MANY_ROWS, MANY_BODIES), more=JOB)
    case.run_killed_at(point, dice.randint(1, 3) if batch else dice.randint(20, 60))
    case.finish()
    check(case, MANY_ROWS, MANY_BODIES)


def check(case: Case, rows: int, bodies: int) -> None:
    """Every row has the answer to its question, every question was paid for once but for what was lost in the kills,
    and the books are the bill."""
    simulator = case.simulator
    lines = [json.loads(line) for line in case.output.read_bytes().splitlines()]
    assert [line["status"] for line in lines] == ["succeeded"] * rows
    texts = texts_of(case, case.rows[:bodies])
    assert [line["text"] for line in lines] == [texts[number % bodies] for number in range(rows)]
    bill = simulator.bill()
    calls = Counter(charge["body_sha256"] for charge in bill)
    assert len(calls) == bodies
    lost = 0 if case.batch is not None else case.kills * case.slots
    assert calls.total() <= bodies + lost
    with case.store() as store:
        (run,) = store.recent_runs(1)
        entries = store.database.read(lambda c: list(ledger.lines_of(c, run.id)))
    known = sum(entry.cost_pico for entry in entries if entry.cost_pico is not None)
    bounds = sum(entry.bound_pico for entry in entries if entry.cost_pico is None)
    billed = sum((Fraction(charge["pico"]) for charge in bill), Fraction())
    assert known <= billed <= known + bounds
    spent = [entry.cost_pico for entry in entries if entry.kind == "spend"]
    assert sum(round(line["cost_usd"] * 10**12) for line in lines) == sum(spent)


def texts_of(case: Case, rows: Sequence[Row]) -> list[str]:
    """What the server says to these rows' requests, in a batch or alone."""
    with case.store() as store:
        (run,) = store.recent_runs(1)
    renderer, batch = Renderer(run.job), case.batch is not None
    bodies = [renderer.request(renderer.parse(row.line), batch=batch).body for row in rows]
    messages = [expected_message(case.simulator.config, body, batch=batch) for body in bodies]
    told = [msgspec.convert(message, dict[str, Any]) for message in messages]
    return ["".join(block["text"] for block in one["content"] if block["type"] == "text") for one in told]
