"""Spans: one a call, with the convention's names, and nothing of a row."""

from __future__ import annotations

from msgspec.structs import replace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runner.cli.metrics import Metrics
from runner.cli.tracing import Spans, both, provider_of, traced
from runner.domain.seen import BudgetSeen, CallSeen, StoreSeen

CALL = CallSeen(
    job="letters",
    run="r_abc",
    model="claude-haiku-5-5",
    base_url="https://api.anthropic.com",
    outcome="answer",
    latency_s=1.5,
    began_us=1_800_000_000_000_000,
    ended_us=1_800_000_001_500_000,
    max_tokens=1_000,
    attempt=1,
    row_status="succeeded",
    stop_reason="end_turn",
    request_id="req_1",
    tokens={"input_tokens": 10, "cache_read": 90, "cache_write_1h": 5, "output_tokens": 7},
    cost_pico=2_000_000,
)


def spans_of(*calls: CallSeen) -> list[object]:
    exporter = InMemorySpanExporter()
    provider = provider_of(SimpleSpanProcessor(exporter))
    saw = both(Spans(provider).saw, None)
    assert saw is not None
    for call in calls:
        saw(call)
    return list(exporter.get_finished_spans())


def test_a_call_is_a_span_from_its_sending_to_its_end() -> None:
    (span,) = spans_of(CALL)
    assert span.name == "chat claude-haiku-5-5"  # type: ignore[attr-defined]
    assert span.end_time - span.start_time == 1_500_000_000  # type: ignore[attr-defined]
    told = dict(span.attributes)  # type: ignore[attr-defined]
    assert told["gen_ai.usage.input_tokens"] == 105
    assert told["gen_ai.usage.cache_read.input_tokens"] == 90
    assert told["gen_ai.response.finish_reasons"] == ("end_turn",)
    assert told["server.address"] == "api.anthropic.com"
    assert "error.type" not in told


def test_a_failure_says_its_type() -> None:
    (span,) = spans_of(replace(CALL, outcome="overloaded", error_type="overloaded_error", tokens={}))
    assert not span.status.is_ok  # type: ignore[attr-defined]
    assert span.attributes["error.type"] == "overloaded_error"  # type: ignore[attr-defined]


def test_without_an_endpoint_nobody_hears() -> None:
    with traced({}) as saw:
        assert saw is None


def test_numbers_count_calls_rows_tokens_and_dollars() -> None:
    metrics = Metrics()
    metrics.saw(CALL)
    metrics.saw(replace(CALL, outcome="overloaded", row_status=None, tokens={}, cost_pico=None))
    value = metrics.registry.get_sample_value
    assert value("runner_rows_total", {"job": "letters", "status": "succeeded"}) == 1
    assert value("runner_requests_total", {"model": CALL.model, "outcome": "overloaded"}) == 1
    assert value("runner_tokens_total", {"model": CALL.model, "kind": "cache_read"}) == 90
    assert value("runner_spend_usd_total", {"job": "letters", "model": CALL.model}) == 2e-6
    assert value("runner_last_success_timestamp_seconds", {"job": "letters"}) == 1_800_000_001.5


def test_numbers_of_the_store_are_told_as_they_are_now() -> None:
    metrics = Metrics()
    budget = BudgetSeen(job="letters", per="month", cap_pico=60 * 10**12, used_pico=15 * 10**12)
    metrics.store(StoreSeen(budgets=[budget], batches={"accepted": 3, "unknown": 1}))
    value = metrics.registry.get_sample_value
    assert value("runner_budget_usd", {"job": "letters", "per": "month"}) == 60
    assert value("runner_budget_used_usd", {"job": "letters", "per": "month"}) == 15
    metrics.store(StoreSeen(batches={"accepted": 2}))
    assert value("runner_batches", {"state": "accepted"}) == 2
    assert value("runner_batches", {"state": "unknown"}) is None
    assert value("runner_budget_usd", {"job": "letters", "per": "month"}) is None


def test_waits_are_counted_from_their_sums() -> None:
    metrics = Metrics()
    for seconds in (1.5, 1.5, 4.0):
        metrics.waited({"requests": seconds})
    assert metrics.registry.get_sample_value("runner_rate_limit_wait_seconds_total", {"limit": "requests"}) == 4.0
