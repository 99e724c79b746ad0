"""One call, and the whole, as those see it who count and trace: no prompt, no answer, no key of a row. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field


class CallSeen(Struct, frozen=True, kw_only=True):
    """A call that has ended. `outcome` is `answer` or the kind of a failure; `row_status` is set when it ended its
    row; `tokens` are by kind; money in pico-dollars, times in microseconds of shared time."""

    job: str
    run: str
    model: str
    base_url: str
    outcome: str
    latency_s: float
    began_us: int
    ended_us: int
    max_tokens: int
    attempt: int
    row_status: str | None = None
    stop_reason: str | None = None
    request_id: str | None = None
    response_model: str | None = None
    workspace: str | None = None
    error_type: str | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)
    cost_pico: int | None = None


Saw = Callable[[CallSeen], None]


class BudgetSeen(Struct, frozen=True, kw_only=True):
    """A budget that holds now: of a job's runs that have not ended, or of its day or month; `job` is empty for what
    holds for everything. Pico-dollars; what is reserved counts as used."""

    job: str
    per: str
    cap_pico: int
    used_pico: int


class StoreSeen(Struct, frozen=True, kw_only=True):
    """What all who share a store have: budgets with a cap, and batches that have not been read to their end, by
    state."""

    budgets: Sequence[BudgetSeen] = ()
    batches: Mapping[str, int] = field(default_factory=dict)
