"""Records drawn as they pass by: any as likely as any other, the same ones each time, in memory that has a bound."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.sampling import Drawn, Reservoir


def drawn_of(count: int, size: int, *, length: int = 1, most_bytes: int = 1_000_000, first: int = 0) -> list[Drawn]:
    reservoir = Reservoir(size, random.Random(size).random, most_bytes)
    for number in range(count):
        if number == reservoir.next:
            reservoir.take(Drawn(number=number, line=number + first, payload=b"x" * length))
    return reservoir.drawn()


@given(st.integers(0, 300), st.integers(0, 20))
def test_as_many_are_drawn_as_were_asked_for_and_none_twice(count: int, size: int) -> None:
    numbers = [record.number for record in drawn_of(count, size)]
    assert len(set(numbers)) == len(numbers) == min(count, size)
    assert all(number < count for number in numbers)


def test_the_same_records_are_drawn_each_time() -> None:
    assert drawn_of(10_000, 20) == drawn_of(10_000, 20)


@pytest.mark.parametrize("taken", [20, 100, 200])
def test_any_record_is_as_likely_as_any_other_in_the_sample_and_in_its_beginning(taken: int) -> None:
    """Of each tenth of the records comes a tenth of the sample, over many sizes, each with its own dice."""
    tenths = [0] * 10
    for size in range(200, 400):
        for record in drawn_of(5_000, size)[:taken]:
            tenths[record.number * 10 // 5_000] += 1
    expected = 200 * taken / 10
    assert all(abs(count - expected) < 5 * expected**0.5 for count in tenths), tenths


def test_large_records_make_the_sample_smaller_and_not_the_memory_larger() -> None:
    kept = drawn_of(10_000, 200, length=1_000, most_bytes=20_500)
    assert len(kept) == 20
    assert len({record.number * 4 // 10_000 for record in kept}) == 4
    assert len(drawn_of(10, 200, length=1_000, most_bytes=10)) == 1


def test_what_goes_by_costs_no_dice() -> None:
    reservoir = Reservoir(10, random.Random(10).random)
    looked_at = 0
    for number in range(100_000):
        if number == reservoir.next:
            looked_at += 1
            reservoir.take(Drawn(number=number, line=number, payload=b""))
    assert looked_at < 250
