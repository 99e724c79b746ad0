"""What a reply's headers say of the limits: `anthropic-ratelimit-*`, and the families of priority and fast mode.

Tokens of the priority tier come on top of the ordinary ones. Fast mode shares the requests and has tokens of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from runner.domain.limits import RateLimits, RateWord


class _Names(NamedTuple):
    """The headers of one family."""

    limit: str
    remaining: str
    reset: str


def _names(family: str) -> _Names:
    return _Names(*(f"anthropic-{family}-{part}" for part in _Names._fields))


REQUESTS = _names("ratelimit-requests")
ORDINARY = (REQUESTS, _names("ratelimit-input-tokens"), _names("ratelimit-output-tokens"))
PRIORITY = (None, _names("priority-input-tokens"), _names("priority-output-tokens"))
FAST = (REQUESTS, _names("fast-input-tokens"), _names("fast-output-tokens"))

# What is left is heeded only where a limit takes longer than this to fill up. A service that enforces over a second
# has always next to nothing left, and has it back before the word has arrived.
HEEDED_ABOVE_S = 3.0
# Counts of tokens are rounded to the nearest thousand.
ROUNDING = 500.0


def rates_of(headers: Mapping[str, str], server_time_us: int | None) -> RateWord | None:
    """The ordinary limits and those of the priority tier together. Header names in lower case."""
    if REQUESTS.limit not in headers and ORDINARY[1].limit not in headers:
        return None
    families = [_family(headers, names, server_time_us) for names in ORDINARY]
    for place, names in enumerate(PRIORITY):
        if names is not None and names.limit in headers:
            families[place] = _together(families[place], _family(headers, names, server_time_us))
    return _word(families)


def fast_rates_of(headers: Mapping[str, str], server_time_us: int | None) -> RateWord | None:
    """The limits of fast mode; None where the reply says nothing of them."""
    if FAST[1].limit not in headers and FAST[2].limit not in headers:
        return None
    return _word([_family(headers, names, server_time_us) for names in FAST])


_Family = tuple[int | None, float | None]


def _word(families: list[_Family]) -> RateWord:
    (rpm, requests), (itpm, input_tokens), (otpm, output_tokens) = families
    return RateWord(limits=RateLimits(rpm, itpm, otpm), left=(requests, input_tokens, output_tokens))


def _together(one: _Family, other: _Family) -> _Family:
    """Limits add up; of what is left nothing is said unless of both."""
    limits = [limit for limit, _ in (one, other) if limit is not None]
    left = None if one[1] is None or other[1] is None else one[1] + other[1]
    return (sum(limits) if limits else None), left


def _family(headers: Mapping[str, str], names: _Names, server_time_us: int | None) -> _Family:
    limit = _count(headers.get(names.limit)) or None
    if not _fills_slowly(headers.get(names.reset), server_time_us):
        return limit, None
    left = _count(headers.get(names.remaining))
    return limit, left if left is None or names is REQUESTS else left + ROUNDING


@lru_cache(maxsize=64)
def _count(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 15:
        return None
    return int(text)


@lru_cache(maxsize=64)  # many replies share a second
def _fills_slowly(reset: str | None, server_time_us: int | None) -> bool:
    try:
        at = datetime.fromisoformat(reset) if reset else None
    except ValueError:
        return False
    if at is None or at.tzinfo is None or server_time_us is None:
        return False
    return at.timestamp() - server_time_us / 1e6 > HEEDED_ABOVE_S
