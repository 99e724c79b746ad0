"""Priming pays or is left alone; nobody waits in vain; and live calls never queue up for long."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from runner.domain.outcome import Usage
from runner.domain.prefix import Prefix
from runner.domain.pricing import shipped_prices
from runner.domain.priming import (
    FIRST_WAIT_S,
    MOST_COUNTED,
    MOST_PRIMED,
    First,
    Go,
    Groups,
    Plan,
    Prefixes,
    Priming,
    Turn,
    Wait,
    shows_cache,
    warm_until_us,
    worth_priming,
)

PRICES = shipped_prices()
HAIKU = "claude-haiku-5-5"
SECOND_US = 10**6
MINUTE_US = 60 * SECOND_US


# -- does it pay


def test_the_sums_are_those_done_by_hand() -> None:
    """Haiku 5.5 at 0.1 $/M, batch half: a token costs 62,500 pico written for 5 min, 100,000 for 1 h, 5,000 read."""
    told = worth_priming(PRICES, HAIKU, 1_000, 10, "5m")
    assert told == Priming(rows=10, tokens=1_000, cold_pico=10 * 62_500_000, primed_pico=100_000_000 + 9 * 5_000_000)
    assert told.saved_pico == 480_000_000
    already_long = worth_priming(PRICES, HAIKU, 1_000, 10, "1h")
    assert already_long is not None
    assert already_long.cold_pico == 10 * 100_000_000


WORTH = [
    # model, tokens, rows, ttl, whether
    (HAIKU, 512, 10, "5m", True),
    (HAIKU, 511, 10_000, "5m", False),
    ("claude-haiku-4-5", 4_095, 10_000, "1h", False),
    ("claude-haiku-4-5", 4_096, 10_000, "1h", True),
    (HAIKU, 10_000, 1, "1h", False),
    (HAIKU, 10_000, 2, "5m", False),  # 2.1 read and written, against 2.0 without marks
    (HAIKU, 10_000, 3, "5m", True),
    ("claude-fable-5-2", 10_000, 2, "1h", False),
    ("claude-fable-5-2", 10_000, 3, "1h", True),
    ("claude-something-6", 10_000, 100, "1h", False),
]


@pytest.mark.parametrize(("model", "tokens", "rows", "ttl", "worth"), WORTH)
def test_a_prefix_is_primed_where_it_is_long_and_shared_enough(
    model: str, tokens: int, rows: int, ttl: str, worth: bool
) -> None:
    assert (worth_priming(PRICES, model, tokens, rows, ttl) is not None) == worth


@given(
    model=st.sampled_from(sorted(PRICES.models)),
    tokens=st.integers(0, 300_000),
    share=st.floats(0, 1),
    rows=st.integers(0, 1_000),
    ttl=st.sampled_from(["5m", "1h"]),
)
def test_what_is_primed_saves_money_and_one_row_more_never_turns_it_down(
    model: str, tokens: int, share: float, rows: int, ttl: str
) -> None:
    anyway = int(tokens * share)
    told = worth_priming(PRICES, model, tokens, rows, ttl, read_anyway=anyway)
    if told is not None:
        assert 0 < told.primed_pico < told.cold_pico
        more = worth_priming(PRICES, model, tokens, rows + 1, ttl, read_anyway=anyway)
        assert more is not None
        assert more.saved_pico >= told.saved_pico


# -- who goes ahead


def prefix(name: str, tokens: int = 2_000, **more: Any) -> Prefix:
    told = Prefix(key=name.encode(), model=HAIKU, tokens=tokens, ttl="5m", depth=1)
    return replace(told, **more)


def grouped(*rows: tuple[Prefix, ...]) -> Groups:
    groups = Groups()
    for idx, prefixes in enumerate(rows):
        groups.add(idx, prefixes)
    return groups


SYSTEM = prefix("system")
OWN = [prefix(f"own {n}", 2_100, depth=2) for n in range(40)]


def test_one_row_goes_ahead_and_the_others_wait_for_it() -> None:
    rows = [(SYSTEM,)] * 10
    plan = grouped(*rows).plan(PRICES)
    assert plan.ahead == {0}
    assert {plan.depth(row) for row in rows} == {1}
    assert plan.saved_pico > 0


def test_rows_without_a_shared_prefix_neither_wait_nor_change() -> None:
    plan = grouped((SYSTEM,), (), (SYSTEM,), (prefix("alone"),), (SYSTEM,)).plan(PRICES)
    assert plan.ahead == {0}
    for row in ((), (prefix("alone"),)):
        assert plan.depth(row) == 0


def test_where_nothing_pays_nobody_goes_ahead() -> None:
    plan = grouped(*[(mine,) for mine in OWN], (), ()).plan(PRICES)
    assert (plan.ahead, plan.primings, plan.saved_pico) == (frozenset(), {}, 0)


def test_a_mark_on_what_is_every_rows_own_does_not_hide_the_shared_one_before_it() -> None:
    rows = [(SYSTEM, mine) for mine in OWN]
    plan = grouped(*rows).plan(PRICES)
    assert (list(plan.leaders), plan.ahead) == ([SYSTEM.key], {0})
    assert {plan.depth(row) for row in rows} == {1}


def test_a_longer_prefix_is_primed_beside_the_shorter_one_where_it_pays_by_itself() -> None:
    long, tiny = prefix("document", 9_000, depth=2), prefix("tiny", 2_001, depth=2)
    rows = [(SYSTEM, long)] * 10 + [(SYSTEM, tiny)] * 10 + [(SYSTEM,)] * 10
    plan = grouped(*rows).plan(PRICES)
    assert plan.leaders == {SYSTEM.key: 0, long.key: 0}
    assert [plan.depth(row) for row in (rows[0], rows[10], rows[20])] == [2, 1, 1]


def test_rows_of_an_unknown_model_are_sent_as_they_are() -> None:
    strange = prefix("x", model="claude-something-6")
    assert grouped(*[(strange,)] * 50).plan(PRICES).ahead == frozenset()


def test_what_is_kept_already_needs_nobody_ahead() -> None:
    plan = grouped(*[(SYSTEM,)] * 10).plan(PRICES, warm={SYSTEM.key, b"of another parcel"})
    assert (plan.ahead, plan.warm) == (frozenset(), {SYSTEM.key})
    assert plan.depth((SYSTEM,)) == 1


WROTE = Usage(input_tokens=5, cache_write_1h=2_000)
READ = Usage(input_tokens=5, cache_read=2_000)


@pytest.mark.parametrize(
    ("usages", "depth"),
    [
        ({0: WROTE}, 1),
        ({0: READ}, 1),
        ({0: Usage(input_tokens=2_005)}, 0),  # the API does not keep this prefix
        ({0: Usage(cache_write_5m=2_000)}, 0),
        ({}, 0),  # failed, or has not ended in time
        ({7: WROTE}, 0),
    ],
)
def test_the_rest_asks_for_an_hour_only_where_the_leader_shows_that_it_is_kept(
    usages: dict[int, Usage], depth: int
) -> None:
    rest = grouped(*[(SYSTEM,)] * 10).plan(PRICES).after(usages)
    assert rest.depth((SYSTEM,)) == depth
    assert rest.ahead == frozenset()
    assert rest.warm == ({SYSTEM.key} if depth else frozenset())


def test_of_very_many_prefixes_those_that_save_most_are_primed() -> None:
    many = [prefix(f"p{n}", 1_000 + n) for n in range(MOST_PRIMED + 50)]
    plan = grouped(*[(one,) for one in many for _ in range(4)]).plan(PRICES)
    assert len(plan.ahead) == MOST_PRIMED
    assert set(plan.primings) == {one.key for one in many[50:]}


def test_counting_takes_no_more_memory_than_its_bound() -> None:
    groups = Groups()
    for idx in range(MOST_COUNTED + 5_000):
        groups.add(idx, (SYSTEM, prefix(f"own {idx}", depth=2)))
    plan = groups.plan(PRICES)
    assert plan.primings[SYSTEM.key].rows == MOST_COUNTED + 5_000
    assert plan.ahead == {0}


@given(rows=st.lists(st.lists(st.sampled_from("abcdef"), max_size=3, unique=True), max_size=60), data=st.data())
def test_everybody_goes_once_and_all_that_share_ask_alike(rows: list[list[str]], data: st.DataObject) -> None:
    """Whatever shares with whom: who shares a primed prefix has a leader among those ahead that asks for the same."""
    chains = [
        tuple(prefix("".join(names[: n + 1]), 1_000 * (n + 1), depth=n + 1) for n in range(len(names)))
        for names in rows
    ]
    plan = grouped(*chains).plan(PRICES)
    assert plan.ahead <= set(range(len(rows)))
    for idx, chain in enumerate(chains):
        led = [one for one in chain if one.key in plan.leaders]
        if led and idx not in plan.ahead:
            for one in led:
                leader = plan.leaders[one.key]
                assert one in chains[leader]
                assert plan.depth(chains[leader]) >= one.depth
            assert plan.depth(chain) == max(one.depth for one in led)
    ended = data.draw(st.sets(st.sampled_from(sorted(plan.ahead)))) if plan.ahead else set()
    rest: Plan = plan.after(dict.fromkeys(ended, WROTE))
    for chain in chains:
        assert rest.depth(chain) <= plan.depth(chain)


def test_what_is_kept_is_kept_from_its_use_on() -> None:
    assert warm_until_us(5, "5m") == 5 + 5 * MINUTE_US
    assert warm_until_us(5, "1h") == 5 + 60 * MINUTE_US
    assert shows_cache(WROTE)
    assert not shows_cache(Usage(input_tokens=1))


# -- live calls


def turn(known: Prefixes, idx: int, at_s: float, *prefixes: Prefix) -> Turn:
    return known.turn(idx, prefixes or (SYSTEM,), round(at_s * SECOND_US))


def test_the_first_call_goes_ahead_and_the_others_wait_until_it_is_answered() -> None:
    known = Prefixes()
    assert turn(known, 0, 10) == First()
    assert turn(known, 1, 11) == turn(known, 2, 12) == Wait(until_us=(10 + FIRST_WAIT_S) * SECOND_US)
    known.answered(0, (SYSTEM,), 10 * SECOND_US)
    assert turn(known, 1, 13) == Go(warm_until_us=310 * SECOND_US)
    known.answered(1, (SYSTEM,), 13 * SECOND_US)
    assert turn(known, 2, 312) == Go(warm_until_us=313 * SECOND_US)
    assert turn(known, 3, 313) == First()


def test_when_the_first_fails_another_goes_ahead() -> None:
    known = Prefixes()
    assert turn(known, 0, 0) == First()
    known.failed(1, (SYSTEM,))
    assert isinstance(turn(known, 1, 1), Wait)
    known.failed(0, (SYSTEM,))
    assert turn(known, 1, 2) == First()


def test_a_row_that_asks_twice_does_not_wait_for_itself() -> None:
    known = Prefixes()
    assert turn(known, 0, 0) == turn(known, 0, 1) == First()


def test_nobody_waits_longer_than_a_minute_nor_one_after_the_other() -> None:
    known = Prefixes()
    assert turn(known, 0, 0) == First()
    waited = turn(known, 1, 1)
    assert isinstance(waited, Wait)
    for idx in range(1, 5):
        assert isinstance(known.turn(idx, (SYSTEM,), waited.until_us), Go)


def test_what_each_row_has_of_its_own_holds_nobody_back() -> None:
    known = Prefixes()
    assert turn(known, 0, 0, SYSTEM, OWN[0]) == First()
    assert isinstance(turn(known, 1, 0, SYSTEM, OWN[1]), Wait)
    known.answered(0, (SYSTEM, OWN[0]), 0)
    assert turn(known, 1, 1, SYSTEM, OWN[1]) == turn(known, 2, 1, SYSTEM, OWN[2]) == First()


def test_a_call_without_a_prefix_may_go() -> None:
    assert Prefixes().turn(0, (), 7) == Go(warm_until_us=7)


def test_what_is_known_is_bounded_and_what_is_used_stays() -> None:
    known = Prefixes(most=10)
    turn(known, 0, 0)
    known.answered(0, (SYSTEM,), 0)
    for idx in range(1, 1_000):
        turn(known, idx, 1, SYSTEM, prefix(f"own {idx}", depth=2))
        assert len(known) <= 10
    assert isinstance(turn(known, 1_000, 2), Go)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5), st.sampled_from(["turn", "answered", "failed"]), st.integers(0, 40), st.integers(0, 3)
        ),
        max_size=120,
    )
)
def test_at_any_time_a_call_may_go_within_a_minute(events: list[tuple[int, str, int, int]]) -> None:
    known, now_us = Prefixes(most=3), 0
    chains = [(SYSTEM,), (SYSTEM, OWN[0]), (SYSTEM, OWN[1]), (OWN[2],)]
    for idx, what, seconds, which in events:
        now_us += seconds * SECOND_US
        if what == "turn":
            told = known.turn(idx, chains[which], now_us)
            if isinstance(told, Wait):
                assert now_us < told.until_us <= now_us + FIRST_WAIT_S * SECOND_US
                assert not isinstance(known.turn(idx, chains[which], told.until_us), Wait)
                now_us = told.until_us
        elif what == "answered":
            known.answered(idx, chains[which], now_us)
        else:
            known.failed(idx, chains[which])
