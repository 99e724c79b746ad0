"""HTTP/1.1 from bytes to requests: just enough for a well-meaning client, and fast.

Bodies by content-length or chunked. It knows no API and no sockets; `server` feeds it and asks for whole requests.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from runner.simulator.exchange import Request

MAX_HEAD_BYTES = 65_536
_END = b"\r\n\r\n"


class BadHttp(Exception):
    """The bytes are not HTTP/1.1; the connection cannot go on."""


class RequestReader:
    """Bytes in by `feed`, requests out by `take`. A body above its limit is read and thrown away."""

    def __init__(self, body_limit: Callable[[str], int]) -> None:
        self._body_limit = body_limit
        self._buffer = bytearray()
        self._head: _Head | None = None

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take_expectation(self) -> bool:
        """True once per request that waits for `100 Continue` before its body."""
        head = self._head
        if head is None or not head.expects_continue:
            return False
        head.expects_continue = False
        return True

    def take(self) -> Request | None:
        """The next request, if it is whole."""
        if self._head is None:
            self._head = self._read_head()
            if self._head is None:
                return None
        head = self._head
        whole = self._read_chunks(head) if head.chunked else self._read_length(head)
        if not whole:
            return None
        self._head = None
        return head.request()

    def _read_head(self) -> _Head | None:
        end = self._buffer.find(_END)
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadHttp("head too long")
            return None
        text = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 4]
        return _Head(text, self._body_limit)

    def _read_length(self, head: _Head) -> bool:
        if head.missing:
            part = bytes(self._buffer[: head.missing])
            del self._buffer[: head.missing]
            head.missing -= len(part)
            head.keep(part)
        return head.missing == 0

    def _read_chunks(self, head: _Head) -> bool:
        """Take whole chunks; done after the last one and its trailers."""
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size = _hex(self._buffer[:end].split(b";")[0])
            if size == 0:
                return self._skip_trailers(end)
            if len(self._buffer) < end + size + 4:
                return False
            head.keep(bytes(self._buffer[end + 2 : end + 2 + size]))
            del self._buffer[: end + size + 4]
        return False

    def _skip_trailers(self, start: int) -> bool:
        end = self._buffer.find(_END, start)
        if end < 0:
            return False
        del self._buffer[: end + 4]
        return True


class _Head:
    """The head of a request whose body is still coming."""

    def __init__(self, text: str, body_limit: Callable[[str], int]) -> None:
        line, *fields = text.split("\r\n")
        parts = line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise BadHttp("not a request line")
        self.method = parts[0]
        self.path, _, self.query = parts[1].partition("?")
        self.headers = _headers(fields)
        if parts[2] == "HTTP/1.0":
            self.headers.setdefault("connection", "close")
        self.chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        self.missing = 0 if self.chunked else _length(self.headers.get("content-length", "0"))
        self.expects_continue = self.headers.get("expect", "").lower() == "100-continue"
        self._limit = body_limit(self.path)
        self._size = 0
        self._parts = BytesIO()  # hands out its bytes without a second copy

    def keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._limit:
            self._parts.write(part)
        else:
            self._parts = BytesIO()

    def request(self) -> Request:
        return Request(
            method=self.method,
            path=self.path,
            query=self.query,
            headers=self.headers,
            body=self._parts.getvalue(),
            body_too_large=self._size > self._limit,
        )


def _headers(fields: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon:
            raise BadHttp("not a header line")
        key, text = name.lower(), value.strip()
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers


def _length(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise BadHttp("content-length is not a number")
    return int(text)


def _hex(text: bytes | bytearray) -> int:
    try:
        return int(text, 16)
    except ValueError as error:
        raise BadHttp("chunk size is not a number") from error
