"""Which of a host's addresses is taken, and that the others leave nothing behind."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import pytest

from runner.api import dial
from tests.api.scripted import always, served
from tests.api.test_slots import open_files, until_nothing_is_open

pytestmark = pytest.mark.anyio

V4, V6 = socket.AF_INET, socket.AF_INET6
NOWHERE = ("192.0.2.1", 9)  # never answers, in these tests


class Host:
    """What a name stands for."""

    def __init__(self) -> None:
        self.addresses: list[tuple[int, Any]] = []

    async def find(self, _host: str, _port: int, **_: Any) -> list[Any]:
        return [(family, socket.SOCK_STREAM, 0, "", address) for family, address in self.addresses]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    connect = dial._connect

    async def connecting(family: int, address: Any) -> socket.socket:
        if address == NOWHERE:
            await anyio.sleep_forever()
        return await connect(family, address)

    monkeypatch.setattr(anyio, "getaddrinfo", host.find)
    monkeypatch.setattr(dial, "_connect", connecting)
    monkeypatch.setattr(dial, "HEAD_START_S", 0.05)
    return host


def closed_port() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as raw:
        name: tuple[str, int] = raw.getsockname()
        return name


async def test_an_address_that_refuses_or_says_nothing_is_passed_over(host: Host) -> None:
    async with served(always(b"")) as server:
        good = ("127.0.0.1", server.port)
        for bad in ([], [(V4, closed_port())], [(V4, NOWHERE)], [(V4, NOWHERE), (V4, closed_port())]):
            host.addresses = [*bad, (V4, good)]
            with anyio.fail_after(2):
                raw = await dial.dial("name.example", 1)
            assert raw.getpeername() == good
            raw.close()


async def test_when_no_address_answers_each_reason_is_told_once(host: Host) -> None:
    port = closed_port()
    host.addresses = [(V4, port), (V4, port)]
    with pytest.raises(OSError, match=r"^[^;]*refused[^;]*$|^[^;]*Connect call failed[^;]*$"):
        await dial.dial("name.example", 1)


async def test_a_dial_that_is_given_up_leaves_no_socket(host: Host) -> None:
    """Most of all when an address has just answered."""
    async with served(always(b"")) as server:
        host.addresses = [(V4, NOWHERE), (V4, ("127.0.0.1", server.port))]
        before = open_files()
        for number in range(60):
            with anyio.move_on_after(0.05 + number * 0.0001):
                (await dial.dial("name.example", 1)).close()
        await until_nothing_is_open(server)
        assert open_files() == before


def test_families_take_turns() -> None:
    found = [(family, 0, 0, "", name) for family, name in [(V6, "a"), (V6, "b"), (V4, "c"), (V6, "d")]]
    assert [name for _, name in dial._alternating(found)] == ["a", "c", "b", "d"]
