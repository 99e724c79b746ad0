"""One Messages call, ready to be sent alone or packed into a batch."""

from __future__ import annotations

from dataclasses import dataclass

# The API takes 32 MB for a Messages call; it does not say which MB, so the smaller one.
MAX_BODY_BYTES = 32_000_000
# Above this an answer may take minutes: streamed, so that no middlebox drops a silent connection.
STREAM_ABOVE_TOKENS = 8_192


@dataclass(frozen=True, kw_only=True, slots=True)
class MessagesRequest:
    """`body` is the JSON as it goes on the wire, `stream` included when set.

    `prompt_tokens_bound` is a number of input tokens that the call cannot exceed, None where there is none
    (documents by reference, server tools); `betas` are this row's own, beside the job's.
    """

    body: bytes
    model: str
    max_tokens: int
    stream: bool
    prompt_tokens_bound: int | None
    inference_geo: str | None = None
    speed: str | None = None
    betas: tuple[str, ...] = ()
