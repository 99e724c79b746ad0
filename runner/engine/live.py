"""The slots: each takes a row, waits at the gate, writes its send, calls, decides, settles; only then is it free."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import anyio

from runner.clock import Clock
from runner.domain.decide import Continue, Decision, Finish, PauseRun, RowHistory, TryAgain, decide
from runner.domain.job import Job
from runner.domain.outcome import Answer, Failure, FailureKind, Origin, Outcome
from runner.domain.pricing import PriceBook
from runner.domain.request import MessagesRequest
from runner.domain.states import PauseReason, RowStatus
from runner.engine.feeder import Feeder, Work
from runner.engine.first_calls import FirstCalls
from runner.engine.gate import Gate
from runner.engine.meter import Meter
from runner.engine.room import Room
from runner.engine.settle import Call, released, settlement, unsendable
from runner.engine.stop import Stop
from runner.engine.turns import continued
from runner.engine.writer import Writer
from runner.files.bad_row import BadRow
from runner.files.render import Renderer
from runner.store.claims import StoredTurn
from runner.store.group import SendIntent, Settlement, Verdict

# Bytes of a request per input token, roughly, until the job's own answers say better.
BYTES_PER_TOKEN = 4.0


class Service(Protocol):
    """What the slots need of the API client."""

    async def messages(self, request: MessagesRequest) -> Outcome: ...


class Live:
    """Live calls of one run over one pool of slots."""

    def __init__(
        self,
        *,
        job: Job,
        round_: int,
        feeder: Feeder,
        writer: Writer,
        gate: Gate,
        service: Service,
        renderer: Renderer,
        prices: PriceBook,
        meter: Meter,
        clock: Clock,
        stop: Stop,
        check_failures: Callable[[], None],
        remember_hold: Callable[[int], Awaitable[None]],
    ) -> None:
        self._job = job
        self._policy = job.limits.policy()
        self._round = round_
        self._feeder = feeder
        self._writer = writer
        self._gate = gate
        self._service = service
        self._renderer = renderer
        self._prices = prices
        self._meter = meter
        self._clock = clock
        self._stop = stop
        self._check_failures = check_failures
        self._remember_hold = remember_hold
        self.origin: Origin | None = None
        self._room = Room()
        self._first_calls = FirstCalls(prices, clock, stop)
        self._chance = random.Random()
        self._input_ratio = 1 / BYTES_PER_TOKEN

    async def serve(self, slots: int) -> None:
        """Work until the feeder has no more rows or the run is to stop."""
        try:
            async with anyio.create_task_group() as pool:
                for _ in range(slots):
                    pool.start_soon(self._slot)
        finally:
            self._feeder.rows.close()

    async def _slot(self) -> None:
        async for work in self._feeder.rows:
            if self._stop.is_asked():
                return
            await self._row(work)

    async def _row(self, work: Work) -> None:
        """One try of a row: a call, or several when the server pauses its turn."""
        try:
            row = self._renderer.parse(work.line)
            key = self._renderer.key(row)
            request = self._renderer.request(row)
        except BadRow as bad:
            await self._end_unsendable(work, bad)
            return
        work.last_try += 1
        work.prefixes = await self._first_calls.turn_of(work.idx, request)
        try:
            await self._try(work, key, request)
        finally:
            self._first_calls.ended(work.idx, work.prefixes, sent_us=None)

    async def _try(self, work: Work, key: str | None, request: MessagesRequest) -> None:
        while not self._stop.is_asked():
            call = await self._reserve(work, key, request)
            if call is None:
                return
            if self._stop.is_asked() or self._gate.is_held:
                # The commit took its time: what another slot was told meanwhile holds for this call too.
                await self._end(call, released(call, self._clock.now_us()))
                self._gate.correct(*call.estimate)
                continue
            decision = await self._call(call)
            if not isinstance(decision, Continue):
                self._carry_out(call, decision)
                return

    async def _end_unsendable(self, work: Work, bad: BadRow) -> None:
        now_us = self._clock.now_us()
        await self._writer.submit(unsendable(work, None, self._round, bad.reason, now_us))
        self._ended(RowStatus.ERRORED, "bad_row")

    async def _reserve(self, work: Work, key: str | None, request: MessagesRequest) -> Call | None:
        """Wait for room, then write the send and its reservation; None when the call is not to be made."""
        request = continued(request, [turn.message for turn in work.turns])
        estimate = self._estimate(request)
        await self._gate.admit(*estimate)
        while not self._stop.is_asked():
            call = self._new_call(work, key, request, estimate)
            since = self._room.asked()
            verdict = await self._writer.submit(_intent(call))
            if verdict is Verdict.STORED:
                self._room.taken()
                self._meter.committed_pico += call.worst_pico or 0
                return call
            self._room.refused()
            if verdict is not Verdict.OVER_BUDGET or not await self._room.comes(since):
                self._not_admitted(work, verdict)
                return None
        return None

    def _new_call(self, work: Work, key: str | None, request: MessagesRequest, estimate: tuple[float, float]) -> Call:
        return Call(
            work=work,
            key=key,
            round=self._round,
            model=request.model,
            request=request,
            try_=work.last_try,
            turn=len(work.turns),
            worst_pico=self._prices.worst_pico(request),
            estimate=estimate,
            sent_us=self._clock.now_us(),
        )

    async def _end(self, call: Call, operation: Settlement) -> None:
        """Store the end of a call, which gives back what it had reserved."""
        self._meter.committed_pico -= call.worst_pico or 0
        await self._writer.submit(operation)
        self._room.given_back()

    def _not_admitted(self, work: Work, verdict: Verdict) -> None:
        if verdict is Verdict.FENCED:
            self._feeder.ended()
        elif verdict is Verdict.UNBOUNDED:
            self._stop.pause_for(
                PauseReason.BUDGET,
                f"row {work.idx} has no computable upper bound of cost, so a budget cannot be kept with it",
            )
        else:
            self._stop.pause_for(PauseReason.BUDGET, "the next call could pass the budget")

    async def _call(self, call: Call) -> Decision:
        """Send, decide, settle. Cancelled in mid-call, the send stays in the store: a call of unknown end."""
        started_s = self._clock.monotonic()
        self._meter.sent(started_s)
        try:
            outcome = await self._service.messages(call.request)
        finally:
            self._meter.in_flight -= 1
        now_us, now_s = self._clock.now_us(), self._clock.monotonic()
        decision = decide(
            outcome,
            call.work.history,
            self._gate.history(),
            self._policy,
            now_us=now_us,
            chance=self._chance.random(),
        )
        self._learn(call, outcome, now_us, now_s - started_s)
        held_until_us = self._hold(call, outcome, decision, now_us)
        stored = settlement(
            call, outcome, decision, self._prices, now_us=now_us, latency_us=round((now_s - started_s) * 1e6)
        )
        if stored.booking is not None:
            self._meter.spent_pico += stored.booking.cost_pico or 0
            self._meter.committed_pico += stored.booking.bound_pico or 0
        await self._end(call, stored)
        if held_until_us is not None:
            await self._remember_hold(held_until_us)
        if isinstance(decision, Continue) and stored.turn_record is not None:
            turn = stored.turn_record
            call.work.turns.append(StoredTurn(message=turn.message, usage=turn.usage, cost_pico=turn.cost_pico))
            call.work.history = replace(call.work.history, turns=len(call.work.turns))
        return decision

    def _learn(self, call: Call, outcome: Outcome, now_us: int, latency_s: float) -> None:
        """What this outcome says about the scope, the limits and the estimates."""
        if isinstance(outcome, Answer):
            self._first_calls.ended(call.work.idx, call.work.prefixes, sent_us=call.sent_us)
            self._gate.succeeded(now_us)
            self.origin = self.origin or outcome.origin
            self._meter.answered(self._clock.monotonic(), latency_s, outcome.usage)
            fresh = outcome.usage.prompt_tokens - outcome.usage.cache_read
            likely_input, likely_output = call.estimate
            self._gate.correct(likely_input - fresh, likely_output - outcome.usage.output_tokens)
            seen = outcome.usage.prompt_tokens / max(1, len(call.request.body))
            self._input_ratio += 0.02 * (seen - self._input_ratio)
            return
        if not outcome.perhaps_billed:
            self._gate.correct(*call.estimate)
        if outcome.kind is FailureKind.RATE_LIMITED:
            self._meter.rate_limited += 1
        elif outcome.kind is FailureKind.OVERLOADED:
            self._meter.overloaded += 1

    def _carry_out(self, call: Call, decision: Decision) -> None:
        if isinstance(decision, Finish):
            self._ended(decision.status, decision.error_type)
        elif isinstance(decision, PauseRun):
            self._stop.pause_for(decision.reason, decision.message)
        elif isinstance(decision, TryAgain):
            self._again(call, decision)

    def _again(self, call: Call, decision: TryAgain) -> None:
        work, now_us = call.work, self._clock.now_us()
        counted = work.history.counted + decision.counted
        work.history = RowHistory(counted=counted, turns=len(work.turns), last_try_us=now_us)
        self._feeder.again(work, decision.at_us)

    def _hold(self, call: Call, outcome: Outcome, decision: Decision, now_us: int) -> int | None:
        """Hold the scope back, by the server's word always, by our own backoff once an episode; until when."""
        if not isinstance(decision, TryAgain) or (until_us := decision.scope_until_us) is None:
            return None
        fresh = self._gate.set_back(sent_us=call.sent_us, now_us=now_us)
        told = isinstance(outcome, Failure) and outcome.retry_after_s is not None
        if fresh or told:
            self._gate.hold(until_us)
        if self._gate.stalled(now_us, self._job.limits.stall_s):
            minutes = self._job.limits.stall_s / 60
            self._stop.pause_for(
                PauseReason.STALLED, f"the service has not answered one call for {minutes:g} minutes"
            )
        return until_us if fresh or told else None

    def _ended(self, status: RowStatus, error_type: str | None) -> None:
        succeeded = status is RowStatus.SUCCEEDED
        failure = None if succeeded else (error_type or status)
        self._meter.ended(self._clock.monotonic(), failure=failure)
        self._feeder.ended()
        if not succeeded:
            self._check_failures()

    def _estimate(self, request: MessagesRequest) -> tuple[float, float]:
        """Input and output tokens that this call will probably take."""
        likely_output = self._meter.mean_output() or request.max_tokens / 4
        return len(request.body) * self._input_ratio, min(likely_output, request.max_tokens)


def _intent(call: Call) -> SendIntent:
    return SendIntent(
        fence=call.work.fence,
        idx=call.work.idx,
        try_=call.try_,
        turn=call.turn,
        model=call.request.model,
        worst_pico=call.worst_pico,
        at_us=call.sent_us,
    )
