"""Packing loses and doubles nothing and stays within its bounds; bitmaps come back as they went."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.packing import (
    API_MAX_BYTES,
    API_MAX_REQUESTS,
    BODY_HEAD,
    BODY_SEPARATOR,
    BODY_TAIL,
    FITS,
    Full,
    Limit,
    Packer,
    TooLarge,
    bitmap,
    entry,
    rows_of,
)

EMPTY = len(BODY_HEAD + BODY_TAIL)

ROWS = st.lists(st.tuples(st.integers(1, 60), st.none() | st.integers(0, 50)), max_size=60)


def packed(rows: list[tuple[int, int | None]], **bounds: int | None) -> tuple[list[Packer], dict[int, TooLarge]]:
    """All rows in as many submissions as it takes."""
    packers, alone = [Packer(**bounds)], {}
    for idx, (size, worst) in enumerate(rows):
        told = packers[-1].offer(idx, size, worst)
        if isinstance(told, Full):
            assert len(packers[-1])
            packers.append(Packer(**bounds))
            told = packers[-1].offer(idx, size, worst)
            assert not isinstance(told, Full), "an empty packer is never full"
        if isinstance(told, TooLarge):
            alone[idx] = told
    return packers, alone


@given(
    ROWS,
    st.integers(1, 7),
    st.integers(EMPTY, EMPTY + 100),
    st.none() | st.integers(0, 100),
)
def test_nothing_is_lost_or_doubled_and_every_bound_holds(
    rows: list[tuple[int, int | None]], most: int, most_bytes: int, most_pico: int | None
) -> None:
    packers, alone = packed(rows, max_requests=most, max_bytes=most_bytes, max_pico=most_pico)
    assert sorted([idx for packer in packers for idx in packer.idxs] + list(alone)) == list(range(len(rows)))
    for packer in packers:
        body = BODY_HEAD + BODY_SEPARATOR.join(b"x" * rows[idx][0] for idx in packer.idxs) + BODY_TAIL
        assert packer.size_bytes == len(body) <= most_bytes
        assert len(packer) <= most
        costs = [rows[idx][1] for idx in packer.idxs]
        if most_pico is not None:
            assert packer.worst_pico == sum(costs) <= most_pico
        assert (packer.worst_pico is None) == (None in costs)
    for idx, told in alone.items():
        size, worst = rows[idx]
        over = {
            Limit.BYTES: size + EMPTY > most_bytes,
            Limit.UNPRICED: worst is None,
            Limit.BUDGET: worst is not None and most_pico is not None and worst > most_pico,
        }
        assert over[told.limit]
        assert told.reason


def test_a_row_fits_to_the_last_byte_and_not_one_more() -> None:
    packer = Packer(max_bytes=EMPTY + 10 + 1 + 10)
    assert packer.offer(0, 10, 1) == FITS
    assert packer.offer(1, 11, 1) == Full(limit=Limit.BYTES)
    assert packer.offer(1, 10, 1) == FITS
    assert packer.offer(2, 0, 1) == Full(limit=Limit.BYTES)


def test_a_row_too_large_for_any_batch_says_why_and_leaves_the_pack_as_it_was() -> None:
    packer = Packer(max_bytes=100)
    assert packer.offer(0, 10, 1) == FITS
    told = packer.offer(1, 100, 1)
    assert isinstance(told, TooLarge)
    assert "115 bytes" in told.reason
    assert packer.offer(2, 10, 1) == FITS
    assert packer.idxs == [0, 2]


def test_what_the_budget_does_not_admit_waits_for_the_next_submission() -> None:
    packer = Packer(max_pico=100)
    assert packer.offer(0, 10, 60) == FITS
    assert packer.offer(1, 10, 60) == Full(limit=Limit.BUDGET)
    assert packer.offer(2, 10, 40) == FITS
    assert packer.worst_pico == 100


@pytest.mark.parametrize(
    "bounds",
    [
        {"max_requests": 0},
        {"max_requests": API_MAX_REQUESTS + 1},
        {"max_bytes": 0},
        {"max_bytes": API_MAX_BYTES + 1},
    ],
)
def test_no_setting_goes_beyond_what_the_api_takes(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a batch holds"):
        Packer(**bounds)


def test_a_row_offered_twice_or_out_of_order_is_a_bug() -> None:
    packer = Packer()
    packer.offer(5, 10, 1)
    for idx in (5, 4):
        with pytest.raises(ValueError, match="after row 5"):
            packer.offer(idx, 10, 1)


def test_the_entries_make_the_body_that_the_api_takes() -> None:
    entries = [entry(f"abcdefghij-{idx}", b'{"model":"m"}') for idx in range(2)]
    assert json.loads(BODY_HEAD + BODY_SEPARATOR.join(entries) + BODY_TAIL) == {
        "requests": [{"custom_id": f"abcdefghij-{idx}", "params": {"model": "m"}} for idx in range(2)]
    }


@given(
    st.integers(0, 10**12), st.integers(0, 600).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n))))
)
def test_a_bitmap_gives_back_the_rows_it_was_made_of(first: int, chunk: tuple[int, set[int]]) -> None:
    n, offsets = chunk
    idxs = sorted(first + offset for offset in offsets if offset < n)
    bits = bitmap(first, n, idxs)
    assert len(bits) == (n + 7) // 8
    assert rows_of(first, n, bits) == idxs


@pytest.mark.parametrize("idx", [9, 13])
def test_a_row_of_another_chunk_has_no_bit(idx: int) -> None:
    with pytest.raises(ValueError, match="is not among"):
        bitmap(10, 3, [idx])


@pytest.mark.parametrize("bits", [b"", b"\x01\x00", b"\x08"])
def test_a_damaged_bitmap_is_noticed(bits: bytes) -> None:
    with pytest.raises(ValueError, match="bitmap"):
        rows_of(10, 3, bits)
