"""What was spent: a table of groups with their total, this month against its caps, and the same for machines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from runner.domain.budget import Level
from runner.domain.quantity import of_calls, quantity
from runner.domain.spending import By, Group, Sums
from runner.views.budget_words import standing_json, standing_words
from runner.views.money import dollars, usd
from runner.views.numbers import brief, count, percent
from runner.views.tables import Column, table_lines

NAME_WIDTH = 32


class CostReport(Struct, frozen=True, kw_only=True):
    """`since` is a date, None for all times. `month` is the one that goes on, with its caps."""

    by: By
    tag: str | None
    since: str | None
    groups: Sequence[Group]
    total: Group
    month_name: str
    month: Sums
    caps: Sequence[Level]
    price_version: str
    simulated: bool = False

    @property
    def title(self) -> str:
        return self.tag or str(self.by)


def cost_table(report: CostReport, width: int | None, *, plain: bool = False) -> list[str]:
    """What matters most stands first: a narrow terminal drops the last columns."""
    columns = (
        Column(title=report.title.upper(), most=NAME_WIDTH),
        *(Column(title=title, right=True) for title, _ in _CELLS),
    )
    shown = [*report.groups, report.total] if len(report.groups) != 1 or plain else list(report.groups)
    cells = [[group.name, *(told(group) for _, told in _CELLS)] for group in shown]
    return table_lines(columns, cells, width, plain=plain)


def _unknown(sums: Sums) -> str:
    if not sums.unknown_calls and not sums.uncosted:
        return "-"
    return f"<= {dollars(sums.bound_pico)}" + ("+?" if sums.unbounded else "")


def _cached(sums: Sums) -> str:
    return percent(sums.cache_read, sums.prompt_tokens)


_CELLS: tuple[tuple[str, Callable[[Group], str]], ...] = (
    ("PAID", lambda group: dollars(group.sums.cost_pico)),
    ("UNKNOWN", lambda group: _unknown(group.sums)),
    ("PER 1,000 ROWS", lambda group: _or_dash(group.sums.per_thousand_pico)),
    ("LIST PRICE", lambda group: dollars(group.sums.list_pico)),
    ("SAVED BY BATCH", lambda group: dollars(group.sums.saved_by_batch_pico)),
    ("BY CACHE", lambda group: dollars(group.sums.saved_by_cache_pico)),
    ("ROWS", lambda group: count(group.sums.rows)),
    ("CALLS", lambda group: count(group.sums.calls)),
    ("RUNS", lambda group: count(group.runs)),
    ("IN", lambda group: brief(group.sums.prompt_tokens)),
    ("CACHED", lambda group: _cached(group.sums)),
    ("OUT", lambda group: brief(group.sums.output_tokens)),
)


def _or_dash(pico: int | None) -> str:
    return "-" if pico is None else dollars(pico)


def remarks(report: CostReport) -> list[str]:
    """What the table leaves out, below it."""
    sums = report.total.sums
    lines = []
    if report.by is By.TAG and report.tag is None and len(report.groups) > 1:
        lines.append("a run counts under each of its tags: the groups are not parts of the total")
    if sums.duplicate_pico:
        lines.append(f"{dollars(sums.duplicate_pico)} of it was paid twice: runner batches list   shows for what")
    if sums.correction_pico:
        lines.append(f"{dollars(sums.correction_pico)} of it was put right later, by other prices")
    if sums.unknown_calls:
        lines.append(
            f"{of_calls(sums.unknown_calls)} of unknown end may have been billed too: "
            f"at most {dollars(sums.bound_pico)} in all"
        )
    return lines


def price_warning(sums: Sums) -> str | None:
    """A cost that is not known must not look like a small one."""
    if not sums.uncosted:
        return None
    calls = quantity(sums.uncosted, "call was", "calls were")
    return f"{calls} answered whose price is not known; what is paid for them is not in these sums."


def month_lines(report: CostReport) -> list[str]:
    """This month, and what its caps leave."""
    words = f"{report.month_name}: {dollars(report.month.cost_pico)} paid"
    if report.month.bound_pico:
        words += f", at most {dollars(report.month.bound_pico)} more unknown"
    lines = [words]
    return [*lines, *(f"  {standing_words(cap)}" for cap in report.caps)]


def report_json(report: CostReport) -> dict[str, Any]:
    return {
        "by": report.by,
        "tag": report.tag,
        "since": report.since,
        "simulated": report.simulated,
        "prices": report.price_version,
        "groups": [{"name": group.name, "runs": group.runs, **sums_json(group.sums)} for group in report.groups],
        "total": {"runs": report.total.runs, **sums_json(report.total.sums)},
        "month": {
            "month": report.month_name,
            **sums_json(report.month),
            "caps": [standing_json(cap) for cap in report.caps],
        },
    }


def sums_json(sums: Sums) -> dict[str, Any]:
    """Dollars, and beside what was paid the exact pico-dollars."""
    return {
        "paid_usd": usd(sums.cost_pico),
        "paid_pico": sums.cost_pico,
        "unknown_usd_at_most": usd(sums.bound_pico),
        "unknown_calls": sums.unknown_calls,
        "calls_without_price": sums.uncosted,
        "calls_without_bound": sums.unbounded,
        "duplicate_usd": usd(sums.duplicate_pico),
        "corrected_usd": usd(sums.correction_pico),
        "usd_per_1000_rows": usd(sums.per_thousand_pico),
        "list_price_usd": usd(sums.list_pico),
        "saved_by_batch_usd": usd(sums.saved_by_batch_pico),
        "saved_by_cache_usd": usd(sums.saved_by_cache_pico),
        "rows": sums.rows,
        "calls": sums.calls,
        "input_tokens": sums.input_tokens,
        "cache_creation_5m_input_tokens": sums.cache_write_5m,
        "cache_creation_1h_input_tokens": sums.cache_write_1h,
        "cache_read_input_tokens": sums.cache_read,
        "output_tokens": sums.output_tokens,
        "web_search_requests": sums.web_searches,
    }


# A spreadsheet takes what begins so for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def report_csv(report: CostReport) -> str:
    """A line a group, named as in JSON; no total, which a spreadsheet adds up itself."""
    file = io.StringIO()
    names = list(sums_json(report.total.sums))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([report.title, "runs", *names])
    for group in report.groups:
        told = sums_json(group.sums)
        writer.writerow([_inert(group.name), group.runs, *(_plain(told[name]) for name in names)])
    return file.getvalue()


def _inert(name: str) -> str:
    return f"'{name}" if name.startswith(FORMULA_STARTS) else name


def _plain(value: Any) -> str:
    """Amounts are not written with an exponent."""
    if isinstance(value, float):
        return f"{value:.12f}".rstrip("0").rstrip(".")
    return "" if value is None else str(value)
