"""The list of a workspace's batches as evidence: what it shows, and what its silence is worth.

A listing that does not show a batch proves something only if it is late enough, reaches back far enough and looks
at the right workspace: by the headers of its replies, and by showing at least one batch that is known to be there
(a witness). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct, field

from runner.domain.batch import DAY_US, RETENTION_DAYS, BatchStatus
from runner.domain.submission import Intent, Timing, us


class Listing(Struct, frozen=True, kw_only=True):
    """The workspace's batches, newest first, in one walk over the pages.

    `taken_us` (shared) and `server_us` (its `Date`) are those of the first page, whose batches are the newest.
    Every batch created at `complete_since_us` or later is in it; 0 when the walk came to the list's end. It is None
    while that cannot be told.
    """

    taken_us: int
    server_us: int
    batches: tuple[BatchStatus, ...]
    complete_since_us: int | None
    organization: str | None = None
    workspace: str | None = None

    @property
    def to_the_end(self) -> bool:
        return self.complete_since_us == 0

    def reaches(self, created_us: int) -> bool:
        """Whether it shows whatever was created at that time or later."""
        return self.complete_since_us is not None and self.complete_since_us <= created_us


def listing_of(
    pages: Iterable[tuple[BatchStatus, ...]],
    *,
    taken_us: int,
    server_us: int,
    organization: str | None,
    workspace: str | None,
    to_the_end: bool,
) -> Listing:
    """The listing that some pages make together. A batch that moved between two pages stands in it once."""
    batches = {batch.id: batch for page in pages for batch in page}
    created = [batch.created_us for batch in batches.values() if batch.created_us is not None]
    # Others of the same microsecond may stand on the next page.
    oldest = min(created) + 1 if created else None
    return Listing(
        taken_us=taken_us,
        server_us=server_us,
        batches=tuple(batches.values()),
        complete_since_us=0 if to_the_end else oldest,
        organization=organization,
        workspace=workspace,
    )


class Witness(Struct, frozen=True, kw_only=True):
    """A batch, whoever owns it, that was once shown to us under these headers. `seen_us` is shared time."""

    id: str
    created_us: int
    seen_us: int
    organization: str | None = None
    workspace: str | None = None


class Witnesses(Struct, frozen=True, kw_only=True):
    """Batches that a listing of the right workspace ought to show."""

    seen: Mapping[str, Witness] = field(default_factory=dict)

    def with_listing(self, listing: Listing) -> Witnesses:
        """These and all that the listing shows; who was seen before keeps his first time."""
        new = {
            batch.id: Witness(
                id=batch.id,
                created_us=batch.created_us,
                seen_us=listing.taken_us,
                organization=listing.organization,
                workspace=listing.workspace,
            )
            for batch in listing.batches
            if batch.created_us is not None
        }
        return Witnesses(seen={**new, **self.seen})

    def without(self, batch_ids: Iterable[str]) -> Witnesses:
        """What we have deleted ourselves is not missed."""
        gone = frozenset(batch_ids)
        return Witnesses(seen={id_: witness for id_, witness in self.seen.items() if id_ not in gone})

    def for_listing(self, intent: Intent, listing: Listing) -> frozenset[str]:
        """Those that this listing should show at least one of: seen earlier, of the intent's place, still young.

        Where replies do not name the place, only what was seen before the intent tells where that went.
        """
        young = listing.server_us - RETENTION_DAYS * DAY_US
        place = (intent.organization, intent.workspace)
        before_us = listing.taken_us if None not in place else min(listing.taken_us, intent.intent_us)
        return frozenset(
            witness.id
            for witness in self.seen.values()
            if witness.seen_us < before_us
            and witness.created_us > young
            and (witness.organization, witness.workspace) == place
        )


class Standing(StrEnum):
    """What a listing is worth for one intent."""

    COUNTS = "counts"
    TOO_EARLY = "too_early"
    INCOMPLETE = "incomplete"
    ELSEWHERE = "elsewhere"  # its headers name another organisation or workspace
    NO_WITNESS = "no_witness"  # right headers, but nothing that we know to be there
    WITNESS_TOO_NEW = "witness_too_new"  # the same, but what we know of need not be listed yet
    NO_PROOF = "no_proof"  # neither headers nor a witness


def standing(intent: Intent, listing: Listing, witnesses: Witnesses, timing: Timing) -> Standing:
    """Whether a listing that does not show a batch means that there is none."""
    if is_elsewhere(intent, listing):
        return Standing.ELSEWHERE
    if listing.server_us < intent.settled_us(timing):
        return Standing.TOO_EARLY
    if not listing.reaches(intent.window_us(timing)[0]):
        return Standing.INCOMPLETE
    expected = witnesses.for_listing(intent, listing)
    if any(batch.id in expected for batch in listing.batches):
        return Standing.COUNTS
    if not _names_the_place(intent, listing):
        return Standing.NO_PROOF
    if not expected:
        return Standing.COUNTS
    listed_us = listing.server_us - us(timing.settle_s)
    overdue = any(witnesses.seen[batch_id].created_us <= listed_us for batch_id in expected)
    return Standing.NO_WITNESS if overdue else Standing.WITNESS_TOO_NEW


def is_elsewhere(intent: Intent, listing: Listing) -> bool:
    """True when both name a place and it is not the same."""
    pairs = ((intent.organization, listing.organization), (intent.workspace, listing.workspace))
    return any(ours is not None and theirs is not None and ours != theirs for ours, theirs in pairs)


def _names_the_place(intent: Intent, listing: Listing) -> bool:
    told = (listing.organization, listing.workspace)
    return None not in told and told == (intent.organization, intent.workspace)


def wants_another_page(intents: Iterable[Intent], listing: Listing, witnesses: Witnesses, timing: Timing) -> bool:
    """Whether the walk must go on: back to before every intent, and to a witness where there is one."""
    if listing.to_the_end:
        return False
    shown = {batch.id for batch in listing.batches}
    for intent in intents:
        if is_elsewhere(intent, listing):
            continue
        if not listing.reaches(intent.window_us(timing)[0]):
            return True
        expected = witnesses.for_listing(intent, listing)
        if expected and not expected & shown:
            return True
    return False
