"""Submissions in a store, in the states that views and commands tell of."""

from __future__ import annotations

from typing import Any

from runner.domain.batch import DAY_US, BatchStatus
from runner.domain.booking import Booking, BookingKind
from runner.domain.job import Mode
from runner.domain.listings import Listing
from runner.domain.run import Run
from runner.domain.submission import Intent, ServerTime
from runner.store.store import Store
from runner.store.submissions import IntentVerdict, NewSubmission, Rider
from tests.store import building

MINUTE_US = 60_000_000
USD = 10**12
WORST_PICO = USD // 100
PLACE = {"organization": "org-1", "workspace": "wrkspc_1"}


def batch_run(store: Store, *sizes: int, **job: Any) -> Run:
    """A run in batch mode, each chunk of which is a batch's worth."""
    return building.staged_run(store, *sizes, **{"mode": Mode.BATCH, **job})


def intended(store: Store, run: Run, name: str, at_us: int = building.NOW_US) -> str:
    """The next chunk rides in a submission that is being sent."""
    chunk = building.claim(store, run, at_us)
    n = chunk.n
    new = NewSubmission(
        intent=Intent(
            submission=name, n=n, asked=ServerTime(server_us=at_us, shared_us=at_us), intent_us=at_us, **PLACE
        ),
        run=run.id,
        round=1,
        body_hash="0123456789abcdef" * 4,
        body_bytes=1_234_567,
        worst_pico=WORST_PICO,
        key_fingerprint="f00d",
        riders=[
            Rider(fence=chunk.fence, first_idx=chunk.first_idx, n=n, idxs=range(chunk.first_idx, chunk.first_idx + n))
        ],
    )
    assert store.intend(new, 0) is IntentVerdict.STORED
    return name


def status(provider_id: str, n: int, created_us: int, *, ended_us: int | None = None, **counts: int) -> BatchStatus:
    return BatchStatus(
        id=provider_id,
        status="in_progress" if ended_us is None else "ended",
        counts=counts or {"processing": n},
        created_us=created_us,
        expires_us=created_us + DAY_US,
        ended_us=ended_us,
    )


def accepted(store: Store, run: Run, name: str, provider_id: str, at_us: int = building.NOW_US) -> str:
    """The next chunk is with the API."""
    intended(store, run, name, at_us)
    (one,) = [one for one in store.submissions_of(run.id) if one.id == name]
    store.received(name, status(provider_id, one.n, at_us), at_us)
    return name


def unknown(store: Store, run: Run, name: str, at_us: int = building.NOW_US) -> str:
    """The next chunk may be with the API."""
    intended(store, run, name, at_us)
    store.end_unknown(name)
    return name


def read(store: Store, run: Run, name: str, provider_id: str, *, took_us: int, at_us: int = building.NOW_US) -> str:
    """The next chunk came back, all of it answered; its rows are not: views do not ask for them."""
    accepted(store, run, name, provider_id, at_us)
    (one,) = [one for one in store.submissions_of(run.id) if one.id == name]
    store.batch_ended(name, status(provider_id, one.n, at_us, ended_us=at_us + took_us, succeeded=one.n))
    store.ingested(run.id, name, one.epoch, at_us + took_us)
    return name


def duplicate(store: Store, run: Run, name: str, provider_id: str, cost_pico: int, n: int = 1) -> None:
    """A second batch of a submission's rows, found and priced."""
    at_us = building.NOW_US
    listed = status(provider_id, n, at_us, ended_us=at_us, succeeded=n)
    store.note_listing(Listing(taken_us=at_us, server_us=at_us, batches=(listed,), complete_since_us=0, **PLACE))
    booking = Booking(
        kind=BookingKind.DUPLICATE,
        model=building.MODEL,
        price=building.price(cost_pico),
        bound_pico=None,
        usage=None,
        price_version=building.PRICES,
        request_id=None,
        batch=provider_id,
        key=f"{name}-0@{provider_id}",
    )
    store.book_duplicates(run.id, [(0, booking)], at_us)
    store.note_duplicate(run.id, provider_id, name, exact=True)
