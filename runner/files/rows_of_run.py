"""Rows of an earlier run as records of a new one: the row as it was, and beside it what became of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from runner.domain.result import ExportedRow
from runner.files.message_parts import message_parts, raw_text
from runner.files.output_lines import usd_number

RUN, IDX = "_run", "_idx"
_encode = msgspec.json.Encoder().encode


def record_of(exported: ExportedRow, run: str) -> bytes:
    """The row's own fields and `_run, _idx, _status, _error, _message, _model, _cost_usd, _text`."""
    told = _encode(_facts(exported, run))
    row = exported.row.strip()
    if any(f'"{name}"'.encode() in row for name in FACTS):
        kept = {name: value for name, value in json.loads(row).items() if name not in FACTS}
        row = _encode(kept)
    return told if row == b"{}" else row[:-1].rstrip() + b", " + told[1:]


FACTS = (RUN, IDX, "_status", "_error", "_message", "_model", "_cost_usd", "_text")


def _facts(exported: ExportedRow, run: str) -> dict[str, Any]:
    result = exported.result
    text = None if exported.message is None else msgspec.Raw(raw_text(message_parts(exported.message)))
    return {
        RUN: run,
        IDX: result.idx,
        "_status": result.status,
        "_error": result.error_type or result.status,
        "_message": (result.error_message or "").encode("utf-8", "replace").decode(),
        "_model": result.model,
        "_cost_usd": usd_number(result.cost_pico),
        "_text": text,
    }


def source_idx(row: bytes) -> int | None:
    """The number that the row had in the run it came from; None for a row of some other input."""
    told = json.loads(row)
    idx = told.get(IDX)
    return idx if isinstance(idx, int) and RUN in told else None
