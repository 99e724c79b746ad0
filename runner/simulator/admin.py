"""The door for tests, `/_simulator/...`: read the bill and the tallies, change the faults, begin anew.

No key is asked for: the simulator listens on this machine only, and what it holds is made up.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import parse_qs

import msgspec

from runner.simulator.exchange import Reply, Request, json_reply
from runner.simulator.faults import Fault
from runner.simulator.ledger import Ledger


class Administered(Protocol):
    """What of a simulator can be read and changed from outside."""

    ledger: Ledger

    def set_faults(self, faults: tuple[Fault, ...]) -> None: ...

    def reset(self) -> None: ...


def admin_reply(simulator: Administered, request: Request) -> Reply:
    """GET ledger, tallies, seen?hash=; POST faults (a JSON list) and reset."""
    door = (request.method, request.path.removeprefix("/_simulator/"))
    if door == ("GET", "ledger"):
        body = b"".join(simulator.ledger.lines())
        return Reply(status=200, headers=(("content-type", "application/jsonl"),), body=body)
    if door == ("GET", "tallies"):
        return json_reply(simulator.ledger.tallies())
    if door == ("GET", "seen"):
        wanted = parse_qs(request.query).get("hash", [""])[0]
        return json_reply({"hash": wanted, "billed": sum(1 for _ in simulator.ledger.lines(wanted))})
    if door == ("POST", "faults"):
        return _replace_faults(simulator, request.body)
    if door == ("POST", "reset"):
        simulator.reset()
        return json_reply({"reset": True})
    return json_reply({"error": "no such admin door"}, 404)


def _replace_faults(simulator: Administered, body: bytes) -> Reply:
    try:
        faults = msgspec.json.decode(body, type=tuple[Fault, ...])
    except (msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
        return json_reply({"error": str(error)}, 400)
    simulator.set_faults(faults)
    return json_reply({"faults": len(faults)})
