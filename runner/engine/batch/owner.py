"""Whose a batch is, once its first line has been read, and what follows from it: it is somebody else's, it is the one
that was looked for, or it holds rows of ours a second time."""

from __future__ import annotations

from enum import StrEnum

from runner.domain.batch import BatchStatus
from runner.domain.states import BatchState
from runner.engine.batch.common import Common
from runner.engine.batch.duplicates import price_duplicate


class Owner(StrEnum):
    FOREIGN = "foreign"
    FOUND = "found"  # of a submission whose end was not known until now
    KNOWN = "known"  # it has become somebody's since we looked
    TWICE = "twice"
    LATER = "later"  # something could not be had just now


async def settle_owner(c: Common, batch_id: str, submission: str | None) -> Owner:
    """`submission` is the name in its first line, None for one that is not of our form."""
    owner = None if submission is None else await c.read(c.store.submission_or_none, submission)
    if owner is None:
        await c.write(c.store.note_foreign, batch_id)
        return Owner.FOREIGN
    if owner.state in (BatchState.SENDING, BatchState.UNKNOWN):
        # The process that was sending it is dead, or about to be told the same: this line knows as much.
        await c.write(c.store.end_unknown, owner.id)
        status = await c.calls.retrieve(batch_id)
        if not isinstance(status, BatchStatus) or not await c.write(c.store.claim_batch, owner.id, status):
            return Owner.LATER
        text = f"batch {batch_id} is the one whose creation had no certain end"
        c.note("batch_found", text, batch=owner.id, id=batch_id)
        c.wake()
        return Owner.FOUND
    if owner.provider_id == batch_id:
        return Owner.KNOWN
    return Owner.TWICE if await price_duplicate(c, batch_id, owner) else Owner.LATER
