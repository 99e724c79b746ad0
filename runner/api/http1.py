"""HTTP/1.1 in bytes: the head of a request, the frame of its body, and the replies of one connection.

Knows no sockets and nothing of what is asked. Replies are parsed strictly: one that two readers could understand in
two ways is an error, and the connection that brought it is done for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from msgspec import Struct

# Bytes without an event in them, a head or trailers: beyond this they are no API's.
MAX_HEAD_BYTES = 64 * 1024

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110
_TARGET = re.compile(rb"[!-~]+")
_VALUE = re.compile(rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?")
# A reply to these has no body, whatever its head says; nobody here asks so.
_WITHOUT_BODY = {b"HEAD", b"CONNECT"}


# --- requests


def head_bytes(method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head of a request. Raises httpx.LocalProtocolError for a line of it that could be read as two."""
    return b"".join((_request_line(method, target), *[_header_line(*header) for header in headers], b"\r\n"))


# Lines are kept, since those of a run's calls differ in little but the length of the body.


@lru_cache(maxsize=500)
def _request_line(method: str, target: bytes) -> bytes:
    told = method.encode("latin-1", "replace")
    if not _TOKEN.fullmatch(told) or told in _WITHOUT_BODY or not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError(f"{method} to {target!r} cannot be sent")
    return b"%b %b HTTP/1.1\r\n" % (told, target)


@lru_cache(maxsize=2_000)
def _header_line(name: bytes, value: bytes) -> bytes:
    if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
        raise httpx.LocalProtocolError(f"the header {name.decode('latin-1')!r} cannot be sent")
    return b"%b: %b\r\n" % (name, value)


class Frame:
    """What the head has promised of the body: so many bytes, or chunks. Raises httpx.LocalProtocolError where the
    body keeps no such promise: the server would take what is too much for another request."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        told = {name.lower(): value for name, value in headers}
        self._chunked = b"transfer-encoding" in told
        self._left = 0 if self._chunked else int(told.get(b"content-length", b"0"))

    def piece(self, data: bytes) -> bytes:
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._left -= len(data)
        if self._left < 0:
            raise httpx.LocalProtocolError("the body is longer than its content-length")
        return data

    def end(self) -> bytes:
        if self._left:
            raise httpx.LocalProtocolError(f"the body is {self._left} bytes shorter than its content-length")
        return b"0\r\n\r\n" if self._chunked else b""


# --- replies


class Reply(Struct, frozen=True):
    """The head of a reply."""

    status: int
    version: bytes
    reason: bytes
    headers: list[tuple[bytes, bytes]]

    def is_framed(self) -> bool:
        """Whether the reply itself says where it ends; if not, the end of the connection does."""
        told = {name.lower(): value.lower() for name, value in self.headers}
        return b"content-length" in told or told.get(b"transfer-encoding", b"").endswith(b"chunked")


class ReplyReader:
    """The reply to one request after another. `head` is there once it is whole; `is_last` says that the connection
    ends with this reply, or that more came than was asked for."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.next()

    def next(self) -> None:
        """Make ready for the reply to the next request."""
        self.head: Reply | None = None
        self.is_whole = False
        self.is_last = False
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._uneventful = 0
        self._has_event = False

    def take(self) -> bytes:
        """What has come of the body since."""
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces.pop()
        self._pieces = []
        return b"".join(pieces)

    def feed(self, data: bytes) -> None:
        """What the connection brought, b"" for its end. Raises httpx.RemoteProtocolError."""
        if not data:
            self._end()
            return
        self._has_event = False
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as error:
            raise httpx.RemoteProtocolError("the server speaks another protocol all of a sudden") from error
        except HttpParserError as error:
            if not self.is_whole:
                raise httpx.RemoteProtocolError(f"what the server sent is no HTTP: {error}") from error
            self.is_last = True
        self._uneventful = 0 if self._has_event else self._uneventful + len(data)
        if self._uneventful > MAX_HEAD_BYTES:
            raise httpx.RemoteProtocolError(f"more than {MAX_HEAD_BYTES} bytes of headers")

    def _end(self) -> None:
        if self.head is None:
            raise httpx.RemoteProtocolError("the server hung up without a reply")
        if not self.is_whole and self.head.is_framed():
            raise httpx.RemoteProtocolError("the server hung up in the middle of its reply")
        self.is_whole = self.is_last = True

    # --- what the parser tells

    def on_message_begin(self) -> None:
        if self.is_whole:
            self.is_last = True  # nobody asked for it

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:  # else it is a trailer
            self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.is_whole:
            return
        if status < httpx.codes.OK:  # on the way to the reply, not the reply
            self._reason, self._headers = b"", []
            return
        self.head = Reply(status, self._parser.get_http_version().encode(), self._reason, self._headers)
        self._has_event = True

    def on_body(self, body: bytes) -> None:
        if not self.is_whole:
            self._pieces.append(body)
        self._has_event = True

    def on_message_complete(self) -> None:
        if self.head is not None and not self.is_whole:
            self.is_whole = self._has_event = True
            self.is_last = not self._parser.should_keep_alive()
