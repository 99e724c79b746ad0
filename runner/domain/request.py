"""One Messages call, ready to be sent alone or packed into a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from runner.domain.attachment import Attachment

# The API takes 32 MB for a Messages call; it does not say which MB, so the smaller one.
MAX_BODY_BYTES = 32_000_000
# Above this an answer may take minutes: streamed, so that no middlebox drops a silent connection.
STREAM_ABOVE_TOKENS = 8_192

# What a call may ask for and a batch may not; beside them `stream`, a preview and an answer of no tokens.
NOT_IN_BATCHES = (
    "speed",
    "store",
    "previous_thread_event_id",
    "thread",
    "cache_hint",
    "context_hint",
    "fallbacks",
    "fallback_credit_token",
)
PREVIEW_NOT_IN_BATCHES = "research_preview_2026_02"


class MessagesRequest(Struct, frozen=True, kw_only=True):
    """`body` is the JSON as it goes on the wire, `stream` included when set.

    `prompt_tokens_bound` is a number of input tokens that the call cannot exceed, None where there is none (server
    tools); `betas` are this row's own, beside the job's. The marks of
    `attachments` stand in the body until their files have ids at the service.
    """

    body: bytes
    model: str
    max_tokens: int
    stream: bool
    prompt_tokens_bound: int | None
    inference_geo: str | None = None
    speed: str | None = None
    betas: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()


def refused_in_batch(fields: Mapping[str, Any]) -> str | None:
    """The first of these request fields that a batch would refuse, None where it takes them all.

    A field without a value counts as left out; `stream` is not looked at, it is never sent in a batch.
    """
    for name in NOT_IN_BATCHES:
        if fields.get(name) is not None:
            return name
    if fields.get(PREVIEW_NOT_IN_BATCHES) == "active":
        return PREVIEW_NOT_IN_BATCHES
    return "max_tokens" if fields.get("max_tokens") == 0 else None
