"""The slots: each takes a row that the gate has let through, writes its send, calls, decides, and hands the end over
to the writer; what follows for the row follows when that is committed. How many there are is the pace's business."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import anyio
from msgspec.structs import replace

from runner.clock import SECOND, Clock
from runner.domain.decide import Continue, Decision, Finish, PauseRun, RowHistory, TryAgain, decide
from runner.domain.estimates import Estimator, input_tokens
from runner.domain.job import Job
from runner.domain.limits import Amounts
from runner.domain.outcome import Answer, Failure, FailureKind, Origin, Outcome
from runner.domain.pace import Pace
from runner.domain.pricing import PriceBook
from runner.domain.request import MessagesRequest
from runner.domain.reservation import UNBOUNDED, worst_pico
from runner.domain.seen import Saw
from runner.domain.states import PauseReason, RowStatus
from runner.engine.budget_watch import BudgetWatch
from runner.engine.feeder import Feeder, Work
from runner.engine.first_calls import FirstCalls
from runner.engine.gate import Gate, Ready, Unsendable
from runner.engine.judge import Judge
from runner.engine.keeper import Keeper
from runner.engine.meter import Meter
from runner.engine.own_betas import OwnBetas
from runner.engine.room import Room
from runner.engine.scopes import Scopes
from runner.engine.seeing import seen
from runner.engine.settle import Call, released, settlement, unsendable
from runner.engine.stop import Stop
from runner.engine.writer import Writer
from runner.files.bad_row import BadRow
from runner.files.render import Renderer
from runner.store.claims import StoredTurn
from runner.store.group import SendIntent, Settlement, Verdict

log = logging.getLogger(__name__)

# The service's word for traffic that grew too fast, whatever the limits.
GREW_TOO_FAST = "ramp_limit_exceeded"
# What was let through longer ago than this, and waited for the first call of its prefix, waits for the limits again.
ADMITTED_S = 0.1


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
        scopes: Scopes,
        keeper: Keeper,
        pace: Pace,
        estimator: Estimator,
        service: Service,
        renderer: Renderer,
        judge: Judge,
        prices: PriceBook,
        meter: Meter,
        budgets: BudgetWatch,
        clock: Clock,
        stop: Stop,
        check_failures: Callable[[], None],
        remember_origin: Callable[[Origin], Awaitable[None]],
        run: str = "",
        saw: Saw | None = None,
    ) -> None:
        self._run = run
        self._saw = saw
        self._job = job
        self._policy = job.limits.policy()
        self._round = round_
        self._feeder = feeder
        self._writer = writer
        self._scopes = scopes
        self._gate = Gate(feeder, self._prepare, scopes, keeper, clock, one_scope=renderer.one_model)
        self._pace = pace
        self._estimator = estimator
        self._service = service
        self._renderer = renderer
        self._judge = judge
        self._own_betas = OwnBetas(of_all=renderer.betas_of_all)
        self._prices = prices
        self._meter = meter
        self._clock = clock
        self._stop = stop
        self._check_failures = check_failures
        self._keeper = keeper
        self._remember_origin = remember_origin
        self._origin: Origin | None = None
        self._budgets = budgets
        self._room = Room()
        self._asks_others = anyio.Lock()
        self._is_full = False  # some budget, and nobody will give anything back
        self._first_calls = FirstCalls(prices, clock, stop)
        self._chance = random.Random()
        self._pool: anyio.abc.TaskGroup | None = None
        self._slots = 0
        self._busy = 0  # slots with a row in hand; the others wait at the gate

    async def serve(self) -> None:
        """Work until the feeder has no more rows or the run is to stop."""
        async with anyio.create_task_group() as self._pool:
            self._fill_pool()
        await self._writer.caught_up()

    def _fill_pool(self) -> None:
        """As many slots as the pace allows; where it allows fewer, those that are too many end by themselves."""
        while self._pool is not None and self._slots < self._pace.allowed:
            self._slots += 1
            self._pool.start_soon(self._slot)

    async def _slot(self) -> None:
        try:
            while self._slots <= self._pace.allowed:
                ready = await self._gate.next()
                if ready is None or self._stop.is_asked():
                    return
                if isinstance(ready, Unsendable):
                    self._end_unsendable(ready.work, ready.bad)
                else:
                    self._busy += 1
                    await self._row(ready)
                    self._busy -= 1
        finally:
            self._slots -= 1

    def _prepare(self, work: Work) -> Ready | Unsendable:
        """The request of a row, as it goes on from the turns that were paid for already."""
        try:
            row = self._renderer.parse(work.line)
            key = self._renderer.key(row)
            request = self._judge.request(row, work)
        except BadRow as bad:
            return Unsendable(work, bad)
        amounts = Amounts(1.0, *self._estimator.estimate(len(request.body), request.max_tokens))
        return Ready(work, key, request, self._scopes.of(request.model, request.speed), amounts)

    async def _row(self, ready: Ready) -> None:
        """One try of a row: a call, or several when the server pauses its turn."""
        work = ready.work
        work.last_try += 1
        asked_s = self._clock.monotonic()
        work.prefixes = await self._first_calls.turn_of(work.idx, ready.request)
        try:
            if self._clock.monotonic() - asked_s > ADMITTED_S:
                self._gate.give_back(ready.scope, ready.amounts)
                await self._gate.admit(ready.scope, ready.amounts)
            await self._try(ready)
        finally:
            self._first_calls.ended(work.idx, work.prefixes, sent_us=None)

    async def _try(self, ready: Ready) -> None:
        work = ready.work
        while True:
            call = await self._reserve(ready)
            if call is None:
                return
            if self._stop.is_asked() or ready.scope.is_held:
                # The commit took its time: what another slot was told meanwhile holds for this call too.
                self._release(call)
                return
            if not call.scope.share.unlimited and self._pace.set_out():
                self._fill_pool()
            if not await self._call(call):
                return
            following = self._prepare(work)
            if self._stop.is_asked() or isinstance(following, Unsendable):
                return
            ready = following
            await self._gate.admit(ready.scope, ready.amounts)

    def _end_unsendable(self, work: Work, bad: BadRow) -> None:
        end = unsendable(work, None, self._round, bad.reason, self._clock.now_us())
        self._writer.hand_over(end, partial(self._ended, work, RowStatus.ERRORED, "bad_row"))

    def _release(self, call: Call) -> None:
        """It is not made after all; its row comes again."""
        now_us = self._clock.now_us()
        self._gate.give_back(call.scope, call.amounts)
        call.work.last_try -= 1
        self._end(call, released(call, now_us), partial(self._feeder.again, call.work, now_us))

    async def _reserve(self, ready: Ready) -> Call | None:
        """Write the send and its reservation; None when the call is not to be made."""
        while not self._stop.is_asked():
            call = self._new_call(ready)
            since = self._room.asked()
            verdict = await self._writer.submit(_intent(call))
            if verdict is Verdict.STORED:
                self._room.taken()
                self._meter.committed_pico += call.worst_pico or 0
                return call
            self._room.refused()
            if verdict is not Verdict.OVER_BUDGET or not await self._room_comes(since, call.worst_pico or 0):
                await self._not_admitted(ready.work, verdict)
                break
        self._gate.give_back(ready.scope, ready.amounts)
        return None

    async def _room_comes(self, since: int, needed_pico: int) -> bool:
        """Whether it is worth asking again: a call of ours has ended, or others who share a budget have given way."""
        if await self._room.comes(since):
            return True
        async with self._asks_others:
            if not self._is_full:
                self._is_full = not await self._budgets.others_give_way(needed_pico)
            return not self._is_full

    def _new_call(self, ready: Ready) -> Call:
        return Call(
            work=ready.work,
            key=ready.key,
            round=self._round,
            model=ready.request.model,
            request=ready.request,
            try_=ready.work.last_try,
            turn=len(ready.work.turns),
            worst_pico=worst_pico(self._prices, ready.request, row_pico=self._job.limits.row_pico),
            scope=ready.scope,
            amounts=ready.amounts,
            sent_us=self._clock.now_us(),
        )

    def _end(self, call: Call, operation: Settlement, then: Callable[[], None]) -> None:
        """Have the end of a call stored, which gives back what it had reserved: `then` follows."""
        self._meter.committed_pico -= call.worst_pico or 0
        self._writer.hand_over(operation, then)
        self._room.given_back()  # whoever asks for it now stands behind this in the writer's line

    async def _not_admitted(self, work: Work, verdict: Verdict) -> None:
        if verdict is Verdict.FENCED:
            self._feeder.ended(work.idx)
        elif verdict is Verdict.UNBOUNDED:
            why = f"row {work.idx} has no computable upper bound of cost, so a budget cannot be kept with it"
            self._stop.pause_for(PauseReason.BUDGET, f"{why}: {UNBOUNDED}")
        else:
            self._stop.pause_for(PauseReason.BUDGET, await self._budgets.reached())

    async def _call(self, call: Call) -> bool:
        """Send, decide, hand over; whether the row goes on with its next turn. Cancelled in mid-call, the send stays
        in the store: a call of unknown end."""
        started_s = self._clock.monotonic()
        self._meter.sent(started_s)
        try:
            outcome = self._own_betas.seen(await self._service.messages(call.request), call.request.betas)
        finally:
            self._meter.in_flight -= 1
        now_us, now_s = self._clock.now_us(), self._clock.monotonic()
        decision = decide(
            outcome,
            call.work.history,
            call.scope.history(),
            self._policy,
            now_us=now_us,
            chance=self._chance.random(),
        )
        if self._judge.judges:
            decision = self._judge.judged(decision, outcome, self._renderer.parse(call.work.line), call.work)
        self._learn(call, outcome, now_us, now_s - started_s)
        held_until_us = self._hold(call, outcome, decision, now_us)
        stored = settlement(
            call, outcome, decision, self._prices, now_us=now_us, latency_us=round((now_s - started_s) * 1e6)
        )
        if stored.booking is not None:
            self._meter.spent_pico += stored.booking.cost_pico or 0
            self._meter.committed_pico += stored.booking.bound_pico or 0
        if isinstance(decision, PauseRun):
            self._stop.pause_for(decision.reason, decision.message)
        self._end(call, stored, partial(self._carry_out, call, decision))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("call_ended", extra=self._told(call, outcome, now_s - started_s))
        if self._saw is not None:
            self._saw(seen(self._job, self._run, call, outcome, decision, stored, latency_s=now_s - started_s))
        if held_until_us is not None:
            await self._keeper.pause(call.scope, held_until_us)
        if self._origin is None and outcome.origin.organization is not None:
            self._origin = outcome.origin
            await self._remember_origin(outcome.origin)
        if isinstance(decision, Continue) and stored.turn_record is not None:
            turn = stored.turn_record
            call.work.turns.append(StoredTurn(message=turn.message, usage=turn.usage, cost_pico=turn.cost_pico))
            call.work.history = replace(call.work.history, turns=len(call.work.turns))
        return isinstance(decision, Continue)

    def _told(self, call: Call, outcome: Outcome, latency_s: float) -> dict[str, object]:
        """A call for the log: the row by its number alone."""
        return {
            "run": self._run,
            "job": self._job.name,
            "row": call.work.idx,
            "attempt": call.try_,
            "outcome": "answer" if isinstance(outcome, Answer) else outcome.kind,
            "request_id": outcome.origin.request_id,
            "duration_s": round(latency_s, 3),
        }

    def _learn(self, call: Call, outcome: Outcome, now_us: int, latency_s: float) -> None:
        """What this outcome says about the scope, the limits, the estimates and the pace."""
        word = outcome.origin.rates_of(call.request.speed)
        if word is not None:
            call.scope.share.heed(word, outcome.origin.server_time_us)
        if isinstance(outcome, Answer):
            self._first_calls.ended(call.work.idx, call.work.prefixes, sent_us=call.sent_us)
            call.scope.succeeded(now_us)
            self._meter.answered(self._clock.monotonic(), latency_s, outcome.usage)
            requests, *estimate = call.amounts
            actual = Amounts(requests, input_tokens(outcome.usage), outcome.usage.output_tokens)
            self._gate.give_back(call.scope, call.amounts.less(actual))
            self._estimator.learn(len(call.request.body), (estimate[0], estimate[1]), outcome.usage)
            self._pace.answered(self._busy, latency_s)
            self._fill_pool()
            return
        if not outcome.perhaps_billed:
            self._gate.give_back(call.scope, call.amounts._replace(requests=0.0))
        if outcome.kind is FailureKind.RATE_LIMITED:
            self._meter.rate_limited += 1
        elif outcome.kind is FailureKind.OVERLOADED:
            self._meter.overloaded += 1

    def _carry_out(self, call: Call, decision: Decision) -> None:
        """What becomes of the row, now that the end of the call is stored."""
        if isinstance(decision, Finish):
            self._ended(call.work, decision.status, decision.error_type)
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
        scope = call.scope
        fresh = scope.set_back(sent_us=call.sent_us, now_us=now_us)
        told = isinstance(outcome, Failure) and outcome.retry_after_s is not None
        if fresh or told:
            scope.hold((until_us - now_us) / SECOND)
        if fresh and isinstance(outcome, Failure) and _is_overload(outcome):
            self._pace.overloaded(self._busy)
        if scope.stalled(now_us, self._job.limits.stall_s):
            minutes = self._job.limits.stall_s / 60
            self._stop.pause_for(
                PauseReason.STALLED, f"the service has not answered one call for {minutes:g} minutes"
            )
        return until_us if fresh or told else None

    def _ended(self, work: Work, status: RowStatus, error_type: str | None) -> None:
        succeeded = status is RowStatus.SUCCEEDED
        failure = None if succeeded else (error_type or status)
        self._meter.ended(self._clock.monotonic(), failure=failure)
        self._feeder.ended(work.idx, succeeded=succeeded)
        if not succeeded:
            self._check_failures()


def _is_overload(failure: Failure) -> bool:
    """Too much at once; a limit a minute that is used up is not."""
    return failure.kind is not FailureKind.RATE_LIMITED or failure.code == GREW_TOO_FAST


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
