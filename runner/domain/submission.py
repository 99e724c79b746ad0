"""One planned POST of a batch: its name, its times and what its answer means.

The API takes no idempotency key and a batch has no name, so a POST whose end is unknown may have made a batch. The
rule is: write down the intent, send once and never again, and decide only from what the service shows later. Here
are the values of that protocol; `settling.py` decides about a submission of unknown end. Pure.

Two clocks: *shared* time is ours, *server* time is that of the replies' `Date`. Both in microseconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from runner.domain.batch import DAY_US, SECOND_US, BatchStatus
from runner.domain.outcome import NOWHERE, Failure, Origin
from runner.domain.states import BatchState

ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
ID_LENGTH = 10
_CUSTOM_ID = re.compile(r"([a-z2-7]{10})-(0|[1-9][0-9]{0,18})")
_NAMED_REQUEST = re.compile(r"\brequests[.\[]([0-9]{1,6})\b")

# A batch ends by itself this long after it was created.
BATCH_LIFE_US = DAY_US
# From the commit of an intent to the first byte: a connection, and a look at the database.
SHORTEST_SEND_S = 0.5
# `Date` has whole seconds: the server may be this much further.
DATE_STEP_US = SECOND_US

# With the API's own error and a request id, these say that no batch was made.
REFUSING_STATUSES = frozenset({400, 401, 403, 404, 413, 429})
OVERLOADED_STATUS = 529


class OnUnknown(StrEnum):
    """What the job wants done about a submission of unknown end that cannot be settled at once."""

    WAIT = "wait"
    CANCEL = "cancel"  # only in a workspace that nobody else uses
    RESUBMIT = "resubmit"  # accepts that the rows may be billed twice


class Timing(Struct, frozen=True, kw_only=True):
    """The two times that matter, and the pace of asking; every other time of the protocol is a fraction of them.

    `window_s` (W) is how long after the last byte a batch may still come to be: a proxy may hold the body back.
    `settle_s` (S) is how long a batch that exists may be missing from the list.
    """

    window_s: float = 600.0
    settle_s: float = 900.0
    poll_s: float = 60.0

    def __post_init__(self) -> None:
        if min(self.window_s, self.settle_s, self.poll_s) <= 0:
            raise ValueError("the times of batches must be above zero")

    @property
    def send_within_s(self) -> float:
        """The first byte leaves this soon after the intent, or never. A tenth of W: 60 s; but never so short that a
        busy machine could not keep it."""
        return max(self.window_s / 10, SHORTEST_SEND_S)

    @property
    def create_limit_s(self) -> float:
        """The wall clock of the whole create. W, which therefore is never less."""
        return self.window_s

    @property
    def settle_after_intent_s(self) -> float:
        """From the intent until a missing batch means something: begun late, sent slowly, made late, listed late."""
        return self.send_within_s + self.create_limit_s + self.window_s + self.settle_s

    @property
    def listing_gap_s(self) -> float:
        """Two listings count as two when they are this far apart. A quarter of S, at most 60 s."""
        return min(60.0, self.settle_s / 4)

    @property
    def sweep_after_s(self) -> float:
        """From the moment an end became unknown: by then whatever it made has ended and is listed."""
        return BATCH_LIFE_US / SECOND_US + self.settle_s

    @property
    def missing_patience_s(self) -> float:
        """A 404 for a batch that we know heals by itself; it means nothing before this. Twice S: 30 min."""
        return 2 * self.settle_s

    @property
    def overdue_after_s(self) -> float:
        """After `expires_at` a batch that has not ended is worth an alarm. Four times S: 1 h."""
        return 4 * self.settle_s

    @property
    def clock_slack_s(self) -> float:
        """By how much `created_at` and `Date` of one service may differ. A tenth of W: 60 s, a guess."""
        return self.window_s / 10

    def may_send(self, *, monotonic_s: float, shared_s: float) -> bool:
        """Whether the first byte may still leave, so long after the intent by two clocks: one may stand still."""
        return -1.0 <= shared_s < self.send_within_s and monotonic_s < self.send_within_s

    def is_overdue(self, expires_us: int | None, now_us: int) -> bool:
        return expires_us is not None and now_us >= expires_us + us(self.overdue_after_s)

    def is_gone(self, first_missing_us: int, now_us: int, *, missing_from_full_listing: bool) -> bool:
        """A known batch is gone only when 404s have lasted and a full listing does not show it either."""
        return missing_from_full_listing and now_us - first_missing_us >= us(self.missing_patience_s)


class ServerTime(Struct, frozen=True, kw_only=True):
    """One reply's `Date`, and when its request began by shared time: between the two lies what we cannot see."""

    server_us: int
    shared_us: int

    def latest_at(self, shared_us: int) -> int:
        """The server's time at `shared_us`, never too early."""
        return self.server_us + DATE_STEP_US + max(0, shared_us - self.shared_us)

    def shared_at(self, server_us: int) -> int:
        """The shared time at which to expect that a reply shows `server_us` or later."""
        return self.shared_us + max(0, server_us - self.server_us)


class Intent(Struct, frozen=True, kw_only=True):
    """A submission as it was written down before its POST.

    `asked` is the last answer of the service before it; `organization` and `workspace` are those of that answer's
    headers, None where it had none. `intent_us` is shared time.
    """

    submission: str
    n: int
    asked: ServerTime
    intent_us: int
    organization: str | None = None
    workspace: str | None = None

    def settled_us(self, timing: Timing) -> int:
        """Server time from which a listing that does not show the batch says something."""
        return self.asked.latest_at(self.intent_us) + us(timing.settle_after_intent_s)

    def settled_shared_us(self, timing: Timing) -> int:
        """About when that is on our clock; for people, and to know when to look."""
        return self.asked.shared_at(self.settled_us(timing))

    def window_us(self, timing: Timing) -> tuple[int, int]:
        """Server times between which the batch was created, if it was."""
        return self.asked.server_us - us(timing.clock_slack_s), self.settled_us(timing)

    def could_own(self, batch: BatchStatus, timing: Timing) -> bool:
        """By number of rows and time of creation, which is all that a listing tells."""
        if batch.total != self.n:
            return False
        since, until = self.window_us(timing)
        return batch.created_us is None or since <= batch.created_us <= until


def us(seconds: float) -> int:
    return round(seconds * SECOND_US)


# --- names


def new_submission_id(random_bits: Callable[[int], int]) -> str:
    """Ten base32 characters; `random_bits` as `secrets.randbits`."""
    number = random_bits(5 * ID_LENGTH)
    return "".join(ID_ALPHABET[number >> shift & 31] for shift in range(0, 5 * ID_LENGTH, 5))


def custom_id(submission: str, idx: int) -> str:
    """The name of a row inside a batch: never the user's own, always legal, and it tells whose the batch is."""
    return f"{submission}-{idx}"


def parse_custom_id(text: str) -> tuple[str, int] | None:
    """Submission and row of a name made by `custom_id`; None for anybody else's."""
    found = _CUSTOM_ID.fullmatch(text)
    return None if found is None else (found[1], int(found[2]))


class Whose(StrEnum):
    """What the first line of an ended batch proves."""

    OURS = "ours"
    FOREIGN = "foreign"
    UNVERIFIABLE = "unverifiable"


class FirstLine(Struct, frozen=True, kw_only=True):
    """What a line of results says of its batch: nothing, somebody else's, or a name of our form.

    A name of our form may still be unknown to this store: that is for the caller to look up.
    """

    readable: bool
    submission: str | None = None


def read_first_line(line: bytes | None) -> FirstLine:
    """None for `line`: the batch has no lines, or they cannot be had any more."""
    try:
        told = None if line is None else json.loads(line)
    except (ValueError, RecursionError):
        told = None
    name = told.get("custom_id") if isinstance(told, dict) else None
    if not isinstance(name, str):
        return FirstLine(readable=False)
    parsed = parse_custom_id(name)
    return FirstLine(readable=True, submission=parsed[0] if parsed else None)


def verify_first_line(line: bytes | None, submission: str) -> Whose:
    """Whether an ended batch is that of `submission`."""
    told = read_first_line(line)
    if not told.readable:
        return Whose.UNVERIFIABLE
    return Whose.OURS if told.submission == submission else Whose.FOREIGN


# --- the answer to the POST


class CreateReply(Struct, frozen=True, kw_only=True):
    """What came back from the one POST. `batch` is set for a 200 with an id, else `failure` says what happened.

    `shaped` is true for the API's own error body; with `origin.request_id` that is the API's word and no proxy's.
    `nothing_sent` is true only where no byte of the body has left this process.
    """

    status: int | None = None
    batch: BatchStatus | None = None
    failure: Failure | None = None
    error_type: str | None = None
    shaped: bool = False
    nothing_sent: bool = False
    origin: Origin = NOWHERE


def classify_create(reply: CreateReply, *, strict: bool = False) -> BatchState:
    """ACCEPTED, REFUSED, NOT_SENT or, for everything that is not certain, UNKNOWN.

    An overload is taken for a refusal: the API says so before it takes work. `strict` does not rely on that.
    """
    if reply.status == 200 and reply.batch is not None:
        return BatchState.ACCEPTED
    if reply.status is None:
        return BatchState.NOT_SENT if reply.nothing_sent else BatchState.UNKNOWN
    if not reply.shaped or reply.origin.request_id is None:
        return BatchState.UNKNOWN
    if reply.status in REFUSING_STATUSES:
        return BatchState.REFUSED
    overloaded = reply.status == OVERLOADED_STATUS and reply.error_type == "overloaded_error"
    return BatchState.REFUSED if overloaded and not strict else BatchState.UNKNOWN


EVENT_OF_END = {
    BatchState.ACCEPTED: "id received",
    BatchState.REFUSED: "refused by the API",
    BatchState.NOT_SENT: "nothing left the machine",
    BatchState.UNKNOWN: "end unknown",
}


def named_request(message: str) -> int | None:
    """The position in the body of the request that an error for the whole create is about, where it says so."""
    found = _NAMED_REQUEST.search(message)
    return None if found is None else int(found[1])
