"""Looking for batches of ours that no submission owns: duplicates that nothing could prevent are found and priced."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runner.api.results_file import LineTooLong, ResultLines
from runner.api.wire import outcome_of_result_line
from runner.domain.batch import DAY_US, RETENTION_DAYS, BatchStatus
from runner.domain.booking import Booking, BookingKind
from runner.domain.outcome import Answer, Failure
from runner.domain.pricing import PriceBook
from runner.domain.states import BatchState
from runner.domain.submission import parse_custom_id, read_first_line
from runner.domain.sweep import sweep_targets
from runner.engine.batch.common import Common
from runner.engine.batch.sorting import sort_lines
from runner.store.store import Store
from runner.store.submissions import Submission

LINES_A_COMMIT = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """What a sweep has found. `later` have not ended and are looked at by the next sweep."""

    listed: int = 0
    duplicates: tuple[str, ...] = ()
    claimed: tuple[str, ...] = ()
    foreign: int = 0
    later: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


async def sweep(common: Common) -> Swept | Failure:
    """Check every listed batch that nobody owns and that could be ours."""
    c = common
    submissions = await c.read(c.store.submissions_of, c.run.id)
    if not submissions:
        return Swept()
    since_us = min(one.intent.window_us(c.timing)[0] for one in submissions)
    listing = await c.calls.walk(lambda seen: not seen.reaches(since_us))
    if isinstance(listing, Failure):
        return listing
    await c.write(c.store.note_listing, listing)
    young_us = c.clock.now_us() - RETENTION_DAYS * DAY_US
    known = await c.read(c.store.known_batches, listing.organization, listing.workspace, young_us)
    targets = sweep_targets(
        listing.batches,
        known.sizes,
        owned=known.owned | known.duplicates,
        foreign=known.foreign,
        exclusive=c.run.job.batch.workspace_exclusive,
    )
    found: dict[str, list[str]] = {"duplicate": [], "claimed": [], "foreign": []}
    for batch_id in targets.read:
        word = await _read(c, batch_id)
        found.setdefault(word, []).append(batch_id)
    return Swept(
        listed=len(listing.batches),
        duplicates=tuple(found["duplicate"]),
        claimed=tuple(found["claimed"]),
        foreign=len(found["foreign"]),
        later=targets.later,
        unreadable=targets.unreadable,
    )


async def _read(c: Common, batch_id: str) -> str:
    """Whose it is, in a word, and what follows from it."""
    line = await c.calls.first_line(batch_id)
    if isinstance(line, Failure):
        return "unreadable"
    told = read_first_line(line)
    if not told.readable:
        return "unreadable"
    owner = None if told.submission is None else await c.read(c.store.submission_or_none, told.submission)
    if owner is None:
        await c.write(c.store.note_foreign, batch_id)
        return "foreign"
    if owner.state in (BatchState.SENDING, BatchState.UNKNOWN):
        # The process that was sending it is dead, or about to be told the same: this line knows as much.
        await c.write(c.store.end_unknown, owner.id)
        status = await c.calls.retrieve(batch_id)
        claimed = isinstance(status, BatchStatus) and await c.write(c.store.claim_batch, owner.id, status)
        return "claimed" if claimed else "unreadable"
    if owner.provider_id == batch_id:  # it has become somebody's since we looked
        return "claimed"
    return "duplicate" if await price_duplicate(c, batch_id, owner) else "unreadable"


async def price_duplicate(c: Common, batch_id: str, owner: Submission) -> bool:
    """Keep the duplicate's results apart, and put each of its lines in the books. False: they cannot be had now."""
    path = c.file(owner.id, f"duplicate-{batch_id}")
    told = await c.calls.results(batch_id, path)
    if isinstance(told, Failure):
        return False
    cost_pico = 0
    exact = await c.read(_is_whole, c.store, path, owner.id)
    for part in _parts(path, batch_id, c.prices):
        exact = exact and all(booking.cost_pico is not None for _, booking in part)
        cost_pico += sum(booking.cost_pico or 0 for _, booking in part)
        await c.write(c.store.book_duplicates, owner.run, part, c.clock.now_us())
    await c.write(c.store.note_duplicate, owner.run, batch_id, owner.id, exact=exact)
    c.note(
        "batch_duplicate",
        f"batch {batch_id} holds {owner.n:,} rows a second time: ${cost_pico / 1e12:.4f}; its results are kept apart",
        warning=True,
        batch=owner.id,
        id=batch_id,
        rows=owner.n,
        cost_pico=cost_pico,
    )
    return True


def _is_whole(store: Store, path: Path, submission: str) -> bool:
    """Each row that was sent has its line: nothing else can be on the bill."""
    idxs = array("q", [idx for chunk in store.riding(submission) for idx in chunk.idxs])
    found = sort_lines(path, submission, idxs)
    return not (found.missing or found.conflicting)


def _parts(path: Path, batch_id: str, prices: PriceBook) -> Iterator[list[tuple[int, Booking]]]:
    part: list[tuple[int, Booking]] = []
    for line in _lines(path):
        try:
            told = outcome_of_result_line(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        name = parse_custom_id(told.custom_id)
        if name is None or not isinstance(told.outcome, Answer) or not told.outcome.billed:
            continue
        part.append((name[1], _booking(told.outcome, told.custom_id, batch_id, prices)))
        if len(part) == LINES_A_COMMIT:
            yield part
            part = []
    if part:
        yield part


def _lines(path: Path) -> Iterator[bytes]:
    lines = ResultLines(path)
    with suppress(LineTooLong):
        yield from lines
    if lines.unfinished:
        yield lines.unfinished


def _booking(answer: Answer, custom_id: str, batch_id: str, prices: PriceBook) -> Booking:
    return Booking(
        kind=BookingKind.DUPLICATE,
        model=answer.model,
        price=prices.price(answer.model, answer.usage, batch=True),
        bound_pico=None,
        usage=answer.usage,
        price_version=prices.version,
        request_id=None,
        batch=batch_id,
        key=f"{custom_id}@{batch_id}",
    )
