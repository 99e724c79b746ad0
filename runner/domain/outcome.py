"""What a try gave: the same few values for a live reply and for a line of batch results.

`api/wire.py` makes them, `decide.py` reads them, the engines carry out what is decided. After this point there is
one path, whichever road the answer came by.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from msgspec import Struct, field

from runner.domain.limits import RateWord


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens by price kind, as the API counts them: `input_tokens` leaves out cached ones.

    `uses` counts those of server tools beside web search, by the API's names; the price book knows their fees.
    `unpriced` names usage fields that this program has no price for; their presence makes a cost unknown.
    """

    input_tokens: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    output_tokens: int = 0
    web_searches: int = 0
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    unpriced: tuple[str, ...] = ()
    uses: tuple[tuple[str, int], ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """All input, cached or not; price bands are chosen by it."""
        return self.input_tokens + self.cache_write_5m + self.cache_write_1h + self.cache_read

    def plus(self, other: Usage) -> Usage:
        """The usage of two turns together; tier, geography and speed are those of the later one."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cache_write_5m=self.cache_write_5m + other.cache_write_5m,
            cache_write_1h=self.cache_write_1h + other.cache_write_1h,
            cache_read=self.cache_read + other.cache_read,
            output_tokens=self.output_tokens + other.output_tokens,
            web_searches=self.web_searches + other.web_searches,
            service_tier=other.service_tier,
            inference_geo=other.inference_geo,
            speed=other.speed,
            unpriced=tuple(sorted({*self.unpriced, *other.unpriced})),
            uses=_together(self.uses, other.uses) if self.uses or other.uses else (),
        )


def _together(one: tuple[tuple[str, int], ...], other: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((Counter(dict(one)) + Counter(dict(other))).items()))


class Origin(Struct, frozen=True, kw_only=True):
    """Where an outcome came from, read from the reply's headers. `server_time_us` is the reply's `Date`; `rates` what
    they say of the limits, `fast_rates` of those of fast mode."""

    request_id: str | None = None
    organization: str | None = None
    workspace: str | None = None
    server_time_us: int | None = None
    rates: RateWord | None = None
    fast_rates: RateWord | None = None

    def rates_of(self, speed: str | None) -> RateWord | None:
        """What is said of the limits of calls at this speed."""
        return self.fast_rates if speed == "fast" else self.rates


NOWHERE = Origin()


class FailureKind(StrEnum):
    """What a failure is about, which decides what becomes of the row, the scope and the run."""

    ROW = "row"  # this request is wrong; asking again is useless
    ACCOUNT = "account"  # credentials, credit, spend cap, permission: the run pauses, the row waits
    RATE_LIMITED = "rate_limited"  # 429: the scope pauses, no attempt is used up
    OVERLOADED = "overloaded"  # 529: the scope backs off
    UNREACHABLE = "unreachable"  # nothing was sent: DNS, refused, TLS or connect timeout
    TRANSIENT = "transient"  # 5xx, 408, 409, cut streams, timeouts: the row backs off


class AccountTrouble(StrEnum):
    """Why the whole run must pause; each has its exit code."""

    CREDENTIALS = "credentials"  # 401, 403: exit 5
    ADDRESS = "address"  # what answers at the base URL is not the API: exit 6
    BILLING = "billing"  # 402, credit balance, organisation on hold: exit 4
    SPEND_CAP = "spend_cap"  # the provider's monthly or contract cap, the customer's own limit: exit 4
    MODEL = "model"  # the model is not available to this workspace: exit 6
    BETA = "beta"  # the service does not take one of the betas that all rows go with: exit 6


class Answer(Struct, frozen=True, kw_only=True):
    """A message came back whole. `message` is its JSON, byte for byte as received (streams: reassembled).

    A refusal before any output is not `billed`, though its usage counts tokens.
    """

    message: bytes
    message_id: str
    model: str
    stop_reason: str
    usage: Usage
    origin: Origin = NOWHERE
    batch: bool = False
    billed: bool = True


class Failure(Struct, frozen=True, kw_only=True):
    """No whole message came back.

    `perhaps_billed` is true when the request may have run although we hold no answer: a cut body, a timeout after
    sending, an error without the API's own shape, an error in mid-stream. Such a call is booked as `unknown` at
    its worst cost. `retry_after_s` is the server's word, already parsed and capped.
    """

    kind: FailureKind
    type: str
    message: str
    status: int | None = None
    code: str | None = None
    trouble: AccountTrouble | None = None
    retry_after_s: float | None = None
    perhaps_billed: bool = False
    origin: Origin = field(default=NOWHERE)


Outcome = Answer | Failure
