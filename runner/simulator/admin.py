"""The door for tests, `/_simulator/...`: read the bill and the tallies, change the faults, begin anew.

No key is asked for: the simulator listens on this machine only, and what it holds is made up.
"""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec

from runner.simulator.batches import BatchesDoor
from runner.simulator.config import SimulatorConfig
from runner.simulator.exchange import Reply, Request, json_reply
from runner.simulator.faults import Fault
from runner.simulator.ledger import Ledger


class Administered(Protocol):
    """What of a simulator can be read and changed from outside."""

    config: SimulatorConfig
    ledger: Ledger
    batches: BatchesDoor
    workspaces: dict[str, str]

    def set_faults(self, faults: tuple[Fault, ...]) -> None: ...

    def reset(self) -> None: ...


def admin_reply(simulator: Administered, request: Request) -> Reply:
    """GET ledger, tallies, seen?hash=, batches; POST faults (a JSON list), foreign_batch, workspaces and reset."""
    door = (request.method, request.path.removeprefix("/_simulator/"))
    if door == ("GET", "ledger"):
        body = b"".join(simulator.ledger.lines())
        return Reply(status=200, headers=(("content-type", "application/jsonl"),), body=body)
    if door == ("GET", "tallies"):
        return json_reply(simulator.ledger.tallies())
    if door == ("GET", "seen"):
        wanted = parse_qs(request.query).get("hash", [""])[0]
        return json_reply({"hash": wanted, "billed": sum(1 for _ in simulator.ledger.lines(wanted))})
    if door == ("GET", "batches"):
        return json_reply([create.as_json() for create in simulator.batches.journal.creates])
    if door == ("POST", "foreign_batch"):
        return _add_foreign(simulator, request.body)
    if door == ("POST", "workspaces"):
        return _move_keys(simulator, request.body)
    if door == ("POST", "faults"):
        return _replace_faults(simulator, request.body)
    if door == ("POST", "reset"):
        simulator.reset()
        return json_reply({"reset": True})
    return json_reply({"error": "no such admin door"}, 404)


class _Foreign(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A batch of somebody else: how many requests, how they are named, where and how long it takes."""

    n: int
    custom_id_prefix: str = "theirs-"
    workspace_id: str | None = None
    seconds: float | None = None


def _replace_faults(simulator: Administered, body: bytes) -> Reply:
    faults = _read(body, tuple[Fault, ...])
    if isinstance(faults, Reply):
        return faults
    simulator.set_faults(faults)
    return json_reply({"faults": len(faults)})


def _add_foreign(simulator: Administered, body: bytes) -> Reply:
    told = _read(body, _Foreign)
    if isinstance(told, Reply):
        return told
    workspace_id = told.workspace_id or simulator.config.workspace_id
    try:
        return json_reply(simulator.batches.add_foreign(told.n, told.custom_id_prefix, workspace_id, told.seconds))
    except ValueError as error:
        return json_reply({"error": str(error)}, 400)


def _move_keys(simulator: Administered, body: bytes) -> Reply:
    """Keys named here are in another workspace from now on."""
    told = _read(body, dict[str, str])
    if isinstance(told, Reply):
        return told
    simulator.workspaces.update(told)
    return json_reply({"workspaces": sorted(set(simulator.workspaces.values()))})


def _read(body: bytes, wanted: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=wanted)
    except (msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
        return json_reply({"error": str(error)}, 400)
