"""What listings have shown of a workspace's batches, and what the store knows of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from msgspec import Struct
from sqlalchemy import Connection

from runner.domain.listings import Listing, Witness
from runner.domain.submission import Intent
from runner.store import batch_queries
from runner.store.submissions import intent_of

# Names in one `IN (...)`.
NAMES_A_QUERY = 500


class Known(Struct, frozen=True, kw_only=True):
    """What the whole store knows of a workspace's batches, for whoever has to tell whose one is."""

    witnesses: Mapping[str, Witness]
    owned: frozenset[str]
    foreign: frozenset[str]
    duplicates: frozenset[str]
    candidates: Mapping[str, frozenset[str]]  # by submission
    unsettled: tuple[Intent, ...]
    sizes: frozenset[int]

    def claimed_elsewhere(self, submission: str) -> frozenset[str]:
        others = [ids for owner, ids in self.candidates.items() if owner != submission]
        return frozenset().union(*others)


def note_listing(connection: Connection, listing: Listing) -> None:
    """Remember what was shown: it may be a witness later. Who was seen before keeps his first time."""
    rows = [
        {
            "provider_id": batch.id,
            "organization": listing.organization,
            "workspace": listing.workspace,
            "n": batch.total,
            "created_us": batch.created_us,
            "seen_us": listing.taken_us,
            "foreign": False,
        }
        for batch in listing.batches
    ]
    for start in range(0, len(rows), NAMES_A_QUERY):
        part = rows[start : start + NAMES_A_QUERY]
        known = set(connection.scalars(batch_queries.sighted([str(row["provider_id"]) for row in part])))
        fresh = [row for row in part if row["provider_id"] not in known]
        if fresh:
            connection.execute(batch_queries.insert_sightings(connection.dialect.name), fresh)


def note_foreign(connection: Connection, provider_id: str) -> None:
    """Somebody else's: never read again, nobody's candidate any more."""
    connection.execute(batch_queries.mark_sighting(provider_id, foreign=True))
    connection.execute(batch_queries.drop_candidate(provider_id))


def known(connection: Connection, organization: str | None, workspace: str | None, young_us: int) -> Known:
    """Everything that tells whose a batch is. `young_us`: older ones are no witnesses any more."""
    by_submission: defaultdict[str, set[str]] = defaultdict(set)
    for row in connection.execute(batch_queries.all_candidates()):
        by_submission[row.submission].add(row.provider_id)
    witnesses = {
        row.provider_id: Witness(
            id=row.provider_id,
            created_us=row.created_us,
            seen_us=row.seen_us,
            organization=row.organization,
            workspace=row.workspace,
        )
        for row in connection.execute(batch_queries.sightings_of(organization, workspace, young_us))
    }
    return Known(
        witnesses=witnesses,
        owned=frozenset(connection.scalars(batch_queries.owned_ids())),
        foreign=frozenset(connection.scalars(batch_queries.foreign_ids())),
        duplicates=frozenset(connection.scalars(batch_queries.duplicate_ids())),
        candidates={owner: frozenset(ids) for owner, ids in by_submission.items()},
        unsettled=tuple(intent_of(row) for row in connection.execute(batch_queries.unsettled())),
        sizes=frozenset(connection.scalars(batch_queries.sizes())),
    )
