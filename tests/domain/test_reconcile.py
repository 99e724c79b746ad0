"""A day's books against the bill: equal, explained, or what is left over said in words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from runner.domain.reconcile import Billed, Reconciled, Used, reconcile
from runner.domain.spending import Spending, Sums

MODEL, HOME = "claude-haiku-5-5", "wrkspc_home"
USD = 10**12
PAID = Sums(calls=10, rows=10, input_tokens=10_000_000, output_tokens=2_000_000, cost_pico=2 * USD)
BOOKS = Spending(run="r_1", job="j", day=1, kind="spend", model=MODEL, batch=False, sums=PAID, workspace=HOME)
NO_TOKENS = {"cache_write_5m": 0, "cache_write_1h": 0, "cache_read": 0, "web_searches": 0}
USED = Used(
    workspace=HOME,
    model=MODEL,
    batch=False,
    tokens={**NO_TOKENS, "input_tokens": 10_000_000, "output_tokens": 2_000_000},
)
INPUT = Billed(workspace=HOME, model=MODEL, batch=False, kind="input_tokens", pico=USD)
OUTPUT = Billed(workspace=HOME, model=MODEL, batch=False, kind="output_tokens", pico=USD)
MORE = replace(USED, tokens={**USED.tokens, "output_tokens": 3_000_000})
DEARER = replace(OUTPUT, pico=2 * USD)


def held(books: list[Spending], used: list[Used], billed: list[Billed], unread: int = 0) -> Reconciled:
    return reconcile("2026-11-20", books, used, billed, unread_batches=unread)


def words(told: Reconciled) -> str:
    return " ".join(finding for one in told.compared for finding in one.findings)


def test_books_and_bill_that_agree_need_no_words() -> None:
    told = held([BOOKS], [USED], [INPUT, OUTPUT])
    assert (told.books_pico, told.bill_pico, told.explained, words(told)) == (2 * USD, 2 * USD, True, "")


def test_a_call_of_unknown_end_covers_what_the_bill_has_more() -> None:
    unknown = replace(BOOKS, kind="unknown", sums=Sums(calls=1, unknown_calls=1, bound_pico=3 * USD))
    told = held([BOOKS, unknown], [MORE], [INPUT, DEARER])
    assert told.explained
    assert "$1.00 more than is known; 1 call of unknown end may cost up to $3.00" in words(told)


def test_an_unknown_call_that_was_not_billed_is_said_to_be_free() -> None:
    unknown = replace(BOOKS, kind="unknown", sums=Sums(calls=1, unknown_calls=1, bound_pico=3 * USD))
    told = held([BOOKS, unknown], [USED], [INPUT, OUTPUT])
    assert told.explained
    assert "1 call of unknown end cost nothing" in words(told)


def test_more_than_unknown_calls_can_cost_is_not_explained_by_them() -> None:
    unknown = replace(BOOKS, kind="unknown", sums=Sums(calls=1, unknown_calls=1, bound_pico=USD // 4))
    told = held([BOOKS, unknown], [MORE], [INPUT, DEARER])
    assert not told.explained
    assert "1 call of unknown end may cost up to $0.25 of the $1.00" in words(told)
    assert "output 3,000,000 on the bill, 2,000,000 in the books" in words(told)


def test_an_answer_without_a_price_explains_up_to_its_bound() -> None:
    unpriced = replace(BOOKS, sums=Sums(calls=1, uncosted=1, output_tokens=1_000_000, bound_pico=2 * USD))
    told = held([BOOKS, unpriced], [MORE], [INPUT, DEARER])
    assert told.explained
    assert "1 call without a price may cost up to $2.00" in words(told)


def test_the_same_tokens_for_other_money_are_a_matter_of_prices() -> None:
    told = held([BOOKS], [USED], [INPUT, DEARER])
    assert not told.explained
    assert "the bill asked input $0.1, output $1 for a million of each" in words(told)
    assert "runner cost reprice" in words(told)


def test_books_that_have_more_are_told_of_late_reports() -> None:
    less = replace(USED, tokens={**USED.tokens, "output_tokens": 1_000_000})
    told = held([BOOKS], [less], [INPUT, replace(OUTPUT, pico=USD // 2)])
    assert not told.explained
    assert "the books have $0.50 more than the bill" in words(told)
    assert "complete some hours after the day" in words(told)


def test_batches_that_are_not_read_yet_are_named() -> None:
    used, billed = replace(USED, batch=True), replace(INPUT, batch=True)
    told = held([], [used], [billed], unread=2)
    assert "2 batches made by then are not read yet: runner collect" in words(told)
    assert "batches" not in words(held([], [USED], [INPUT], unread=2))


def test_other_workspaces_are_none_of_ours() -> None:
    others = replace(OUTPUT, workspace="wrkspc_other", pico=9 * USD)
    told = held([BOOKS], [USED, replace(MORE, workspace="wrkspc_other")], [INPUT, OUTPUT, others])
    assert (told.explained, told.elsewhere_pico, told.bill_pico) == (True, 9 * USD, 2 * USD)


def test_the_default_workspace_has_no_name_in_reports() -> None:
    told = held([BOOKS], [replace(USED, workspace=None)], [replace(one, workspace=None) for one in (INPUT, OUTPUT)])
    assert told.explained


def test_what_no_call_explains_is_beside() -> None:
    container = Billed(workspace=HOME, model=None, batch=False, kind=None, pico=5, description="Code execution")
    told = held([BOOKS], [USED], [INPUT, OUTPUT, container])
    assert (told.beside, told.explained) == ({"Code execution": 5}, False)


def test_searches_are_billed_to_who_searched() -> None:
    books = replace(BOOKS, sums=PAID.plus(Sums(web_searches=3, cost_pico=3 * USD // 100)))
    used = replace(USED, tokens={**USED.tokens, "web_searches": 3})
    fee = Billed(workspace=HOME, model=None, batch=False, kind="web_searches", pico=3 * USD // 100)
    assert held([books], [used], [INPUT, OUTPUT, fee]).explained


@pytest.mark.parametrize("amount", [0, 10**8])
def test_rounded_reports_need_no_words(amount: int) -> None:
    told: Any = held([BOOKS], [USED], [INPUT, replace(OUTPUT, pico=USD + amount)])
    assert told.explained
