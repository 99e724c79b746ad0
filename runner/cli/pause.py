"""`pause` and `cancel`: asked of the process that works on the run, or done at once where none does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.messages import say
from runner.cli.options import json_option
from runner.domain.pricing import shipped_prices
from runner.domain.run import Run
from runner.domain.states import FINISHED_RUN, PauseReason, RunState
from runner.engine import ending
from runner.errors import RunLocked, UsageInvalid
from runner.store.store import Store
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
    help="How long to wait for it to happen.",
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
    """Let a run stop: what is in flight ends and is kept, nothing new is sent. `runner resume` goes on."""
    return _ask(context, label, wait_s, PAUSE)


@command("cancel", examples=("runner cancel r_7f3k2m",))
@click.argument("label", metavar="RUN")
@wait_option
@json_option
def cancel(context: Context, label: str, wait_s: float) -> int:
    """End a run. Answers stay and can be exported; rows that wait are not asked (`runner retry` would)."""
    return _ask(context, label, wait_s, CANCEL)


def _paused(store: Store, run: Run, _now_us: int) -> Run:
    store.release_running(run.id)
    return store.pause_run(run.id, PauseReason.REQUESTED, "stopped by `runner pause`")


def _canceled(store: Store, run: Run, now_us: int) -> Run:
    store.release_running(run.id)
    return ending.cancel(run, store, now_us, shipped_prices().version)


PAUSE = Wish("pause", _paused, frozenset({RunState.PAUSED}))
CANCEL = Wish("cancel", _canceled, frozenset({RunState.CANCELED}))


def _ask(context: Context, label: str, wait_s: float, wish: Wish) -> int:
    with context.found_run(label) as (store, before):
        _refuse_finished(before, wish)
        already = before.state in wish.reached
        now = before if already else _done_or_asked(context, store, before, wait_s, wish)
        _tell(context, store, now, wish, already=already)
        return 0


def _refuse_finished(run: Run, wish: Wish) -> None:
    if run.state in FINISHED_RUN and run.state not in wish.reached:
        raise UsageInvalid(
            f"run {run.label} is {state_words(run)}: there is nothing to {wish.word}.",
            name="run-state",
            hints=(f"runner show {run.label}",),
        )


def _done_or_asked(context: Context, store: Store, run: Run, wait_s: float, wish: Wish) -> Run:
    """Do it if nobody holds the run, else ask the holder and watch; it may die or end while we wait."""
    done = _applied(context, store, run, wish)
    if done is not None:
        return done
    store.ask(run.id, wish.word)
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        run = store.run_by_id(run.id)
        if run.state in wish.reached or run.state in FINISHED_RUN:
            return run
    return _applied(context, store, run, wish) or run


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
    if context.json:
        context.print_json(
            {"run": run.label, "state": run.state, "done": reached, "ended_rows": tally.ended, "failed": tally.failed}
        )
        return
    if reached:
        say(f"run {run.label} is {'already ' if already else ''}{state_words(run)}: {tally.ended:,} rows are kept.")
        then = f"runner resume {run.label}" if wish is PAUSE else f"runner export {run.label} -o FILE"
        context.note(f"  {then}")
    elif run.state in FINISHED_RUN:
        say(f"run {run.label} came to its end first: it is {state_words(run)}.")
    else:
        say(f"run {run.label} was asked to {wish.word}; it does so when the calls in flight have ended.")
        context.note(f"  runner show {run.label}")
