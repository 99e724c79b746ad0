"""The lane of a run's batches, made of what its engine has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from runner.engine.batch.calls import PATIENCE_S, SHORT_PATIENCE_S, BatchCalls
from runner.engine.batch.choosing import deadline_of
from runner.engine.batch.common import Common
from runner.engine.batch.lane import Lane, LaneParts
from runner.engine.engine import Engine
from runner.engine.parts import Batching
from runner.store.claims import ClaimedChunk


def open_lane(
    engine: Engine,
    batching: Batching,
    *,
    submits: bool,
    ask_live: Callable[[list[ClaimedChunk]], Awaitable[None]],
    staged_all: Callable[[], bool],
) -> Lane:
    """With `submits` it makes new batches; else it sees to those that there are. `ask_live` asks the free rows of
    chunks in hand, and returns when they have ended."""
    run, parts = engine.run, engine.parts
    patience_s = PATIENCE_S if batching.waits else SHORT_PATIENCE_S
    common = Common(
        run=run,
        store=parts.store,
        service=batching.service,
        calls=BatchCalls(batching.service, parts.clock, engine.stop, patience_s=patience_s),
        renderer=parts.renderer,
        judge=engine.judge,
        prices=parts.prices,
        clock=parts.clock,
        stop=engine.stop,
        meter=engine.meter,
        timing=batching.timing,
        spool=batching.spool,
        fingerprint=batching.fingerprint,
        writes=engine.writes,
        tell=batching.tell,
        files=batching.files,
        check_failures=engine.failure_cap.check,
        collapse=engine.collapse if run.job.collapses else None,
    )
    lane_parts = LaneParts(
        writer=engine.writer,
        ask_live=ask_live,
        staged_all=staged_all,
        submits=submits,
        live_busy=lambda: engine.asks_live,
        waits=batching.waits,
        deadline_us=deadline_of(run),
    )
    return Lane(common, lane_parts)
