"""Calls of the batch doors as a client would make them, at the brain directly."""

from __future__ import annotations

import json
from typing import Any

from runner.simulator import Reply, Request, Simulator, SimulatorConfig
from tests.simulator.calls import HEADERS, params
from tests.turned_clock import TurnedClock

PATH = "/v1/messages/batches"


def requests(count: int, text: str = "row", **more: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"{text}-{n}", "params": params(f"{text} {n}", **more)} for n in range(count)]


def one(text: str, **more: Any) -> list[dict[str, Any]]:
    """A batch of a single request."""
    return [{"custom_id": "only", "params": params(text, **more)}]


def batch_body(listed: object) -> bytes:
    return json.dumps({"requests": listed}).encode()


def ask(simulator: Simulator, method: str, path: str = "", body: bytes = b"", **headers: str) -> Reply:
    """One call below the batches path."""
    route, _, query = (PATH + path).partition("?")
    told = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    return simulator.receive(Request(method=method, path=route, query=query, headers=told, body=body))


def create(simulator: Simulator, listed: object, **headers: str) -> dict[str, Any]:
    reply = ask(simulator, "POST", "", batch_body(listed), **headers)
    assert reply.status == 200, reply.body
    told: dict[str, Any] = json.loads(reply.body)
    return told


def retrieve(simulator: Simulator, batch_id: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(ask(simulator, "GET", f"/{batch_id}").body)
    return told


def listed(simulator: Simulator, query: str = "", **headers: str) -> list[str]:
    """The ids of one page."""
    return [batch["id"] for batch in json.loads(ask(simulator, "GET", query, **headers).body)["data"]]


def raw_results(simulator: Simulator, batch_id: str) -> bytes:
    reply = ask(simulator, "GET", f"/{batch_id}/results")
    assert reply.status == 200, reply.body
    return b"".join(reply.events or ())


def results(simulator: Simulator, batch_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw_results(simulator, batch_id).splitlines()]


def kinds(lines: list[dict[str, Any]]) -> dict[str, int]:
    """How many lines of each type."""
    counts: dict[str, int] = {}
    for line in lines:
        counts[line["result"]["type"]] = counts.get(line["result"]["type"], 0) + 1
    return counts


async def finished(
    simulator: Simulator, clock: TurnedClock, asked: object, seconds: float = 2, **headers: str
) -> dict[str, Any]:
    """A batch that has had so much time."""
    batch = create(simulator, asked, **headers)
    await clock.advance(seconds)
    return retrieve(simulator, batch["id"])


def simulator_on(clock: TurnedClock, **settings: Any) -> Simulator:
    return Simulator(SimulatorConfig(**settings), clock)
