"""Batches that hold rows a second time, in the books; and what the books hold of each batch."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Connection

from runner.domain.booking import Booking
from runner.domain.budget import Changes, Payer, day_of
from runner.store import batch_queries, budgets, ledger, queries
from runner.store.submissions import let_go_key


def note_duplicate(connection: Connection, provider_id: str, submission: str, payer: Payer, *, exact: bool) -> None:
    """It holds the rows of a submission that had been given up, or that has another batch. `exact`: the books hold
    all that it cost."""
    connection.execute(batch_queries.mark_sighting(provider_id, duplicate_of=submission))
    connection.execute(batch_queries.drop_candidate(provider_id))
    if exact:
        _take_back_bound(connection, submission, payer)


def book_duplicates(connection: Connection, run: int, bookings: Sequence[tuple[int, Booking]], now_us: int) -> int:
    """Put lines of a duplicate batch in the books, each once; how much is spent by those that were not there."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyhow
        connection.execute(queries.lock_question(f"duplicates of {run}"))
    booked = ledger.book(connection, [ledger.line(run, idx, "", one, now_us) for idx, one in bookings])
    return sum(line["cost_pico"] or 0 for line in booked)


def _take_back_bound(connection: Connection, submission: str, payer: Payer) -> None:
    """What was let go has turned up, and each of its lines has its price: the bound for all of them is over."""
    bound_pico = ledger.withdraw(connection, let_go_key(submission))
    if bound_pico:
        found = connection.execute(batch_queries.batch(submission)).one()
        connection.execute(batch_queries.set_batch(submission, reserved_pico=0))
        changes = Changes()
        changes.commit(day_of(found.intent_us), -bound_pico)
        budgets.change(connection, payer, changes)


class Duplicate(Struct, frozen=True, kw_only=True):
    """A batch that holds rows a second time. `cost_pico` is what the books hold for it."""

    provider_id: str
    submission: str
    n: int
    created_us: int | None
    cost_pico: int


def duplicates_of(connection: Connection, run: int) -> list[Duplicate]:
    return [
        Duplicate(
            provider_id=row.provider_id,
            submission=row.submission,
            n=row.n,
            created_us=row.created_us,
            cost_pico=int(connection.execute(batch_queries.spent_on(run, row.provider_id)).scalar() or 0),
        )
        for row in connection.execute(batch_queries.duplicates_of(run)).all()
    ]


class BatchMoney(Struct, frozen=True, kw_only=True):
    """What the books hold of a batch: what its lines cost, and the most that those without a cost can have."""

    cost_pico: int
    bound_pico: int


def money_by_batch(connection: Connection, run: int) -> dict[str, BatchMoney]:
    """By the service's id; that of a submission which was let go by its own."""
    return {
        row.batch: BatchMoney(cost_pico=int(row.cost_pico), bound_pico=int(row.bound_pico))
        for row in connection.execute(batch_queries.money_by_batch(run))
    }
