"""Every kind of fault, plain and streamed: all rows end, and the books hold against the bill."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from runner.simulator import Fault
from runner.simulator.faults import BODY_KINDS, EXECUTED_KINDS, REFUSING_KINDS, STREAM_KINDS, WIRE_KINDS
from tests.engine.house import Books, House, charged_pico, prompts, served

pytestmark = pytest.mark.anyio

ROWS = 25
# Left out: kinds of batches, and `executed_error`, a billed call that is answered with an error in the API's own
# shape. Such an error is taken as not billed, so the books do NOT hold for it. `held` ends with its fault.
KINDS = REFUSING_KINDS | STREAM_KINDS | WIRE_KINDS | BODY_KINDS | (EXECUTED_KINDS - {"executed_error", "held"})
# Kinds that say something of the account or the row: they are no trouble of the moment.
PAUSING = {"spend_limit", "customer_spend_limit", "credit_low", "authentication", "permission", "billing"}
PAUSING |= {"redirect"}  # the address is wrong, for every row alike


def _faults(kind: str) -> list[Fault]:
    fault = Fault(kind=kind, probability=0.3, every_s=0.01)
    if kind in ("sse_error", "truncated_sse"):
        return [replace(fault, at=at) for at in ("first", "middle", "last")]
    if kind == "cut_body":
        return [replace(fault, framing=framing) for framing in ("content-length", "chunked", "close")]
    if kind == "stall":
        return [replace(fault, probability=1.0, every=9, executed=executed) for executed in (True, False)]
    if kind == "drip":
        return [replace(fault, first=2, probability=1)]
    return [fault]


# Wall clocks of a call, in real time: what never ends must not hold up the tests.
ROW_TIMEOUT_S = {"stall": 0.4, "drip": 1.0}
CASES = [
    pytest.param(fault, stream, seed, id=f"{fault.kind}-{fault.at if stream else fault.framing}-{seed}-{stream}")
    for kind in sorted(KINDS)
    for stream in (False, True)
    for seed, fault in enumerate(_faults(kind))
    if stream or kind not in ("sse_error", "truncated_sse")
]


@pytest.mark.parametrize(("fault", "stream", "seed"), CASES)
async def test_all_rows_end_and_the_books_hold(house: House, fault: Fault, stream: bool, seed: int) -> None:
    print(f"seed {seed}")
    run = house.new_run(
        prompts(ROWS),
        request={"max_tokens": 9_000 if stream else 800},
        limits={"max_attempts": 12, "concurrency": 10},
        budget_pico=50 * 10**12,
    )
    config = {"seed": seed, "faults": (fault,), "row_timeout_s": ROW_TIMEOUT_S.get(fault.kind, 10.0)}
    async with served(house, **config) as api:
        for _ in range(60):
            end = await house.work(run, api)
            if end.pause is None:
                break
            assert fault.kind in PAUSING
            Books(house, api.simulator, run).check()
        books = Books(house, api.simulator, run)
        books.check()
        books.check_budget_row()
        assert end.pause is None
        assert house.sends_left() == 0
        statuses = house.statuses(run)
        assert statuses == Counter(succeeded=ROWS)
        assert api.simulator.ledger.faults[fault.kind] > 0, "the fault never struck"
        money = house.store.money(run.id)
        assert money.spent_pico <= charged_pico(api.simulator) <= money.spent_pico + money.unknown_bound_pico
