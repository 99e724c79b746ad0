"""One submission from its body to its state: written down, sent once, and whatever came back stored.

There is one POST of a submission for ever. Before its first byte it is checked once more that it is ours to send and
not too late; after it nothing is done before its answer is in the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from runner.domain.money import dollars
from runner.domain.outcome import Failure
from runner.domain.quantity import of_rows
from runner.domain.states import BatchState
from runner.domain.submission import CreateReply, Intent, ServerTime, classify_create, us
from runner.domain.sum_bound import CONFIDENCE_WORDS
from runner.engine.batch.common import Common
from runner.engine.batch.spool import Parcel
from runner.failpoints import Failpoint, failpoint
from runner.store.submissions import FIRST_EPOCH, IntentVerdict, NewSubmission

# Enough of the list to know where we are and to have a witness.
LOOK_BACK = 20


class Sent(Struct, frozen=True, kw_only=True):
    """What became of a parcel. `verdict` other than STORED: nothing was sent, and `state` is None."""

    verdict: IntentVerdict
    state: BatchState | None = None
    failure: Failure | None = None


class Submitter:
    """Sends parcels, one at a time."""

    def __init__(self, common: Common) -> None:
        self._c = common
        self.sending = False  # a POST is under way: it is worth waiting for, when the run is to stop

    async def send(self, parcel: Parcel) -> Sent | Failure:
        """A Failure: the service does not say who we are, so nothing was written down."""
        c = self._c
        failpoint(Failpoint.BATCH_SPOOLED)
        intent = await self._intent(parcel)
        if isinstance(intent, Failure):
            return intent
        new = NewSubmission(
            intent=intent,
            run=c.run.id,
            round=c.run.round,
            body_hash=parcel.digest,
            body_bytes=parcel.size,
            worst_pico=parcel.worst_pico,
            reserved_pico=parcel.reserved_pico,
            key_fingerprint=c.fingerprint,
            riders=parcel.riders,
        )
        began_s = c.clock.monotonic()
        self.sending = True  # from here on: what is written down and not sent is to be given up in good order
        try:
            verdict = await c.write(c.store.intend, new, self._overdue_us())
            if verdict is not IntentVerdict.STORED:
                return Sent(verdict=verdict)
            c.epochs[parcel.submission] = FIRST_EPOCH
            c.meter.committed_pico += parcel.reserved_pico or 0
            return await self._posted(parcel, intent, began_s)
        finally:
            self.sending = False

    async def _intent(self, parcel: Parcel) -> Intent | Failure:
        """The service is asked first: whose workspace this is, what time it is there, and what it shows already."""
        c = self._c
        listing = await c.calls.walk(lambda seen: len(seen.batches) < LOOK_BACK)
        if isinstance(listing, Failure):
            return listing
        await c.write(c.store.note_listing, listing)
        return Intent(
            submission=parcel.submission,
            n=len(parcel.idxs),
            asked=ServerTime(server_us=listing.server_us, shared_us=listing.taken_us),
            intent_us=c.clock.now_us(),
            organization=listing.organization,
            workspace=listing.workspace,
        )

    def _overdue_us(self) -> int:
        """A POST that was written down before this has had its time, and its wall clock."""
        timing = self._c.timing
        return self._c.clock.now_us() - us(timing.send_within_s + timing.create_limit_s + timing.settle_s)

    async def _posted(self, parcel: Parcel, intent: Intent, began_s: float) -> Sent:
        c = self._c
        reply = await c.service.create(
            parcel.path,
            parcel.size,
            parcel.betas,
            limit_s=c.timing.create_limit_s,
            may_send=self._may_send(intent, began_s),
        )
        failpoint(Failpoint.BATCH_POST_AFTER)
        state = await self._stored(parcel, reply)
        parcel.path.unlink(missing_ok=True)
        return Sent(verdict=IntentVerdict.STORED, state=state, failure=reply.failure)

    def _may_send(self, intent: Intent, began_s: float) -> Callable[[], Awaitable[bool]]:
        c = self._c

        async def may_send() -> bool:
            ours = await c.read(c.store.is_sending, c.run, intent.submission)
            in_time = c.timing.may_send(
                monotonic_s=c.clock.monotonic() - began_s, shared_s=(c.clock.now_us() - intent.intent_us) / 1e6
            )
            if ours and in_time and not c.stop.is_asked():
                failpoint(Failpoint.BATCH_POST_BEFORE)
                return True
            return False

        return may_send

    async def _stored(self, parcel: Parcel, reply: CreateReply) -> BatchState:
        c = self._c
        state = classify_create(reply)
        held = _held_words(parcel)
        if state is BatchState.ACCEPTED and reply.batch is not None:
            state = await c.write(c.store.received, parcel.submission, reply.batch, c.clock.now_us())
            c.note(
                "batch_submitted",
                f"batch submitted: {of_rows(len(parcel.idxs))} as {reply.batch.id}{held and f', reserved {held}'}",
                reserved=held,
                batch=parcel.submission,
                id=reply.batch.id,
                rows=len(parcel.idxs),
            )
        elif state is BatchState.UNKNOWN:
            await c.write(c.store.end_unknown, parcel.submission)
        else:
            await c.write(c.store.not_made, c.run.id, parcel.submission, state)
            c.meter.committed_pico -= parcel.reserved_pico or 0
        return state


def _held_words(parcel: Parcel) -> str:
    """What is held back where that is not simply the most that the batch can cost."""
    held, worst = parcel.reserved_pico, parcel.worst_pico
    if held is None or worst is None or held >= worst:
        return ""
    return f"{dollars(held)} ({CONFIDENCE_WORDS}) of {dollars(worst)} at worst"
