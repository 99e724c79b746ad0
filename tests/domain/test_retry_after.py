"""The server's word on when to come back: every form it takes, whatever the local clock says."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.retry_after import RESET_HEADERS, http_date_us, retry_after_s

SERVER_S = 1_795_255_200  # Sat, 21 Nov 2026 10:00:00 GMT
REQUESTS, INPUT = RESET_HEADERS[0], RESET_HEADERS[1]


def used_up(family: str, at: str) -> dict[str, str]:
    return {family: at, family.removesuffix("reset") + "remaining": "0"}


FORMS = [
    ("milliseconds", {"retry-after-ms": "1500"}, 1.5),
    ("milliseconds win over seconds", {"retry-after-ms": "250", "retry-after": "30"}, 0.25),
    ("unreadable milliseconds fall back to seconds", {"retry-after-ms": "soon", "retry-after": "30"}, 30.0),
    ("whole seconds", {"retry-after": "30"}, 30.0),
    ("broken seconds", {"retry-after": "0.75"}, 0.75),
    ("zero", {"retry-after": "0"}, 0.0),
    ("huge", {"retry-after": "4294967"}, 4_294_967.0),
    ("an HTTP date", {"retry-after": "Sat, 21 Nov 2026 10:00:42 GMT"}, 42.0),
    ("an old HTTP date form", {"retry-after": "Saturday, 21-Nov-26 10:00:42 GMT"}, 42.0),
    ("an HTTP date in another zone", {"retry-after": "Sat, 21 Nov 2026 12:00:42 +0200"}, 42.0),
    ("an HTTP date without a zone", {"retry-after": "Sat, 21 Nov 2026 10:00:42 -0000"}, 42.0),
    ("a date in the past", {"retry-after": "Sat, 21 Nov 2026 09:59:00 GMT"}, 0.0),
    ("negative", {"retry-after": "-5"}, None),
    ("not a number", {"retry-after": "NaN"}, None),
    ("infinite", {"retry-after": "inf"}, None),
    ("too large for a float", {"retry-after": "1e999"}, None),
    ("empty", {"retry-after": ""}, None),
    ("words", {"retry-after": "later"}, None),
    ("a date that does not exist", {"retry-after": "Sat, 31 Nov 2026 10:00:42 GMT"}, None),
    ("a zone that overflows", {"retry-after": "Sat, 21 Nov 2026 10:00:42 +9999999999999999999999"}, None),
    ("nothing at all", {}, None),
    ("a used-up family", used_up(REQUESTS, "2026-11-21T10:00:07Z"), 7.0),
    ("a used-up family whose time has come", used_up(REQUESTS, "2026-11-21T09:59:07Z"), 0.0),
    ("a used-up family in another zone", used_up(REQUESTS, "2026-11-21T12:00:07+02:00"), 7.0),
    (
        "the later of two used-up families",
        used_up(REQUESTS, "2026-11-21T10:00:07Z") | used_up(INPUT, "2026-11-21T10:00:09Z"),
        9.0,
    ),
    ("a family with room left", {REQUESTS: "2026-11-21T10:00:07Z", "remaining": "0"}, None),
    ("a reset without a zone", used_up(REQUESTS, "2026-11-21T10:00:07"), None),
    ("an unreadable reset", used_up(REQUESTS, "in a while"), None),
    ("seconds win over a reset", {"retry-after": "3", **used_up(REQUESTS, "2026-11-21T10:00:07Z")}, 3.0),
    ("junk falls back to a reset", {"retry-after": "x", **used_up(REQUESTS, "2026-11-21T10:00:07Z")}, 7.0),
]


@pytest.mark.parametrize("skew_s", [-3600, 0, 3600])
@pytest.mark.parametrize(("headers", "seconds"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_each_form_is_read_whatever_the_local_clock_says(
    headers: dict[str, str], seconds: float | None, skew_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: float(SERVER_S + skew_s))
    assert retry_after_s(headers, server_time_us=SERVER_S * 1_000_000) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "Sat, 21 Nov 2026 10:00:42 GMT"}, None),
        (used_up(REQUESTS, "2026-11-21T10:00:07Z"), None),
        ({"retry-after": "30"}, 30.0),
    ],
)
def test_a_date_means_nothing_without_the_servers_own(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, server_time_us=None) == seconds


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", *RESET_HEADERS]), st.text(max_size=40)))
def test_no_header_value_breaks_the_reader(headers: dict[str, str]) -> None:
    remaining = {name.removesuffix("reset") + "remaining": "0" for name in RESET_HEADERS}
    told = retry_after_s(headers | remaining, server_time_us=SERVER_S * 1_000_000)
    assert told is None or 0 <= told < float("inf")


@given(st.integers(0, 4_000_000_000))
def test_an_http_date_survives_the_trip(seconds: int) -> None:
    assert http_date_us(formatdate(seconds, usegmt=True)) == seconds * 1_000_000


@pytest.mark.parametrize("value", [None, "", "yesterday"])
def test_an_unreadable_http_date_is_no_date(value: str | None) -> None:
    assert http_date_us(value) is None
