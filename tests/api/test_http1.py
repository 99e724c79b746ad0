"""Laws of requests and replies as bytes. Requests are read back by another implementation."""

from __future__ import annotations

from collections.abc import Sequence

import h11
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.api.http1 import MAX_HEAD_BYTES, Frame, ReplyReader, head_bytes

NAMES = st.from_regex(rb"x-[a-z0-9-]{1,12}", fullmatch=True)
VALUES = st.binary(max_size=40).map(lambda data: bytes(byte for byte in data if 0x21 <= byte < 0x7F))
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
PIECES = st.lists(st.binary(min_size=1, max_size=60), max_size=6)


def read(data: bytes, cuts: Sequence[int] = (), *, ends: bool = False) -> tuple[ReplyReader, bytes]:
    """A reader that was fed these bytes in pieces, and the body that it gave."""
    reader, body, last = ReplyReader(), b"", 0
    for cut in [*sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]:
        reader.feed(data[last:cut])
        body, last = body + reader.take(), cut
    if ends:
        reader.feed(b"")
    return reader, body


def chunked(pieces: Sequence[bytes], trailer: bytes = b"") -> bytes:
    frame = Frame([(b"Transfer-Encoding", b"chunked")])
    return b"".join(map(frame.piece, pieces)) + frame.end().removesuffix(b"\r\n") + trailer + b"\r\n"


@given(
    framing=st.sampled_from(["length", "chunks", "connection"]),
    status=st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    headers=HEADERS,
    pieces=PIECES,
    cuts=st.lists(st.integers(0, 900), max_size=12),
)
def test_a_reply_reads_the_same_however_it_is_cut(
    framing: str, status: int, headers: list[tuple[bytes, bytes]], pieces: list[bytes], cuts: list[int]
) -> None:
    body = b"".join(pieces)
    frame = {"length": b"Content-Length: %d\r\n" % len(body), "chunks": b"Transfer-Encoding: chunked\r\n"}
    head = b"".join(b"%b: %b \r\n" % header for header in headers) + frame.get(framing, b"")
    sent = chunked(pieces, b"x-trailer: told late\r\n") if framing == "chunks" else body
    reader, found = read(b"HTTP/1.1 %d Well\r\n%b\r\n%b" % (status, head, sent), cuts, ends=framing == "connection")
    assert reader.head is not None
    assert (reader.head.status, reader.head.reason, found) == (status, b"Well", body)
    assert reader.head.headers[: len(headers)] == headers
    assert len(reader.head.headers) == len(headers) + (framing != "connection"), "a trailer is no header"
    assert reader.is_whole
    assert reader.is_last is (framing == "connection")


@given(headers=HEADERS, pieces=PIECES, streamed=st.booleans())
def test_another_implementation_reads_the_request_that_was_written(
    headers: list[tuple[bytes, bytes]], pieces: list[bytes], streamed: bool
) -> None:
    length = (b"Content-Length", b"%d" % sum(map(len, pieces)))
    told = [(b"Host", b"a.example"), *headers, (b"Transfer-Encoding", b"chunked") if streamed else length]
    frame = Frame(told)
    server = h11.Connection(h11.SERVER)
    server.receive_data(head_bytes("POST", b"/v1/messages?a=b", told))
    server.receive_data(b"".join(map(frame.piece, pieces)) + frame.end())
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (b"POST", b"/v1/messages?a=b")
    assert list(request.headers) == [(name.lower(), value) for name, value in told]
    body = b""
    while isinstance(event := server.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert body == b"".join(pieces)


@pytest.mark.parametrize(
    "header",
    [(b"x-a", b"1\r\nx-b: 2"), (b"x-a", b"1\nx"), (b"x-a", b"\x00"), (b"x a", b"1"), (b"x-a:", b"1"), (b"", b"1"),
     (b"x-a\r\nx-b", b"1"), (b"x-a", b" 1"), (b"x-a", b"1 ")],
)  # fmt: skip
def test_a_header_that_could_be_read_as_two_is_not_sent(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        head_bytes("POST", b"/", [header])


@pytest.mark.parametrize(
    ("method", "target"),
    [("POST /x HTTP/1.1\r\nx: y", b"/"), ("POST", b"/ HTTP/1.1\r\nx: y"), ("POST", b""), ("HEAD", b"/"), ("", b"/")],
)
def test_a_request_line_that_could_be_read_as_another_is_not_sent(method: str, target: bytes) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        head_bytes(method, target, [])


@pytest.mark.parametrize("sent", [b"12", b"1234"])
def test_a_body_of_another_length_than_was_told_is_an_error(sent: bytes) -> None:
    frame = Frame([(b"content-length", b"3")])
    with pytest.raises(httpx.LocalProtocolError, match="content-length"):
        _ = frame.piece(sent) + frame.end()


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("before", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" * 3])
def test_what_comes_on_the_way_to_the_reply_is_not_the_reply(before: bytes) -> None:
    reader, body = read(before + GOOD, range(200))
    assert reader.head is not None
    assert (reader.head.status, reader.head.reason, reader.head.headers) == (200, b"OK", [(b"Content-Length", b"2")])
    assert (body, reader.is_last) == (b"ok", False)


@pytest.mark.parametrize("after", [GOOD, b"HTTP/1.1 200 OK\r\n", b"H", b"what is this?"])
@pytest.mark.parametrize("cut", [0, len(GOOD)])
def test_more_than_was_asked_for_ends_the_connection_but_spoils_no_reply(after: bytes, cut: int) -> None:
    reader, body = read(GOOD + after, [cut])
    assert (body, reader.is_whole, reader.is_last) == (b"ok", True, True)
    assert reader.head is not None
    assert reader.head.headers == [(b"Content-Length", b"2")]


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
     b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"],
)  # fmt: skip
def test_a_server_that_says_so_ends_the_connection(data: bytes) -> None:
    reader, body = read(data)
    assert (body, reader.is_whole, reader.is_last) == (b"ok", True, True)


@pytest.mark.parametrize("status", [204, 304])
def test_some_replies_have_no_body_whatever_they_say(status: int) -> None:
    reader, body = read(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status)
    assert (body, reader.is_whole, reader.is_last) == (b"", True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"no HTTP at all\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 1_000) * 70,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3_000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (MAX_HEAD_BYTES + 1_000),
    ],
)
def test_what_cannot_be_a_reply_is_an_error(data: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        read(data, range(0, len(data), 5_000))


@pytest.mark.parametrize("length", [1, 20, len(GOOD) - 2, len(GOOD) - 1])
def test_an_end_before_the_end_is_an_error(length: int) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="hung up"):
        read(GOOD[:length], ends=True)


def test_a_long_body_in_small_chunks_is_no_long_head() -> None:
    reader, body = read(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked([b"x"] * 50_000), range(0, 900_000, 4_096)
    )
    assert (len(body), reader.is_whole) == (50_000, True)
