"""What comes next for a submission of unknown end: a table for each step of the protocol."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runner.domain.batch import DAY_US, BatchStatus
from runner.domain.listings import Listing, Standing, Witness, Witnesses, listing_of, standing, wants_another_page
from runner.domain.settling import (
    Absent,
    AskPerson,
    CancelCandidate,
    ClaimProvisionally,
    Evidence,
    ListAgain,
    Question,
    ReadFirstLine,
    Resubmit,
    Verdict,
    Wait,
    decide_unknown,
)
from runner.domain.submission import Intent, OnUnknown, ServerTime, Timing, Whose, us

TIMING = Timing()
# The server's clock is an hour ahead of ours.
SHARED, AHEAD = 1_700_000_000_000_000, us(3600)
SERVER = SHARED + AHEAD
INTENT = Intent(
    submission="abcdefgh27",
    n=2,
    asked=ServerTime(server_us=SERVER, shared_us=SHARED),
    intent_us=SHARED,
    organization="org",
    workspace="home",
)
NAMELESS = replace(INTENT, organization=None, workspace=None)
SETTLED_S = 2161.0


def batch(
    name: str, status: str = "in_progress", *, at_s: float = 30, n: int = 2, archived: bool = False
) -> BatchStatus:
    return BatchStatus(
        id=name, status=status, counts={"processing": n}, created_us=SERVER + us(at_s), archived=archived
    )


NOBODY = Witnesses()
OLD = batch("old", "ended", at_s=-86_400)


def listing(at_s: float, *batches: BatchStatus, since_us: int | None = 0, place: object = "home") -> Listing:
    """Taken so many seconds after the intent."""
    return Listing(
        taken_us=SHARED + us(at_s),
        server_us=SERVER + us(at_s),
        batches=batches,
        complete_since_us=since_us,
        organization="org" if place else None,
        workspace=place or None,
    )


def witness(told: BatchStatus, *, seen_s: float = -600, place: str | None = "home") -> Witnesses:
    seen = Witness(
        id=told.id,
        created_us=told.created_us,
        seen_us=SHARED + us(seen_s),
        organization="org" if place else None,
        workspace=place,
    )
    return Witnesses(seen={told.id: seen})


def decided(*listings: Listing, at_s: float = SETTLED_S + 100, intent: Intent = INTENT, **told: object) -> Verdict:
    by = {name: told.pop(name) for name in ("policy", "exclusive") if name in told}
    return decide_unknown(intent, Evidence(listings=listings, **told), TIMING, now_us=SHARED + us(at_s), **by)


def twice(*batches: BatchStatus, **told: object) -> tuple[Listing, Listing]:
    return listing(SETTLED_S, *batches, **told), listing(SETTLED_S + 60, *batches, **told)


# --- settle


def test_nothing_is_asked_before_the_servers_clock_says_so() -> None:
    assert decided(at_s=0) == Wait(until_us=INTENT.settled_shared_us(TIMING))
    assert decided(at_s=SETTLED_S - 1) == Wait(until_us=SHARED + us(SETTLED_S))
    assert decided(at_s=SETTLED_S) == ListAgain(at_us=SHARED + us(SETTLED_S))


def test_a_server_that_is_behind_is_waited_for() -> None:
    """Our clock says that it is time, the reply's `Date` says that it is not."""
    early = replace(listing(SETTLED_S), server_us=SERVER + us(SETTLED_S - 300))
    assert decided(early, at_s=SETTLED_S) == Wait(until_us=SHARED + us(SETTLED_S + 300))
    assert decided(early, replace(early, taken_us=early.taken_us + us(60)), at_s=SETTLED_S + 61) != Absent()


# --- list


def test_two_empty_listings_far_enough_apart_mean_absent_and_one_does_not() -> None:
    first, second = twice()
    assert decided(first) == ListAgain(at_us=SHARED + us(SETTLED_S + 100))
    assert decided(first, at_s=SETTLED_S + 1) == ListAgain(at_us=SHARED + us(SETTLED_S + 60))
    assert decided(first, listing(SETTLED_S + 59), at_s=SETTLED_S + 59) == ListAgain(
        at_us=SHARED + us(SETTLED_S + 119)
    )
    assert decided(first, second) == Absent()


WINDOW = SERVER - us(60)


@pytest.mark.parametrize(
    ("seen", "known", "worth"),
    [
        (listing(SETTLED_S), Witnesses(), Standing.COUNTS),
        (listing(SETTLED_S, OLD), witness(OLD), Standing.COUNTS),
        (listing(SETTLED_S - 1, OLD), witness(OLD), Standing.TOO_EARLY),
        (listing(SETTLED_S, since_us=WINDOW), Witnesses(), Standing.COUNTS),
        (listing(SETTLED_S, since_us=WINDOW + 1), Witnesses(), Standing.INCOMPLETE),
        (listing(SETTLED_S, since_us=None), Witnesses(), Standing.INCOMPLETE),
        (listing(SETTLED_S, place="else"), Witnesses(), Standing.ELSEWHERE),
        (listing(SETTLED_S, OLD, place="else"), witness(OLD), Standing.ELSEWHERE),
        (listing(SETTLED_S), witness(OLD), Standing.NO_WITNESS),
        (listing(SETTLED_S, batch("new")), witness(OLD), Standing.NO_WITNESS),
        (listing(SETTLED_S), witness(batch("new", at_s=1300)), Standing.WITNESS_TOO_NEW),
        # Only of this place, only seen before, only younger than the results' life.
        (listing(SETTLED_S), witness(OLD, place="else"), Standing.COUNTS),
        (listing(SETTLED_S), witness(OLD, seen_s=SETTLED_S), Standing.COUNTS),
        (listing(SETTLED_S), witness(batch("b", at_s=-29 * 86_400)), Standing.COUNTS),
        (listing(SETTLED_S, place=""), Witnesses(), Standing.NO_PROOF),
        (listing(SETTLED_S, place=""), witness(OLD), Standing.NO_PROOF),
        (listing(SETTLED_S, OLD, place=""), witness(OLD), Standing.COUNTS),
    ],
)
def test_what_a_listing_is_worth(seen: Listing, known: Witnesses, worth: Standing) -> None:
    assert standing(INTENT, seen, known, TIMING) is worth


@pytest.mark.parametrize(
    ("seen", "known", "worth"),
    [
        (listing(SETTLED_S, place=""), Witnesses(), Standing.NO_PROOF),
        (listing(SETTLED_S, OLD, place=""), witness(OLD, place=None), Standing.COUNTS),
        (listing(SETTLED_S, OLD, place="home"), witness(OLD, place=None), Standing.COUNTS),
        (listing(SETTLED_S, place="home"), Witnesses(), Standing.NO_PROOF),
        # Seen only after the intent: that says where the listings look, not where the POST went.
        (listing(SETTLED_S, OLD, place=""), witness(OLD, place=None, seen_s=1), Standing.NO_PROOF),
    ],
)
def test_where_replies_name_no_place_only_a_witness_proves_it(
    seen: Listing, known: Witnesses, worth: Standing
) -> None:
    assert standing(NAMELESS, seen, known, TIMING) is worth


def test_a_moved_key_proves_nothing_and_a_person_hears_of_it() -> None:
    assert decided(*twice(place="else")) == AskPerson(reason=Question.ELSEWHERE)
    good, bad = listing(SETTLED_S), listing(SETTLED_S + 60, place="else")
    assert decided(good, bad) == AskPerson(reason=Question.ELSEWHERE)
    assert decided(good, bad, listing(SETTLED_S + 120)) == Absent()


def test_neither_headers_nor_witness_is_said_at_once() -> None:
    assert decided(listing(SETTLED_S, place="")) == AskPerson(reason=Question.NO_PROOF)


def test_a_missing_witness_is_looked_for_again_before_a_person_is_asked() -> None:
    first, second = twice()
    assert decided(first, witnesses=witness(OLD)) == ListAgain(at_us=SHARED + us(SETTLED_S + 100))
    assert decided(first, second, witnesses=witness(OLD)) == AskPerson(reason=Question.NO_WITNESS)
    third, fourth = listing(SETTLED_S + 120, OLD), listing(SETTLED_S + 180, OLD)
    assert decided(first, second, third, witnesses=witness(OLD)) != Absent()
    assert decided(first, second, third, fourth, witnesses=witness(OLD)) == Absent()
    assert decided(first, second, witnesses=witness(OLD).without([OLD.id])) == Absent()


def test_a_walk_goes_back_to_before_the_intent_and_to_a_witness() -> None:
    def walk(*batches: BatchStatus, known: Witnesses = NOBODY, end: bool = False) -> bool:
        told = listing_of(
            [batches],
            taken_us=SHARED + us(SETTLED_S),
            server_us=SERVER + us(SETTLED_S),
            organization="org",
            workspace="home",
            to_the_end=end,
        )
        return wants_another_page([INTENT], told, known, TIMING)

    assert walk()
    assert not walk(end=True)
    assert walk(batch("a", at_s=500))
    assert walk(batch("a", at_s=500), batch("b", at_s=-59))
    assert not walk(batch("a", at_s=500), batch("b", at_s=-61))
    assert walk(batch("b", at_s=-61), known=witness(OLD))
    assert not walk(batch("b", at_s=-61), OLD, known=witness(OLD))


def test_a_listing_keeps_each_batch_once_and_the_first_sight_of_each_witness() -> None:
    told = listing_of(
        [(batch("a"), OLD), (OLD,)], taken_us=5, server_us=7, organization="org", workspace="home", to_the_end=False
    )
    assert [one.id for one in told.batches] == ["a", "old"]
    assert told.complete_since_us == SERVER - DAY_US + 1
    known = witness(OLD).with_listing(told)
    assert known.seen["old"].seen_us == SHARED - us(600)
    assert known.seen["a"].seen_us == 5


# --- candidates


def test_an_ended_candidate_is_read_at_once() -> None:
    assert decided(listing(SETTLED_S, batch("a", "ended"))) == ReadFirstLine(batch_id="a")
    assert decided(polled={"a": batch("a", "ended")}) == ReadFirstLine(batch_id="a")


def test_a_candidate_in_progress_is_waited_for_never_doubled() -> None:
    running = batch("a")
    assert isinstance(decided(listing(SETTLED_S, running)), ListAgain)
    assert decided(*twice(running)) == ClaimProvisionally(batch_ids=("a",))
    assert decided(*twice(batch("a", "canceling"))) == ClaimProvisionally(batch_ids=("a",))
    assert decided(*twice(batch("a", "a_new_word"))) == ClaimProvisionally(batch_ids=("a",))
    assert decided(*twice(running), polled={"a": batch("a", "ended")}) == ReadFirstLine(batch_id="a")


def test_several_candidates_are_all_provisional() -> None:
    assert decided(*twice(batch("a"), batch("b"))) == ClaimProvisionally(batch_ids=("a", "b"))
    assert decided(*twice(batch("a"), batch("b", "ended"))) == ReadFirstLine(batch_id="b")


def test_one_listing_that_shows_it_outweighs_one_that_does_not() -> None:
    assert decided(listing(SETTLED_S, batch("a")), listing(SETTLED_S + 60)) == ClaimProvisionally(batch_ids=("a",))


@pytest.mark.parametrize("known", ["owned", "foreign"])
def test_batches_of_others_are_no_candidates(known: str) -> None:
    assert decided(*twice(batch("a")), **{known: frozenset({"a"})}) == Absent()
    assert decided(*twice(batch("a", n=3))) == Absent()
    assert decided(*twice(batch("a", at_s=-61))) == Absent()


def test_a_batch_that_two_submissions_could_own_goes_to_neither() -> None:
    rival = replace(INTENT, submission="zzzzzzzzzz")
    far = replace(rival, asked=ServerTime(server_us=SERVER - DAY_US, shared_us=SHARED), intent_us=SHARED)
    assert isinstance(decided(*twice(batch("a")), rivals=(rival,)), ListAgain)
    assert isinstance(decided(*twice(batch("a")), claimed_elsewhere=frozenset({"a"})), ListAgain)
    assert decided(*twice(batch("a", "ended")), rivals=(rival,)) == ReadFirstLine(batch_id="a")
    assert decided(*twice(batch("a")), rivals=(replace(rival, n=3), far)) == ClaimProvisionally(batch_ids=("a",))


def test_what_proves_foreign_goes_back_to_the_list() -> None:
    evidence = Evidence(listings=twice(batch("a")), polled={"a": batch("a", "ended")})
    back = evidence.with_line("a", Whose.FOREIGN)
    assert decide_unknown(INTENT, back, TIMING, now_us=SHARED + us(90_000)) == ListAgain(at_us=SHARED + us(90_000))
    for one in (listing(90_000, batch("a", "ended")), listing(90_060, batch("a", "ended"))):
        back = back.with_listing(one)
    assert decide_unknown(INTENT, back, TIMING, now_us=SHARED + us(90_061)) == Absent()


@pytest.mark.parametrize("told", [{"archived": True}, {}])
def test_a_batch_that_cannot_be_read_is_for_a_person(told: dict[str, bool]) -> None:
    dead = batch("a", "ended", **told)
    unverifiable = frozenset() if told else frozenset({"a"})
    assert decided(*twice(dead), unverifiable=unverifiable) == AskPerson(reason=Question.UNVERIFIABLE)
    both = decided(*twice(dead, batch("b")), unverifiable=unverifiable)
    assert both == ClaimProvisionally(batch_ids=("b",))


# --- people in a hurry


def test_cancel_needs_a_workspace_of_its_own_and_one_candidate() -> None:
    cancel = {"policy": OnUnknown.CANCEL}
    assert decided(*twice(batch("a")), **cancel, exclusive=True) == CancelCandidate(batch_id="a")
    assert decided(*twice(batch("a")), **cancel) == ClaimProvisionally(batch_ids=("a",))
    assert decided(*twice(batch("a"), batch("b")), **cancel, exclusive=True) == ClaimProvisionally(
        batch_ids=("a", "b")
    )
    rival = replace(INTENT, submission="zzzzzzzzzz")
    assert isinstance(decided(*twice(batch("a")), **cancel, exclusive=True, rivals=(rival,)), ListAgain)


def test_resubmit_waits_for_the_settle_time_and_reads_what_can_be_read() -> None:
    again = {"policy": OnUnknown.RESUBMIT}
    assert isinstance(decided(at_s=100, **again), Wait)
    assert isinstance(decided(listing(SETTLED_S - 1), **again), (Wait, ListAgain))
    assert decided(listing(SETTLED_S, batch("a", "ended")), **again) == ReadFirstLine(batch_id="a")
    assert decided(listing(SETTLED_S, batch("a")), **again) == Resubmit()
    assert decided(listing(SETTLED_S), **again) == Resubmit()
    assert decided(listing(SETTLED_S, place="else"), **again) == AskPerson(reason=Question.ELSEWHERE)
