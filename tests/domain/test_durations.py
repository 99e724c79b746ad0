"""A length of time as people write it."""

from __future__ import annotations

import pytest

from runner.domain.durations import seconds_of, up_to_a_year


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (90, 90),
        (1.5, 1.5),
        ("90s", 90),
        (" 10 m ", 600),
        ("1.5h", 5_400),
        ("2d", 172_800),
        ("0800", None),
        ("90", None),
        ("1w", None),
        ("-5m", None),
        ("5m 3s", None),
        ("٣m", None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_a_length_of_time_has_a_unit_or_is_a_number(told: object, seconds: float | None) -> None:
    assert seconds_of(told) == seconds


@pytest.mark.parametrize("told", ["1w", "400d", -1, float("nan"), float("inf"), None])
def test_what_is_longer_than_a_year_or_no_time_is_refused(told: object) -> None:
    with pytest.raises(ValueError, match=r"^must be "):
        up_to_a_year(told)
