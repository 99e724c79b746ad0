"""What each kind of fault does: to a request before it is looked at, or to a reply on its way out.

Which request is hit is decided in `faults`; nothing here throws dice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

from runner.simulator.batch_mishaps import struck_batch
from runner.simulator.buckets import rfc3339
from runner.simulator.exchange import Headers, Reply, WireFault
from runner.simulator.faults import EXECUTED_KINDS, STREAM_KINDS, WIRE_KINDS, Fault
from runner.simulator.problems import TYPE_OF_STATUS, Problem, edge_reply, problem_reply

MICROSECONDS = 1_000_000


def refusal_of(fault: Fault, request_id: str, now_us: int) -> Reply | None:
    """The reply that stands in for the service's own; None when the call is let through."""
    if fault.kind == "html_502":
        return edge_reply(502)
    if fault.kind == "html_200":
        return edge_reply(200)
    if fault.kind == "redirect":
        return Reply(status=307, headers=(("location", fault.location),))
    if fault.kind not in _PROBLEMS:
        return None
    reply = problem_reply(_PROBLEMS[fault.kind](fault), request_id)
    return reply.with_headers(_wait_headers(fault, now_us) + _retry_word(fault))


def never_arrives(fault: Fault) -> Reply | None:
    """The wire fails before the call is executed, so that nothing is billed; None when it is executed."""
    executed = fault.kind != "reset" and fault.executed is not False
    if fault.kind not in WIRE_KINDS or executed:
        return None
    return Reply(status=200, wire=_wire_fault(fault))


def struck(reply: Reply, fault: Fault, request_id: str, in_force: Callable[[], bool]) -> Reply:
    """A good reply to an executed call, as the fault lets it out; `in_force` says whether the fault still is."""
    if fault.kind == "wrong_content_type":
        return replace(reply, headers=(("content-type", "text/plain; charset=utf-8"),))
    if fault.kind == "batch_late":
        return replace(reply, wire=WireFault(kind="stall"))
    if fault.kind == "slow":
        return replace(reply, delay_s=reply.delay_s + (fault.lasts_s or 0.0))
    if fault.kind == "held":
        return replace(reply, held=in_force)
    if fault.kind in EXECUTED_KINDS:
        told = edge_reply(502) if fault.kind == "executed_html_502" else problem_reply(_any_error(fault), request_id)
        return replace(told, on_end=reply.on_end, delay_s=reply.delay_s)
    if fault.kind in WIRE_KINDS | STREAM_KINDS:
        return replace(reply, wire=_wire_fault(fault))
    return struck_batch(reply, fault)


def _wire_fault(fault: Fault) -> WireFault:
    return WireFault(kind=fault.kind, every_s=fault.every_s, framing=fault.framing, at_byte=fault.at_byte)


def _wait_headers(fault: Fault, now_us: int) -> Headers:
    """How, if at all, the service says when to come back."""
    if fault.kind not in ("rate_limit", "ramp_limit"):
        return ()
    due_us = now_us + round(fault.retry_after_s * MICROSECONDS)
    forms: dict[str, Headers] = {
        "seconds": (("retry-after", _plain(fault.retry_after_s)),),
        "ms": (("retry-after-ms", _plain(fault.retry_after_s * 1000)),),
        "http_date": (("retry-after", formatdate(due_us / MICROSECONDS, usegmt=True)),),
        "junk": (("retry-after", "soon, we hope"),),
        "none": (),
        "reset_only": _reset_headers(due_us),
    }
    return forms[fault.retry_after]


def _plain(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")


def _reset_headers(due_us: int) -> Headers:
    prefix = "anthropic-ratelimit-requests-"
    return ((prefix + "limit", "50"), (prefix + "remaining", "0"), (prefix + "reset", rfc3339(due_us)))


def _retry_word(fault: Fault) -> Headers:
    if fault.should_retry is None:
        return ()
    return (("x-should-retry", "true" if fault.should_retry else "false"),)


def _says(status: int, message: str, code: str | None = None) -> Callable[[Fault], Problem]:
    def problem(fault: Fault) -> Problem:
        return Problem(
            status=status,
            type=fault.error_type or TYPE_OF_STATUS[status],
            message=fault.message or message,
            code=fault.error_code or code,
        )

    return problem


def _any_error(fault: Fault) -> Problem:
    kind = fault.error_type or TYPE_OF_STATUS.get(fault.status, "api_error")
    return Problem(status=fault.status, type=kind, message=fault.message or "simulated", code=fault.error_code)


_PROBLEMS: dict[str, Callable[[Fault], Problem]] = {
    "rate_limit": _says(429, "This organization has used up its requests per minute."),
    "ramp_limit": _says(429, "Traffic grew too fast; increase it step by step.", "ramp_limit_exceeded"),
    "spend_limit": _says(429, "The monthly spend cap is reached.", "enforced_spend_limit_reached"),
    "customer_spend_limit": _says(
        400, "You have reached your specified API usage limits. Access resumes on the first of next month."
    ),
    "credit_low": _says(400, "Your credit balance is too low to access the Claude API."),
    "authentication": _says(401, "invalid API key"),
    "permission": _says(403, "this key may not use the requested resource"),
    "billing": _says(402, "there is a problem with the payment method"),
    "api_error": _says(500, "Internal server error"),
    "cmek": _says(503, "the customer's encryption key cannot be reached", "cmek_key_unreachable"),
    "timeout": _says(504, "the request took too long"),
    "overloaded": _says(529, "Overloaded"),
    "error": _any_error,
}
