"""One POST to an address that somebody wrote into a job file: signed, repeated, and never to a place inside.

A name is looked up once, every address that it has must be a public one, and the connection goes to one of these, so
that a second answer of the name service changes nothing. Redirects are not followed. Proxies are not used: they
would look the name up again.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
from msgspec import Struct
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random_exponential

from runner.errors import RunnerError

TIMEOUT_S = 10.0
MOST_TRIES = 4
LONGEST_S = 45.0
SIGNATURE = "runner-signature"

Lookup = Callable[[str, int], list[str]]


class NotTold(RunnerError):
    """A webhook that could not be reached or was refused; nothing else depends on it."""

    name = "webhook"


class _Passing(Exception):
    """Worth another try."""


class Webhook(Struct, frozen=True, kw_only=True):
    """Where to, with which secret to sign, and whether private addresses are allowed."""

    url: str
    secret: str | None = None
    allow_private: bool = False


def addresses_of(host: str, port: int) -> list[str]:
    """All addresses of a host name."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def post(
    hook: Webhook, document: Mapping[str, Any], *, now_s: int, lookup: Lookup = addresses_of, wait_s: float = 1.0
) -> None:
    """Tell it, within `LONGEST_S`. Raises NotTold. Blocks."""
    body = json.dumps(document).encode()
    headers = {"content-type": "application/json", "user-agent": "runner-webhook"}
    if hook.secret:
        headers[SIGNATURE] = signature(hook.secret, body, now_s)
    address = _address(hook, lookup)
    again = Retrying(
        retry=retry_if_exception_type(_Passing),
        wait=wait_random_exponential(multiplier=wait_s, max=10),
        stop=stop_after_attempt(MOST_TRIES) | stop_after_delay(LONGEST_S - TIMEOUT_S),
        reraise=True,
    )
    try:
        again(_send, hook.url, address, body, headers)
    except _Passing as problem:
        raise NotTold(f"the webhook at {urlsplit(hook.url).hostname} did not take it: {problem}.") from None


def signature(secret: str, body: bytes, now_s: int) -> str:
    """`t=1795221000,v1=<hex>`: HMAC-SHA256 of time, dot and body, so that an old one cannot be played again."""
    mac = hmac.new(secret.encode(), b"%d." % now_s + body, hashlib.sha256)
    return f"t={now_s},v1={mac.hexdigest()}"


def _address(hook: Webhook, lookup: Lookup) -> str:
    """The address to connect to."""
    parts = urlsplit(hook.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotTold("a webhook must be an address that begins with https://.")
    try:
        found = lookup(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    except OSError:
        raise NotTold(f"the webhook's host {parts.hostname} was not found.") from None
    inside = [address for address in found if not ipaddress.ip_address(address.partition("%")[0]).is_global]
    if not found or (inside and not hook.allow_private):
        raise NotTold(
            f"the webhook's host {parts.hostname} is a private address, and nothing is sent there.",
            name="webhook-private",
            hints=("RUNNER_WEBHOOK_PRIVATE=1 allows it",),
        )
    return found[0]


def _send(url: str, address: str, body: bytes, headers: Mapping[str, str]) -> None:
    told = httpx.URL(url)
    # The connection goes to the address, everything that is said to it still names the host.
    pinned = told.copy_with(host=address)
    request = httpx.Request(
        "POST",
        pinned,
        headers={**headers, "host": told.netloc.decode()},
        content=body,
        extensions={"sni_hostname": told.host, "timeout": httpx.Timeout(TIMEOUT_S).as_dict()},
    )
    try:
        with httpx.Client(trust_env=False, follow_redirects=False, timeout=TIMEOUT_S) as client:
            status = client.send(request).status_code
    except httpx.HTTPError as error:
        raise _Passing(type(error).__name__) from None
    if status >= 500 or status in (408, 425, 429):
        raise _Passing(f"it answered {status}")
    if status >= 300:
        raise NotTold(f"the webhook at {told.host} did not take it: it answered {status}.")
