"""Before a run begins: what it is said to cost, whether that is too much not to ask, whether a budget can be kept."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal

import click
from msgspec.structs import replace

from runner.cli.caps import pico_of
from runner.cli.context import Context
from runner.cli.estimating import Desk, Estimated
from runner.cli.messages import say
from runner.cli.row_sample import LOOKED_AT_ROWS
from runner.domain.forecast import Forecast
from runner.domain.job import Job, Mode
from runner.domain.job_estimate import ModeEstimate
from runner.domain.pricing import PICO_PER_USD, PriceBook
from runner.domain.reservation import DECLARE_BOUND, UNBOUNDED
from runner.errors import JobInvalid, UsageInvalid
from runner.files.check import InputReport
from runner.files.render import Renderer
from runner.settings import FLAG
from runner.settings_values import Unusable, amount
from runner.store.store import Store
from runner.views.estimate_page import start_words
from runner.views.money import dollars

# A run that is thought to cost more is not begun without a word. A guess at what nobody wants to spend by mistake.
DEFAULT_CONFIRM = Decimal(25)


@dataclass
class Agreement:
    """Asked for by `launch` before it makes a run. What the run is said to cost is in `forecast` afterwards."""

    context: Context
    store: Store
    prices: PriceBook
    yes: bool
    forecast: Forecast | None = field(default=None, init=False)

    def __call__(self, job: Job, report: InputReport, renderer: Renderer) -> Job:
        """The job, with the budget that was typed for it. Raises UsageInvalid where nobody agrees, JobInvalid where a
        budget could not be kept."""
        desk = Desk(
            context=self.context,
            job=job,
            report=report,
            renderer=renderer,
            prices=self.prices,
            store=self.store,
        )
        told = desk.estimated(desk.draw(LOOKED_AT_ROWS), None, limits_known=False)
        check_bounds(told)
        self.forecast = mode_of(job, told).forecast
        if not self.context.quiet and not self.context.json:
            say(start_words(job, told.told, told.levels, told.choice))
        return self._agreed(job, self.forecast)

    def _agreed(self, job: Job, forecast: Forecast) -> Job:
        limit = self.context.settings.confirm_usd
        most = pico_of(DEFAULT_CONFIRM if limit is None else limit)
        expected = forecast.pico
        if expected is not None and job.budget_pico is not None:
            expected = min(expected, job.budget_pico)
        said = self.yes or job.simulated or self.context.settings.layer.get("max_usd") == FLAG
        if said or most is None or expected is None or expected <= most:
            return job
        sentence = f"this run is thought to cost {_about(forecast)}, and more than {dollars(most)} needs a word."
        if self.context.settings.no_input or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise _not_agreed(sentence)
        say(sentence)
        typed = click.prompt(
            "How much may it cost? Dollars, or y for no limit; Enter stops here",
            default="",
            show_default=False,
            err=True,
        )
        return self._typed(job, typed.strip(), sentence)

    def _typed(self, job: Job, typed: str, sentence: str) -> Job:
        if typed.lower() in ("y", "yes"):
            return job
        try:
            return replace(job, budget_pico=int(amount(typed) * PICO_PER_USD))
        except Unusable:
            raise _not_agreed(f"{typed!r} is no amount in dollars." if typed else sentence) from None


def _about(forecast: Forecast) -> str:
    words = dollars(forecast.pico)
    return f"{words} ({forecast.basis}), at worst {dollars(forecast.worst_pico)}"


def _not_agreed(sentence: str) -> UsageInvalid:
    return UsageInvalid(
        sentence,
        name="confirm",
        hints=(
            "nothing was sent.   --yes says it, and so does --max-usd X; RUNNER_CONFIRM_USD moves the limit",
            "runner estimate JOB --answer 50   measures instead of guessing",
        ),
    )


def check_bounds(told: Estimated) -> None:
    """A budget is kept by what rows can cost at most, so each needs a bound."""
    capped = any(level.cap_pico is not None for level in told.levels)
    if capped and any(row.row.worst_pico is None for row in told.rows):
        raise JobInvalid(
            f"a budget is set, and it cannot be kept: {UNBOUNDED}.",
            name="no-bound",
            hints=(f"{DECLARE_BOUND}: limits: {{ row_usd: 0.50 }}", "nothing was sent."),
        )


def budgeted(context: Context, job: Job, report: InputReport, renderer: Renderer, prices: PriceBook) -> Estimated:
    """What the budgets, those that stand in the store too, make of the job. Raises JobInvalid where they cannot be
    kept. Looking makes no store."""
    with ExitStack() as open_:
        there = context.simulate in context.existing_stores()
        desk = Desk(
            context=context,
            job=job,
            report=report,
            renderer=renderer,
            prices=prices,
            store=open_.enter_context(context.store()) if there else None,
        )
        told = desk.estimated(desk.draw(LOOKED_AT_ROWS), None, limits_known=False)
    check_bounds(told)
    return told


def mode_of(job: Job, told: Estimated) -> ModeEstimate:
    """The way in which the job will be sent."""
    chosen = told.choice.mode if job.mode is Mode.AUTO else job.mode
    return told.told.batch if chosen is Mode.BATCH else told.told.live
