"""The books: lines are appended, each call once, and every line is in its day's sums by the same transaction.

`spending` holds nothing that the ledger does not: it is there so that a report of a million lines reads a few.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, field
from sqlalchemy import Connection

from runner.domain.booking import Booking, BookingKind, day_number
from runner.domain.budget import Changes, day_of
from runner.domain.job import Job
from runner.domain.outcome import Usage
from runner.domain.pricing import Price, PriceBook
from runner.domain.spending import Spending, sums_of
from runner.store import batch_queries, ledger_queries, prepared, queries

LINES_A_PAGE = 1_000
PRICED = (BookingKind.SPEND, BookingKind.DUPLICATE)
NO_USAGE = Usage()
NOTHING = Price(cost_pico=0, unbatched_pico=0, list_pico=0)


class Line(NamedTuple):
    """A row of the ledger that is to be appended, and the tokens in it."""

    told: dict[str, Any]
    usage: Usage


def line(run: int, idx: int | None, key: str, booking: Booking, at_us: int, *, rows: int = 0) -> Line:
    """A booking as a line of the ledger. `rows` is 1 where this call gave its row the result."""
    price = booking.price
    told = {
        "key": booking.key or key,
        "run": run,
        "idx": idx,
        "kind": booking.kind,
        "model": plain_text(booking.model),
        "cost_pico": booking.cost_pico,
        "bound_pico": booking.bound_pico,
        "unbatched_pico": price and price.unbatched_pico,
        "list_pico": price and price.list_pico,
        "usage": None if booking.usage is None else msgspec.json.encode(booking.usage),
        "price_version": booking.price_version,
        "request_id": plain_text(booking.request_id),
        "batch": plain_text(booking.batch),
        "rows": rows,
        "corrects": None,
        "at_us": at_us if booking.at_us is None else booking.at_us,
    }
    return Line(told, booking.usage or NO_USAGE)


def key_of(run: int, idx: int, epoch: int, try_: int, turn: int) -> str:
    """Names a live call, so that it is booked once whoever books it."""
    return f"{run}.{idx}.{epoch}.{try_}.{turn}"


def book(connection: Connection, lines: Sequence[Line], absent: Collection[str] = ()) -> list[dict[str, Any]]:
    """Append those lines that are not there yet, and only those are returned. Whoever calls sees to it that nobody
    else books the same calls meanwhile, and may say of some keys that they are `absent`."""
    by_key = {one.told["key"]: one for one in lines}
    perhaps = [key for key in by_key if key not in absent]
    known = _known(connection, perhaps) if perhaps else frozenset()
    new = [one for key, one in by_key.items() if key not in known]
    if not new:
        return []
    fresh = [one.told for one in new]
    prepared.insert_ledger(connection, fresh)
    _add_up(connection, [_sums(one.told, one.usage) for one in new])
    return fresh


def _known(connection: Connection, keys: list[str]) -> frozenset[str]:
    return frozenset(prepared.execute(connection, ledger_queries.bookings_among(), {"keys": keys}).scalars())


def _sums(told: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    """What a line adds to its day."""
    uncosted = told["cost_pico"] is None
    return {
        "run": told["run"],
        "day": day_number(told["at_us"]),
        "kind": told["kind"],
        "model": told["model"],
        "batch": told["batch"] is not None,
        "calls": 1,
        "rows": told["rows"],
        "uncosted": int(uncosted),
        "unbounded": int(uncosted and told["bound_pico"] is None),
        "input_tokens": usage.input_tokens,
        "cache_write_5m": usage.cache_write_5m,
        "cache_write_1h": usage.cache_write_1h,
        "cache_read": usage.cache_read,
        "output_tokens": usage.output_tokens,
        "web_searches": usage.web_searches,
        "cost_pico": told["cost_pico"] or 0,
        "bound_pico": (told["bound_pico"] or 0) if uncosted else 0,
        "unbatched_pico": told["unbatched_pico"] or 0,
        "list_pico": told["list_pico"] or 0,
    }


_DAY = ("run", "day", "kind", "model", "batch")
_day_in, _amounts_in = itemgetter(*_DAY), itemgetter(*ledger_queries.SUMS)


def _add_up(connection: Connection, changes: Sequence[Mapping[str, Any]]) -> None:
    """In one order for everybody, so that two transactions never wait for each other."""
    by_day: dict[tuple[Any, ...], list[tuple[int, ...]]] = defaultdict(list)
    for change in changes:
        by_day[_day_in(change)].append(_amounts_in(change))
    rows = []
    for day, amounts in sorted(by_day.items()):
        sums = map(sum, zip(*amounts, strict=True))
        rows.append(dict(zip((*_DAY, *ledger_queries.SUMS), (*day, *sums), strict=True)))
    prepared.execute(connection, ledger_queries.add_to_spending(connection.dialect.name), rows)


def plain_text(value: str | None) -> str | None:
    """Words of a server as PostgreSQL can hold them: no NUL, no lone surrogates."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode()


def lines_of(connection: Connection, run: int, page: int = LINES_A_PAGE) -> Iterator[Any]:
    """The run's lines of the ledger, oldest first."""
    after = 0
    while rows := connection.execute(ledger_queries.ledger_of(run, after, page)).all():
        yield from rows
        after = rows[-1].id


# --- corrections


class Repriced(Struct, frozen=True, kw_only=True):
    """What a table of prices made of some lines. `last_id` is where to go on, None at the end; `left` lines have no
    price in it either; `changes` are those of the budgets."""

    last_id: int | None
    looked_at: int = 0
    corrected: int = 0
    left: int = 0
    more_pico: int = 0
    changes: Changes = field(default_factory=Changes)


def reprice(connection: Connection, run: int, prices: PriceBook, after_id: int, *, write: bool) -> Repriced:
    """Append a correction for each line of a page that another price than the booked one is right for.

    A correction stands on the day of the call that it corrects. Only one process at a time may do this to a run.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(queries.lock_question(f"corrections of {run}"))
    found = connection.execute(ledger_queries.lines_to_price(run, PRICED, after_id, LINES_A_PAGE)).all()
    if not found:
        return Repriced(last_id=None)
    before = {
        row.corrects: row for row in connection.execute(ledger_queries.corrections_of([row.id for row in found]))
    }
    corrections, left = [], 0
    for row in found:
        price = prices.price(row.model, _usage(row), batch=row.batch is not None)
        if price is None:
            left += row.cost_pico is None and row.id not in before
        elif (told := _correction(row, before.get(row.id), price, prices.version)) is not None:
            corrections.append(told)
    if corrections and write:
        connection.execute(ledger_queries.insert_lines(), [told for told, _ in corrections])
        _add_up(connection, [{**_sums(told, NO_USAGE), **changes} for told, changes in corrections])
    return Repriced(
        last_id=found[-1].id,
        looked_at=len(found),
        corrected=len(corrections),
        left=left,
        more_pico=sum(told["cost_pico"] for told, _ in corrections),
        changes=_changes(connection, corrections),
    )


def _changes(connection: Connection, corrections: Sequence[tuple[dict[str, Any], dict[str, int]]]) -> Changes:
    """Budgets know a call by the day on which it was sent: a line of a batch by that of its intent."""
    changes = Changes()
    named = list({told["batch"] for told, _ in corrections if told["batch"] is not None})
    batches = connection.execute(batch_queries.intents_of(), {"provider_ids": named}) if named else ()
    sent_us = {row.provider_id: row.intent_us for row in batches}
    for told, known in corrections:
        day = day_of(sent_us.get(told["batch"], told["at_us"]))
        changes.spend(day, told["cost_pico"])
        changes.commit(day, known["bound_pico"])
    return changes


def _usage(row: Any) -> Usage:
    return msgspec.json.decode(row.usage, type=Usage)


def _correction(row: Any, before: Any, price: Price, version: str) -> tuple[dict[str, Any], dict[str, int]] | None:
    """The line that makes this one right, and what is not known any longer to be unknown. None where it is right."""
    booked = _booked(row, before)
    unknown = row.cost_pico is None and before is None
    if price == booked and not unknown:
        return None
    number = before.number + 1 if before else 1
    told = {
        "key": f"{row.key}#{number}",
        "run": row.run,
        "idx": row.idx,
        "kind": BookingKind.CORRECTION,
        "model": row.model,
        "cost_pico": price.cost_pico - booked.cost_pico,
        "bound_pico": None,
        "unbatched_pico": price.unbatched_pico - booked.unbatched_pico,
        "list_pico": price.list_pico - booked.list_pico,
        "usage": None,
        "price_version": version,
        "request_id": row.request_id,
        "batch": row.batch,
        "rows": 0,
        "corrects": row.id,
        "at_us": row.at_us,
    }
    known = {
        "calls": 0,
        "uncosted": -int(unknown),
        "unbounded": -int(unknown and row.bound_pico is None),
        "bound_pico": -(row.bound_pico or 0) if unknown else 0,
    }
    return told, known


def _booked(row: Any, before: Any) -> Price:
    """What the line and its corrections come to."""
    told = NOTHING if row.cost_pico is None else _price(row)
    if before is None:
        return told
    return Price(
        cost_pico=told.cost_pico + int(before.cost_pico),
        unbatched_pico=told.unbatched_pico + int(before.unbatched_pico),
        list_pico=told.list_pico + int(before.list_pico),
    )


def _price(row: Any) -> Price:
    return Price(cost_pico=row.cost_pico, unbatched_pico=row.unbatched_pico, list_pico=row.list_pico)


def withdraw(connection: Connection, key: str) -> int:
    """What an unknown line stands for has turned up and is booked for itself: its bound is taken back, once; how
    much."""
    found = connection.execute(ledger_queries.line_of(key)).first()
    if found is None or connection.execute(ledger_queries.line_of(f"{key}#1")).first() is not None:
        return 0
    correction = {name: found._mapping[name] for name in ledger_queries.LINE} | {
        "key": f"{key}#1",
        "kind": BookingKind.CORRECTION,
        "cost_pico": 0,
        "bound_pico": None,
        "corrects": found.id,
    }
    connection.execute(ledger_queries.insert_lines(), [correction])
    bound_pico = found.bound_pico or 0
    taken_back = {"calls": -1, "uncosted": -1, "unbounded": -(found.bound_pico is None), "bound_pico": -bound_pico}
    _add_up(connection, [{**_sums(correction, NO_USAGE), "kind": found.kind, **taken_back}])
    return bound_pico


# --- reading


def spending_since(connection: Connection, day: int) -> list[Spending]:
    """What every run spent from this UTC day on."""
    known = {row.id: row for row in connection.execute(ledger_queries.runs_spending_since(day))}
    jobs = {id_: Job.from_json(bytes(row.job).decode()) for id_, row in known.items()}
    return [
        Spending(
            run=known[row.run].label,
            job=known[row.run].job_name,
            day=row.day,
            kind=row.kind,
            model=row.model,
            batch=row.batch,
            sums=sums_of(row.kind, {name: row._mapping[name] for name in ledger_queries.SUMS}),
            tags=jobs[row.run].tags,
            schedule=known[row.run].schedule,
            workspace=known[row.run].workspace,
        )
        for row in connection.execute(ledger_queries.spending_since(day))
    ]
