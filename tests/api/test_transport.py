"""What the transport promises of connections: reuse, replacement, honest errors, nothing left open."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest

from runner.api import exchange
from runner.api.transport import Journey, PooledTransport, make_transport
from runner.errors import UsageInvalid
from tests.api.scripted import Wire, always, once, open_connections, reply, served
from tests.turned_clock import TurnedClock

pytestmark = pytest.mark.anyio

LIMITS = {"timeout": {"connect": 2.0, "read": 2.0, "write": 2.0, "pool": 2.0}}


async def ask(
    http: PooledTransport, url: str, body: bytes | AsyncIterator[bytes] = b"{}", **headers: str
) -> tuple[int, bytes]:
    request = httpx.Request("POST", url + "/v1/x", content=body, headers=headers, extensions=dict(LIMITS))
    response = await http.handle_async_request(request)
    try:
        return response.status_code, await response.aread()
    finally:
        await response.aclose()


def impatient(**limits: float) -> dict[str, dict[str, float]]:
    return {"timeout": {**LIMITS["timeout"], **limits}}


async def send(http: PooledTransport, url: str, body: bytes = b"{}", **limits: float) -> httpx.Response:
    return await http.handle_async_request(
        httpx.Request("POST", url + "/v1/x", content=body, extensions=impatient(**limits))
    )


async def test_a_finished_connection_carries_the_next_request() -> None:
    async with served(always(reply(b"{}"))) as server, PooledTransport() as http:
        for _ in range(5):
            assert await ask(http, server.url) == (200, b"{}")
        assert (server.connections, len(server.requests), open_connections(http)) == (1, 5, 1)


async def test_the_connection_used_last_is_the_next_one_taken() -> None:
    async with served(always(reply(b"{}"))) as server, PooledTransport() as http:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(ask, http, server.url)
        opened = server.connections
        top = next(iter(http._kept.values()))[-1]
        await ask(http, server.url)
        assert next(iter(http._kept.values()))[-1] is top
        assert server.connections == opened


@pytest.mark.parametrize("rude", [False, True], ids=["closed", "reset"])
async def test_a_connection_that_died_while_idle_is_replaced_before_anything_is_sent(rude: bool) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(reply(b"{}"))
        if rude:
            wire.reset()

    async with served(script) as server, PooledTransport() as http:
        await ask(http, server.url)
        await anyio.sleep(0.05)
        assert await ask(http, server.url) == (200, b"{}")
        assert (server.connections, len(server.requests)) == (2, 2)


async def test_a_hangup_that_the_event_loop_has_not_seen_yet_is_noticed_too() -> None:
    hang_up = threading.Event()
    seen: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        for _ in range(2):
            raw, _ = listening.accept()
            with raw:
                seen.append(raw.recv(65536))
                raw.sendall(reply(b"{}"))
                hang_up.wait(5)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve, args=(listening,))
        server.start()
        async with PooledTransport(env={}) as http:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            await ask(http, url)
            hang_up.set()
            time.sleep(0.1)  # the event loop stands still
            assert await ask(http, url) == (200, b"{}")
        server.join()
    assert len(seen) == 2


async def test_a_connection_that_speaks_unasked_is_not_used_again() -> None:
    async def script(wire: Wire) -> None:
        while await wire.request():
            await wire.send(reply(b"{}") + reply(b"smuggled"))

    async with served(script) as server, PooledTransport() as http:
        assert [await ask(http, server.url) for _ in range(2)] == [(200, b"{}")] * 2
        assert server.connections == 2


async def test_connection_close_is_honoured() -> None:
    async with served(always(reply(b"{}", headers={"connection": "close"}))) as server, PooledTransport() as http:
        await ask(http, server.url)
        assert open_connections(http) == 0
        await ask(http, server.url)
        assert server.connections == 2


async def test_idle_connections_expire() -> None:
    clock = TurnedClock()
    async with served(always(reply(b"{}"))) as server, PooledTransport(keepalive_expiry_s=30, clock=clock) as http:
        await ask(http, server.url)
        await clock.advance(29)
        await ask(http, server.url)
        assert server.connections == 1
        await clock.advance(31)
        await ask(http, server.url)
        assert (server.connections, open_connections(http)) == (2, 1)


async def test_what_a_busy_hour_opened_is_closed_again() -> None:
    clock = TurnedClock()
    async with served(always(reply(b"{}"))) as server, PooledTransport(keepalive_expiry_s=30, clock=clock) as http:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(ask, http, server.url)
        assert open_connections(http) == server.connections > 1
        for _ in range(4):
            await clock.advance(10)
            await ask(http, server.url)
        assert open_connections(http) == 1


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
CLOSE_FRAMED = b"HTTP/1.1 200 OK\r\n\r\nabcde"
OLD = b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nabcde"
HINTED = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + reply(b"abcde")


@pytest.mark.parametrize("data", [CHUNKED, CLOSE_FRAMED, OLD, HINTED], ids=["chunked", "close", "1.0", "1xx"])
async def test_every_framing_is_read(data: bytes) -> None:
    async with served(once(data)) as server, PooledTransport() as http:
        assert await ask(http, server.url) == (200, b"abcde")


HALF = reply(b'{"a":', headers={"content-length": "100"})
HALF_CHUNK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n50\r\nabc"


@pytest.mark.parametrize(
    ("data", "reset", "error"),
    [
        (b"", False, httpx.RemoteProtocolError),
        (b"", True, httpx.ReadError),
        (b"HTTP/1.1 200", False, httpx.RemoteProtocolError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False, httpx.RemoteProtocolError),
        (HALF, False, httpx.RemoteProtocolError),
        (HALF, True, httpx.ReadError),
        (HALF_CHUNK, False, httpx.RemoteProtocolError),
        (HALF_CHUNK, True, httpx.ReadError),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, False, httpx.RemoteProtocolError),
    ],
    ids=["silence", "rst", "half head", "not http", "half", "half+rst", "half chunk", "half chunk+rst", "huge head"],
)
async def test_a_broken_reply_raises_what_httpx_raises(data: bytes, reset: bool, error: type[Exception]) -> None:
    async with served(once(data, reset=reset)) as server, PooledTransport() as http:
        with pytest.raises(error):
            await ask(http, server.url)
        assert open_connections(http) == 0


async def test_a_refused_connection_is_a_connect_error() -> None:
    async with served(always(b"")) as server:
        url = server.url
    journey = Journey(billable=True)
    async with PooledTransport() as http:
        with pytest.raises(httpx.ConnectError, match="cannot connect to"):
            await http.handle_async_request(httpx.Request("GET", url, extensions={**LIMITS, "journey": journey}))
    assert journey.sent is False


async def test_an_unknown_name_is_a_connect_error() -> None:
    async with PooledTransport() as http:
        with pytest.raises(httpx.ConnectError):
            await send(http, "http://nowhere.invalid")


async def silent(wire: Wire) -> None:
    await wire.reader.read()


async def test_a_handshake_that_is_never_answered_is_a_connect_timeout() -> None:
    async with served(silent) as server, PooledTransport() as http:
        with pytest.raises(httpx.ConnectTimeout):
            await send(http, server.url.replace("http:", "https:"), connect=0.2)
        assert open_connections(http) == 0


async def test_a_server_that_never_answers_is_a_read_timeout() -> None:
    async with served(silent) as server, PooledTransport() as http:
        with pytest.raises(httpx.ReadTimeout):
            await send(http, server.url, read=0.2)
        assert open_connections(http) == 0


async def test_a_server_that_never_reads_is_a_write_timeout() -> None:
    async def script(wire: Wire) -> None:
        await anyio.sleep(10)

    async with served(script, limit=1) as server, PooledTransport() as http:
        with pytest.raises(httpx.WriteTimeout):
            await send(http, server.url, b"x" * 30_000_000, write=0.3)


async def in_pieces(total: int, piece: int = 100_000) -> AsyncIterator[bytes]:
    for _ in range(total // piece):
        yield b"x" * piece


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_large_body_arrives_whole(streamed: bool) -> None:
    size = 5_000_000
    async with served(always(reply(b"{}"))) as server, PooledTransport() as http:
        for _ in range(2):
            body = in_pieces(size) if streamed else b"x" * size
            assert await ask(http, server.url, body, **{"content-length": str(size)}) == (200, b"{}")
        assert [len(seen.body) for seen in server.requests] == [size, size]
        assert server.connections == 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("size", [50_000, 30_000_000])
async def test_an_early_413_is_read_as_a_reply(streamed: bool, size: int) -> None:
    async def edge(wire: Wire) -> None:
        await wire.head()
        await wire.send(reply(b"<html>too large</html>", status=413, headers={"connection": "close"}))
        await wire.reader.read(1000)

    async with served(edge) as server, PooledTransport() as http:
        body = in_pieces(size, 50_000) if streamed else b"x" * size
        status, told = await ask(http, server.url, body, **{"content-length": str(size)})
        assert (status, told) == (413, b"<html>too large</html>")
        assert open_connections(http) == 0


async def test_a_server_that_hangs_up_during_the_upload_is_a_write_error() -> None:
    async def script(wire: Wire) -> None:
        await wire.head()
        wire.reset()

    async with served(script) as server, PooledTransport() as http:
        with pytest.raises(httpx.WriteError):
            await send(http, server.url, b"x" * 30_000_000)


async def test_a_body_shorter_than_its_length_is_our_own_error() -> None:
    async with served(always(reply(b"{}"))) as server, PooledTransport() as http:
        with pytest.raises(httpx.LocalProtocolError):
            await ask(http, server.url, in_pieces(100_000), **{"content-length": "200000"})
        assert open_connections(http) == 0


async def test_a_fault_of_the_body_itself_comes_out_as_it_is() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError("the spool file is gone")

    async with served(always(reply(b"{}"))) as server, PooledTransport() as http:
        with pytest.raises(OSError, match="spool"):
            await ask(http, server.url, broken(), **{"content-length": "200"})


async def test_a_body_left_unread_closes_its_connection() -> None:
    async with served(always(reply(b"x" * 500_000))) as server, PooledTransport() as http:
        response = await send(http, server.url)
        await response.aclose()
        assert open_connections(http) == 0


async def test_closing_the_transport_closes_busy_connections_too() -> None:
    async with served(silent) as server:
        http = PooledTransport()

        async def call() -> None:
            with pytest.raises(httpx.TransportError):
                await ask(http, server.url)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.sleep(0.1)
            await http.aclose()
        assert open_connections(http) == 0


async def test_tls_is_verified_and_kept_alive(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with served(always(reply(b"{}")), ssl=context) as server:
        async with PooledTransport(env={"SSL_CERT_FILE": str(cert)}) as http:
            for _ in range(3):
                assert await ask(http, server.url) == (200, b"{}")
            size = 3_000_000
            assert await ask(http, server.url, b"x" * size) == (200, b"{}")
            assert server.connections == 1
        async with PooledTransport(env={}) as http:
            with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
                await ask(http, server.url)


async def test_the_places_where_a_test_may_kill_are_met_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[str] = []
    monkeypatch.setattr(exchange, "failpoint", lambda point: met.append(str(point)))
    async with served(always(reply(b"{}"))) as server, PooledTransport() as http:
        await ask(http, server.url)
        assert met == []
        for size in (2, 200_000):
            extensions = {**LIMITS, "journey": Journey(billable=True)}
            request = httpx.Request("POST", server.url, content=b"x" * size, extensions=extensions)
            await (await http.handle_async_request(request)).aread()
    assert met == ["send.before", "send.after", "reply.first_byte"] * 2


async def test_socket_options_are_set() -> None:
    async with served(always(reply(b"{}"))) as server, PooledTransport() as http:
        await ask(http, server.url)
        channel = next(iter(http._kept.values()))[0]
        raw = channel._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("env", "url", "stock"),
    [
        ({}, "https://api.anthropic.com", False),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://api.anthropic.com", True),
        ({"https_proxy": "proxy:3128"}, "https://api.anthropic.com", True),
        ({"ALL_PROXY": "http://proxy:3128"}, "https://api.anthropic.com", True),
        ({"HTTP_PROXY": "http://proxy:3128"}, "https://api.anthropic.com", False),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "anthropic.com"}, "https://api.anthropic.com", False),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, "https://api.anthropic.com", False),
        ({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "example.com"}, "https://api.anthropic.com", True),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://127.0.0.1:8080", False),
        ({"HTTPS_PROXY": ""}, "https://api.anthropic.com", False),
    ],
)
async def test_a_proxy_brings_the_stock_transport(env: dict[str, str], url: str, stock: bool) -> None:
    async with make_transport(url, 64, env) as http:
        assert isinstance(http, httpx.AsyncHTTPTransport) is stock
        assert isinstance(http, PooledTransport) is not stock


async def test_an_unusable_proxy_is_named() -> None:
    with pytest.raises(UsageInvalid, match="proxy"):
        make_transport("https://api.anthropic.com", 4, {"HTTPS_PROXY": "gopher://proxy"})


async def test_many_slots_share_the_loop_without_deadlock() -> None:
    async with served(always(reply(b"{}")), backlog=512) as server, PooledTransport() as http:
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(ask, http, server.url)
        assert len(server.requests) == 200
        await asyncio.sleep(0)
