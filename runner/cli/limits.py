"""What is known of the organisation's limits before anything is sent: its tier, and the Admin API's word."""

from __future__ import annotations

from collections.abc import Mapping

from runner.api.admin_limits import read_limits
from runner.api.client import Client, Connection
from runner.api.credentials import find_admin_credential
from runner.cli.messages import warning
from runner.clock import Clock
from runner.domain.job import Job
from runner.domain.limits import NOT_KNOWN, KnownLimits
from runner.domain.outcome import Failure
from runner.domain.pricing import PriceBook
from runner.domain.tiers import tier_limits
from runner.errors import RunnerError
from runner.settings import Settings


async def known_limits(job: Job, settings: Settings, prices: PriceBook, clock: Clock) -> dict[str, KnownLimits]:
    """By model class. What cannot be read is a warning: the first replies say it too."""
    known = dict(tier_limits(settings.tier)) if settings.tier else {}
    if not job.simulated and settings.service.admin_key:
        for name, told in (await _of_admin(job, settings, prices, clock)).items():
            known[name] = known.get(name, NOT_KNOWN).heeding(told)
    return known


async def _of_admin(job: Job, settings: Settings, prices: PriceBook, clock: Clock) -> Mapping[str, KnownLimits]:
    try:
        credential = find_admin_credential(settings.service)
        if credential is None:
            return {}
        connection = Connection(credential=credential, base_url=job.base_url)
        async with Client(connection, clock=clock) as client:
            told = await read_limits(client, prices.limit_class)
    except RunnerError as error:
        told_why = error.message
    else:
        if not isinstance(told, Failure):
            return told
        told_why = f"{told.message} ({told.type})"
    warning("admin-limits", f"the Admin API does not tell the limits: {told_why}")
    return {}
