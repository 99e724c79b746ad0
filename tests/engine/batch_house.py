"""Batches in a house: the service without a socket, on turned time, so that 29 days pass in moments.

The client, the wire formats and the simulator are the real ones; only the connection between them is not there.
`Wire` carries out the simulator's faults, and whatever else a test hangs into it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

import httpx

from runner.api.batches import Batches
from runner.api.client import Client, Connection
from runner.clock import SECOND
from runner.domain.job import BatchSpec, Mode
from runner.domain.outcome import Outcome
from runner.domain.request import MessagesRequest
from runner.domain.run import Run
from runner.domain.states import BatchState
from runner.domain.submission import Timing, parse_custom_id
from runner.engine.batch.events import BatchEvent
from runner.engine.parts import Batching, RunEnd
from runner.simulator import Fault, Simulator, SimulatorConfig
from runner.simulator.batch import Batch
from runner.simulator.batch_journal import Create
from runner.simulator.batches import PATH
from runner.simulator.exchange import Reply, Request
from runner.store.submissions import Submission
from tests.engine.house import KEY, Books, House

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0
# Nothing is said for so long: what the client's own patience would be on a real connection.
SILENCE_S = 600.0
TIMING = Timing()

Hook = Callable[[httpx.Request], Awaitable[None]]


def accepting(_request: Request) -> Reply | None:
    """Refuses nothing."""
    return None


async def nothing(_request: httpx.Request) -> None:
    """A hook that does nothing."""


class Wire(httpx.AsyncBaseTransport):
    """From the client to the simulator and back, without a socket. `before` is called when a request has left the
    client and before the service has seen it, `after` when the service has done it and before anybody hears;
    `refuse` may answer in place of the service, and `mangle` changes results on their way."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.before: Hook = nothing
        self.after: Hook = nothing
        self.refuse: Callable[[Request], Reply | None] = accepting
        self.mangle: Callable[[bytes], bytes] = bytes
        self.nameless = False  # replies name neither organisation nor workspace
        self.log: list[str] = []  # which calls were made, in order

    @property
    def asked(self) -> Counter[str]:
        return Counter(self.log)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["journey"].sent = True
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body = b"".join([piece async for piece in request.stream])
        self.log.append(_door(request))
        await self.before(request)
        seen = _seen(request, body)
        reply = self.refuse(seen) or self.simulator.receive(seen)
        await self.after(request)
        if reply.delay_s:
            await self.simulator.clock.sleep(reply.delay_s)
        kind = reply.wire.kind if reply.wire else ""
        if reply.on_end is not None:
            reply.on_end("stalled" if kind == "stall" else "cut" if kind else "delivered")
        if kind in ("reset", "executed_reset", "reset_half"):
            raise httpx.ReadError("the connection was reset", request=request)
        if kind == "stall":
            await self.simulator.clock.sleep(SILENCE_S)
            raise httpx.ReadTimeout("nothing came", request=request)
        assert not kind, f"{kind} needs a socket"
        whole = reply.body if reply.events is None else self.mangle(b"".join(reply.events))
        return httpx.Response(reply.status, headers=self._headers(reply), content=whole, request=request)

    def _headers(self, reply: Reply) -> list[tuple[str, str]]:
        late = reply.late_headers() if reply.late_headers is not None else ()
        date = formatdate(self.simulator.clock.now_us() // SECOND, usegmt=True)
        told = [("date", date), *reply.headers, *late]
        return [one for one in told if not (self.nameless and one[0].startswith("anthropic-"))]


def _door(request: httpx.Request) -> str:
    """Which call it is: create, list, status, cancel, delete, results; else its path."""
    path = request.url.path
    if path == PATH:
        return "create" if request.method == "POST" else "list"
    if not path.startswith(PATH):
        return path
    last = path.rpartition("/")[2]
    return last if last in ("results", "cancel") else "delete" if request.method == "DELETE" else "status"


def _seen(request: httpx.Request, body: bytes) -> Request:
    headers = {name.decode().lower(): value.decode() for name, value in request.headers.raw}
    query = request.url.query.decode()
    return Request(method=request.method, path=request.url.path, query=query, headers=headers, body=body)


@dataclass(frozen=True, kw_only=True)
class Told:
    """An event, and when it was told, in seconds from the beginning of the test."""

    at_s: float
    event: BatchEvent

    @property
    def name(self) -> str:
        return self.event.name


@dataclass
class Office:
    """A house with the service at hand: every run in it may make batches."""

    house: House
    simulator: Simulator
    wire: Wire
    client: Client
    timing: Timing
    began_us: int
    told: list[Told] = field(default_factory=list)
    live: list[bytes] = field(default_factory=list)

    # --- the service of live calls, counted

    async def messages(self, request: MessagesRequest) -> Outcome:
        self.live.append(request.body)
        return await self.client.messages(request)

    # --- working

    def batching(self, **more: Any) -> Batching:
        told: dict[str, Any] = {
            "service": Batches(self.client),
            "timing": self.timing,
            "spool": self.house.folder / "spool",
            "fingerprint": "key-1",
            "tell": self._tell,
        }
        return Batching(**(told | more))

    def _tell(self, event: BatchEvent) -> None:
        json.dumps(dict(event.facts))  # machines read it
        self.told.append(Told(at_s=self.now_s, event=event))

    async def work(self, run: Run, *, waits: bool = True, **more: Any) -> RunEnd:
        return await self.house.work(run, self, batches=self.batching(waits=waits), **more)

    def cancel_by_hand(self, number: int) -> None:
        """Somebody cancels the batch that was made as the `number`-th, in the console as it were."""
        path = f"{PATH}/{self.batches[number].id}/cancel"
        headers = {"x-api-key": KEY.secret, "anthropic-version": "2023-06-01"}
        reply = self.simulator.receive(Request(method="POST", path=path, headers=headers))
        assert reply.status == 200, reply.body

    def foreign(self, rows: int, seconds: float) -> str:
        """Somebody else makes a batch of so many rows in our workspace, which takes so long; its id."""
        workspace = self.simulator.config.workspace_id
        return str(self.simulator.batches.add_foreign(rows, "theirs-", workspace, seconds)["id"])

    def move_key(self, workspace: str | None) -> None:
        """Our key looks at another workspace from now on; None: at its own again."""
        self.simulator.workspaces[KEY.secret] = workspace or self.simulator.config.workspace_id

    def at_hours(self, *deeds: tuple[float, Callable[[], None]]) -> None:
        """Do these things as soon as so many hours have passed and the service is asked for anything."""
        left = sorted(deeds, key=lambda deed: deed[0])

        async def look(_request: httpx.Request) -> None:
            while left and self.now_s >= left[0][0] * HOUR_S:
                left.pop(0)[1]()

        self.wire.before = look

    # --- looking

    @property
    def now_s(self) -> float:
        return (self.house.clock.now_us() - self.began_us) / SECOND

    @property
    def creates(self) -> list[Create]:
        """Every POST that the service has seen."""
        return self.simulator.batches.journal.creates

    @property
    def batches(self) -> list[Batch]:
        return list(self.simulator.batches._batches.values())

    def made_at_s(self, create: Create) -> float:
        return (create.at_us - self.began_us) / SECOND

    def submissions(self, run: Run) -> list[Submission]:
        return self.house.store.submissions_of(run.id)

    def states(self, run: Run) -> list[BatchState]:
        return [one.state for one in self.submissions(run)]

    def names(self) -> list[str]:
        return [told.name for told in self.told]

    def when(self, name: str) -> list[float]:
        """The times at which an event of this name was told, in seconds."""
        return [told.at_s for told in self.told if told.name == name]

    def texts(self, name: str) -> list[str]:
        return [told.event.text for told in self.told if told.name == name]

    def books(self, run: Run) -> BatchBooks:
        return BatchBooks(self.house, self.simulator, run)

    def spool_left(self) -> list[str]:
        """What lies in the spool folder."""
        folder = self.house.folder / "spool"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@asynccontextmanager
async def office(
    house: House,
    *,
    faults: tuple[Fault, ...] = (),
    timing: Timing = TIMING,
    betas: tuple[str, ...] = (),
    **config: Any,
) -> AsyncIterator[Office]:
    """The service on the house's clock."""
    simulator = Simulator(SimulatorConfig(faults=faults, **config), house.clock)
    wire = Wire(simulator)
    connection = Connection(credential=KEY, base_url="http://127.0.0.1:9", betas=betas)
    async with Client(connection, wire, house.clock, env={}) as client:
        yield Office(house, simulator, wire, client, timing, house.clock.now_us())


def batch_job(**batch: Any) -> dict[str, Any]:
    """What `House.new_run` takes for a job in batches; probes and primings only where a test asks for them."""
    plain: dict[str, Any] = {"probe": False, "warm_cache": "never"}
    return {"mode": Mode.BATCH, "batch": BatchSpec(**(plain | batch))}


def at_create(kind: str, **more: Any) -> Fault:
    """A fault that hits creates; the first unless said otherwise."""
    return Fault(**({"kind": kind, "path": PATH, "method": "POST", "first": 1} | more))


def at_results(kind: str, **more: Any) -> Fault:
    return Fault(**({"kind": kind, "path": PATH + "/*/results", "method": "GET"} | more))


def at_list(kind: str, **more: Any) -> Fault:
    return Fault(**({"kind": kind, "path": PATH, "method": "GET"} | more))


def at_status(kind: str, **more: Any) -> Fault:
    return Fault(**({"kind": kind, "path": PATH + "/msgbatch_*[!s]", "method": "GET"} | more))


def pace(office_: Office, number: int, **changes: Any) -> None:
    """Change how the batch that was made as the `number`-th fares, from now on."""
    batch = office_.batches[number]
    batch.pace = replace(batch.pace, **changes)


# --- the books


class BatchBooks(Books):
    """Single calls and lines of batches against the bill."""

    def check(self) -> None:
        exact: dict[int, list[int]] = defaultdict(list)
        bounds: dict[int | None, list[int | None]] = defaultdict(list)
        by_key: dict[str, int] = {}
        for line in self.house.table("ledger"):
            if line.cost_pico is None:
                assert line.kind == "unknown", line
                bounds[line.idx].append(line.bound_pico)
                continue
            exact[line.idx].append(line.cost_pico)
            by_key[line.key] = line.cost_pico
        for row, pico, names in self._charges():
            told = [by_key[name] for name in names if name in by_key]
            if told:
                assert told == [pico], f"row {row}: {told} instead of {pico}"
            if pico in exact[row]:
                exact[row].remove(pico)
                continue
            covering = sorted(bound for bound in bounds[row] if bound is not None and bound >= pico)
            assert covering, f"row {row} was charged {pico} pico, and no entry covers it: {exact[row]} {bounds[row]}"
            bounds[row].remove(covering[0])
        assert not [cost for costs in exact.values() for cost in costs if cost], f"spent but never charged: {exact}"

    def _charges(self) -> Iterator[tuple[int, int, list[str]]]:
        """Row, cost, and the names under which a line of a batch may stand in the books."""
        idx_of_body: dict[str, int] | None = None
        for charge in self.simulator.ledger.all_charges():
            pico = charge.cost_usd * 10**12
            assert pico.denominator == 1
            if charge.custom_id is not None:
                parsed = parse_custom_id(charge.custom_id)
                assert parsed is not None
                yield parsed[1], pico.numerator, [charge.custom_id, f"{charge.custom_id}@{charge.batch_id}"]
                continue
            if idx_of_body is None:
                idx_of_body = self._idx_of_body()
            yield idx_of_body[charge.body_sha256], pico.numerator, []

    def check_budget_row(self) -> None:
        """Spent is what the ledger says; committed are unknown ends, open sends and what rides."""
        lines = [line for line in self.house.table("ledger") if line.run == self.run.id]
        spent = sum(line.cost_pico or 0 for line in lines)
        withdrawn = {line.corrects for line in lines}
        unknown = sum(line.bound_pico or 0 for line in lines if line.id not in withdrawn)
        sends = sum(send.worst_pico or 0 for send in self.house.table("sends") if send.run == self.run.id)
        riding = {"sending", "unknown", "accepted", "claimed", "ended"}
        out = [one for one in self.house.table("batches") if one.run == self.run.id and one.state in riding]
        reserved = sum(one.worst_pico or 0 for one in out)
        for row in self.house.table("budgets"):
            if row.scope == f"run:{self.run.id}":
                assert (row.spent_pico, row.committed_pico) == (spent, unknown + sends + reserved)


def check_rows(office_: Office, run: Run, rows: int) -> None:
    """Every row has one result; none succeeded in two batches of ours; every submission was posted at most once."""
    told = office_.house.rows(run)
    assert [row.result.idx for row in told] == list(range(rows))
    posted = Counter(create.first_custom_id.partition("-")[0] for create in office_.creates if create.first_custom_id)
    assert not [name for name, count in posted.items() if count > 1], f"posted twice: {posted}"
    done = Counter(idx for idx in succeeded_in_batches(office_))
    assert not [idx for idx, count in done.items() if count > 1], f"succeeded twice: {done}"


def succeeded_in_batches(office_: Office) -> Iterator[int]:
    """The rows that were billed in batches, once for each time."""
    for bill in office_.simulator.ledger.batch_bills:
        for charge in bill.charges():
            parsed = parse_custom_id(charge.custom_id or "")
            assert parsed is not None
            yield parsed[1]


def chunk_sums(house: House) -> list[tuple[str, int]]:
    """State and riding rows of each chunk."""
    return [(chunk.state, chunk.riding) for chunk in house.table("chunks")]
