"""What faults do to the replies about batches: odd states, an evil address, results files that cannot be trusted.

Which reply is hit is decided in `faults`; what breaks on the wire is the server's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import msgspec

from runner.simulator.exchange import Reply
from runner.simulator.faults import Fault

Pieces = Iterable[bytes]


def struck_batch(reply: Reply, fault: Fault) -> Reply:
    """The reply as the fault lets it out; untouched where the fault has nothing to change."""
    if fault.kind in _LINES:
        return reply if reply.events is None else replace(reply, events=_Mangled(reply.events, fault))
    change = _OBJECTS.get(fault.kind)
    if change is None or reply.events is not None:
        return reply
    told = msgspec.json.decode(reply.body)
    for batch in told.get("data", (told,)):
        if batch.get("type") == "message_batch":
            change(batch, fault)
    return replace(reply, body=msgspec.json.encode(told))


def _odd_status(batch: dict[str, Any], fault: Fault) -> None:
    batch["processing_status"] = fault.message or "reticulating"


def _evil_url(batch: dict[str, Any], fault: Fault) -> None:
    if batch["results_url"] is not None:
        batch["results_url"] = fault.location.rstrip("/") + urlsplit(batch["results_url"]).path


_OBJECTS: dict[str, Callable[[dict[str, Any], Fault], None]] = {
    "batch_status": _odd_status,
    "batch_results_url": _evil_url,
}


@dataclass(frozen=True, slots=True)
class _Mangled:
    """Results that can be read again and are mangled alike each time."""

    pieces: Pieces
    fault: Fault

    def __iter__(self) -> Iterator[bytes]:
        return iter(_LINES[self.fault.kind](self.pieces, self.fault.lines))


def _first_lines(pieces: Pieces, count: int) -> list[bytes]:
    lines: list[bytes] = []
    for piece in pieces:
        lines += piece.splitlines(keepends=True)[: count - len(lines)]
        if len(lines) >= count:
            break
    return lines


def _duplicated(pieces: Pieces, count: int) -> Pieces:
    return chain(pieces, _first_lines(pieces, count))


def _missing(pieces: Pieces, count: int) -> Pieces:
    for piece in pieces:
        lines = piece.splitlines(keepends=True)
        yield b"".join(lines[count:])
        count = max(0, count - len(lines))


def _foreign(pieces: Pieces, count: int) -> Pieces:
    others = (_line(f"someone-else-{number}", _said("nobody here asked for this")) for number in range(count))
    return chain(pieces, others)


def _conflicting(pieces: Pieces, count: int) -> Pieces:
    """The same id a second time, with another answer."""
    ids = [msgspec.json.decode(line)["custom_id"] for line in _first_lines(pieces, count)]
    return chain(pieces, (_line(custom_id, _said("on second thoughts: no")) for custom_id in ids))


def _carriage_returns(pieces: Pieces, count: int) -> Pieces:  # noqa: ARG001 - all lines, whatever the count
    return (piece.replace(b"\n", b"\r\n") for piece in pieces)


def _blank(pieces: Pieces, count: int) -> Pieces:
    """So many empty lines after each line."""
    return (piece.replace(b"\n", b"\n" * (count + 1)) for piece in pieces)


def _unfinished(pieces: Pieces, count: int) -> Pieces:  # noqa: ARG001 - there is one last line
    """No newline after the last line."""
    before: bytes | None = None
    for piece in pieces:
        if before is not None:
            yield before
        before = piece
    if before is not None:
        yield before.removesuffix(b"\n")


_LINES: dict[str, Callable[[Pieces, int], Pieces]] = {
    "results_duplicated": _duplicated,
    "results_missing": _missing,
    "results_foreign": _foreign,
    "results_conflicting": _conflicting,
    "results_crlf": _carriage_returns,
    "results_blank": _blank,
    "results_unfinished": _unfinished,
}


def _line(custom_id: str, result: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"custom_id": custom_id, "result": result}) + b"\n"


def _said(text: str) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1, "service_tier": "batch"}
    message = {
        "id": "msg_01elsewhere",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    return {"type": "succeeded", "message": message}
