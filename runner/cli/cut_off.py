"""Answers that were cut off: they are asked again only with more room, and the price of that is said before."""

from __future__ import annotations

from msgspec.structs import replace

from runner.cli.context import Context
from runner.cli.messages import say
from runner.domain.job import Job
from runner.domain.pricing import PriceBook
from runner.domain.quantity import of_rows
from runner.domain.run import Run
from runner.domain.states import RowStatus
from runner.errors import UsageInvalid
from runner.store.reports import CutOff
from runner.store.store import Store
from runner.views.money import dollars
from runner.views.numbers import count


def with_room(job: Job, max_tokens: int | None) -> Job:
    """The job, with what the command line says of answers that were cut off."""
    if max_tokens is None:
        return job
    return replace(job, limits=replace(job.limits, truncated_max_tokens=max_tokens))


def say_cut_off(context: Context, store: Store, run: Run, job: Job) -> None:
    """Raises UsageInvalid where a retry would ask nothing but the same again."""
    room = job.limits.truncated_max_tokens or 0
    going = store.cut_off(run.id, room)
    if going:
        rows, price = sum(one.rows for one in going), _at_most(going, room, context.prices)
        say(f"{of_rows(rows)} whose answers were cut off go again with max_tokens {count(room)}: {price}.")
    cut_off = sum(status.rows for status in store.statuses(run.id) if status.status is RowStatus.TRUNCATED)
    left = cut_off - sum(one.rows for one in going)
    if not left:
        return
    others = store.tally(run.id).failed - left
    hint = f"runner retry {run.label} --max-tokens N   asks again with more room than they had"
    sentence = f"{of_rows(left)} with answers that were cut off would be cut off again"
    if not others:
        raise UsageInvalid(f"{sentence}; there is nothing else to ask.", name="nothing-to-retry", hints=(hint,))
    say(f"{sentence}, and stay as they are.")
    context.note(f"  {hint}")


def _at_most(going: list[CutOff], max_tokens: int, prices: PriceBook) -> str:
    """Every answer as long as it may be, every prompt as long as the longest of its model."""
    total = 0
    for one in going:
        bound = prices.bound_pico(one.model, prompt_tokens=one.prompt_tokens, max_tokens=max_tokens)
        if bound is None:
            return f"for {one.model} no price is known"
        total += one.rows * bound
    return f"at most {dollars(total)}"
