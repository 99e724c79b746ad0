"""How a row ended, as it is stored and exported."""

from __future__ import annotations

from msgspec import Struct

from runner.domain.outcome import Usage
from runner.domain.states import RowStatus


class RowResult(Struct, frozen=True, kw_only=True):
    """One row's one result. `cost_pico` is None when a price is not known; `latency_us` is of the last try. `same_as`
    is the row that asked the same and whose answer this is a copy of, which cost nothing more; `same_run` is its run,
    where that is an earlier one."""

    idx: int
    record: int
    variant: int
    repeat: int
    round: int
    key: str | None
    status: RowStatus
    stop_reason: str | None
    model: str | None
    usage: Usage | None
    cost_pico: int | None
    price_version: str | None
    request_id: str | None
    attempts: int
    latency_us: int | None
    batch: str | None
    error_type: str | None
    error_message: str | None
    organization: str | None = None
    workspace: str | None = None
    same_as: int | None = None
    same_run: str | None = None


class ExportedRow(Struct, frozen=True, kw_only=True):
    """A result with what belongs to it: the row's own bytes as they were read, the message's bytes as received."""

    result: RowResult
    row: bytes
    message: bytes | None
