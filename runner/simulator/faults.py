"""Which fault hits which request: windows by count and clock, and dice that fall the same in every replay.

What a fault then does to the reply is said in `mishaps`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from runner.simulator.exchange import Request

REFUSING_KINDS = frozenset(
    {
        "rate_limit",
        "ramp_limit",
        "spend_limit",
        "customer_spend_limit",
        "credit_low",
        "authentication",
        "permission",
        "billing",
        "api_error",
        "cmek",
        "timeout",
        "overloaded",
        "error",
        "html_502",
        "html_200",
        "redirect",
    }
)
STREAM_KINDS = frozenset({"sse_error", "truncated_sse"})
WIRE_KINDS = frozenset({"reset", "executed_reset", "reset_half", "stall", "drip", "cut_body"})
HALVING_KINDS = frozenset({"reset_half", "cut_body"})  # half of the reply arrives; a stream is billed so
BODY_KINDS = frozenset({"wrong_content_type"})
# Done, then answered so: a batch is there all the same, a single call is not billed.
FAILED_KINDS = frozenset({"executed_error", "executed_html_502"})
# These answer well: `lasts_s` later, or once the faults are replaced.
EXECUTED_KINDS = FAILED_KINDS | {"slow", "held"}
BATCH_KINDS = frozenset(
    {
        "batch_hidden",  # aimed at a create: not listed for `lasts_s`, unsaid: ever
        "batch_late",  # at a create: never answered, and created only after `lasts_s`
        "batch_stuck",  # at a create or a cancel: does not end before `lasts_s` are over, unsaid: ever
        "batch_status",  # at a retrieve or a list: a processing_status that nobody knows
        "batch_results_url",  # at a retrieve or a list: results_url on the host of `location`
    }
)
RESULTS_KINDS = frozenset(
    {
        "results_duplicated",
        "results_missing",
        "results_foreign",
        "results_conflicting",
        "results_crlf",
        "results_blank",
        "results_unfinished",
    }
)
KINDS = REFUSING_KINDS | STREAM_KINDS | WIRE_KINDS | BODY_KINDS | EXECUTED_KINDS | BATCH_KINDS | RESULTS_KINDS

RetryAfterForm = Literal["seconds", "ms", "http_date", "junk", "none", "reset_only"]
_WORD = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of trouble, and when it strikes.

    Of the requests that match `method`, `path` (a glob) and `body_contains`, numbered from 0, it may strike those
    from `after` on, at most `first` of them, each `every`-th, between `after_s` and `until_s` on the clock, and
    then with `probability`.
    """

    kind: str
    method: str | None = None
    path: str = "/v1/messages"
    body_contains: str | None = None
    probability: float = 1.0
    every: int = 1
    first: int | None = None
    after: int = 0
    after_s: float = 0.0
    until_s: float | None = None

    retry_after_s: float = 1.0
    retry_after: RetryAfterForm = "seconds"
    should_retry: bool | None = None  # the header x-should-retry
    status: int = 500  # for the kinds `error` and `executed_error`
    error_type: str | None = None  # for `error` and `sse_error`
    error_code: str | None = None
    message: str | None = None
    at: Literal["first", "middle", "last"] = "middle"  # where a stream breaks
    framing: Literal["content-length", "chunked", "close"] = "content-length"  # for `cut_body`
    every_s: float = 1.0  # seconds between two bytes of `drip`
    executed: bool | None = None  # for `stall`: whether the call is done and billed; unsaid: it is
    location: str = "http://127.0.0.1:9/v1/messages"  # for `redirect` and `batch_results_url`
    at_byte: int | None = None  # where `cut_body` and `reset_half` break off; unsaid: in the middle
    lasts_s: float | None = None  # for `slow` and the kinds of batches that say so
    lines: int = 1  # how many lines of results are struck

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault kind {self.kind!r}; known: {', '.join(sorted(KINDS))}")
        if self.every < 1:
            raise ValueError("every must be at least 1")


class FaultPlan:
    """The faults of one simulator, and how many matching requests each has met."""

    def __init__(self, faults: tuple[Fault, ...], seed: int) -> None:
        self.faults = faults
        self._seed = seed
        self._met = [0] * len(faults)

    def strike(self, request: Request, ordinal: int, elapsed_s: float) -> Fault | None:
        """The first fault that hits this request."""
        hit = None
        for index, fault in enumerate(self.faults):
            if not _matches(fault, request):
                continue
            number = self._met[index]
            self._met[index] += 1
            if hit is None and self._falls(index, fault, number, ordinal, elapsed_s):
                hit = fault
        return hit

    def _falls(self, index: int, fault: Fault, number: int, ordinal: int, elapsed_s: float) -> bool:
        return (
            _in_window(fault, number, elapsed_s)
            and (number - fault.after + 1) % fault.every == 0
            and (fault.probability >= 1 or dice(self._seed, index, ordinal) < fault.probability)
        )


def _matches(fault: Fault, request: Request) -> bool:
    return (
        fnmatchcase(request.path, fault.path)
        and fault.method in (None, request.method)
        and (fault.body_contains is None or fault.body_contains.encode() in request.body)
        and (fault.kind not in STREAM_KINDS or _asks_for_a_stream(request))
    )


def _asks_for_a_stream(request: Request) -> bool:
    return b'"stream":true' in request.body or b'"stream": true' in request.body


def _in_window(fault: Fault, number: int, elapsed_s: float) -> bool:
    if number < fault.after or elapsed_s < fault.after_s:
        return False
    if fault.first is not None and number >= fault.after + fault.first * fault.every:
        return False
    return fault.until_s is None or elapsed_s < fault.until_s


def dice(*keys: int) -> float:
    """A number in [0, 1) that depends on the keys alone (splitmix64 over them)."""
    state = 0
    for key in keys:
        state = _mix((state ^ (key & _WORD)) + 0x9E3779B97F4A7C15)
    return (state >> 11) / (1 << 53)


def _mix(value: int) -> int:
    value &= _WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _WORD
    return value ^ (value >> 31)
