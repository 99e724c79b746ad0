"""The brain of the simulator, without IO: a parsed request in, a plan of a reply out.

It knows the doors and in which order they are tried. Sockets, bytes on the wire and waiting are the server's.
"""

from __future__ import annotations

from runner.clock import Clock
from runner.simulator import admin, callers, catalog, mishaps, reports
from runner.simulator.answers import compose_message
from runner.simulator.batch_verdicts import at_batch_terms
from runner.simulator.batches import PATH as BATCHES
from runner.simulator.batches import BatchesDoor, Visit
from runner.simulator.buckets import Limits
from runner.simulator.caches import NOTHING_WARM, PromptCaches, cache_use
from runner.simulator.config import SimulatorConfig
from runner.simulator.directives import wishes_of
from runner.simulator.exchange import Reply, Request, json_reply
from runner.simulator.facts import facts
from runner.simulator.faults import Fault, FaultPlan
from runner.simulator.files import PATH as FILES
from runner.simulator.files import FilesDoor
from runner.simulator.ledger import Ledger
from runner.simulator.messages import MessagesDoor, read_params
from runner.simulator.problems import Problem, edge_reply, not_found, problem_reply
from runner.simulator.skills import PATH as SKILLS
from runner.simulator.skills import SkillsDoor

ADMIN_PREFIX = "/_simulator/"
# Beside its files a form has boundaries and heads; what is too large as a file is refused by the door.
ROOM_FOR_A_FORM = 1_000_000


class Simulator:
    """One organization's view of the Claude API."""

    def __init__(self, config: SimulatorConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.reset()

    def reset(self) -> None:
        """As on the first day: empty ledger, full buckets, the faults of the config."""
        self.ledger = Ledger(keep_all=self.config.keep_ledger == "full")
        limits = Limits(self.config)
        caches = PromptCaches()
        self.files = FilesDoor(self.clock, self.config.seed, self.config.files_quota_bytes)
        self.skills = SkillsDoor(self.clock, self.config.seed)
        self._messages = MessagesDoor(self.config, self.clock, self.ledger, limits, caches, self.files)
        self.batches = BatchesDoor(
            self.config, self.clock, self.ledger, limits, self._messages.flaky, caches, self.files
        )
        self.workspaces = dict(self.config.workspaces)
        self._ordinal = 0
        self.set_faults(self.config.faults)

    def set_faults(self, faults: tuple[Fault, ...]) -> None:
        """Replace the faults; their counts and windows start now."""
        self._faults = FaultPlan(faults, self.config.seed)
        self._faults_from_s = self.clock.monotonic()

    def body_limit(self, path: str) -> int:
        """The most bytes that the edge lets through to this path."""
        limits = facts().body_limits
        if path.startswith(FILES):
            return limits["files"] + ROOM_FOR_A_FORM
        if path.startswith(SKILLS):
            return limits["skills"] + ROOM_FOR_A_FORM
        return limits["batches"] if path.startswith(BATCHES) else limits["messages"]

    def receive(self, request: Request) -> Reply:
        """What happens to this request."""
        self.batches.settle()
        if request.path.startswith(ADMIN_PREFIX):
            return admin.admin_reply(self, request)
        self._ordinal += 1
        request_id = f"req_011{self.config.seed & 0xFFFF:04x}{self._ordinal:017x}"
        ordinal, came_us = self._ordinal, self.clock.now_us()
        reply = self._served(request, ordinal, request_id)
        if request.path == BATCHES and request.method == "POST":
            reply = self._noted(request, reply, ordinal, came_us, request_id)
        return reply if reply.from_edge else reply.with_headers(self._identity(request, request_id, reply))

    @property
    def has_work(self) -> bool:
        """Whether `work_ahead` has something to do."""
        return self.batches.has_work

    def work_ahead(self) -> bool:
        """Do a little of what is due later, in an idle moment; whether there is more."""
        return self.batches.work_ahead()

    def workspace_of(self, request: Request) -> str:
        """The workspace of the caller's key."""
        return self.workspaces.get(callers.key_of(request.headers), self.config.workspace_id)

    def _noted(self, request: Request, reply: Reply, ordinal: int, came_us: int, request_id: str) -> Reply:
        return self.batches.journal.note(
            request,
            reply,
            ordinal=ordinal,
            at_us=came_us,
            request_id=request_id,
            workspace_id=self.workspace_of(request),
        )

    def _identity(self, request: Request, request_id: str, reply: Reply) -> tuple[tuple[str, str], ...]:
        if reply.status == 401:  # nobody was recognized, so there is no organization to name
            return (("request-id", request_id),)
        return (
            ("request-id", request_id),
            ("anthropic-organization-id", self.config.organization_id),
            ("anthropic-workspace-id", self.workspace_of(request)),
        )

    def _served(self, request: Request, ordinal: int, request_id: str) -> Reply:
        """The edge first, then trouble on the way in, the doors, and trouble on the way out."""
        self.ledger.counts["requests"] += 1
        if request.body_too_large:
            self.ledger.refuse("request_too_large")
            return edge_reply(413)
        fault = self._faults.strike(request, ordinal, self.clock.monotonic() - self._faults_from_s)
        if fault is None:
            return self._answered(request, ordinal, request_id, None)
        self.ledger.faults[fault.kind] += 1
        reply = mishaps.refusal_of(fault, request_id, self.clock.now_us()) or mishaps.never_arrives(fault)
        if reply is not None:
            self.ledger.refuse(f"fault:{fault.kind}")
            return reply
        reply = self._answered(request, ordinal, request_id, fault)
        if reply.status != 200:
            return reply
        plan = self._faults
        return mishaps.struck(reply, fault, request_id, lambda: self._faults is plan)

    def _answered(self, request: Request, ordinal: int, request_id: str, fault: Fault | None) -> Reply:
        answer: Reply | Problem | None = callers.caller_problem(request.headers, self.config)
        if answer is None:
            answer = self._routed(request, ordinal, request_id, fault)
        if isinstance(answer, Problem):
            self.ledger.refuse(answer.reason)
            return problem_reply(answer, request_id)
        return answer

    def _routed(self, request: Request, ordinal: int, request_id: str, fault: Fault | None) -> Reply | Problem:
        """The doors, busiest first."""
        door = (request.method, request.path)
        if door == ("POST", "/v1/messages"):
            return self._messages.create(request, ordinal, request_id, fault, self.workspace_of(request))
        if door == ("POST", "/v1/messages/count_tokens"):
            return self._messages.count(request)
        if door == ("GET", "/v1/models"):
            return _or_problem(catalog.model_page(request.query))
        if request.method == "GET" and request.path.startswith("/v1/models/"):
            return _or_problem(catalog.model_info(request.path.removeprefix("/v1/models/")))
        if _under(request.path, FILES):
            return self.files.answer(request, self.workspace_of(request))
        if _under(request.path, SKILLS):
            return self.skills.answer(request, self.workspace_of(request))
        if request.method == "GET" and request.path in reports.PATHS:
            return reports.report_reply(self.ledger, request)
        if request.path == BATCHES or request.path.startswith(BATCHES + "/"):
            return self.batches.answer(self._visit(request, ordinal, request_id, fault))
        return not_found(f"{request.path}: Not Found")

    def _visit(self, request: Request, ordinal: int, request_id: str, fault: Fault | None) -> Visit:
        return Visit(
            request=request,
            workspace_id=self.workspace_of(request),
            ordinal=ordinal,
            request_id=request_id,
            fault=fault,
            now_us=self.clock.now_us(),
        )


def _under(path: str, door: str) -> bool:
    return path == door or path.startswith(door + "/")


def _or_problem(answer: dict[str, object] | Problem) -> Reply | Problem:
    return answer if isinstance(answer, Problem) else json_reply(answer)


def expected_message(config: SimulatorConfig, body: bytes, *, batch: bool = False) -> dict[str, object]:
    """The message that a simulator with this config gives for this body or these params, once it gives one.

    As long as nothing of it is cached: what is, changes the usage and nothing else.
    """
    request = Request(method="POST", path="/v1/messages", headers={}, body=body)
    params = read_params(request)
    if isinstance(params, Problem):
        raise ValueError(params.message)
    message = compose_message(
        params,
        seed=config.seed,
        body=body,
        wishes=wishes_of(params),
        default_tokens=config.output_tokens,
        broken_share=config.broken_output_share,
        cached=cache_use(params, config.workspace_id, NOTHING_WARM),
    )
    return at_batch_terms(message) if batch else message
