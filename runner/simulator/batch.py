"""One batch and its life by the clock: in progress, canceling, ended, archived.

What its requests get is `batch_work`'s; here it is only decided when, and how many of them have their turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runner.simulator.batch_work import Ending, Outcome, Work

SECOND_US = 1_000_000
EXPIRES_S = 24 * 3600
RESULTS_KEPT_S = 29 * 24 * 3600
FOREVER_US = 1 << 62


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How long a batch takes and how much of it is done in that time."""

    seconds: float
    cancel_seconds: float
    canceled_share: float | None  # None: whatever the clock has left undone
    expired_share: float
    expires_s: float


@dataclass(kw_only=True, slots=True)
class Batch:
    """One batch. Times are microseconds of shared time."""

    id: str
    workspace_id: str
    count: int
    created_us: int
    listed_us: int
    pace: Pace
    work: Work | None  # None once it has ended
    ordinal: int  # of the create that made it
    request_id: str
    foreign: bool = False
    stuck_until_us: int = 0
    cancel_us: int | None = None
    cancel_stuck_until_us: int = 0
    outcome: Outcome | None = None

    @property
    def expires_us(self) -> int:
        return self.created_us + round(self.pace.expires_s * SECOND_US)

    @property
    def ends_us(self) -> int:
        """When it ends, as things stand."""
        if self.cancel_us is not None:
            soon = self.cancel_us + round(self.pace.cancel_seconds * SECOND_US)
            return max(self.cancel_stuck_until_us, min(soon, max(self.expires_us, self.cancel_us)))
        if self.pace.expired_share > 0:
            return max(self.stuck_until_us, self.expires_us)
        natural = self.created_us + round(self.pace.seconds * SECOND_US)
        return max(self.stuck_until_us, min(natural, self.expires_us))

    @property
    def ending(self) -> Ending:
        return "expired" if self.cancel_us is None else "canceled"

    @property
    def processed(self) -> int:
        """How many of its requests have had their turn when it ends."""
        if self.cancel_us is None:
            return self._processed_when_expired()
        if self.pace.canceled_share is not None:
            return self.count - int(self.count * self.pace.canceled_share + 1e-9)
        return self._done_at(self.cancel_us)

    def _processed_when_expired(self) -> int:
        if self.pace.expired_share > 0:
            return self.count - int(self.count * self.pace.expired_share + 1e-9)
        return self._done_at(self.expires_us)

    def _done_at(self, at_us: int) -> int:
        spent_s = (at_us - self.created_us) / SECOND_US
        return self.count if spent_s >= self.pace.seconds else int(self.count * spent_s / self.pace.seconds)

    def has_ended(self, now_us: int) -> bool:
        return now_us >= self.ends_us

    def is_archived(self, now_us: int) -> bool:
        return self.has_ended(now_us) and now_us >= self.archives_us

    @property
    def archives_us(self) -> int:
        return self.created_us + RESULTS_KEPT_S * SECOND_US

    def as_json(self, now_us: int, origin: str) -> dict[str, Any]:
        """The object as the API tells it; `origin` is where its results are to be had."""
        ended, archived = self.has_ended(now_us), self.is_archived(now_us)
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self._status(ended),
            "request_counts": self._counts(),
            "created_at": timestamp(self.created_us),
            "expires_at": timestamp(self.expires_us),
            "ended_at": timestamp(self.ends_us) if ended else None,
            "cancel_initiated_at": None if self.cancel_us is None else timestamp(self.cancel_us),
            "archived_at": timestamp(max(self.archives_us, self.ends_us)) if archived else None,
            "results_url": f"{origin}/v1/messages/batches/{self.id}/results" if ended and not archived else None,
        }

    def _status(self, ended: bool) -> str:
        if ended:
            return "ended"
        return "in_progress" if self.cancel_us is None else "canceling"

    def _counts(self) -> dict[str, int]:
        """All are processing until the whole batch has ended."""
        none = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        return none | (self.outcome.counts if self.outcome is not None else {"processing": self.count})


def timestamp(at_us: int) -> str:
    return (
        datetime.fromtimestamp(at_us // SECOND_US, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_us % SECOND_US:06d}Z"
    )
