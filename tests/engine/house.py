"""A run, its store, a simulator on a socket and turned time, in few words; and what the books say afterwards."""

from __future__ import annotations

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import text

from runner.api.client import Client, Connection
from runner.api.credentials import Credential
from runner.api.wire import outcome_of_reply
from runner.clock import Clock
from runner.domain.job import InputSpec, Job, Limits
from runner.domain.marking import MANY_ROWS
from runner.domain.outcome import Answer, Failure, FailureKind, Outcome, Usage
from runner.domain.pricing import shipped_prices
from runner.domain.request import MessagesRequest
from runner.domain.result import ExportedRow
from runner.domain.run import NewRun, Run
from runner.engine.live import Service
from runner.engine.parts import Parts, RunEnd
from runner.engine.run import work_on
from runner.files.check import InputReport, check_input
from runner.files.render import Renderer
from runner.files.source import Input, of_stream, open_input
from runner.simulator import Request, RunningServer, Simulator, SimulatorConfig, serve
from runner.store.store import Store
from tests.turned_clock import TurnedClock

MODEL = "claude-haiku-5-5"
KEY = Credential(kind="api_key", secret="sk-ant-test", source="a test")


def prompts(count: int, wish: str = "") -> list[bytes]:
    """Rows whose prompts differ, so that each has a body of its own."""
    return [b'{"prompt":"row %d %s"}' % (number, wish.encode()) for number in range(count)]


def a_job(**changes: Any) -> Job:
    limits = changes.pop("limits", {})
    return replace(Job(name="letters", model=MODEL, limits=replace(Limits(concurrency=8), **limits)), **changes)


@dataclass
class House:
    """Everything that outlives one process: the store, the input, and the clock that all share."""

    folder: Path
    clock: TurnedClock
    store: Store
    streamed: bool = False

    def write(self, lines: Iterable[bytes]) -> None:
        self.path.write_bytes(b"".join(line + b"\n" for line in lines))

    @property
    def path(self) -> Path:
        return self.folder / "rows.jsonl"

    def new_run(self, lines: Sequence[bytes] | None = None, **job: Any) -> Run:
        """A run over these rows; of a streamed input nothing is known beforehand."""
        if lines is not None:
            self.write(lines)
        spec = job.pop("input", InputSpec())
        told = a_job(input=replace(spec, path=str(self.path)), **job)
        report = None if self.streamed else self.report(told)
        new = NewRun(
            job=told,
            key=None,
            input_uri=str(self.path),
            input_digest=report.digest if report else None,
            input_bytes=report.size if report else None,
            records=report.records if report else None,
            skipped=report.bad_count if report else 0,
            output=None,
        )
        return self.store.create_run(new, self.clock.now_us())

    def report(self, job: Job) -> InputReport:
        with open_input(str(self.path)) as source:
            return check_input(source, Renderer(job), on_bad_row=job.input.on_bad_row, limit=job.input.limit)

    def source(self) -> Input:
        if not self.streamed:
            return open_input(str(self.path))
        stream = io.BytesIO(self.path.read_bytes())
        return of_stream(stream)

    def parts(self, run: Run, service: Service, **more: Any) -> Parts:
        told: dict[str, Any] = {
            "store": self.store,
            "source": self.source(),
            "report": None if self.streamed else self.report(run.job),
            "service": service,
            "renderer": Renderer(run.job),
            "prices": shipped_prices(),
            "clock": self.clock,
        }
        return Parts(**(told | more))

    async def work(self, run: Run, service: Service, **more: Any) -> RunEnd:
        """Start the run, or go on with it, in a process of its own as it were."""
        run = self.store.run_by_id(run.id)
        job = more.pop("job", run.job)
        if run.state == "paused" or job is not run.job:
            run = self.store.resume_run(run, job)
        async with self.clock.autojump():
            return await work_on(run, self.parts(run, service, **more))

    # --- what is left

    def rows(self, run: Run) -> list[ExportedRow]:
        return list(self.store.exported(run))

    def statuses(self, run: Run) -> Counter[str]:
        return Counter(str(row.result.status) for row in self.rows(run))

    def table(self, name: str) -> list[Any]:
        return list(self.store.database.read(lambda c: c.execute(text(f"SELECT * FROM {name}")).all()))

    def sends_left(self) -> int:
        return len(self.table("sends"))


@asynccontextmanager
async def served(house: House, **config: Any) -> AsyncIterator[Served]:
    """A simulator on a socket, on the house's clock, and a client for it."""
    row_timeout_s = config.pop("row_timeout_s", 30.0)
    concurrency = config.pop("concurrency", 64)
    simulator = Simulator(SimulatorConfig(**config), house.clock)
    async with AsyncExitStack() as stack:
        server = await serve(simulator)
        stack.push_async_callback(server.close)
        connection = Connection(
            credential=KEY,
            base_url=server.url,
            concurrency=concurrency,
            row_timeout_s=row_timeout_s,
            read_timeout_s=row_timeout_s,
        )
        client = await stack.enter_async_context(Client(connection, clock=house.clock, env={}))
        yield Served(simulator, server, client)


@dataclass
class Served:
    """The simulator as a Service that notes when each body was sent."""

    simulator: Simulator
    server: RunningServer
    client: Client
    sent: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    order: list[tuple[int, str]] = field(default_factory=list)

    async def messages(self, request: MessagesRequest) -> Outcome:
        now_us = self.simulator.clock.now_us()
        sha = hashlib.sha256(request.body).hexdigest()
        self.sent[sha].append(now_us)
        self.order.append((now_us, sha))
        return await self.client.messages(request)

    @property
    def calls(self) -> int:
        return len(self.order)


HEADERS = {"x-api-key": KEY.secret, "anthropic-version": "2026-10-21", "content-type": "application/json"}


class Direct:
    """The simulator as a Service without a socket: nothing but turned time passes, so an hour takes seconds."""

    def __init__(self, clock: Clock, **config: Any) -> None:
        self.simulator = Simulator(SimulatorConfig(**config), clock)
        self._clock = clock

    async def messages(self, request: MessagesRequest) -> Outcome:
        asked = Request(method="POST", path="/v1/messages", headers=HEADERS, body=request.body)
        reply = self.simulator.receive(asked)
        await self._clock.sleep(reply.delay_s)
        late = reply.late_headers() if reply.late_headers else ()
        if reply.on_end:
            reply.on_end("delivered")
        date = formatdate(self._clock.now_us() // 1_000_000, usegmt=True)
        return outcome_of_reply(reply.status, dict((*reply.headers, *late, ("date", date))), reply.body)


class Scripted:
    """A service without a socket: `answer(request, number)` gives each outcome, after `latency_s` of turned time."""

    def __init__(
        self, clock: Clock, answer: Callable[[MessagesRequest, int], Outcome], latency_s: float = 0.0
    ) -> None:
        self._clock = clock
        self._answer = answer
        self._latency_s = latency_s
        self.sent: list[tuple[int, bytes]] = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def messages(self, request: MessagesRequest) -> Outcome:
        number = len(self.sent)
        self.sent.append((self._clock.now_us(), request.body))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self._latency_s:
                await self._clock.sleep(self._latency_s)
            return self._answer(request, number)
        finally:
            self.in_flight -= 1

    @property
    def times_s(self) -> list[float]:
        """When each call was sent, in seconds from the first."""
        return [(at_us - self.sent[0][0]) / 1e6 for at_us, _ in self.sent]


USAGE = Usage(input_tokens=20, output_tokens=10)


def answered(
    request: MessagesRequest,
    number: int = 0,
    *,
    stop: str = "end_turn",
    usage: Usage = USAGE,
    text: str | None = None,
) -> Answer:
    message = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [{"type": "text", "text": text or f"answer {number}"}],
        "stop_reason": stop,
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
    }
    return Answer(
        message=msgspec.json.encode(message),
        message_id=f"msg_{number}",
        model=request.model,
        stop_reason=stop,
        usage=usage,
    )


def failed(kind: FailureKind, type_: str = "simulated", **told: Any) -> Failure:
    return Failure(kind=kind, type=type_, message="as the test says", **told)


# --- the books


@dataclass
class Books:
    """The ledger of the store against the bill of the simulator, row by row."""

    house: House
    simulator: Simulator
    run: Run

    def check(self) -> None:
        """Every charge stands in the books exactly, or an unknown entry of its row covers it; nothing is in neither
        and nothing that was not charged stands there as spent."""
        idx_of_body = self._idx_of_body()
        exact: dict[int, list[int]] = defaultdict(list)
        bounds: dict[int, list[int]] = defaultdict(list)
        for line in self.house.table("ledger"):
            if line.cost_pico is not None:
                exact[line.idx].append(line.cost_pico)
            else:
                assert line.kind == "unknown", line
                bounds[line.idx].append(line.bound_pico)
        for charge in self.simulator.ledger.charges:
            pico = charge.cost_usd * 10**12
            assert pico.denominator == 1
            row = idx_of_body[charge.body_sha256]
            if pico.numerator in exact[row]:
                exact[row].remove(pico.numerator)
                continue
            covering = sorted(bound for bound in bounds[row] if bound is not None and bound >= pico)
            assert covering, f"row {row} was charged {pico} pico, and no entry covers it: {exact[row]} {bounds[row]}"
            bounds[row].remove(covering[0])
        assert not [cost for costs in exact.values() for cost in costs if cost], f"spent but never charged: {exact}"

    def check_budget_row(self) -> None:
        """What the budget says is what the ledger and the open sends say."""
        lines = self.house.table("ledger")
        money = self.house.store.money(self.run.id)
        assert money.spent_pico == sum(line.cost_pico or 0 for line in lines)
        unknown = sum(line.bound_pico or 0 for line in lines)
        reserved = sum(send.worst_pico or 0 for send in self.house.table("sends"))
        budgets = [row for row in self.house.table("budgets") if row.scope.endswith(str(self.run.id))]
        for row in budgets:
            assert (row.spent_pico, row.committed_pico) == (money.spent_pico, unknown + reserved)

    def _idx_of_body(self) -> dict[str, int]:
        """Bodies of first turns, with a mark of ours for the prompt cache and without; of continued turns the message
        that went back tells the row."""
        plain, marking = Renderer(self.run.job), Renderer(self.run.job)
        marking.keep_heads(shipped_prices(), MANY_ROWS)
        found: dict[str, int] = {}
        turns: dict[int, list[bytes]] = defaultdict(list)
        for turn in self.house.table("turns"):
            turns[turn.idx].append(turn.message)
        from runner.engine.turns import continued

        for record, line in enumerate(self.house.store.staged_lines(self.run.id)):
            for repeat in range(self.run.fan):
                idx = record * self.run.fan + repeat
                for renderer in (plain, marking):
                    request = renderer.request(renderer.parse(line))
                    for known in range(len(turns[idx]) + 1):
                        body = continued(request, turns[idx][:known]).body
                        found.setdefault(hashlib.sha256(body).hexdigest(), idx)
        return found


def charged_pico(simulator: Simulator) -> int:
    """The whole bill."""
    total = simulator.ledger.cost_usd * 10**12
    assert total.denominator == 1
    return total.numerator
