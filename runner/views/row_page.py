"""One row in full: what was asked, what came back, each try. The caller makes it safe for a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runner.domain.result import ExportedRow
from runner.store.reports import PastAttempt
from runner.views.durations import duration, moment, utc
from runner.views.failure_advice import advice
from runner.views.money import dollars, usd
from runner.views.numbers import count
from runner.views.tables import facts_lines

# Some keys of rows are as long as a text.
SHOWN_TEXT = 20_000


def row_lines(
    run: str, idx: int, line: bytes, ended: ExportedRow | None, text: str | None, attempts: Sequence[PastAttempt]
) -> list[str]:
    """`line` is the row as it was read; `text` is that of the answer."""
    lines = facts_lines(_facts(run, idx, ended))
    for attempt in attempts:
        lines.append(_attempt(attempt))
    lines += ["", "row", *_indented(_pretty(line))]
    if text is not None:
        lines += ["", "answer", *_indented(text)]
    return lines


def _facts(run: str, idx: int, ended: ExportedRow | None) -> list[tuple[str, str]]:
    if ended is None:
        return [("row", str(idx)), ("status", "has not ended")]
    result = ended.result
    told = [
        ("row", str(idx) + ("" if result.key is None else f"   key {result.key}")),
        ("status", result.status + (f"   stop reason {result.stop_reason}" if result.stop_reason else "")),
    ]
    if result.error_type or result.error_message:
        told.append(("error", f"{result.error_type or ''}: {result.error_message or ''}"))
        fix = advice(result.status, result.error_type, run, result.error_message)
        told.append(("fix", fix or ""))
    told.append(("model", result.model or "none answered"))
    if result.usage is not None:
        told.append(("tokens", f"in {count(result.usage.prompt_tokens)}   out {count(result.usage.output_tokens)}"))
    told += [("cost", dollars(result.cost_pico)), ("request id", result.request_id or "none")]
    took = "" if result.latency_us is None else f"   the last took {duration(result.latency_us / 1e6)}"
    told.append(("tries", f"{count(result.attempts)}{took}"))
    return told


def _attempt(attempt: PastAttempt) -> str:
    parts = [moment(attempt.at_us), f"try {attempt.try_}", attempt.error_type or attempt.kind]
    parts += [attempt.request_id] if attempt.request_id else []
    parts += [attempt.error_message.splitlines()[0][:200]] if attempt.error_message else []
    return "  " + "  ".join(parts)


def _pretty(line: bytes) -> str:
    try:
        return json.dumps(json.loads(line), indent=2, ensure_ascii=False)
    except ValueError:
        return line.decode("utf-8", "replace")


def _indented(text: str) -> list[str]:
    cut = text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]}\n... {len(text) - SHOWN_TEXT:,} characters more"
    return [f"  {line}" for line in cut.split("\n")]


def row_json(
    idx: int, line: bytes, ended: ExportedRow | None, text: str | None, attempts: Sequence[PastAttempt]
) -> dict[str, Any]:
    result = ended.result if ended else None
    return {
        "index": idx,
        "key": result.key if result else None,
        "status": result.status if result else None,
        "stop_reason": result.stop_reason if result else None,
        "error": {"type": result.error_type, "message": result.error_message}
        if result and result.error_type
        else None,
        "model": result.model if result else None,
        "cost_usd": usd(result.cost_pico) if result else None,
        "request_id": result.request_id if result else None,
        "tries": result.attempts if result else 0,
        "attempts": [
            {
                "try": attempt.try_,
                "round": attempt.round,
                "kind": attempt.kind,
                "error": {"type": attempt.error_type, "message": attempt.error_message},
                "request_id": attempt.request_id,
                "cost_usd": usd(attempt.cost_pico),
                "at": utc(attempt.at_us),
            }
            for attempt in attempts
        ],
        "row": _value(line),
        "text": text,
    }


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line.decode("utf-8", "replace")
