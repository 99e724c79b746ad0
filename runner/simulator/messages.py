"""The doors POST /v1/messages and POST /v1/messages/count_tokens: from a body to a reply, and to the bill.

Checks, limits, answer and price each have their module; here is the order in which they are asked.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import msgspec

from runner.clock import Clock
from runner.simulator import answers, callers, prompt, sse
from runner.simulator.beta_rules import beta_problem
from runner.simulator.billing import cost_usd
from runner.simulator.buckets import ClassBuckets, Limits
from runner.simulator.caches import MARK_BYTES, NO_CACHE, SECOND_US, CacheUse, PromptCaches, cache_use
from runner.simulator.checks import shape_problem
from runner.simulator.config import SimulatorConfig
from runner.simulator.directives import MARK, NO_WISHES, Wishes, wished_trouble, wishes_of
from runner.simulator.exchange import Headers, Reply, Request, json_reply
from runner.simulator.facts import facts, find_model
from runner.simulator.faults import FAILED_KINDS, HALVING_KINDS, STREAM_KINDS, Fault, dice
from runner.simulator.files import FilesDoor
from runner.simulator.ledger import Charge, Ledger, Offer
from runner.simulator.model_rules import model_problem
from runner.simulator.problems import Problem, invalid
from runner.simulator.server_tools import file_id_of
from runner.simulator.together import together_problem

LATENCY_DICE = -1  # keeps the dice of latency apart from those of the faults
EVENT_STREAM: Headers = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))
_MARK_BYTES = MARK.encode()

Params = dict[str, Any]


class MessagesDoor:
    """Answers Messages calls; keeps the limits, the bill and what `flaky` rows have met."""

    def __init__(
        self,
        config: SimulatorConfig,
        clock: Clock,
        ledger: Ledger,
        limits: Limits,
        caches: PromptCaches,
        files: FilesDoor,
    ) -> None:
        self._config = config
        self._clock = clock
        self._ledger = ledger
        self._limits = limits
        self._caches = caches
        self._files = files
        self.flaky: Counter[bytes] = Counter()

    def count(self, request: Request) -> Reply | Problem:
        """POST /v1/messages/count_tokens: free, with a limit of its own."""
        params = read_params(request, counting=True)
        if isinstance(params, Problem):
            return params
        now_s = self._clock.monotonic()
        buckets = self._limits.of_counting(now_s)
        refusal = self._refused_by_limits(buckets, "count_tokens", 0, 0)
        if refusal is not None:
            return refusal
        headers = buckets.headers(now_s, self._clock.now_us()) if buckets else ()
        return json_reply({"input_tokens": prompt.input_tokens(params)}).with_headers(headers)

    def create(
        self, request: Request, ordinal: int, request_id: str, fault: Fault | None, workspace_id: str
    ) -> Reply | Problem:
        """POST /v1/messages."""
        params = read_params(request)
        if isinstance(params, Problem):
            return params
        if (unusable := self._files.problem(params, workspace_id)) is not None:
            return unusable
        may_wish = _MARK_BYTES in request.body or "content-encoding" in request.headers
        wishes = wishes_of(params) if may_wish else NO_WISHES
        trouble = wished_trouble(wishes, request.body, self.flaky)
        if trouble is not None:
            return trouble
        model = find_model(params["model"])
        limit_class = model.limit_class if model else ""
        buckets = self._limits.of_class(limit_class, self._clock.monotonic())
        cached = self._cached(request, params, workspace_id)
        message = self._composed(params, request.body, wishes, cached)
        self._keep_files(params, wishes, workspace_id)
        refused = spend_problem(self._config, self._ledger) or self._refused_by_limits(
            buckets, limit_class, _limited_input(message["usage"]), message["usage"]["output_tokens"]
        )
        if refused is not None:
            return refused
        call = _Call(
            request=request,
            ordinal=ordinal,
            request_id=request_id,
            params=params,
            message=message,
            cached=cached,
            workspace_id=workspace_id,
        )
        return self._executed(call, buckets, fault)

    def _cached(self, request: Request, params: Params, workspace_id: str) -> CacheUse:
        if MARK_BYTES not in request.body and "content-encoding" not in request.headers:
            return NO_CACHE
        return cache_use(params, workspace_id, self._caches.now(self._clock.now_us()))

    def _composed(self, params: Params, body: bytes, wishes: Wishes, cached: CacheUse) -> dict[str, Any]:
        return answers.compose_message(
            params,
            seed=self._config.seed,
            body=body,
            wishes=wishes,
            default_tokens=self._config.output_tokens,
            broken_share=self._config.broken_output_share,
            cached=cached,
        )

    def _keep_files(self, params: Params, wishes: Wishes, workspace_id: str) -> None:
        """What code execution has written can be fetched."""
        if "file" in wishes:
            name = wishes.said["file"] or "out.csv"
            file_id = file_id_of(prompt.prompt_digest(params), name)
            self._files.written(workspace_id, name, f"made for {file_id}\n".encode(), file_id)

    def _refused_by_limits(
        self, buckets: ClassBuckets | None, limit_class: str, tokens: int, output: int
    ) -> Problem | None:
        now_s = self._clock.monotonic()
        refusal = buckets.admit(tokens, now_s) if buckets else None
        kind = "accepted" if refusal is None else refusal.limit.replace(" ", "_")
        self._ledger.offer(Offer(now_s, kind, limit_class, tokens, output if refusal is None else 0))
        if refusal is None or buckets is None:
            return None
        headers = (("retry-after", str(refusal.retry_after_s)), *buckets.headers(now_s, self._clock.now_us()))
        message = f"This request would exceed your organization's limit of {refusal.limit} per minute."
        return Problem(status=429, type="rate_limit_error", message=message, headers=headers)

    def _executed(self, call: _Call, buckets: ClassBuckets | None, fault: Fault | None) -> Reply:
        """The call is accepted: answer it and put it on the bill."""
        self._ledger.counts["accepted"] += 1
        reply = self._streamed(call, fault) if call.streams else self._plain(call)
        failed = fault is not None and fault.kind in FAILED_KINDS
        charge = None if failed else self._charged(call)
        delay_s = self._latency(call.ordinal)
        if not failed:
            self._remember(call.cached, delay_s)
        return replace(
            reply,
            delay_s=delay_s,
            late_headers=self._late_headers(buckets, call),
            on_end=self._ended(charge),
        )

    def _remember(self, cached: CacheUse, delay_s: float) -> None:
        """What was written is found once the answer has begun, but its time counts from now."""
        if cached.entries:
            now_us = self._clock.now_us()
            self._caches.use(cached.entries, began_us=now_us, readable_us=now_us + round(delay_s * SECOND_US))

    def _plain(self, call: _Call) -> Reply:
        return json_reply(call.message)

    def _streamed(self, call: _Call, fault: Fault | None) -> Reply:
        events = sse.message_events(call.message)
        if fault is not None and fault.kind in STREAM_KINDS:
            kept = _kept_events(fault, len(events))
            call.cut_after(kept, len(events))
            events = events[:kept] + _last_word(fault, call.request_id)
        elif fault is not None and fault.kind in HALVING_KINDS:
            call.cut_after(len(events) // 2, len(events))
        return Reply(status=200, headers=EVENT_STREAM, events=events, event_pause_s=self._config.event_pause_s)

    def _charged(self, call: _Call) -> Charge | None:
        """A refusal before the first word is free."""
        message = call.message
        if message["stop_reason"] == "refusal" and not message["content"]:
            self._ledger.counts["unbilled_refusals"] += 1
            return None
        charge = Charge(
            ordinal=call.ordinal,
            at_us=self._clock.now_us(),
            body_sha256=hashlib.sha256(call.request.body).hexdigest(),
            model=message["model"],
            usage=message["usage"],
            cost_usd=cost_usd(message["model"], message["usage"]),
            request_id=call.request_id,
            stream=call.streams,
            workspace_id=call.workspace_id,
        )
        self._ledger.charge(charge)
        return charge

    def _latency(self, ordinal: int) -> float:
        mean, jitter = self._config.latency_s, self._config.latency_jitter_s
        if not jitter:
            return mean
        return max(0.0, mean + jitter * (2 * dice(self._config.seed, LATENCY_DICE, ordinal) - 1))

    def _late_headers(self, buckets: ClassBuckets | None, call: _Call) -> Callable[[], Headers] | None:
        if buckets is None:
            return None

        def headers() -> Headers:
            now_s = self._clock.monotonic()
            buckets.produced(call.message["usage"]["output_tokens"], now_s)
            return buckets.headers(now_s, self._clock.now_us())

        return headers

    def _ended(self, charge: Charge | None) -> Callable[[str], None]:
        return lambda how: self._ledger.ended(how, charge)


class _Call:
    """One accepted call on its way to the bill."""

    __slots__ = ("cached", "message", "ordinal", "params", "request", "request_id", "workspace_id")

    def __init__(
        self,
        *,
        request: Request,
        ordinal: int,
        request_id: str,
        params: Params,
        message: dict[str, Any],
        cached: CacheUse,
        workspace_id: str,
    ) -> None:
        self.cached = cached
        self.workspace_id = workspace_id
        self.request = request
        self.ordinal = ordinal
        self.request_id = request_id
        self.params = params
        self.message = message

    @property
    def streams(self) -> bool:
        return bool(self.params.get("stream"))

    def cut_after(self, events: int, whole: int) -> None:
        """A broken stream is billed for what was produced."""
        usage = self.message["usage"]
        written = sse.produced_tokens(usage["output_tokens"], events, whole)
        self.message = self.message | {"usage": usage | {"output_tokens": written}}


def read_params(request: Request, *, counting: bool = False) -> Params | Problem:
    """The body as an object that this version and model accept, or the first problem."""
    body = callers.decoded_body(request, facts().body_limits["messages"])
    if isinstance(body, Problem):
        return body
    try:
        params = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return invalid("the request body is not valid JSON")
    if not isinstance(params, dict):
        return invalid("the request body must be a JSON object")
    return params_problem(params, request.headers, counting=counting) or params


def params_problem(
    params: Params, headers: Mapping[str, str], *, counting: bool = False, batch: bool = False
) -> Problem | None:
    """What this version of the API and this model refuse about a body."""
    version = headers.get("anthropic-version", "")
    betas = callers.betas_of(headers)
    return (
        shape_problem(params, version, counting=counting)
        or beta_problem(params, betas)
        or together_problem(params)
        or model_problem(params, betas, batch=batch)
    )


def _limited_input(usage: Mapping[str, Any]) -> int:
    """What the limit of input tokens counts: what is read from a cache is free of it."""
    tokens: int = usage["input_tokens"] + usage["cache_creation_input_tokens"]
    return tokens


def spend_problem(config: SimulatorConfig, ledger: Ledger) -> Problem | None:
    """Once the cap is reached nothing is accepted."""
    cap = config.spend_cap_usd
    if cap is None or ledger.cost_usd < Fraction(cap):
        return None
    return Problem(
        status=429,
        type="rate_limit_error",
        message="The monthly spend cap is reached.",
        code="enforced_spend_limit_reached",
    )


def _kept_events(fault: Fault, count: int) -> int:
    """`first`: right after message_start; `last`: all but message_stop."""
    return {"first": 1, "middle": max(2, count // 2), "last": count - 1}[fault.at]


def _last_word(fault: Fault, request_id: str) -> tuple[bytes, ...]:
    if fault.kind == "truncated_sse":
        return ()
    error = {"type": fault.error_type or "overloaded_error", "message": fault.message or "Overloaded"}
    return (sse.event("error", {"type": "error", "error": error, "request_id": request_id}),)
