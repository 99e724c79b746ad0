"""On a real socket: framing, and everything that can break between two machines."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from runner.simulator import Fault, RunningServer, expected_message
from tests.simulator.calls import HEADERS, body, events_of
from tests.simulator.conftest import Start
from tests.turned_clock import TurnedClock

pytestmark = pytest.mark.anyio


async def raw(server: RunningServer, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Send bytes as they are; everything that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        return await reader.read()
    finally:
        writer.close()


def head(path: str = "/v1/messages", **more: str) -> bytes:
    fields = HEADERS | {"host": "x", "connection": "close"} | {k.replace("_", "-"): v for k, v in more.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode()


async def test_a_plain_call_over_the_socket(start: Start) -> None:
    server, client = await start(seed=3)
    reply = await client.post("/v1/messages?beta=true", content=body())
    assert reply.json() == expected_message(server.simulator.config, body())
    assert reply.headers["request-id"].startswith("req_")
    assert reply.headers["anthropic-organization-id"] == server.simulator.config.organization_id
    assert reply.headers["anthropic-workspace-id"].startswith("wrkspc_")


async def test_the_date_comes_from_the_clock(start: Start, clock: TurnedClock) -> None:
    _, client = await start(clock)
    reply = await client.get("/v1/models")
    assert reply.headers["date"] == "Sat, 21 Nov 2026 10:00:00 GMT"


async def test_a_connection_serves_many_calls(start: Start) -> None:
    server, client = await start()
    for number in range(20):
        assert (await client.post("/v1/messages", content=body(str(number)))).status_code == 200
    assert len(server._connections) == 1


async def test_a_stream_builds_the_expected_message(start: Start) -> None:
    server, client = await start()
    told = body("[[sim:tokens=60]]", stream=True)
    reply = await client.post("/v1/messages", content=told)
    events = events_of(reply.text)
    assert reply.headers["content-type"].startswith("text/event-stream")
    names = [name for name, _ in events if name != "ping"]
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert all(name == data["type"] for name, data in events)
    text = "".join(data["delta"]["text"] for name, data in events if name == "content_block_delta")
    expected = expected_message(server.simulator.config, told)
    assert [{"type": "text", "text": text, "citations": None}] == expected["content"]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_bodies_may_come_chunked_and_in_any_pieces(start: Start, size: int) -> None:
    server, _ = await start()
    told = body("chunk by chunk")
    chunks = b"".join(b"%x;x=y\r\n%b\r\n" % (len(part), part) for part in _parts(told, 50))
    sent = head(transfer_encoding="chunked") + chunks + b"0\r\ntrailer: t\r\n\r\n"
    answer = await raw(server, *_parts(sent, size))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == expected_message(server.simulator.config, told)


def _parts(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def test_two_requests_in_one_packet_are_answered_in_order(start: Start) -> None:
    server, _ = await start()
    told = [body(text) for text in ("first", "second")]
    packet = b"".join(
        head(content_length=str(len(one)), connection=kind) + one
        for one, kind in zip(told, ("keep-alive", "close"), strict=True)
    )
    answer = await raw(server, packet)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b"first") < answer.index(b"second")


async def test_a_client_that_expects_continue_gets_it(start: Start) -> None:
    server, _ = await start()
    answer = await raw(server, head(content_length=str(len(body())), expect="100-continue"), body(), pause_s=0.01)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", head(content_length="many"), b"x" * 70_000])
async def test_what_is_no_http_gets_a_400_and_the_door(start: Start, sent: bytes) -> None:
    server, _ = await start()
    assert (await raw(server, sent)).startswith(b"HTTP/1.1 400")


async def test_a_body_above_32_mb_meets_the_edge(start: Start) -> None:
    _, client = await start()
    reply = await client.post("/v1/messages", content=b"x" * 32_000_001)
    assert reply.status_code == 413
    assert "request-id" not in reply.headers
    assert reply.text.startswith("<html>")
    assert reply.headers["connection"] == "close"


async def test_latency_is_slept_on_the_clock_and_zero_costs_no_sleep(start: Start, clock: TurnedClock) -> None:
    _, client = await start(clock, latency_s=30, latency_jitter_s=10)
    async with clock.autojump():
        await client.post("/v1/messages", content=body(), timeout=5)
    assert 20 <= clock.monotonic() <= 40
    other = TurnedClock()
    _, client = await start(other)
    await client.post("/v1/messages", content=body(), timeout=5)
    assert other.monotonic() == 0


# -- faults


async def test_a_reset_comes_before_any_byte(start: Start) -> None:
    server, client = await start(faults=(Fault(kind="reset", first=1), Fault(kind="executed_reset", first=2)))
    for _ in range(2):
        with pytest.raises(httpx.ReadError):
            await client.post("/v1/messages", content=body())
    assert [charge.wire for charge in server.simulator.ledger.charges] == ["reset"]
    assert (await client.post("/v1/messages", content=body())).status_code == 200


@pytest.mark.parametrize("framing", ["content-length", "chunked", "close"])
async def test_a_reset_in_the_middle_of_the_body(start: Start, framing: str) -> None:
    server, client = await start(faults=(Fault(kind="reset_half", framing=framing),))
    with pytest.raises(httpx.ReadError):
        await client.post("/v1/messages", content=body())
    assert server.simulator.ledger.charges[0].wire == "reset"


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
async def test_a_body_cut_short_breaks_its_framing(start: Start, framing: str) -> None:
    server, client = await start(faults=(Fault(kind="cut_body", framing=framing),))
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/v1/messages", content=body())
    assert server.simulator.ledger.charges[0].wire == "cut"


async def test_a_body_cut_under_close_framing_looks_whole_but_is_no_json(start: Start) -> None:
    _, client = await start(faults=(Fault(kind="cut_body", framing="close"),))
    reply = await client.post("/v1/messages", content=body())
    assert reply.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        reply.json()


async def test_a_stall_lasts_until_the_client_gives_up_and_is_billed(start: Start) -> None:
    server, client = await start(faults=(Fault(kind="stall"),))
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/v1/messages", content=body(), timeout=0.05)
    await _until(lambda: server.simulator.ledger.charges[0].wire == "stalled")


async def test_a_held_call_is_billed_and_answered_once_the_faults_are_replaced(start: Start) -> None:
    server, client = await start(faults=(Fault(kind="held", first=1),))
    waiting = asyncio.ensure_future(client.post("/v1/messages", content=body("held")))
    await _until(lambda: len(server.simulator.ledger.charges) == 1)
    assert (await client.post("/v1/messages", content=body("another"))).status_code == 200
    assert not waiting.done()
    await client.post("/_simulator/faults", content=b"[]")
    assert (await waiting).json() == expected_message(server.simulator.config, body("held"))
    assert [charge.wire for charge in server.simulator.ledger.charges] == ["delivered", "delivered"]


async def test_a_drip_sends_a_byte_at_a_time(start: Start, clock: TurnedClock) -> None:
    server, client = await start(clock, faults=(Fault(kind="drip", every_s=2),))
    async with clock.autojump(silence_s=0.001):
        reply = await client.post("/v1/messages", content=body(), timeout=30)
    assert reply.json() == expected_message(server.simulator.config, body())
    assert clock.monotonic() >= 2 * (len(reply.content) - 1)


async def test_a_truncated_stream_ends_cleanly_without_message_stop(start: Start) -> None:
    server, client = await start(faults=(Fault(kind="truncated_sse", at="last"),))
    reply = await client.post("/v1/messages", content=body(stream=True))
    assert events_of(reply.text)[-1][0] == "message_delta"
    assert server.simulator.ledger.charges[0].wire == "cut"


async def test_a_client_that_leaves_in_mid_call_is_billed(start: Start) -> None:
    server, client = await start(latency_s=60)
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/v1/messages", content=body(), timeout=0.05)
    await _until(lambda: server.simulator.ledger.charges[0].wire == "disconnected")


async def test_closing_ends_what_is_under_way(start: Start) -> None:
    server, client = await start(latency_s=60)
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(_failed(client))
        await _until(lambda: bool(server.simulator.ledger.charges))
        await server.close()
    assert isinstance(call.result(), httpx.TransportError)
    assert server.simulator.ledger.charges[0].wire == "disconnected"


async def _failed(client: httpx.AsyncClient) -> httpx.TransportError | None:
    try:
        await client.post("/v1/messages", content=body())
    except httpx.TransportError as error:
        return error
    return None


async def _until(holds: object, seconds: float = 5.0) -> None:
    assert callable(holds)
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.001)
