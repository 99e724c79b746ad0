"""Requests as a client would write them, for the brain directly or over a socket."""

from __future__ import annotations

import json
from typing import Any

from runner.simulator import Reply, Request, Simulator

MODEL = "claude-haiku-5-5"
HEADERS = {"x-api-key": "sk-ant-test", "anthropic-version": "2026-10-21", "content-type": "application/json"}


def params(text: str = "Label this: great product", **more: Any) -> dict[str, Any]:
    """The body of a Messages call."""
    told = {"model": MODEL, "max_tokens": 256, "messages": [{"role": "user", "content": text}]}
    return {name: value for name, value in (told | more).items() if value is not None}


def body(text: str = "Label this: great product", **more: Any) -> bytes:
    return json.dumps(params(text, **more)).encode()


def post(simulator: Simulator, content: bytes, path: str = "/v1/messages", **headers: str) -> Reply:
    """Ask the brain, without a socket."""
    told = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    return simulator.receive(Request(method="POST", path=path, headers=told, body=content))


def finished(reply: Reply) -> Reply:
    """Do what the server does when it writes the head and the reply has gone out."""
    if reply.late_headers is not None:
        reply = reply.with_headers(reply.late_headers())
    if reply.on_end is not None:
        reply.on_end("delivered")
    return reply


def header(reply: Reply, name: str) -> str | None:
    return dict(reply.headers).get(name)


def error_of(reply: Reply) -> dict[str, Any]:
    """The inner error object of a refusal."""
    error: dict[str, Any] = json.loads(reply.body)["error"]
    return error


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events, name and data."""
    events = []
    for part in filter(None, text.split("\n\n")):
        name, data = part.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events
