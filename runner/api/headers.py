"""The headers of a request: ours, the caller's, and the betas of both. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from runner import __version__
from runner.errors import JobInvalid

USER_AGENT = f"claude-job-runner/{__version__}"
BETA = "anthropic-beta"

# What the protocol needs to be right; a custom header of that name would break calls or send a second key.
OURS = frozenset(
    {
        "accept",
        "accept-encoding",
        "anthropic-version",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-api-key",
    }
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check_custom_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Custom headers with names in lower case. Raises JobInvalid, naming the header but not its value."""
    checked: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        if key in OURS:
            raise JobInvalid(f"the header {name!r} is set by runner itself.", name="header-conflict")
        if not _NAME.fullmatch(name) or not value.isascii() or not value.replace("\t", " ").isprintable():
            raise JobInvalid(f"the header {name!r} cannot be sent: not plain ASCII on one line.", name="bad-header")
        if key in checked:
            raise JobInvalid(f"the header {name!r} is given twice.", name="header-conflict")
        checked[key] = value
    return checked


def merged_betas(*groups: Iterable[str]) -> tuple[str, ...]:
    """Betas of all groups, each once, in the order in which they were first named."""
    named = (part.strip() for group in groups for entry in group for part in entry.split(","))
    return tuple(dict.fromkeys(filter(None, named)))


def request_headers(
    *, auth: tuple[str, str], api_version: str, custom: Mapping[str, str], betas: Iterable[str] = ()
) -> list[tuple[str, str]]:
    """All headers of a JSON call but those that name its host and length."""
    all_betas = merged_betas(betas, [custom.get(BETA, "")])
    headers = [
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("user-agent", custom.get("user-agent", USER_AGENT)),
        ("anthropic-version", api_version),
        auth,
    ]
    if all_betas:
        headers.append((BETA, ",".join(all_betas)))
    headers += [(name, value) for name, value in custom.items() if name not in (BETA, "user-agent")]
    return headers
