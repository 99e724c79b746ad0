"""What goes between the wire and the brain: a parsed request in, a plan of a reply out.

Values only. Neither side knows how the other works: the server knows no API, the doors know no sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

Headers = tuple[tuple[str, str], ...]
JSON_TYPE: Headers = (("content-type", "application/json"),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One HTTP request, whole. Header names are lower case; repeated headers are joined by commas."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str]
    body: bytes = b""
    body_too_large: bool = False  # read and thrown away by the server


@dataclass(frozen=True, kw_only=True, slots=True)
class WireFault:
    """What goes wrong on the wire with a reply. `kind` is one of `faults.WIRE_KINDS`."""

    kind: str
    every_s: float = 1.0
    framing: str = "content-length"
    at_byte: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A reply to be played: wait `delay_s` and while it is `held`; the head; `body` or the `events` of a stream."""

    status: int
    headers: Headers = JSON_TYPE
    body: bytes = b""
    events: Iterable[bytes] | None = None  # may be asked for more than once
    event_pause_s: float = 0.0
    delay_s: float = 0.0
    held: Callable[[], bool] | None = None  # after the delay: nothing is sent as long as it says so
    wire: WireFault | None = None
    from_edge: bool = False  # sent by a proxy before the service: no request id, and the connection closes
    late_headers: Callable[[], Headers] | None = None  # asked when the head is written, after the delay
    on_end: Callable[[str], None] | None = None  # told what became of the reply on the wire

    def with_headers(self, headers: Headers) -> Reply:
        return replace(self, headers=self.headers + headers)


def json_reply(value: Any, status: int = 200) -> Reply:
    """A reply with a JSON body."""
    return Reply(status=status, body=msgspec.json.encode(value))
