"""A host and a port to a connected socket, by whichever of the host's addresses answers first (RFC 8305).

The event loop's own way waits for one address after the other: where IPv6 is announced but leads nowhere, that
would be minutes.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Any

import anyio

# How long an address has for itself before the next one is tried beside it.
HEAD_START_S = 0.25


async def dial(host: str, port: int) -> socket.socket:
    """Raises OSError when no address answers, and whatever stands in the way of finding one."""
    addresses = _literal(host, port) or _alternating(await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    if len(addresses) == 1:
        return await _connect(*addresses[0])
    return await _race(addresses)


def _literal(host: str, port: int) -> list[tuple[int, Any]]:
    """An address that stands there as such needs no thread to look it up."""
    try:
        version = ip_address(host).version
    except ValueError:
        return []
    return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]


def _alternating(found: list[Any]) -> list[tuple[int, Any]]:
    """Families by turns, beginning with the one that the resolver prefers."""
    first = [(family, address) for family, _, _, _, address in found if family == found[0][0]]
    other = [(family, address) for family, _, _, _, address in found if family != found[0][0]]
    return [entry for entry in chain.from_iterable(zip_longest(first, other)) if entry is not None]


async def _race(addresses: list[tuple[int, Any]]) -> socket.socket:
    won: list[socket.socket] = []
    faults: list[OSError] = []

    async def run(family: int, address: Any, over: anyio.Event) -> None:
        try:
            won.append(await _connect(family, address))
            race.cancel_scope.cancel()
        except OSError as fault:
            faults.append(fault)
        finally:
            over.set()

    try:
        async with anyio.create_task_group() as race:
            for family, address in addresses:
                over = anyio.Event()
                race.start_soon(run, family, address, over)
                with anyio.move_on_after(HEAD_START_S):
                    await over.wait()
    except BaseException:
        _close(won)
        raise
    if not won:
        raise OSError("; ".join(dict.fromkeys(map(str, faults))))
    _close(won[1:])
    return won[0]


async def _connect(family: int, address: Any) -> socket.socket:
    raw = socket.socket(family, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, address)
    except BaseException:
        raw.close()
        raise
    return raw


def _close(sockets: list[socket.socket]) -> None:
    for raw in sockets:
        raw.close()
