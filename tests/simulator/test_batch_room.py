"""A large batch costs little more than its body, and an ended one little at all."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import msgspec
import pytest

from runner.simulator import SimulatorConfig, config_from_json
from runner.simulator.batch_pages import LINES_A_PAGE, Pages
from runner.simulator.http1 import RequestReader
from tests.simulator.batch_calls import ask, batch_body, create, finished, raw_results, requests, simulator_on
from tests.turned_clock import TurnedClock

ROWS = 4000


@pytest.fixture
def _traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_traced")
def test_a_body_is_put_together_without_a_second_copy() -> None:
    size = 20_000_000
    reader = RequestReader(lambda _: size)
    reader.feed(b"POST /v1/messages/batches HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size)
    piece = b"x" * 100_000
    request = None
    for _ in range(size // len(piece)):
        reader.feed(piece)
        request = reader.take()
    assert request is not None
    assert len(request.body) == size
    assert tracemalloc.get_traced_memory()[1] < 1.4 * size


@pytest.mark.anyio
@pytest.mark.usefixtures("_traced")
async def test_a_batch_needs_its_body_and_then_only_its_results(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    body = batch_body(requests(ROWS, system="x" * 1000))
    size = len(body)
    before = tracemalloc.get_traced_memory()[0]
    assert ask(simulator, "POST", "", body).status == 200
    living = tracemalloc.get_traced_memory()[0] - before
    del body
    await clock.advance(2)
    assert ask(simulator, "GET").status == 200
    gc.collect()
    ended = tracemalloc.get_traced_memory()[0] - before
    assert living < 300 * ROWS  # beside the body itself
    assert ended + size < 350 * ROWS


@pytest.mark.anyio
async def test_totals_alone_keep_no_line_of_a_batch(clock: TurnedClock) -> None:
    full, totals = (simulator_on(clock, keep_ledger=keep) for keep in ("full", "totals"))
    for simulator in (full, totals):
        create(simulator, requests(20))
    await clock.advance(2)
    for simulator in (full, totals):
        ask(simulator, "GET")
    assert (len(list(full.ledger.lines())), len(list(totals.ledger.lines()))) == (20, 0)
    assert full.ledger.cost_usd == totals.ledger.cost_usd > 0


@pytest.mark.parametrize("count", [0, 1, LINES_A_PAGE - 1, LINES_A_PAGE, LINES_A_PAGE + 1, 3 * LINES_A_PAGE])
@pytest.mark.parametrize("kept", [0, 1, LINES_A_PAGE - 1, LINES_A_PAGE, LINES_A_PAGE + 1, 3 * LINES_A_PAGE])
def test_pages_keep_the_first_lines(count: int, kept: int) -> None:
    lines = [b"line %d" % number for number in range(count)]
    pages = Pages(lines)
    pages.keep(kept)
    assert list(pages.lines()) == lines[:kept]
    pages.append(b"after")
    assert b"".join(pages) == b"".join(line + b"\n" for line in [*lines[:kept], b"after"])


@pytest.mark.anyio
async def test_results_can_be_read_again_and_again(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    batch = await finished(simulator, clock, requests(2 * LINES_A_PAGE + 3))
    assert raw_results(simulator, batch["id"]) == raw_results(simulator, batch["id"])


def test_settings_of_batches_are_read_from_json_and_checked() -> None:
    told = config_from_json(b'{"batch_seconds": 5, "batch_expired_share": 0.3, "workspaces": {"key": "wrkspc_1"}}')
    assert told == SimulatorConfig(batch_seconds=5, batch_expired_share=0.3, workspaces={"key": "wrkspc_1"})
    for wrong in (b'{"batch_expired_share": 1.5}', b'{"batch_queue": 0}', b'{"workspaces": [1]}'):
        with pytest.raises((ValueError, msgspec.ValidationError)):
            config_from_json(wrong)
