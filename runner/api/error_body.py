"""The API's error body: `{"type": "error", "error": {...}, "request_id": ...}`. Anything else is somebody else's."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

# Of a body that is not the API's, as much as helps to recognise a proxy's error page.
MAX_SNIPPET_CHARS = 300


class ApiError(msgspec.Struct):
    """The inner error. `code` is the finer word that some errors carry."""

    type: str = "unknown_error"
    message: str = ""
    details: Any = None

    @property
    def code(self) -> str | None:
        found = self.details.get("error_code") if isinstance(self.details, dict) else None
        return found if isinstance(found, str) else None


class ErrorBody(msgspec.Struct):
    """The whole body."""

    type: str
    error: ApiError
    request_id: str | None = None


_read_error = msgspec.json.Decoder(ErrorBody).decode
_read_bare_error = msgspec.json.Decoder(ApiError).decode


def api_error(body: bytes) -> ErrorBody | None:
    """The error body, or None where it has another shape."""
    try:
        told = _read_error(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return told if told.type == "error" else None


_INNER = re.compile(r'\{\s*"type"\s*:\s*"error"')
_decode_json = json.JSONDecoder().raw_decode


def unwrapped(told: ErrorBody) -> ErrorBody:
    """The API's own error where a gateway has put the whole of it into the message of another: only there stand the
    finer word and the request id, and often the type. Else `told` itself."""
    found = _INNER.search(told.error.message)
    if found is None:
        return told
    try:
        value, _ = _decode_json(told.error.message, found.start())
        return msgspec.convert(value, ErrorBody)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return told


class ForeignError(msgspec.Struct):
    """What a body that is not the API's says; `type` where it has one."""

    message: str
    type: str | None = None


class _Foreign(msgspec.Struct):
    """Another service's idea of an error body; many gateways follow it."""

    error: ForeignError


_read_foreign = msgspec.json.Decoder(_Foreign).decode


def foreign_error(body: bytes) -> ForeignError:
    """The message in a gateway's error, or the beginning of whatever the body is."""
    try:
        told = _read_foreign(body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ForeignError(message=snippet(body))
    return ForeignError(message=snippet(told.message.encode()) or snippet(body), type=told.type)


def bare_error(body: bytes) -> ApiError:
    """An error without the body around it; what cannot be read becomes the message of an unknown one."""
    try:
        return _read_bare_error(body)
    except msgspec.DecodeError:
        return ApiError(message=snippet(body))


def snippet(body: bytes) -> str:
    """The beginning of a body on one line."""
    return " ".join(body[: MAX_SNIPPET_CHARS * 4].decode("utf-8", "replace").split())[:MAX_SNIPPET_CHARS]
