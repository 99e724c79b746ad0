"""A day's books against the bill: a line a model, and under it what explains the difference."""

from __future__ import annotations

from typing import Any

from runner.domain.reconcile import Compared, Reconciled
from runner.views.money import dollars, usd
from runner.views.safe_text import safe_line
from runner.views.tables import Column, table_lines

COLUMNS = (
    Column(title="MODEL"),
    Column(title="HOW"),
    Column(title="BOOKS", right=True),
    Column(title="UNKNOWN", right=True),
    Column(title="BILL", right=True),
    Column(title="DIFFERENCE", right=True),
)


def reconciled_lines(told: Reconciled, width: int | None) -> list[str]:
    lines = table_lines(COLUMNS, [_cells(one) for one in told.compared], width) if told.compared else []
    lines += [f"{_name(one)}: {safe_line(finding)}." for one in told.compared for finding in one.findings]
    lines += [f"beside the calls: {dollars(pico)} for {safe_line(what)}" for what, pico in told.beside.items()]
    if told.elsewhere_pico:
        lines.append(f"{dollars(told.elsewhere_pico)} more was billed to workspaces that sent nothing from here")
    return [*lines, _verdict(told)]


def _name(one: Compared) -> str:
    return f"{safe_line(one.model)} ({_how(one)})"


def _how(one: Compared) -> str:
    return "batch" if one.batch else "live"


def _cells(one: Compared) -> list[str]:
    bound = one.books.bound_pico
    difference = one.difference_pico
    return [
        one.model,
        _how(one),
        dollars(one.books.cost_pico),
        f"<= {dollars(bound)}" if bound else "-",
        dollars(one.bill_pico),
        "none" if not difference else ("+" if difference > 0 else "") + dollars(difference),
    ]


def _verdict(told: Reconciled) -> str:
    sums = f"{told.day}: {dollars(told.books_pico)} in the books, {dollars(told.bill_pico)} on the bill"
    if not told.compared and not told.beside:
        return f"{told.day}: nothing in the books and nothing on the bill."
    if told.bill_pico == told.books_pico and told.explained:
        return f"{sums}: they agree to the last digit."
    what = "the difference is explained" if told.explained else "not all of the difference is explained"
    return f"{sums}: {what}."


def reconciled_json(told: Reconciled) -> dict[str, Any]:
    return {
        "day": told.day,
        "books_usd": usd(told.books_pico),
        "books_pico": told.books_pico,
        "bill_usd": usd(told.bill_pico),
        "bill_pico": told.bill_pico,
        "explained": told.explained,
        "models": [
            {
                "model": one.model,
                "batch": one.batch,
                "books_usd": usd(one.books.cost_pico),
                "unknown_usd_at_most": usd(one.books.bound_pico),
                "bill_usd": usd(one.bill_pico),
                "difference_usd": usd(one.difference_pico),
                "explained": one.explained,
                "findings": list(one.findings),
                "bill_tokens": dict(one.bill_tokens),
            }
            for one in told.compared
        ],
        "beside_usd": {what: usd(pico) for what, pico in told.beside.items()},
        "elsewhere_usd": usd(told.elsewhere_pico),
    }
