"""The books: the sums of a day are those of its lines, corrections are appended, and nothing is ever changed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import fields, replace
from sqlalchemy import select

from runner.domain.booking import DAY_US, BookingKind, day_number
from runner.domain.outcome import Usage
from runner.domain.price_changes import changed_prices
from runner.domain.pricing import PriceBook, shipped_json, shipped_prices
from runner.domain.run import Run
from runner.domain.spending import Sums, sums_of, total
from runner.store import ledger, ledger_queries
from runner.store.ledger import Repriced
from runner.store.store import Store
from runner.store.tables import ledger as ledger_table
from runner.store.tables import spending
from tests.store import building
from tests.store.building import MODEL, NOW_US, WORST_PICO, claim, ended, send, spend, staged_run, stored, tried

BOOK = shipped_prices()
DEARER = changed_prices(shipped_json(), {"models": [{"id": MODEL, "multiplier": 2}]})
NEXT = changed_prices(shipped_json(), {"models": [{"id": "claude-next-6", "input": 1, "output": 2}]})
USAGE = Usage(input_tokens=100, cache_read=400, output_tokens=10)


def sums_of_lines(store: Store, run: Run) -> dict[tuple[Any, ...], Sums]:
    """The ledger added up line by line, as `spending` should have it."""
    told: dict[tuple[Any, ...], Sums] = {}
    lines = store.database.read(lambda c: list(ledger.lines_of(c, run.id)))
    by_id = {line.id: line for line in lines}
    corrected: set[int] = set()
    for line in lines:
        usage = Usage() if line.usage is None else msgspec.json.decode(line.usage, type=Usage)
        correction = line.kind == BookingKind.CORRECTION
        known = by_id[line.corrects] if correction and line.corrects not in corrected else None
        known = known if known is not None and known.cost_pico is None else None
        corrected.add(line.corrects)
        uncosted = int(line.cost_pico is None)
        columns = {
            "calls": int(not correction),
            "rows": line.rows,
            "uncosted": uncosted - (known is not None),
            "unbounded": (uncosted and line.bound_pico is None) - (known is not None and known.bound_pico is None),
            "bound_pico": (line.bound_pico or 0) * uncosted - (known.bound_pico or 0 if known is not None else 0),
            **{name: getattr(line, name) or 0 for name in ("cost_pico", "unbatched_pico", "list_pico")},
            **{name: getattr(usage, name) for name in ledger_queries.SUMS if hasattr(usage, name)},
        }
        key = (day_number(line.at_us), line.kind, line.model, line.batch is not None)
        told[key] = told.get(key, Sums()).plus(sums_of(line.kind, columns))
    return told


def sums_of_days(store: Store, run: Run) -> dict[tuple[Any, ...], Sums]:
    rows = store.database.read(lambda c: c.execute(select(spending).where(spending.c.run == run.id)).all())
    return {
        (row.day, row.kind, row.model, row.batch): sums_of(
            row.kind, {name: row._mapping[name] for name in ledger_queries.SUMS}
        )
        for row in rows
    }


def booked(model: str = MODEL, usage: Usage = USAGE, book: PriceBook = BOOK, **changes: Any) -> Any:
    price = book.price(model, usage, batch="batch" in changes)
    return replace(spend(), model=model, price=price, usage=usage, price_version=book.version, **changes)


@pytest.fixture
def run(store: Store) -> Run:
    """Four rows: two live answers, one of a batch, one of a model without a price, and a call of unknown end."""
    run = staged_run(store, 4)
    fence = claim(store, run).fence
    stored(store, run, *(send(fence, idx) for idx in range(4)))
    unknown = spend(None, kind=BookingKind.UNKNOWN, bound_pico=WORST_PICO, usage=None)
    stored(
        store,
        run,
        ended(fence, 0, booking=booked()),
        replace(ended(fence, 1, booking=booked()), at_us=NOW_US + DAY_US),
        ended(fence, 2, booking=booked(key="sub-2", batch="msgbatch_1")),
        tried(fence, 3, booking=unknown),
    )
    stored(store, run, send(fence, 3, try_=2))
    unpriced = booked("claude-next-6", Usage(input_tokens=10**6), bound_pico=7 * WORST_PICO)
    stored(store, run, ended(fence, 3, try_=2, booking=unpriced))
    return run


def repriced(store: Store, run: Run, book: PriceBook, *, write: bool = True) -> Repriced:
    pages = list(store.reprice(run.id, book, write=write))
    names = [one.name for one in fields(Repriced) if one.type is int]
    return Repriced(last_id=None, **{name: sum(getattr(page, name) for page in pages) for name in names})


def lines(store: Store) -> list[Any]:
    return store.database.read(lambda c: list(c.execute(select(ledger_table).order_by(ledger_table.c.id)).all()))


def test_the_sums_of_a_day_are_those_of_its_lines(store: Store, run: Run) -> None:
    assert sums_of_days(store, run) == sums_of_lines(store, run)
    assert {key[1:] for key in sums_of_days(store, run)} == {
        ("spend", MODEL, False),
        ("spend", MODEL, True),
        ("spend", "claude-next-6", False),
        ("unknown", MODEL, False),
    }


def test_list_price_and_savings_by_hand(store: Store, run: Run) -> None:
    """Haiku 5.5, 100 + 400 cached + 10 out: list 55 micro-dollars a call, 19 with the cache, 9.5 in a batch."""
    sums = total(one for one in store.spending_since(0) if one.model == MODEL).sums
    assert (sums.calls, sums.rows, sums.unknown_calls) == (4, 3, 1)
    assert sums.list_pico == 3 * 55_000_000
    assert sums.saved_by_cache_pico == 3 * 36_000_000
    assert sums.saved_by_batch_pico == 9_500_000
    assert sums.cost_pico == 2 * 19_000_000 + 9_500_000
    assert sums.bound_pico == WORST_PICO


def test_an_answer_without_a_price_counts_as_one(store: Store, run: Run) -> None:
    sums = total(one for one in store.spending_since(0) if one.model != MODEL).sums
    assert (sums.uncosted, sums.unbounded, sums.cost_pico, sums.bound_pico) == (1, 0, 0, 7 * WORST_PICO)


def test_spending_from_a_day_on(store: Store, run: Run) -> None:
    assert {one.day for one in store.spending_since(0)} == {day_number(NOW_US), day_number(NOW_US) + 1}
    assert {one.day for one in store.spending_since(day_number(NOW_US) + 1)} == {day_number(NOW_US) + 1}


def test_the_same_prices_correct_nothing(store: Store, run: Run) -> None:
    told = repriced(store, run, BOOK)
    assert (told.looked_at, told.corrected, told.left) == (4, 0, 1)


def test_other_prices_are_appended_as_corrections_on_the_day_of_the_call(store: Store, run: Run) -> None:
    before = lines(store)
    money = store.money(run.id)
    told = repriced(store, run, DEARER)
    assert (told.corrected, told.more_pico) == (3, money.spent_pico)
    assert lines(store)[: len(before)] == before
    assert [line.at_us - NOW_US - 1 for line in lines(store)[len(before) :]] == [0, DAY_US - 1, 0]
    assert store.money(run.id).spent_pico == 2 * money.spent_pico
    assert sums_of_days(store, run) == sums_of_lines(store, run)


def test_corrections_are_made_once_and_can_be_taken_back(store: Store, run: Run) -> None:
    money = store.money(run.id)
    repriced(store, run, DEARER)
    assert repriced(store, run, DEARER).corrected == 0
    assert repriced(store, run, BOOK).more_pico == -money.spent_pico
    assert repriced(store, run, DEARER).corrected == 3
    assert repriced(store, run, BOOK).corrected == 3
    assert store.money(run.id) == money
    assert sums_of_days(store, run) == sums_of_lines(store, run)


def test_a_price_that_was_missing_takes_the_place_of_the_bound(store: Store, run: Run) -> None:
    committed = store.money(run.id).committed_pico
    told = repriced(store, run, NEXT)
    assert (told.corrected, told.more_pico, told.left) == (1, 10**12, 0)
    money = store.money(run.id)
    assert (money.uncosted, money.committed_pico) == (0, committed - 7 * WORST_PICO)
    assert money.unknown_bound_pico == WORST_PICO  # what nobody knows, no price tells
    assert sums_of_days(store, run) == sums_of_lines(store, run)
    repriced(
        store, run, changed_prices(shipped_json(), {"models": [{"id": "claude-next-6", "input": 2, "output": 2}]})
    )
    assert store.money(run.id).committed_pico == money.committed_pico
    assert sums_of_days(store, run) == sums_of_lines(store, run)


def test_what_would_be_corrected_is_told_without_doing_it(store: Store, run: Run) -> None:
    before, money = lines(store), store.money(run.id)
    assert repriced(store, run, DEARER, write=False).corrected == 3
    assert (lines(store), store.money(run.id)) == (before, money)


def test_tags_come_with_what_was_spent(store: Store) -> None:
    run = building.staged_run(store, 1, tags={"team": "support"})
    building.settle_all(store, run)
    assert [one.tags for one in store.spending_since(0)] == [{"team": "support"}]
