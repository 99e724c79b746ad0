"""How a simulator shall behave: one frozen value, also readable from JSON.

It knows nothing of requests; two simulators with the same config and the same requests answer the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import msgspec

from runner.simulator.faults import Fault

Tier = Literal["start", "build", "scale"]


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """The defaults: no limits, no latency, no faults, any key, every call kept in the ledger."""

    seed: int = 0
    tier: Tier | None = None
    rpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None
    burst_s: float = 60.0  # how many seconds of refill a bucket holds; the service may enforce over one second
    latency_s: float = 0.0
    latency_jitter_s: float = 0.0
    event_pause_s: float = 0.0  # between the events of a stream
    output_tokens: int | None = None  # every text answer this long; None: a sentence or two
    broken_output_share: float = 0.0  # of the answers that are to follow a schema; by the body, so the same each time
    organization_id: str = "5a1c0de0-0000-4000-8000-000000000001"
    workspace_id: str = "wrkspc_01SimulatedWorkspace"
    keys: tuple[str, ...] | None = None
    refused_betas: tuple[str, ...] = ()  # beside names that nobody knows, as at the addresses of clouds
    spend_cap_usd: str | None = None
    faults: tuple[Fault, ...] = ()
    workspaces: Mapping[str, str] = field(default_factory=dict)  # by key; other keys are in `workspace_id`

    batch_seconds: float = 2.0  # until a batch has ended; above `batch_expires_s` it expires with the rest undone
    batch_expires_s: float = 86_400.0
    batch_cancel_seconds: float = 1.0
    batch_canceled_share: float | None = None  # of a cancelled batch; None: what its time has left undone
    batch_expired_share: float = 0.0  # above 0 every batch ends when it expires, with this share undone
    batch_errored_share: float = 0.0
    batch_errored_type: str = "overloaded_error"
    batch_errored_message: str = "Overloaded"
    batch_list_delay_s: float = 0.0  # after its creation a batch is not listed for so long
    batch_404_s: float = 0.0  # nor found by its id for so long
    batch_rpm: int | None = None  # None: the tier's, as is the queue of requests
    batch_queue: int | None = None
    batch_queue_wait_s: int = 60  # what a create is told that the queue has no room for

    files_quota_bytes: int = 10**12

    keep_ledger: Literal["full", "totals"] = "full"

    def __post_init__(self) -> None:
        if self.burst_s <= 0:
            raise ValueError("burst_s must be above 0")
        limits = (self.rpm, self.itpm, self.otpm, self.batch_rpm, self.batch_queue)
        if any(limit is not None and limit < 1 for limit in limits):
            raise ValueError("rpm, itpm, otpm, batch_rpm and batch_queue must be at least 1")
        shares = (
            self.broken_output_share,
            self.batch_canceled_share or 0.0,
            self.batch_expired_share,
            self.batch_errored_share,
        )
        if any(not 0 <= share <= 1 for share in shares):
            raise ValueError("shares must be between 0 and 1")
        if self.spend_cap_usd is not None:
            Fraction(self.spend_cap_usd)

    @property
    def limited(self) -> bool:
        """Whether any limit is on."""
        return any(value is not None for value in (self.tier, self.rpm, self.itpm, self.otpm))


def config_from_json(text: str | bytes) -> SimulatorConfig:
    """A config from its JSON object; a name or value it does not know raises `msgspec.ValidationError`."""
    told = msgspec.json.decode(text, type=dict[str, object])
    unknown = set(told) - set(SimulatorConfig.__dataclass_fields__)
    if unknown:
        raise msgspec.ValidationError(f"unknown settings: {', '.join(sorted(unknown))}")
    return msgspec.convert(told, SimulatorConfig)
