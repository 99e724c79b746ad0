"""What the service says no with: a value for each refusal, and its JSON or HTML form.

It knows the shape of errors, never when one is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from runner.simulator.exchange import JSON_TYPE, Headers, Reply

TYPE_OF_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

# No type of the service: the refusal is a page of a proxy before it.
EDGE = "edge"

_HTML = "<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center><hr></body></html>"
_TITLES = {413: "413 Request Entity Too Large", 502: "502 Bad Gateway", 200: "Sign in to the guest network"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One refusal. `reason` is the word it is counted under in the tallies."""

    status: int
    type: str
    message: str
    code: str | None = None
    headers: Headers = ()

    @property
    def reason(self) -> str:
        return self.code or self.type


def invalid(message: str, code: str | None = None) -> Problem:
    """A 400."""
    return Problem(status=400, type="invalid_request_error", message=message, code=code)


def not_found(message: str) -> Problem:
    """A 404."""
    return Problem(status=404, type="not_found_error", message=message)


def error_body(problem: Problem, request_id: str | None) -> dict[str, Any]:
    """The documented error object; `details` only where a code exists."""
    error: dict[str, Any] = {"type": problem.type, "message": problem.message}
    if problem.code is not None:
        error["details"] = {"error_code": problem.code}
    return {"type": "error", "error": error, "request_id": request_id}


def problem_reply(problem: Problem, request_id: str) -> Reply:
    """The refusal as a reply of the service, or of what stands before it."""
    if problem.type == EDGE:
        return edge_reply(problem.status)
    body = msgspec.json.encode(error_body(problem, request_id))
    return Reply(status=problem.status, headers=JSON_TYPE + problem.headers, body=body)


def edge_reply(status: int) -> Reply:
    """An HTML page from a proxy that stands before the service."""
    title = _TITLES.get(status, f"{status} Error")
    page = _HTML.format(title=title).encode()
    return Reply(status=status, headers=(("content-type", "text/html"),), body=page, from_edge=True)
