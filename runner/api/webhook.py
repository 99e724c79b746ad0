"""A word to somebody's webhook: one POST, bounded in time, with nothing of ours in its headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

TIMEOUT_S = 10.0


def tell_webhook(url: str, told: Mapping[str, Any]) -> str | None:
    """Sends `told` as JSON. What went wrong in a few words, None where nothing did; the address is never shown."""
    try:
        reply = httpx.post(url, json=dict(told), timeout=TIMEOUT_S, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as problem:
        return type(problem).__name__
    return None if reply.is_success else f"HTTP {reply.status_code}"
