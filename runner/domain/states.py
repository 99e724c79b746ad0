"""States of rows, chunks, batches and runs, and the only moves between them.

The tables are data: one function checks a move, the store's SQL guards it again by naming the state it expects,
and the diagrams in `docs/states.md` are drawn from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class RowStatus(StrEnum):
    """How a row ended. No result row in the store means: not ended yet."""

    SUCCEEDED = "succeeded"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    INVALID_OUTPUT = "invalid_output"
    ERRORED = "errored"
    EXPIRED = "expired"
    CANCELED = "canceled"


class ChunkState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    IN_BATCH = "in_batch"
    DONE = "done"
    CANCELED = "canceled"


class BatchState(StrEnum):
    PLANNED = "planned"
    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    CLAIMED = "claimed"
    ABSENT = "absent"
    ENDED = "ended"
    INGESTED = "ingested"


class RunState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    CANCELING = "canceling"
    DONE = "done"
    DONE_WITH_FAILURES = "done_with_failures"
    CANCELED = "canceled"


class PauseReason(StrEnum):
    """Why a run is paused, as stored beside its state."""

    REQUESTED = "requested"  # `runner pause`, or a signal
    BUDGET = "budget"
    CREDENTIALS = "credentials"
    ADDRESS = "address"
    BILLING = "billing"
    SPEND_CAP = "spend_cap"
    MODEL = "model"
    STALLED = "stalled"  # 900 s without one success in the scope
    MAX_FAILURES = "max_failures"
    BAD_ROW = "bad_row"  # a streamed input turned out to hold one
    SUBMITTED = "submitted"  # all that can be sent is with the API, and nobody was to wait for it
    UNKNOWN_BATCH = "unknown_batch"  # a person has to say what became of a submission
    SAMPLED = "sampled"  # only some rows were to be answered, for an estimate
    REFUSED = "refused"  # the service refuses what every row has in common


Moves = Mapping[StrEnum, Mapping[str, StrEnum]]

CHUNK_MOVES: Moves = {
    ChunkState.PENDING: {
        "claimed": ChunkState.RUNNING,
        "run canceled": ChunkState.CANCELED,
    },
    ChunkState.RUNNING: {
        "claimed again": ChunkState.RUNNING,
        "released": ChunkState.PENDING,
        "packed": ChunkState.IN_BATCH,
        "last row settled": ChunkState.DONE,
        "run canceled": ChunkState.CANCELED,
    },
    ChunkState.IN_BATCH: {
        "claimed for its other rows": ChunkState.RUNNING,
        "last row settled": ChunkState.DONE,
        "rows go again": ChunkState.PENDING,
        "run canceled": ChunkState.CANCELED,
    },
    ChunkState.DONE: {"new round": ChunkState.PENDING},
    ChunkState.CANCELED: {"new round": ChunkState.PENDING},
}

BATCH_MOVES: Moves = {
    BatchState.PLANNED: {"intent": BatchState.SENDING},
    BatchState.SENDING: {
        "id received": BatchState.ACCEPTED,
        "refused by the API": BatchState.REFUSED,
        "nothing left the machine": BatchState.NOT_SENT,
        "end unknown": BatchState.UNKNOWN,
    },
    BatchState.UNKNOWN: {
        "found in a listing": BatchState.CLAIMED,
        "settled and not listed": BatchState.ABSENT,
        "let go": BatchState.ABSENT,
        "gone with its simulator": BatchState.ABSENT,
    },
    BatchState.CLAIMED: {
        "ended": BatchState.ENDED,
        "let go": BatchState.ABSENT,
        "gone with its simulator": BatchState.ABSENT,
    },
    BatchState.ACCEPTED: {
        "ended": BatchState.ENDED,
        "let go": BatchState.ABSENT,
        "gone with its simulator": BatchState.ABSENT,
    },
    BatchState.ENDED: {"all lines stored": BatchState.INGESTED, "gone with its simulator": BatchState.ABSENT},
    BatchState.REFUSED: {},
    BatchState.NOT_SENT: {},
    BatchState.ABSENT: {},
    BatchState.INGESTED: {},
}

RUN_MOVES: Moves = {
    RunState.RUNNING: {
        "paused": RunState.PAUSED,
        "cancel asked": RunState.CANCELING,
        "all rows succeeded": RunState.DONE,
        "all rows ended": RunState.DONE_WITH_FAILURES,
    },
    RunState.PAUSED: {"resumed": RunState.RUNNING, "cancel asked": RunState.CANCELING},
    RunState.CANCELING: {"nothing in flight": RunState.CANCELED},
    RunState.DONE: {},
    RunState.DONE_WITH_FAILURES: {"new round": RunState.RUNNING},
    RunState.CANCELED: {"new round": RunState.RUNNING},
}

TABLES: Mapping[str, Moves] = {"run": RUN_MOVES, "chunk": CHUNK_MOVES, "batch": BATCH_MOVES}

# A submission in one of these has rows riding, whatever becomes of it.
RIDING_BATCH = frozenset(
    {BatchState.SENDING, BatchState.ACCEPTED, BatchState.UNKNOWN, BatchState.CLAIMED, BatchState.ENDED}
)
FINISHED_RUN = frozenset({RunState.DONE, RunState.DONE_WITH_FAILURES, RunState.CANCELED})


class IllegalMove(Exception):
    """A bug in the caller: the state table has no such move."""


def after(moves: Moves, state: StrEnum, event: str) -> StrEnum:
    """The state that `event` leads to from `state`. Raises IllegalMove where the table has no such move."""
    try:
        return moves[state][event]
    except KeyError:
        raise IllegalMove(f"{type(state).__name__} {state!s} has no move {event!r}") from None


def leading_to(moves: Moves, event: str) -> tuple[StrEnum, ...]:
    """The states from which `event` is a move; SQL guards name them in their WHERE."""
    return tuple(state for state, row in moves.items() if event in row)


def diagram(moves: Moves) -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    {state} --> {to}: {event}" for state, row in moves.items() for event, to in row.items()]
    return "\n".join(lines)
