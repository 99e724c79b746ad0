"""From an outcome and its decision to what is stored: result, attempt, turn, and the line in the books. Pure."""

from __future__ import annotations

from msgspec import Struct

from runner.domain.booking import Booking, BookingKind
from runner.domain.decide import Continue, Decision, Finish, TryAgain
from runner.domain.explanations import with_code
from runner.domain.limits import Amounts
from runner.domain.outcome import Answer, Failure, Outcome, Usage
from runner.domain.pricing import Price, PriceBook
from runner.domain.request import MessagesRequest
from runner.domain.result import RowResult
from runner.domain.states import RowStatus
from runner.engine.feeder import Work
from runner.engine.scopes import Scope
from runner.engine.turns import decode_usage, encode_usage, joined
from runner.store.group import AttemptRecord, Settlement, TurnRecord


class Try(Struct, frozen=True, kw_only=True):
    """One try of a row, or one turn of it, and the most that it can cost. In a batch, `batch` is the service's id
    `custom_id` the name of the line, under which it is booked, and `billed_us` when the batch ended."""

    work: Work
    key: str | None
    round: int
    model: str
    try_: int
    turn: int
    worst_pico: int | None
    batch: str | None = None
    custom_id: str | None = None
    billed_us: int | None = None


class Call(Try, frozen=True, kw_only=True):
    """A try that was sent alone, and what it was thought to take of its scope's limits when the gate admitted it."""

    request: MessagesRequest
    scope: Scope
    amounts: Amounts
    sent_us: int


def settlement(
    call: Try, outcome: Outcome, decision: Decision, prices: PriceBook, *, now_us: int, latency_us: int | None
) -> Settlement:
    """Everything that the end of this call leaves in the store."""
    price = _price(outcome, prices)
    cost_pico = None if price is None else price.cost_pico
    finished = isinstance(decision, Finish)
    return Settlement(
        fence=call.work.fence,
        idx=call.work.idx,
        try_=call.try_,
        turn=call.turn,
        at_us=now_us,
        booking=_booking(call, outcome, price, prices),
        attempt=None if finished else _attempt(call, outcome, decision, latency_us),
        turn_record=_turn(outcome, decision, cost_pico),
        result=_result(call, outcome, decision, cost_pico, prices, latency_us) if finished else None,
        message=_message(call, outcome) if finished else None,
    )


def unsendable(
    work: Work, key: str | None, round_: int, reason: str, now_us: int, *, error_type: str = "bad_row"
) -> Settlement:
    """The end of a row that cannot be made into a request that the service takes; nothing was paid."""
    result = RowResult(
        idx=work.idx,
        record=work.record,
        variant=work.variant,
        repeat=work.repeat,
        round=round_,
        key=key,
        status=RowStatus.ERRORED,
        stop_reason=None,
        model=None,
        usage=None,
        cost_pico=0,
        price_version=None,
        request_id=None,
        attempts=work.history.counted,
        latency_us=None,
        batch=None,
        error_type=error_type,
        error_message=reason,
    )
    return Settlement(fence=work.fence, idx=work.idx, try_=work.last_try, turn=0, at_us=now_us, result=result)


def released(call: Try, now_us: int) -> Settlement:
    """The send was written, but the call is not made after all."""
    return Settlement(fence=call.work.fence, idx=call.work.idx, try_=call.try_, turn=call.turn, at_us=now_us)


_FREE = Price(cost_pico=0, unbatched_pico=0, list_pico=0)


def _price(outcome: Outcome, prices: PriceBook) -> Price | None:
    """The exact price, None when it is not known; an error in the API's own shape is not billed."""
    if isinstance(outcome, Answer):
        return prices.price(outcome.model, outcome.usage, batch=outcome.batch) if outcome.billed else _FREE
    return None if outcome.perhaps_billed else _FREE


def _booking(call: Try, outcome: Outcome, price: Price | None, prices: PriceBook) -> Booking | None:
    if not (outcome.billed if isinstance(outcome, Answer) else outcome.perhaps_billed):
        return None
    answered = isinstance(outcome, Answer)
    return Booking(
        kind=BookingKind.SPEND if answered else BookingKind.UNKNOWN,
        model=outcome.model if isinstance(outcome, Answer) else call.model,
        price=price,
        bound_pico=call.worst_pico if price is None else None,
        usage=outcome.usage if isinstance(outcome, Answer) else None,
        price_version=prices.version,
        request_id=outcome.origin.request_id,
        batch=call.batch,
        key=call.custom_id,
        at_us=call.billed_us,
    )


def _attempt(call: Try, outcome: Outcome, decision: Decision, latency_us: int | None) -> AttemptRecord | None:
    """A try that used up an attempt or may have cost something. A 429 is neither, and leaves no trace."""
    if not isinstance(outcome, Failure):
        return None
    counted = isinstance(decision, TryAgain) and decision.counted
    if not counted and not outcome.perhaps_billed:
        return None
    return AttemptRecord(
        round=call.round,
        counted=counted,
        kind=outcome.kind,
        error_type=outcome.type,
        error_message=with_code(outcome.message, outcome.code),
        request_id=outcome.origin.request_id,
        cost_pico=None if outcome.perhaps_billed else 0,
        latency_us=latency_us,
    )


def _turn(outcome: Outcome, decision: Decision, cost_pico: int | None) -> TurnRecord | None:
    if not isinstance(decision, Continue) or not isinstance(outcome, Answer):
        return None
    return TurnRecord(message=outcome.message, usage=encode_usage(outcome.usage), cost_pico=cost_pico)


def _message(call: Try, outcome: Outcome) -> bytes | None:
    if isinstance(outcome, Failure):
        return None
    turns = call.work.turns
    return joined([turn.message for turn in turns[len(turns) - call.work.paused :]], outcome.message)


def _result(
    call: Try,
    outcome: Outcome,
    decision: Decision,
    cost_pico: int | None,
    prices: PriceBook,
    latency_us: int | None,
) -> RowResult:
    assert isinstance(decision, Finish)  # noqa: S101 - the caller has just looked
    answer = outcome if isinstance(outcome, Answer) else None
    return RowResult(
        idx=call.work.idx,
        record=call.work.record,
        variant=call.work.variant,
        repeat=call.work.repeat,
        round=call.round,
        key=call.key,
        status=decision.status,
        stop_reason=answer.stop_reason if answer else None,
        model=answer.model if answer else None,
        usage=_total_usage(call, answer),
        cost_pico=_total_cost(call, cost_pico),
        price_version=prices.version,
        request_id=outcome.origin.request_id,
        organization=outcome.origin.organization,
        workspace=outcome.origin.workspace,
        attempts=call.work.history.counted + 1,
        latency_us=latency_us,
        batch=call.batch,
        error_type=decision.error_type,
        error_message=decision.error_message,
    )


def _total_usage(call: Try, answer: Answer | None) -> Usage | None:
    if not call.work.turns:
        return answer.usage if answer else None
    usages = [decode_usage(turn.usage) for turn in call.work.turns]
    if answer is not None:
        usages.append(answer.usage)
    total = usages[0]
    for usage in usages[1:]:
        total = total.plus(usage)
    return total


def _total_cost(call: Try, cost_pico: int | None) -> int | None:
    if not call.work.turns:
        return cost_pico
    costs = [turn.cost_pico for turn in call.work.turns] + [cost_pico]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None
