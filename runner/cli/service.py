"""Commands that speak to the service about no run: whose key, which address, and errors as people see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from runner.api.client import Client, Connection
from runner.api.credentials import find_credential
from runner.api.refusals import error_of
from runner.cli.context import Context
from runner.domain.job import DEFAULT_BASE_URL
from runner.domain.outcome import Failure
from runner.errors import RunnerError, first_of

T = TypeVar("T")


def ask_service(context: Context, work: Callable[[Client], Awaitable[T]]) -> T:
    """Do some calls and give back what they gave. Raises the errors that end a command."""
    service = context.settings.service
    connection = Connection(
        credential=find_credential(service),
        base_url=service.base_url or DEFAULT_BASE_URL,
        headers=service.custom_headers,
    )

    async def asked() -> T:
        async with Client(connection, clock=context.clock) as client:
            return await work(client)

    try:
        return anyio.run(asked)
    except* RunnerError as group:
        raise first_of(group) from None


def good(client: Client, told: T | Failure) -> T:
    """What came back, or the error that it stands for."""
    if isinstance(told, Failure):
        raise error_of(told, client.connection.credential, client.connection.base_url)
    return told
