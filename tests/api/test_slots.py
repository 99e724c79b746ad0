"""What the slots may count on: whatever servers do and whoever cancels, a call ends, and it leaves nothing open."""

from __future__ import annotations

import random
import time
from pathlib import Path

import anyio
import pytest

from runner.api.client import Client
from runner.api.transport import PooledTransport
from runner.domain.outcome import Answer, Failure, FailureKind, Outcome
from tests.api.scripted import MESSAGE, Script, Served, Wire, asked, connection, open_connections, reply, served
from tests.api.test_client import events
from tests.api.test_sse import WHOLE, told

pytestmark = pytest.mark.anyio

SLOTS = 50
ROW_TIMEOUT_S = 0.4
WHOLE_REPLY = reply(MESSAGE)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def until_nothing_is_open(server: Served) -> None:
    """The server's side has seen the end of each connection."""
    with anyio.fail_after(5):
        while server.open:
            await anyio.sleep(0.01)


@pytest.mark.timeout(300)
async def test_ten_thousand_calls_of_which_a_third_are_canceled_leave_nothing_open() -> None:
    chance = random.Random(7)

    async def script(wire: Wire) -> None:
        while await wire.request():
            cut = chance.randrange(len(WHOLE_REPLY))
            await wire.send(WHOLE_REPLY[:cut])
            await anyio.sleep(chance.random() * 0.004)
            await wire.send(WHOLE_REPLY[cut:])

    left = iter(range(10_000))
    outcomes: list[Outcome] = []
    canceled = 0

    async def slot(client: Client) -> None:
        nonlocal canceled
        for number in left:
            patience_s = chance.random() * 0.01 if number % 10 < 3 else 60
            with anyio.move_on_after(patience_s) as scope:
                outcomes.append(await client.messages(asked()))
            canceled += scope.cancelled_caught

    async with served(script, backlog=SLOTS) as server:
        before = open_files()
        http = PooledTransport(env={})
        async with Client(connection(server.url), http) as client:
            async with anyio.create_task_group() as pool:
                for _ in range(SLOTS):
                    pool.start_soon(slot, client)
            assert not http._busy
            assert open_connections(http) <= SLOTS
        assert open_connections(http) == 0
        await until_nothing_is_open(server)
        assert open_files() <= before
    assert len(outcomes) + canceled == 10_000
    assert canceled > 1_500
    assert all(isinstance(outcome, Answer) for outcome in outcomes)


async def silent(wire: Wire) -> None:
    await wire.reader.read()


async def dripping(wire: Wire, data: bytes) -> None:
    await wire.request()
    for place in range(len(data)):
        await wire.send(data[place : place + 1])
        await anyio.sleep(ROW_TIMEOUT_S / 30)  # a byte in 20 s, where a call may take ten minutes


async def dripping_head(wire: Wire) -> None:
    await dripping(wire, WHOLE_REPLY)


async def dripping_body(wire: Wire) -> None:
    head, _, body = WHOLE_REPLY.partition(b"\r\n\r\n")
    await wire.request()
    await wire.send(head + b"\r\n\r\n")
    await dripping(wire, body)


async def dripping_events(wire: Wire) -> None:
    await dripping(wire, events(told(WHOLE)))


async def reading_nothing(wire: Wire) -> None:
    await anyio.sleep(ROW_TIMEOUT_S + 1)


async def cut_body(wire: Wire) -> None:
    await wire.request()
    await wire.send(WHOLE_REPLY[:-10])


async def cut_head(wire: Wire) -> None:
    await wire.request()
    await wire.send(WHOLE_REPLY[:20])


async def hanging_up_when_idle(wire: Wire) -> None:
    await wire.request()
    await wire.send(WHOLE_REPLY)


async def hanging_up_at_once(wire: Wire) -> None:
    wire.reset()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (silent, "timeout"),
        (reading_nothing, "timeout"),
        (dripping_head, "timeout"),
        (dripping_body, "timeout"),
        (dripping_events, "timeout"),
        (cut_body, "remote_protocol_error"),
        (cut_head, "remote_protocol_error"),
        (hanging_up_at_once, None),
        (hanging_up_when_idle, "answer"),
    ],
)
async def test_each_call_ends_at_its_limit_and_its_slot_is_free(script: Script, kind: str | None) -> None:
    outcomes: list[Outcome] = []
    async with served(script) as server:
        http = PooledTransport(env={})
        async with Client(connection(server.url, row_timeout_s=ROW_TIMEOUT_S), http) as client:

            async def slot() -> None:
                for _ in range(3):
                    began = time.monotonic()
                    outcomes.append(await client.messages(asked(b"x" * 1_000, stream=script is dripping_events)))
                    assert time.monotonic() - began < ROW_TIMEOUT_S + 5  # with room for a busy machine
                    await anyio.sleep(0.02)

            async with anyio.create_task_group() as pool:
                for _ in range(4):
                    pool.start_soon(slot)
            assert not http._busy
        await until_nothing_is_open(server)
    assert len(outcomes) == 12
    for outcome in outcomes:
        if kind == "answer":
            assert isinstance(outcome, Answer)
            continue
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.perhaps_billed) == (FailureKind.TRANSIENT, True)
        assert kind in (None, outcome.type)


@pytest.mark.parametrize(
    ("phase", "kind"), [("read_timeout_s", "read_timeout"), ("write_timeout_s", "write_timeout")]
)
async def test_each_phase_has_a_limit_of_its_own(phase: str, kind: str) -> None:
    async with served(reading_nothing, limit=1) as server:
        http = PooledTransport(env={})
        async with Client(connection(server.url, **{phase: 0.2}), http) as client:
            body = b"x" * (30_000_000 if phase == "write_timeout_s" else 100)
            outcome = await client.messages(asked(body))
            assert isinstance(outcome, Failure)
            assert (outcome.type, outcome.perhaps_billed) == (kind, True)
            assert open_connections(http) == 0
