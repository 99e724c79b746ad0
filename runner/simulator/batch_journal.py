"""Every create that was posted, and what became of it: what a client that must never post twice is held against.

It only writes down; a body is looked at again only when the door never read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from runner.simulator.batch import timestamp
from runner.simulator.batch_envelope import riders_of
from runner.simulator.exchange import Reply, Request
from runner.simulator.problems import Problem


@dataclass(kw_only=True, slots=True)
class Create:
    """One POST. `answered` is a status, or what the wire did instead; `wire` how the reply ended."""

    ordinal: int
    at_us: int
    request_id: str
    workspace_id: str
    bytes: int
    body_sha256: str
    count: int | None
    first_custom_id: str | None
    batch_id: str | None
    answered: str
    wire: str = "open"

    def as_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"at": timestamp(self.at_us)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a create led to."""

    batch_id: str
    count: int
    first_custom_id: str


class BatchJournal:
    """All creates, oldest first."""

    def __init__(self) -> None:
        self.creates: list[Create] = []
        self._made: dict[str, Made] = {}

    def made(self, request_id: str, made: Made) -> None:
        """The door has created a batch for this request."""
        self._made[request_id] = made

    def note(
        self,
        request: Request,
        reply: Reply,
        *,
        ordinal: int,
        at_us: int,
        request_id: str,
        workspace_id: str,
    ) -> Reply:
        """Write the POST down; the reply reports back when its connection is done with it."""
        made = self._made.pop(request_id, None)
        count, first = (made.count, made.first_custom_id) if made else _looked_at(request.body)
        create = Create(
            ordinal=ordinal,
            at_us=at_us,
            request_id=request_id,
            workspace_id=workspace_id,
            bytes=len(request.body),
            body_sha256=hashlib.sha256(request.body).hexdigest(),
            count=count,
            first_custom_id=first,
            batch_id=made.batch_id if made else None,
            answered=reply.wire.kind if reply.wire else str(reply.status),
        )
        self.creates.append(create)
        return replace(reply, on_end=_writes_wire(create, reply.on_end))


def _looked_at(body: bytes) -> tuple[int | None, str | None]:
    riders = riders_of(body)
    if isinstance(riders, Problem):
        return None, None
    return len(riders), riders[0].custom_id


def _writes_wire(create: Create, before: Callable[[str], None] | None) -> Callable[[str], None]:
    def ended(how: str) -> None:
        create.wire = how
        if before is not None:
            before(how)

    return ended
