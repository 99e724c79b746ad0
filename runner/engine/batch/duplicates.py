"""A batch that holds rows of ours a second time: its results are kept apart, each of its lines is in the books."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.api.results_file import LineTooLong, ResultLines
from runner.api.wire import outcome_of_result_line
from runner.domain.booking import Booking, BookingKind
from runner.domain.outcome import Answer, Failure
from runner.domain.pricing import PriceBook
from runner.domain.quantity import of_rows
from runner.domain.submission import parse_custom_id
from runner.engine.batch.common import Common
from runner.engine.batch.sorting import sort_lines
from runner.store.store import Store
from runner.store.submissions import Submission

LINES_A_COMMIT = 1_000


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
        f"batch {batch_id} holds {of_rows(owner.n)} a second time: ${cost_pico / 1e12:.4f}; "
        "its results are kept apart",
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
