"""`pause` and `cancel`: asked of the process that works on the run, or done at once where none does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.holders import seen_holder
from runner.cli.launch import relaunch, settled
from runner.cli.messages import say
from runner.cli.options import json_option
from runner.cli.outcome import canceling_hints
from runner.cli.sending import check_credential
from runner.cli.working import worked
from runner.domain.pricing import shipped_prices
from runner.domain.run import Run
from runner.domain.states import FINISHED_RUN, RIDING_BATCH, PauseReason, RunState
from runner.engine import ending
from runner.errors import RunLocked, UsageInvalid
from runner.store.store import Store
from runner.store.submissions import Submission
from runner.views.batch_words import out_words
from runner.views.run_facts import state_words

LOOK_EVERY_S = 0.25
WAIT_S = 5.0

wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=WAIT_S,
    show_default=True,
    metavar="S",
    help="How long to wait for the process that works on the run.",
)


class Wish(NamedTuple):
    """What to ask of a holder, how to do it where there is none, and in which states it has happened."""

    word: str
    apply: Callable[[Store, Run, int], Run]
    reached: frozenset[RunState]


@command("pause", examples=("runner pause r_7f3k2m", "runner pause latest --wait 60"))
@click.argument("label", metavar="RUN")
@wait_option
@json_option
def pause(context: Context, label: str, wait_s: float) -> int:
    """Let a run stop: what is in flight ends and is kept, nothing new is sent. `runner resume` goes on.

    Batches that are with the API go on by themselves; `runner collect` and `runner resume` fetch them.
    """
    with context.found_run(label) as (store, before):
        _refuse_finished(before, PAUSE)
        already = before.state in PAUSE.reached
        now = before if already else _done_or_asked(context, store, before, wait_s, PAUSE).run
        _tell(context, store, now, PAUSE, already=already)
        return 0


@command("cancel", examples=("runner cancel r_7f3k2m",))
@click.argument("label", metavar="RUN")
@wait_option
@json_option
def cancel(context: Context, label: str, wait_s: float) -> int:
    """End a run. Answers stay and can be exported; rows that wait are not asked (`runner retry` would).

    Batches are asked to end, and this command does not wait for that. What the service has finished by then is billed
    and kept, the other rows are neither; `runner collect` fetches it. Until then the run is `canceling`.
    """
    with context.found_run(label) as (store, before):
        _refuse_finished(before, CANCEL)
        already = before.state in CANCEL.reached
        now = before if already else _canceled_or_asked(context, store, before, wait_s)
        _tell(context, store, now, CANCEL, already=already)
        return 0


def _canceled_or_asked(context: Context, store: Store, run: Run, wait_s: float) -> Run:
    """Where nobody works on the run, its batches are asked to end by us; else its holder does that."""
    job = settled(run.job, context.settings, simulated=run.job.simulated)
    if store.has_riding(run.id) and seen_holder(store, run, context.clock.now_us()) is None:
        check_credential(job, context.settings)  # before anything is changed
    told = _done_or_asked(context, store, run, wait_s, CANCEL)
    if not told.ours or told.run.state is not RunState.CANCELING:
        return told.run
    check_credential(job, context.settings)
    with ExitStack() as open_:
        return worked(
            context, store, relaunch(told.run, job, store, open_, context.settings.home), waits=False, shown=False
        ).run


def _paused(store: Store, run: Run, _now_us: int) -> Run:
    store.release_running(run.id)
    return store.pause_run(run.id, PauseReason.REQUESTED, "stopped by `runner pause`")


def _canceled(store: Store, run: Run, now_us: int) -> Run:
    store.release_running(run.id)
    return ending.cancel(run, store, now_us, shipped_prices().version)


PAUSE = Wish("pause", _paused, frozenset({RunState.PAUSED}))
CANCEL = Wish("cancel", _canceled, frozenset({RunState.CANCELED}))


def _refuse_finished(run: Run, wish: Wish) -> None:
    if run.state in FINISHED_RUN and run.state not in wish.reached:
        raise UsageInvalid(
            f"run {run.label} is {state_words(run)}: there is nothing to {wish.word}.",
            name="run-state",
            hints=(f"runner show {run.label}",),
        )


class Told(NamedTuple):
    """The run as it is now, and whether it was this process that did it."""

    run: Run
    ours: bool


def _done_or_asked(context: Context, store: Store, run: Run, wait_s: float, wish: Wish) -> Told:
    """Do it if nobody holds the run, else ask the holder and watch; it may die or end while we wait."""
    done = _applied(context, store, run, wish)
    if done is not None:
        return Told(done, ours=True)
    store.ask(run.id, wish.word)
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        run = store.run_by_id(run.id)
        if run.state in wish.reached or run.state in FINISHED_RUN or _batches_canceling(store, run):
            return Told(run, ours=False)
    done = _applied(context, store, run, wish)
    return Told(done or run, ours=done is not None)


def _batches_canceling(store: Store, run: Run) -> bool:
    """Its holder has done what it could: the rest is up to the service."""
    return run.state is RunState.CANCELING and store.has_riding(run.id)


def _applied(context: Context, store: Store, run: Run, wish: Wish) -> Run | None:
    """The run after the wish was carried out here; None when somebody else holds it."""
    try:
        hold = store.hold(run, context.clock.now_us)
    except RunLocked:
        return None
    try:
        run = store.run_by_id(run.id)
        if run.state in wish.reached or run.state in FINISHED_RUN:
            return run
        return wish.apply(store, run, context.clock.now_us())
    finally:
        hold.release()


def _tell(context: Context, store: Store, run: Run, wish: Wish, *, already: bool) -> None:
    tally = store.tally(run.id)
    reached = run.state in wish.reached
    out = [one for one in store.submissions_of(run.id) if one.state in RIDING_BATCH]
    if context.json:
        context.print_json(
            {
                "run": run.label,
                "state": run.state,
                "done": reached,
                "ended_rows": tally.ended,
                "failed": tally.failed,
                "batches_out": len(out),
                "rows_in_batches": sum(one.n for one in out),
            }
        )
        return
    if reached:
        say(f"run {run.label} is {'already ' if already else ''}{state_words(run)}: {tally.ended:,} rows are kept.")
        if out and not run.job.simulated:
            context.note(f"  {out_words(out)}: they go on; runner collect {run.label}   fetches them")
        then = f"runner resume {run.label}" if wish is PAUSE else f"runner export {run.label} -o FILE"
        context.note(f"  {then}")
    elif run.state in FINISHED_RUN:
        say(f"run {run.label} came to its end first: it is {state_words(run)}.")
    elif out and run.state is RunState.CANCELING:
        _tell_canceling(context, run, tally.ended, out)
    else:
        say(f"run {run.label} was asked to {wish.word}; it does so when the calls in flight have ended.")
        context.note(f"  runner show {run.label}")


def _tell_canceling(context: Context, run: Run, ended: int, out: list[Submission]) -> None:
    say(f"run {run.label} is being canceled: {ended:,} rows are kept; {out_words(out)}.")
    for hint in canceling_hints(run):
        context.note(f"  {hint}")
