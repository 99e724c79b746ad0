"""The shared row: whatever is taken, brought back and owed, it grants what flows in and what it holds when full."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from runner.domain.limits import Amounts, KnownLimits, LimitSource, RateLimits, RateWord, used_rate
from runner.domain.share import RENEW_FIRST, VALID_S, Share
from runner.domain.slices import NOTHING, SLICE_S, SPARE_REQUESTS, SharedLevel, Take, taken

TIER = LimitSource.TIER


def known(rpm: int | None = None, itpm: int | None = None, otpm: int | None = None) -> KnownLimits:
    return KnownLimits(limits=RateLimits(rpm, itpm, otpm), source=TIER)


@dataclass
class Event:
    """What was granted or used at a moment, and what is owed after it: used, but not yet granted."""

    at_s: float
    amounts: Amounts
    owed: Amounts


@dataclass
class Fleet:
    """Processes over one row."""

    limits: RateLimits
    row: SharedLevel = field(default_factory=SharedLevel)
    now_s: float = 1_000.0
    shares: list[Share] = field(default_factory=list)
    granted: list[Event] = field(default_factory=list)
    used: list[Event] = field(default_factory=list)
    out: list[tuple[Share, Amounts, Amounts]] = field(default_factory=list)

    def join(self) -> None:
        share = Share()
        share.begin(KnownLimits(limits=self.limits, source=TIER))
        self.shares.append(share)

    def renew(self, share: Share) -> None:
        now_us = round(self.now_s * 1e6)
        self.row, got = taken(self.row, share.ask(self.now_s, now_us), now_us)
        share.renewed(got, self.now_s)
        self.granted.append(Event(self.now_s, got.more, Amounts(*(max(0.0, -level) for level in self.row.levels))))

    def call(self, share: Share, estimate: float, actual: float) -> None:
        amounts = Amounts(1.0, estimate, 0.0)
        if share.wait_s(amounts, self.now_s) == 0.0:
            share.take(amounts)
            self.note(amounts)
            self.out.append((share, amounts, Amounts(1.0, actual, 0.0)))

    def end(self, place: int) -> None:
        """A call has ended: what it took too much is free from now on, what it took too little is owed."""
        share, amounts, actual = self.out.pop(place % len(self.out))
        share.give_back(amounts.less(actual))
        self.note(actual.less(amounts))

    def note(self, amounts: Amounts) -> None:
        owed = [max(0.0, -level) for level in self.row.levels]
        for share in self.shares:
            owed = [before + max(0.0, -left) for before, left in zip(owed, share.held, strict=True)]
        self.used.append(Event(self.now_s, amounts, Amounts(*owed)))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.01, 0.2, 0.9, 1.0, 3.0, 30.0])),
        st.tuples(st.just("renew"), st.integers(0, 3)),
        st.tuples(st.just("call"), st.integers(0, 3), st.integers(1, 5_000), st.integers(0, 5_000)),
        st.tuples(st.just("end"), st.integers(0, 99)),
        st.tuples(st.just("join")),
    ),
    min_size=10,
    max_size=150,
)


def played(limits: RateLimits, steps: list[tuple[Any, ...]]) -> Fleet:
    fleet = Fleet(limits)
    fleet.join()
    for name, *told in steps:
        if name == "pass":
            fleet.now_s += told[0]
        elif name == "renew":
            fleet.renew(fleet.shares[told[0] % len(fleet.shares)])
        elif name == "call":
            fleet.call(fleet.shares[told[0] % len(fleet.shares)], *told[1:])
        elif name == "end" and fleet.out:
            fleet.end(told[0])
        elif name == "join" and len(fleet.shares) < 4:
            fleet.join()
    return fleet


def most_beyond_the_rate(events: list[Event], dimension: int, rate: float) -> float:
    """The largest sum over any stretch of time, less what flows in meanwhile and what is owed at its end."""
    most = 0.0
    for first, begin in enumerate(events):
        together = 0.0
        for event in events[first:]:
            together += event.amounts[dimension]
            most = max(most, together - event.owed[dimension] - rate * (event.at_s - begin.at_s))
    return most


@settings(max_examples=400)
@given(rpm=st.sampled_from([1, 60, 3_000]), itpm=st.sampled_from([600, 60_000, 10**6]), steps=STEPS)
def test_no_stretch_of_time_is_granted_more_than_its_limit_and_one_burst(
    rpm: int, itpm: int, steps: list[tuple[Any, ...]]
) -> None:
    """For any interleaving of processes, refunds and oversized requests. What is beyond it is owed: it is brought
    back to the row, and nobody is granted anything before it has flowed in again."""
    fleet = played(RateLimits(rpm, itpm, None), steps)
    for dimension, limit in enumerate((rpm, itpm)):
        rate = used_rate(limit)
        burst = rate * SLICE_S + (SPARE_REQUESTS if dimension == 0 else 1.0)
        assert most_beyond_the_rate(fleet.granted, dimension, rate) <= burst + 1e-6 * limit
        # What is used comes from slices that are still valid, and from what calls gave back to them.
        most = burst + rate * VALID_S + len(fleet.shares) * burst
        assert most_beyond_the_rate(fleet.used, dimension, rate) <= most + 1e-6 * limit


def test_one_process_alone_sends_evenly() -> None:
    fleet = Fleet(RateLimits(3_000, None, None))
    fleet.join()
    share = fleet.shares[0]
    for _ in range(120_000):
        fleet.now_s += 0.001
        if share.wants_renewal(fleet.now_s) and fleet.now_s >= share.ask_again_s:
            fleet.renew(share)
        fleet.call(share, 0.0, 0.0)
    rate = used_rate(3_000)
    assert most_beyond_the_rate(fleet.used[:3_000], 0, rate) <= rate / 2 + 1
    assert len(fleet.used) == pytest.approx(120 * rate, rel=0.01)
    assert len(fleet.granted) <= 120 * 1.3  # renewals


def test_what_one_owes_stops_all() -> None:
    """A call of two minutes' worth: nobody is granted anything until it has flowed in."""
    row, _ = taken(SharedLevel(), Take(told=known(itpm=60_000)), 0)
    row, _ = taken(row, Take(held=Amounts(0, -120_000.0, 0)), 0)
    for second in range(1, 121):
        row, got = taken(row, Take(), second * 1_000_000)
        assert got.more.input_tokens == 0
        assert got.wait_s > 0
    row, got = taken(row, Take(), 125 * 1_000_000)
    assert got.more.input_tokens > 0


def test_the_second_is_shared_out_among_those_who_want_more_than_their_share() -> None:
    row, got = taken(SharedLevel(), Take(told=known(rpm=6_000)), 1_000_000)
    assert (got.share, got.more.requests) == (1.0, 98.0)
    got_of = {}
    for second in range(2, 5):
        for process in (1, 2):
            last_us = (second - 1) * 1_000_000 + process
            row, got_of[process] = taken(row, Take(last_us=last_us), second * 1_000_000 + process)
    assert [got_of[process].share for process in (1, 2)] == [0.5, 0.5]
    assert [got_of[process].more.requests for process in (1, 2)] == [49.0, 49.0]
    assert row.takers == 2
    wish = Amounts(4.0, math.inf, math.inf)
    row, modest = taken(row, Take(last_us=4_000_003, wish=wish), 5_000_003)
    assert modest.more.requests == 4.0


def test_what_comes_back_is_there_for_others_but_a_full_row_holds_no_more() -> None:
    row, got = taken(SharedLevel(), Take(told=known(rpm=6_000)), 0)
    row, _ = taken(row, Take(held=got.more, wish=NOTHING), 0)
    assert row.levels.requests == 99.0
    row, _ = taken(row, Take(held=Amounts(50.0, 0.0, 0.0), wish=NOTHING), 0)
    assert row.levels.requests == 99.0


def test_a_limit_that_was_told_beforehand_is_full_and_one_that_a_reply_told_was_used_already() -> None:
    _, got = taken(SharedLevel(), Take(told=known(rpm=6_000)), 0)
    assert got.more.requests == 98.0
    learned = KnownLimits(limits=RateLimits(6_000, None, None), source=LimitSource.HEADERS)
    row, got = taken(SharedLevel(), Take(told=learned), 0)
    assert got.more.requests == 0.0
    _, got = taken(row, Take(), 500_000)
    assert got.more.requests == 49.0


def test_nothing_gathers_while_the_service_wants_to_hear_nothing() -> None:
    row, _ = taken(SharedLevel(), Take(told=known(rpm=6_000)), 0)
    paused = replace(row, paused_until_us=6_000_000)
    paused, got = taken(paused, Take(), 3_000_000)
    assert got.more.requests == 1.0  # the spare one
    _, got = taken(paused, Take(), 6_100_000)
    assert got.more.requests == 9.0


def test_what_went_freely_waits_for_its_slice_once_a_limit_is_known() -> None:
    share = Share()
    _, got = taken(SharedLevel(), share.ask(0.0, 0), 0)
    share.renewed(got, 0.0)
    assert share.wait_s(Amounts(1.0, 0, 0), 0.0) == 0.0
    share.heed(RateWord(limits=RateLimits(50, None, None), left=(None, None, None)), None)
    assert share.wait_s(Amounts(1.0, 0, 0), 0.0) == RENEW_FIRST


def test_what_is_known_goes_along_to_a_row_that_nobody_has_told() -> None:
    share = Share()
    share.heed(RateWord(limits=RateLimits(6_000, None, None), left=(None, None, None)), None)
    _, got = taken(SharedLevel(), share.ask(0.0, 0), 0)
    share.renewed(got, 0.0)
    share.move()
    row, got = taken(SharedLevel(), share.ask(0.0, 0), 0)
    share.renewed(got, 0.0)
    assert share.wait_s(Amounts(1.0, 0, 0), 0.0) == RENEW_FIRST
    row, got = taken(row, share.ask(0.0, 0), 0)
    share.renewed(got, 0.0)
    assert row.known.limits.rpm == 6_000
    assert not share.unlimited


def test_who_asks_a_moment_later_than_the_others_has_its_part_too() -> None:
    fleet = Fleet(RateLimits(1_500, None, None))
    for _ in range(4):
        fleet.join()
    calls = [0] * 4
    for _ in range(6_000):  # a minute
        fleet.now_s += 0.01
        for number, share in enumerate(fleet.shares):  # each would like more than there is, always in this order
            if share.wants_renewal(fleet.now_s) and fleet.now_s >= share.ask_again_s:
                fleet.renew(share)
            while share.wait_s(Amounts(1.0, 0.0, 0.0), fleet.now_s) == 0.0:
                share.take(Amounts(1.0, 0.0, 0.0))
                calls[number] += 1
    assert min(calls) > 0.8 * max(calls), calls


def test_a_clock_that_is_set_back_grants_nothing_twice() -> None:
    row, _ = taken(SharedLevel(), Take(told=known(rpm=6_000)), 10_000_000)
    row, got = taken(row, Take(), 9_000_000)
    assert (got.more.requests, row.at_us) == (1.0, 10_000_000)  # the spare one


def test_a_clock_that_was_set_back_by_an_hour_does_not_stop_the_work_for_one() -> None:
    hour_us = 3_600_000_000
    row, _ = taken(SharedLevel(), Take(told=known(rpm=6_000)), 2 * hour_us)
    row, _ = taken(row, Take(), hour_us)
    row, got = taken(row, Take(last_us=hour_us), hour_us + 1_000_000)
    assert got.more.requests == 98.0


def test_a_slice_that_has_grown_old_is_not_used_any_more() -> None:
    fleet = Fleet(RateLimits(600, None, None))
    fleet.join()
    share = fleet.shares[0]
    assert share.wait_s(Amounts(1.0, 0, 0), fleet.now_s) == RENEW_FIRST
    fleet.renew(share)
    assert share.wait_s(Amounts(1.0, 0, 0), fleet.now_s) == 0.0
    fleet.now_s += VALID_S + 0.01
    assert share.wait_s(Amounts(1.0, 0, 0), fleet.now_s) == RENEW_FIRST


@pytest.mark.parametrize("rpm", [50, 61, 120, 250])
def test_a_small_limit_is_used_to_the_full_too(rpm: int) -> None:
    fleet = Fleet(RateLimits(rpm, None, None))
    fleet.join()
    share = fleet.shares[0]
    for _ in range(60_000):
        fleet.now_s += 0.01
        if share.wants_renewal(fleet.now_s) and fleet.now_s >= share.ask_again_s:
            fleet.renew(share)
        fleet.call(share, 0.0, 0.0)
    assert len(fleet.used) == pytest.approx(600 * used_rate(rpm), rel=0.02)


def test_a_limit_of_one_a_minute_lets_the_first_call_go_at_once_and_then_one_a_minute() -> None:
    fleet = Fleet(RateLimits(1, None, None))
    fleet.join()
    share = fleet.shares[0]
    for _ in range(3_000):
        fleet.now_s += 0.1
        if share.wants_renewal(fleet.now_s) and fleet.now_s >= share.ask_again_s:
            fleet.renew(share)
        fleet.call(share, 0.0, 0.0)
    assert 4 <= len(fleet.used) <= 6


def test_the_servers_word_holds_from_the_newest_reply() -> None:
    share = Share()
    share.heed(RateWord(limits=RateLimits(50, None, None), left=(None, None, None)), 2_000_000)
    share.heed(RateWord(limits=RateLimits(10, None, None), left=(None, None, None)), 1_000_000)
    row, got = taken(SharedLevel(), share.ask(0.0, 0), 0)
    assert row.known == KnownLimits(limits=RateLimits(50, None, None), source=LimitSource.HEADERS)
    share.renewed(got, 0.0)
    row, got = taken(row, share.ask(0.0, 0), 3_000_000)
    share.renewed(got, 0.0)
    assert share.wait_s(Amounts(1.0, 0, 0), 0.0) == 0.0
    share.heed(RateWord(limits=RateLimits(50, None, None), left=(0.0, None, None)), 3_000_000)
    assert 0 < share.wait_s(Amounts(1.0, 0, 0), 0.0) < 2.0
