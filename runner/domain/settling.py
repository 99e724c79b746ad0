"""What to do about a submission whose POST had no certain end: wait, list, read a first line, claim, let go, ask.

A batch is visible in the list only by its id, its time and the number of its rows; whose it is stands in the lines of
its results once it has ended. So nothing is ever concluded from one empty listing, a batch in progress that might be
ours is waited for, and one that several submissions could own goes to none of them before its first line is read.
`decide_unknown` says what comes next from all that is known; it may be asked as often as one likes. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from runner.domain.batch import SECOND_US, BatchStatus, next_poll_s
from runner.domain.listings import Listing, Standing, Witnesses, is_elsewhere, standing
from runner.domain.submission import Intent, OnUnknown, ServerTime, Timing, Whose, us

# Older listings say nothing that the latest ones do not.
LISTINGS_KEPT = 8

# --- what is known


class Evidence(Struct, frozen=True, kw_only=True):
    """All that is known about one submission of unknown end.

    `owned` are ids that a submission surely owns: received in an answer, or verified by a line. `foreign` are ids
    proved not to be of this submission. `polled` is what asking for single ones has shown since the listings.
    `claimed_elsewhere` are those that other submissions wait for, `unverifiable` ended ones without a readable first
    line. `rivals` are the other intents in state `sending` or `unknown`, read from the store after the listings.
    """

    listings: tuple[Listing, ...] = ()
    witnesses: Witnesses = field(default_factory=Witnesses)
    owned: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    polled: Mapping[str, BatchStatus] = field(default_factory=dict)
    claimed_elsewhere: frozenset[str] = frozenset()
    unverifiable: frozenset[str] = frozenset()
    rivals: tuple[Intent, ...] = ()

    def with_listing(self, listing: Listing) -> Evidence:
        return replace(
            self,
            listings=(*self.listings, listing)[-LISTINGS_KEPT:],
            witnesses=self.witnesses.with_listing(listing),
        )

    def with_line(self, batch_id: str, whose: Whose) -> Evidence:
        """After a first line was read. What proves foreign goes back, and the list is asked afresh."""
        if whose is Whose.OURS:
            return replace(self, owned=self.owned | {batch_id})
        if whose is Whose.UNVERIFIABLE:
            return replace(self, unverifiable=self.unverifiable | {batch_id})
        return replace(self, foreign=self.foreign | {batch_id}, listings=())


# --- decisions


class Wait(Struct, frozen=True, kw_only=True):
    """Nothing to ask before `until_us` (shared time): the submission is settling."""

    until_us: int


class ListAgain(Struct, frozen=True, kw_only=True):
    """Walk the list at `at_us` (shared time), or as soon as possible after it."""

    at_us: int


class ReadFirstLine(Struct, frozen=True, kw_only=True):
    batch_id: str


class ClaimProvisionally(Struct, frozen=True, kw_only=True):
    """Wait for these as for batches of our own; none is cancelled, and the first that verifies wins."""

    batch_ids: tuple[str, ...]


class CancelCandidate(Struct, frozen=True, kw_only=True):
    """As a provisional claim, and the batch is asked to stop: its finished rows stay, the rest goes again."""

    batch_id: str


class Absent(Struct, frozen=True, kw_only=True):
    """No batch was made: the rows are free, the submission's id is never used again."""


class Resubmit(Struct, frozen=True, kw_only=True):
    """The rows go again although a batch may exist; its worst cost stays reserved."""


class Question(StrEnum):
    """Why a person has to decide. None of them is final: another listing may answer it."""

    ELSEWHERE = "elsewhere"
    NO_PROOF = "no_proof"
    NO_WITNESS = "no_witness"
    UNVERIFIABLE = "unverifiable"


class AskPerson(Struct, frozen=True, kw_only=True):
    reason: Question


Verdict = Wait | ListAgain | ReadFirstLine | ClaimProvisionally | CancelCandidate | Absent | Resubmit | AskPerson


def candidates(intent: Intent, evidence: Evidence, timing: Timing) -> tuple[BatchStatus, ...]:
    """Batches that may be this submission's, each as it was last seen."""
    known: dict[str, BatchStatus] = {}
    for listing in evidence.listings:
        if not is_elsewhere(intent, listing):
            known |= {batch.id: batch for batch in listing.batches}
    known |= evidence.polled
    taken = evidence.owned | evidence.foreign
    return tuple(batch for batch in known.values() if batch.id not in taken and intent.could_own(batch, timing))


def decide_unknown(
    intent: Intent,
    evidence: Evidence,
    timing: Timing,
    *,
    now_us: int,
    policy: OnUnknown = OnUnknown.WAIT,
    exclusive: bool = False,
) -> Verdict:
    """What comes next for a submission in state `unknown`. `now_us` is shared time."""
    judged = [_judged(intent, one, evidence.witnesses, timing) for one in evidence.listings]
    if judged and judged[-1].standing is Standing.ELSEWHERE:
        return AskPerson(reason=Question.ELSEWHERE)
    found = candidates(intent, evidence, timing)
    ended = [batch for batch in found if batch.has_ended and not _is_dead(batch, evidence)]
    if ended:
        return ReadFirstLine(batch_id=ended[0].id)
    settled = [one for one in judged if one.standing not in (Standing.ELSEWHERE, Standing.TOO_EARLY)]
    if not settled:
        return _before_settled(intent, judged, timing, now_us)
    if policy is OnUnknown.RESUBMIT:
        return Resubmit()
    if found:
        cancel = policy is OnUnknown.CANCEL and exclusive
        return _about_candidates(evidence, timing, found, settled, now_us, cancel=cancel)
    return _about_none(settled, timing, now_us)


class _Judged(Struct, frozen=True, kw_only=True):
    listing: Listing
    standing: Standing


def _judged(intent: Intent, listing: Listing, witnesses: Witnesses, timing: Timing) -> _Judged:
    return _Judged(listing=listing, standing=standing(intent, listing, witnesses, timing))


def _before_settled(intent: Intent, judged: list[_Judged], timing: Timing, now_us: int) -> Verdict:
    latest = judged[-1] if judged else None
    asked = intent.asked
    if latest is not None:
        asked = ServerTime(server_us=latest.listing.server_us, shared_us=latest.listing.taken_us)
    until_us = asked.shared_at(intent.settled_us(timing))
    if now_us < until_us:
        return Wait(until_us=until_us)
    return ListAgain(at_us=now_us) if latest is None else _list_again(latest, timing, now_us)


def _about_candidates(
    evidence: Evidence,
    timing: Timing,
    found: tuple[BatchStatus, ...],
    settled: list[_Judged],
    now_us: int,
    *,
    cancel: bool,
) -> Verdict:
    """None of them can be read at the moment. Waiting for a batch costs nothing when the guess is right."""
    if not _far_apart(settled, timing):
        return _list_again(settled[-1], timing, now_us)
    running = [batch for batch in found if not batch.has_ended]
    if not running:
        return AskPerson(reason=Question.UNVERIFIABLE)
    if any(_is_shared(batch, evidence, timing) for batch in running):
        return _list_again(settled[-1], timing, now_us, _pace_s(running, settled[-1].listing, timing))
    if cancel and len(found) == 1:
        return CancelCandidate(batch_id=running[0].id)
    return ClaimProvisionally(batch_ids=tuple(batch.id for batch in running))


def _about_none(settled: list[_Judged], timing: Timing, now_us: int) -> Verdict:
    """No candidate. Two listings that count say that there is no batch; others may need a person."""
    if _far_apart([one for one in settled if one.standing is Standing.COUNTS], timing):
        return Absent()
    return _question(settled, timing) or _list_again(settled[-1], timing, now_us)


def _question(settled: list[_Judged], timing: Timing) -> AskPerson | None:
    """What no further listing is likely to answer by itself."""
    if settled[-1].standing is Standing.NO_PROOF:
        return AskPerson(reason=Question.NO_PROOF)
    without = [one for one in settled if one.standing is Standing.NO_WITNESS and one.listing.to_the_end]
    if settled[-1] in without and _far_apart(without, timing):
        return AskPerson(reason=Question.NO_WITNESS)
    return None


def _far_apart(listings: list[_Judged], timing: Timing) -> bool:
    """Two of them, at least the gap apart."""
    times = [one.listing.taken_us for one in listings]
    return bool(times) and max(times) - min(times) >= us(timing.listing_gap_s)


def _list_again(latest: _Judged, timing: Timing, now_us: int, after_s: float = 0.0) -> ListAgain:
    return ListAgain(at_us=max(now_us, latest.listing.taken_us + us(max(timing.listing_gap_s, after_s))))


def _pace_s(running: list[BatchStatus], listing: Listing, timing: Timing) -> float:
    """As often as one would ask about the youngest of them."""
    ages = [(listing.server_us - batch.created_us) / SECOND_US for batch in running if batch.created_us is not None]
    return next_poll_s(min(ages, default=0.0), running[0].total, timing.poll_s)


def _is_dead(batch: BatchStatus, evidence: Evidence) -> bool:
    """Ended, and no line of it can be read."""
    return batch.archived or batch.id in evidence.unverifiable


def _is_shared(batch: BatchStatus, evidence: Evidence, timing: Timing) -> bool:
    """Several submissions could own it, so none gets it before its first line is read."""
    if batch.id in evidence.claimed_elsewhere:
        return True
    return any(rival.could_own(batch, timing) for rival in evidence.rivals)
