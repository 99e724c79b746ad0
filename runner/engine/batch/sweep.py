"""Looking for batches of ours that no submission owns: duplicates that nothing could prevent are found and priced."""

from __future__ import annotations

from collections import defaultdict

from msgspec import Struct

from runner.domain.batch import DAY_US, RETENTION_DAYS
from runner.domain.outcome import Failure
from runner.domain.submission import read_first_line
from runner.domain.sweep import sweep_targets
from runner.engine.batch.common import Common
from runner.engine.batch.owner import Owner, settle_owner


class Swept(Struct, frozen=True, kw_only=True):
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
    found: defaultdict[Owner, list[str]] = defaultdict(list)
    for batch_id in targets.read:
        found[await _read(c, batch_id)].append(batch_id)
    return Swept(
        listed=len(listing.batches),
        duplicates=tuple(found[Owner.TWICE]),
        claimed=(*found[Owner.FOUND], *found[Owner.KNOWN]),
        foreign=len(found[Owner.FOREIGN]),
        later=targets.later,
        unreadable=targets.unreadable,
    )


async def _read(c: Common, batch_id: str) -> Owner:
    """Whose it is, and what follows from it."""
    line = await c.calls.first_line(batch_id)
    if isinstance(line, Failure):
        return Owner.LATER
    told = read_first_line(line)
    return await settle_owner(c, batch_id, told.submission) if told.readable else Owner.LATER
