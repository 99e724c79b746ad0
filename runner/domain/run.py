"""A run as a value: one execution of a job over one input, the job frozen into it."""

from __future__ import annotations

from msgspec import Struct

from runner.domain.forecast import Forecast
from runner.domain.job import Job
from runner.domain.states import PauseReason, RunState


class Run(Struct, frozen=True, kw_only=True):
    """What the store knows of a run. `fan` is rows per record (variants x repeats); `label` is what people type.

    `records` is None until the input has been read to its end; `ingested_*` say how far it is staged: records,
    decompressed bytes, and the digest of those bytes. `wanted` is what another process has asked of the holder;
    `estimates` what it has learned of the size of its calls (`Estimator.to_json`), `forecast` what it was said to
    cost before it began. A `detached` run is the fleet's; of several the one of the highest `priority` goes first. Of
    a purged one the contents are gone.
    """

    id: int
    label: str
    job: Job
    identity: str
    key: str | None
    state: RunState
    pause_reason: PauseReason | None
    pause_message: str | None
    wanted: str | None
    round: int
    fan: int
    input_uri: str
    input_digest: str | None
    input_bytes: int | None
    records: int | None
    skipped: int
    ingested_upto: int
    ingested_bytes: int
    ingested_digest: str | None
    ingest_done: bool
    output: str | None
    exported_us: int | None
    epoch: int
    holder: str | None
    heartbeat_us: int | None
    organization: str | None
    workspace: str | None
    estimates: str | None
    detached: bool
    priority: int
    purged_us: int | None
    forecast: Forecast | None
    created_us: int
    ended_us: int | None

    @property
    def total_rows(self) -> int | None:
        """All rows of the run, None while the input is still being read."""
        return None if self.records is None else self.records * self.fan


class NewRun(Struct, frozen=True, kw_only=True):
    """What a run is made from. Digest, bytes and records are None for an input that is checked as it is staged."""

    job: Job
    key: str | None
    input_uri: str
    input_digest: str | None
    input_bytes: int | None
    records: int | None
    skipped: int
    output: str | None


class Tally(Struct, frozen=True, kw_only=True):
    """How many rows of a run are staged, ended well and ended badly."""

    staged: int
    done: int
    failed: int

    @property
    def ended(self) -> int:
        return self.done + self.failed
