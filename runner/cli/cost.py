"""`cost`: what was spent, by whatever is asked; prices put right later; the books against the provider's bill."""

from __future__ import annotations

import click

from runner.cli.command import command, group
from runner.cli.context import Context
from runner.cli.messages import warning
from runner.cli.options import base_url_option, json_option, of_simulated_option, plain_option
from runner.domain.budget import Level
from runner.domain.quantity import quantity
from runner.domain.run import Run
from runner.domain.spending import By, Spending, date_of, first_of_month, grouped, since_day, total
from runner.errors import UsageInvalid
from runner.views.cost_page import (
    CostReport,
    cost_table,
    month_lines,
    price_warning,
    remarks,
    report_csv,
    report_json,
)
from runner.views.money import dollars, usd
from runner.views.reconcile_page import reconciled_json, reconciled_lines
from runner.views.safe_text import safe_text

# Runs that one `reprice` looks at.
ALL_RUNS = 1_000_000


def _by(_ctx: click.Context, _parameter: click.Parameter, told: str) -> tuple[By, str | None]:
    """`tag:team` groups by the values of one tag."""
    word, colon, tag = told.partition(":")
    if word not in set(By) or (colon and (word != By.TAG or not tag)):
        raise click.BadParameter(f"must be one of {', '.join(By)}, or tag:NAME, not {told!r}")
    return By(word), tag or None


@group(
    "cost",
    examples=(
        "runner cost",
        "runner cost --by tag:team --since 2026-11",
        "runner cost --by day --since 14d --csv",
        "runner cost reconcile --day yesterday",
    ),
)
@click.option(
    "--by",
    default="job",
    show_default=True,
    callback=_by,
    metavar="WHAT",
    help="job, model, day, tag, tag:NAME, run or schedule.",
)
@click.option("--since", metavar="DAY", help="From this UTC day on: 2026-11-01, 2026-11, today, month, 7d, 4w.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, a line a group.")
@of_simulated_option
@json_option
@plain_option
def cost(context: Context, by: tuple[By, str | None], since: str | None, as_csv: bool) -> None:
    """What was spent: paid and unknown, list price, what batches and the prompt cache saved, per 1,000 rows.

    Days are UTC, as on the provider's bill. A row that was asked again counts each time it ended.
    """
    if as_csv and context.json:
        raise UsageInvalid("--csv and --json contradict each other.")
    report = _report(context, *by, since)
    if context.json:
        context.print_json(report_json(report))
    elif as_csv:
        click.echo(report_csv(report), nl=False)
    elif not report.groups:
        context.note("nothing was spent" + (f" since {report.since}." if report.since else " yet."))
    else:
        _show(context, report)
    if (unpriced := price_warning(report.total.sums)) is not None:
        warning("unpriced", unpriced, ("runner cost reprice   puts them right once a table of prices has them",))


def _report(context: Context, by: By, tag: str | None, since: str | None) -> CostReport:
    now_us = context.clock.now_us()
    day = 0 if since is None else _day(since, now_us)
    month_day = first_of_month(now_us)
    found, caps = _read(context, min(day, month_day), now_us)
    asked = [one for one in found if one.day >= day]
    return CostReport(
        by=by,
        tag=tag,
        since=None if since is None else date_of(day).isoformat(),
        groups=grouped(asked, by, tag),
        total=total(asked),
        month_name=f"{date_of(month_day):%Y-%m}",
        month=total(one for one in found if one.day >= month_day).sums,
        caps=caps,
        price_version=context.prices.version,
        simulated=context.simulate,
    )


def _read(context: Context, day: int, now_us: int) -> tuple[list[Spending], list[Level]]:
    if context.simulate not in context.existing_stores():
        return [], []
    with context.store() as store:
        return store.spending_since(day), store.standing_budgets(now_us)


def _day(told: str, now_us: int) -> int:
    try:
        return since_day(told, now_us)
    except ValueError:
        raise UsageInvalid(
            f"{told!r} is no day.", hints=("2026-11-01, 2026-11, today, yesterday, month, 7d or 4w",)
        ) from None


def _show(context: Context, report: CostReport) -> None:
    console = context.stdout_console()
    width = console.width if console.is_terminal else None
    for line in cost_table(report, width, plain=context.plain):
        click.echo(line)
    if context.plain:
        return
    words = [*remarks(report), *month_lines(report)]
    if report.simulated:
        words.append("SIMULATED: nothing was billed")
    click.echo("\n" + "\n".join(safe_text(line) for line in words))


@command("reprice", examples=("runner cost reprice", "runner cost reprice r_7f3k2m --yes"))
@click.argument("label", metavar="[RUN]", required=False)
@click.option("-y", "--yes", is_flag=True, help="Do it; without it this only says what would change.")
@of_simulated_option
@json_option
def reprice(context: Context, label: str | None, yes: bool) -> None:
    """Put the books right by the table of prices that counts now: this release's, or your own (RUNNER_PRICES).

    No line of the books is changed: what another price makes of it is appended as a correction, on the day of its
    call. Results keep the cost that they were stored with. Without RUN: all runs.
    """
    told = {run.label: _repriced(context, run, write=yes) for run in _runs(context, label)}
    corrected = sum(one["corrected"] for one in told.values())
    more_pico = sum(one["more_pico"] for one in told.values())
    left = sum(one["without_price"] for one in told.values())
    if context.json:
        context.print_json(
            {
                "prices": context.prices.version,
                "written": yes,
                "corrected": corrected,
                "more_usd": usd(more_pico),
                "without_price": left,
                "runs": [
                    {"run": run, "corrected": one["corrected"], "more_usd": usd(one["more_pico"])}
                    for run, one in told.items()
                    if one["corrected"]
                ],
            }
        )
        return
    for run, one in told.items():
        if one["corrected"]:
            click.echo(f"{run}  {_lines(one['corrected'])}  {_signed(one['more_pico'])}")
    verb = ("was" if corrected == 1 else "were") + " corrected" if yes else "would be corrected"
    click.echo(f"{_lines(corrected)} {verb} by the prices of {context.prices.version}: {_signed(more_pico)}.")
    if left:
        warning("unpriced", f"{_lines(left)} {'has' if left == 1 else 'have'} no price in this table either.")
    if corrected and not yes:
        context.note("nothing was changed.   runner cost reprice --yes   does it")


def _lines(number: int) -> str:
    return quantity(number, "line", "lines")


def _signed(pico: int) -> str:
    return dollars(pico) if pico < 0 else f"+{dollars(pico)}"


def _runs(context: Context, label: str | None) -> list[Run]:
    if label is not None:
        with context.found_run(label) as (_store, run):
            return [run]
    if context.simulate not in context.existing_stores():
        return []
    with context.store() as store:
        return store.recent_runs(ALL_RUNS)


def _repriced(context: Context, run: Run, *, write: bool) -> dict[str, int]:
    told = {"corrected": 0, "more_pico": 0, "without_price": 0}
    with context.store(simulated=run.job.simulated) as store:
        for page in store.reprice(run.id, context.prices, write=write):
            told["corrected"] += page.corrected
            told["more_pico"] += page.more_pico
            told["without_price"] += page.left
    return told


@command(
    "reconcile",
    examples=("runner cost reconcile", "runner cost reconcile --day 2026-11-20 --json"),
)
@click.option("--day", default="yesterday", show_default=True, metavar="DAY", help="A UTC day, as for --since.")
@base_url_option
@json_option
def reconcile(context: Context, day: str) -> None:
    """Hold a day's books against the provider's own usage and cost reports, and say what explains the difference.

    It takes an Admin API key (ANTHROPIC_ADMIN_KEY). Reports are complete some hours after the day.
    """
    from runner.cli.reconciling import reconciled_day

    told = reconciled_day(context, _day(day, context.clock.now_us()))
    if context.json:
        context.print_json(reconciled_json(told))
        return
    console = context.stdout_console()
    for line in reconciled_lines(told, console.width if console.is_terminal else None):
        click.echo(line)


cost.add_command(reprice)
cost.add_command(reconcile)
