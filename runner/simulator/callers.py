"""Who calls and in which dialect: credentials, API version, beta names, body encoding.

Looks at headers only.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from runner.simulator.config import SimulatorConfig
from runner.simulator.exchange import Request
from runner.simulator.facts import facts
from runner.simulator.problems import Problem, invalid

VERSIONS = ("2023-06-01", "2026-10-21")
GZIP_WINDOW = 16 + zlib.MAX_WBITS


def caller_problem(headers: Mapping[str, str], config: SimulatorConfig) -> Problem | None:
    """The first thing wrong with credentials, version or betas."""
    return _credentials(headers, config) or _version(headers) or _betas(headers, config)


def key_of(headers: Mapping[str, str]) -> str:
    """The credential, from whichever header it came in."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return headers.get("x-api-key", "") or (token.strip() if scheme.lower() == "bearer" else "")


def betas_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The names in `anthropic-beta`, comma lists and repeats alike."""
    told = headers.get("anthropic-beta", "")
    return tuple(name for name in map(str.strip, told.split(",")) if name) if told else ()


def decoded_body(request: Request, limit: int) -> bytes | Problem:
    """The body without its Content-Encoding."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return request.body
    if encoding not in ("gzip", "deflate"):
        return invalid(f"unsupported Content-Encoding: {encoding}", "request_body_encoding_unsupported")
    window = GZIP_WINDOW if encoding == "gzip" else zlib.MAX_WBITS
    try:
        body = zlib.decompressobj(window).decompress(request.body, limit + 1)
    except zlib.error:
        return invalid(f"the body is not valid {encoding}", "request_body_encoding_invalid")
    if len(body) > limit:
        code = "request_body_too_large_after_decoding"
        return Problem(status=413, type="request_too_large", message="the decoded body is too large", code=code)
    return body


def _credentials(headers: Mapping[str, str], config: SimulatorConfig) -> Problem | None:
    given = key_of(headers)
    if given and (config.keys is None or given in config.keys):
        return None
    message = "invalid API key" if given else "x-api-key or Authorization header is required"
    return Problem(status=401, type="authentication_error", message=message)


def _version(headers: Mapping[str, str]) -> Problem | None:
    version = headers.get("anthropic-version")
    if version is None:
        return invalid("anthropic-version: header is required")
    if version not in VERSIONS:
        return invalid(f"anthropic-version: {version!r} is not a valid version")
    return None


def _betas(headers: Mapping[str, str], config: SimulatorConfig) -> Problem | None:
    unknown = [name for name in betas_of(headers) if name not in facts().betas or name in config.refused_betas]
    return invalid(f"Unsupported beta header: {unknown[0]}") if unknown else None
