"""The API's error body: `{"type": "error", "error": {...}, "request_id": ...}`. Anything else is somebody else's."""

from __future__ import annotations

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


def bare_error(body: bytes) -> ApiError:
    """An error without the body around it; what cannot be read becomes the message of an unknown one."""
    try:
        return _read_bare_error(body)
    except msgspec.DecodeError:
        return ApiError(message=snippet(body))


def snippet(body: bytes) -> str:
    """The beginning of a body on one line."""
    return " ".join(body[: MAX_SNIPPET_CHARS * 4].decode("utf-8", "replace").split())[:MAX_SNIPPET_CHARS]
