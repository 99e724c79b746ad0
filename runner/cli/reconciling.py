"""What `cost reconcile` asks the service, and what it holds that against."""

from __future__ import annotations

import anyio

from runner.api.admin_reports import read_costs, read_usage
from runner.api.client import Client, Connection
from runner.api.credentials import ADMIN_VARIABLE, Credential, find_admin_credential
from runner.api.refusals import error_of
from runner.cli.context import Context
from runner.domain.booking import DAY_US
from runner.domain.job import DEFAULT_BASE_URL
from runner.domain.outcome import Failure
from runner.domain.reconcile import Billed, Reconciled, Used, reconcile
from runner.domain.spending import Spending, date_of
from runner.domain.states import RIDING_BATCH
from runner.errors import CredentialsRefused
from runner.store.store import Store

# So many batches are looked through for some that are not read yet.
LOOKED_THROUGH = 10_000


def reconciled_day(context: Context, day: int) -> Reconciled:
    """Raises the error that people should see where the reports cannot be had."""
    credential = _credential(context)
    books: list[Spending] = []
    unread = 0
    if False in context.existing_stores():
        with context.store(simulated=False) as store:
            books = [one for one in store.spending_since(day) if one.day == day]
            unread = _unread_batches(store, day)
    used, billed = anyio.run(_asked, context, credential, day)
    return reconcile(date_of(day).isoformat(), books, used, billed, unread_batches=unread)


def _credential(context: Context) -> Credential:
    credential = find_admin_credential(context.settings.service)
    if credential is None:
        raise CredentialsRefused(
            "the provider's reports take an Admin API key, and none is set.",
            name="no-admin-key",
            hints=(f"export {ADMIN_VARIABLE}=sk-ant-admin01-...", "an organisation's admins make one in the console"),
        )
    return credential


def _unread_batches(store: Store, day: int) -> int:
    end_us = (day + 1) * DAY_US
    return sum(
        one.state in RIDING_BATCH and one.intent.intent_us < end_us
        for one in store.recent_submissions(LOOKED_THROUGH)
    )


async def _asked(context: Context, credential: Credential, day: int) -> tuple[list[Used], list[Billed]]:
    service = context.settings.service
    connection = Connection(
        credential=credential, base_url=service.base_url or DEFAULT_BASE_URL, headers=service.custom_headers
    )
    async with Client(connection, clock=context.clock) as client:
        used = await read_usage(client, date_of(day))
        if isinstance(used, Failure):
            raise error_of(used, credential, connection.base_url)
        billed = await read_costs(client, date_of(day))
        if isinstance(billed, Failure):
            raise error_of(billed, credential, connection.base_url)
    return used, billed
