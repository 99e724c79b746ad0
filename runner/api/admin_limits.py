"""The Admin API's word on an organisation's limits, read once with an admin key.

Groups are matched to model classes by the models that they name, since the names of groups are the provider's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from runner.api.client import Client
from runner.domain.limits import KnownLimits, LimitSource, RateLimits
from runner.domain.outcome import Failure

PATH = "/v1/organizations/rate_limits"
# The Admin API counts input with or without reads of the cache; ours leave them out.
DIMENSIONS = {
    "requests_per_minute": "rpm",
    "input_tokens_per_minute_cache_aware": "itpm",
    "output_tokens_per_minute": "otpm",
}


async def read_limits(client: Client, class_of: Callable[[str], str]) -> Mapping[str, KnownLimits] | Failure:
    """Limits by model class; `class_of` names the class of a model. `client` carries the admin key."""
    reply = await client.small_call("GET", client.url(PATH))
    return reply if isinstance(reply, Failure) else limits_of(reply.body, class_of)


def limits_of(body: bytes, class_of: Callable[[str], str]) -> Mapping[str, KnownLimits]:
    """What the reply says; what it says in another form than is known is left out."""
    found: dict[str, KnownLimits] = {}
    for entry in _entries(body):
        limits = _limits(entry.get("limits"))
        models = entry.get("models")
        if any(limits) and isinstance(models, list):
            known = KnownLimits(limits=limits, source=LimitSource.ADMIN)
            found |= {class_of(model): known for model in models if isinstance(model, str)}
    return found


def _entries(body: bytes) -> Iterator[dict[str, Any]]:
    """Groups of models, in the form of either version."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    data = told.get("data") if isinstance(told, dict) else told
    for entry in data if isinstance(data, list) else []:
        if isinstance(entry, dict) and _group_type(entry) == "model_group":
            yield entry


def _group_type(entry: Mapping[str, Any]) -> object:
    group = entry.get("group")
    return group.get("type") if isinstance(group, dict) else entry.get("group_type")


def _limits(told: object) -> RateLimits:
    values: dict[str, int] = {}
    for limit in told if isinstance(told, list) else []:
        if isinstance(limit, dict) and (name := DIMENSIONS.get(str(limit.get("type")))):
            value = limit.get("value")
            if isinstance(value, int) and value > 0:
                values[name] = value
    return RateLimits(**values)
