"""The state in which a run is left: finished, canceled, or paused with its reason."""

from __future__ import annotations

from runner.clock import Clock
from runner.domain.pricing import PriceBook
from runner.domain.quantity import of_batches, quantity
from runner.domain.run import Run
from runner.domain.states import RIDING_BATCH, BatchState, PauseReason, RunState
from runner.engine.stop import Stop
from runner.errors import RunnerError
from runner.store.store import Store
from runner.store.submissions import Submission


def ended_run(
    run: Run,
    stop: Stop,
    error: RunnerError | None,
    store: Store,
    clock: Clock,
    prices: PriceBook,
    *,
    staged_all: bool,
) -> Run:
    """Move the run to the state that its rows, its stop or its error say. Blocks."""
    if error is not None:
        return store.pause_run(run.id, PauseReason.BAD_ROW, error.message)
    if stop.canceled:
        return cancel(run, store, clock.now_us(), prices.version)
    unfinished = store.unfinished_chunks(run.id) > 0
    if stop.pause is None and unfinished:
        stop.pause_for(*_why_unfinished(run, store))
    came_too_late = stop.was_requested and staged_all and not unfinished
    if stop.pause is not None and not came_too_late:
        return store.pause_run(run.id, stop.pause.reason, stop.pause.message)
    event = "all rows succeeded" if store.tally(run.id).failed == 0 else "all rows ended"
    return store.move_run(run.id, event, ended_us=clock.now_us(), wanted=None)


def _why_unfinished(run: Run, store: Store) -> tuple[PauseReason, str]:
    """Nobody was to wait for what is with the API, or for room for what could not be sent at once."""
    riding = [one for one in store.submissions_of(run.id) if one.state in RIDING_BATCH]
    known = [one for one in riding if one.state is not BatchState.UNKNOWN and one.question is None]
    asked = [one.question for one in riding if one.question is not None]
    if known:
        return PauseReason.SUBMITTED, f"{_rows(known)} with the API in {of_batches(len(known))}"
    if asked:
        return PauseReason.UNKNOWN_BATCH, f"{_rows(riding)} held in {of_batches(len(riding))}: {asked[0]}"
    if riding:
        return (
            PauseReason.UNKNOWN_BATCH,
            f"what became of {of_batches(len(riding))} is not known yet: {_rows(riding)} held",
        )
    return PauseReason.STALLED, "the service took no batch just now, so rows wait"


def _rows(submissions: list[Submission]) -> str:
    rows = sum(one.n for one in submissions)
    return quantity(rows, "row is", "rows are")


def cancel(run: Run, store: Store, now_us: int, price_version: str) -> Run:
    """Cancel a run that nobody works on any more; also one whose cancel was begun and not finished.

    While it has batches with the API it stays `canceling`: what they have finished is still to be fetched.
    """
    if run.state is not RunState.CANCELING:
        run = store.move_run(run.id, "cancel asked", wanted=None)
    if store.has_riding(run.id):
        return run
    store.cancel_rows(run.id, now_us, price_version)
    return store.move_run(run.id, "nothing in flight", ended_us=now_us)
