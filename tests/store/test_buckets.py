"""The shared rows of the limits, on either database."""

from __future__ import annotations

import threading

from runner.domain.limits import Amounts, KnownLimits, LimitSource, RateLimits
from runner.domain.slices import Take
from runner.store.store import Store

SECOND = 1_000_000
NOW_US = 1_795_255_200_000_000
TIER = KnownLimits(limits=RateLimits(6_000, 60_000, None), source=LimitSource.TIER)


def test_a_row_is_made_when_it_is_first_taken_from(store: Store) -> None:
    assert store.look_at_limits(["org/a"]) == {}
    taken = store.take_slices({"org/a": Take(told=TIER)}, NOW_US)["org/a"]
    assert taken.more == Amounts(98.0, 980.0, 0.0)
    row = store.look_at_limits(["org/a", "org/b"])
    assert list(row) == ["org/a"]
    assert (row["org/a"].known, row["org/a"].levels) == (TIER, Amounts(1.0, 0.0, 0.0))


def test_what_one_has_learned_the_next_begins_with(store: Store) -> None:
    headers = KnownLimits(limits=RateLimits(600, None, None), source=LimitSource.HEADERS)
    store.take_slices({"org/a": Take(told=TIER)}, NOW_US)
    store.take_slices({"org/a": Take(told=headers, held=Amounts(98.0, 0.0, 0.0))}, NOW_US + SECOND)
    taken = store.take_slices({"org/a": Take(told=TIER, last_us=NOW_US)}, NOW_US + 2 * SECOND)["org/a"]
    assert taken.known == KnownLimits(limits=RateLimits(600, 60_000, None), source=LimitSource.HEADERS)
    assert taken.more.requests <= 10.0


def test_a_pause_is_seen_by_who_looks_and_by_who_takes_and_the_later_one_wins(store: Store) -> None:
    store.pause_scope("org/a", NOW_US + 30 * SECOND)
    store.pause_scope("org/a", NOW_US + 10 * SECOND)
    assert store.look_at_limits(["org/a"])["org/a"].paused_until_us == NOW_US + 30 * SECOND
    assert store.take_slices({"org/a": Take(told=TIER)}, NOW_US)["org/a"].paused_until_us == NOW_US + 30 * SECOND
    store.take_slices({"org/a": Take()}, NOW_US + SECOND)
    assert store.look_at_limits(["org/a"])["org/a"].paused_until_us == NOW_US + 30 * SECOND


def test_who_takes_at_the_same_moment_gets_no_more_together_than_there_is(ready_url: str, store: Store) -> None:
    granted: list[float] = []

    def take(number: int) -> None:
        with Store.open(ready_url) as own:
            for second in range(5):
                takes = {name: Take(told=TIER) for name in ("org/b", "org/a")}
                taken = own.take_slices(takes, NOW_US + second * SECOND)
                granted.append(taken["org/a"].more.requests)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 30
    assert 98.0 <= sum(granted) <= 98.0 * 5 + 1.0
