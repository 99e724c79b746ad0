"""A remote batch as the API tells it, and its life after it was made: when to ask, when to warn, when it is gone.

Knows nothing of submissions; whose a batch is, `submission.py` and `settling.py` say. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

ENDED = "ended"
# The API keeps results this long after a batch was created, not after it ended.
RETENTION_DAYS = 29
WARN_FROM_DAY = 20
# A status may be asked for this many times less often than at first.
SLOWEST_POLL_FACTOR = 5
# After ten minutes a batch is asked about each minute, after fifty each five.
POLL_SHARE_OF_AGE = 0.1
# A full batch begins at three times the pace of a small one: nobody has seen a large one end in a minute.
LARGE_BATCH_ROWS = 50_000


class BatchStatus(Struct, frozen=True, kw_only=True):
    """One batch as a reply or a listing shows it. An unknown `status` is kept as it is and means "not ended yet".

    `created_us` is None where the API's time cannot be read; such a batch lies in every window.
    """

    id: str
    status: str
    counts: Mapping[str, int] = field(default_factory=dict)
    created_us: int | None = None
    expires_us: int | None = None
    ended_us: int | None = None
    cancel_us: int | None = None
    archived: bool = False

    @property
    def total(self) -> int:
        """All requests, in known and unknown buckets: from the first moment the number that was submitted."""
        return sum(self.counts.values())

    @property
    def has_ended(self) -> bool:
        return self.status == ENDED


class Retention(StrEnum):
    FRESH = "fresh"
    WARN = "warn"
    GONE = "gone"


def results_gone_us(created_us: int) -> int:
    """From then on the API has no results of a batch created at `created_us`."""
    return created_us + RETENTION_DAYS * DAY_US


def retention(created_us: int, now_us: int) -> Retention:
    """How urgent it is to fetch the results of a batch; both times in server time."""
    if now_us >= results_gone_us(created_us):
        return Retention.GONE
    return Retention.WARN if now_us >= created_us + WARN_FROM_DAY * DAY_US else Retention.FRESH


def next_poll_s(age_s: float, n: int, poll_s: float) -> float:
    """How long to wait before asking again about a batch of `n` rows that is `age_s` old."""
    soonest = poll_s * (1 + min(n, 2 * LARGE_BATCH_ROWS) / LARGE_BATCH_ROWS)
    return min(SLOWEST_POLL_FACTOR * poll_s, max(soonest, age_s * POLL_SHARE_OF_AGE))
