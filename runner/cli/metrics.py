"""What a process has seen of its calls, for Prometheus. No run, row or key is a label: they have no end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from runner import __version__
from runner.domain.seen import CallSeen, StoreSeen

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From a short answer to a long one with thinking.
BUCKETS_S = (0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of this process. Raises ImportError without the extra `metrics`."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        told: dict[str, Any] = {"registry": self.registry}
        self.rows = Counter("runner_rows", "Rows that ended.", ["job", "status"], **told)
        self.requests = Counter("runner_requests", "Calls that ended.", ["model", "outcome"], **told)
        self.seconds = Histogram(
            "runner_request_duration_seconds", "How long calls took.", ["model"], buckets=BUCKETS_S, **told
        )
        self.tokens = Counter("runner_tokens", "Tokens of answered calls.", ["model", "kind"], **told)
        self.spend = Counter("runner_spend_usd", "What answered calls cost.", ["job", "model"], **told)
        self.last = Gauge("runner_last_success_timestamp_seconds", "The newest good answer.", ["job"], **told)
        self.in_flight = Gauge("runner_requests_in_flight", "Calls that are out.", **told)
        per = ["job", "per"]
        self.budget = Gauge("runner_budget_usd", "What a run, a day or a month may spend.", per, **told)
        self.used = Gauge("runner_budget_used_usd", "What of it is spent or reserved.", per, **told)
        self.batches = Gauge("runner_batches", "Batches of this store, not yet read to the end.", ["state"], **told)
        self.waits = Counter(
            "runner_rate_limit_wait_seconds", "How long calls have waited for a limit.", ["limit"], **told
        )
        self._waited_s: dict[str, float] = {}
        Gauge("runner_build_info", "This program.", ["version"], **told).labels(__version__).set(1)

    def saw(self, call: CallSeen) -> None:
        """Count one call."""
        self.requests.labels(call.model, call.outcome).inc()
        self.seconds.labels(call.model).observe(call.latency_s)
        if call.row_status is not None:
            self.rows.labels(call.job, call.row_status).inc()
        for kind, tokens in call.tokens.items():
            self.tokens.labels(call.model, kind).inc(tokens)
        if call.cost_pico:
            self.spend.labels(call.job, call.model).inc(call.cost_pico / 1e12)
        if call.outcome == "answer":
            self.last.labels(call.job).set(call.ended_us / 1e6)

    def waited(self, waited_s: Mapping[str, float]) -> None:
        """The sums so far."""
        for limit, seconds in waited_s.items():
            self.waits.labels(limit).inc(max(0.0, seconds - self._waited_s.get(limit, 0.0)))
        self._waited_s = dict(waited_s)

    def store(self, seen: StoreSeen) -> None:
        """As it is now: what is no more is not told any more."""
        for gauge in (self.budget, self.used, self.batches):
            gauge.clear()
        for budget in seen.budgets:
            self.budget.labels(budget.job, budget.per).set(budget.cap_pico / 1e12)
            self.used.labels(budget.job, budget.per).set(budget.used_pico / 1e12)
        for state, count in seen.batches.items():
            self.batches.labels(state).set(count)


class _Kept:
    @cached_property
    def metrics(self) -> Metrics | None:
        try:
            return Metrics()
        except ImportError:
            return None


_KEPT = _Kept()


def saw(call: CallSeen) -> None:
    """Count it, where somebody may ask for the numbers."""
    if _KEPT.metrics is not None:
        _KEPT.metrics.saw(call)


def exposition(in_flight: int, waited_s: Mapping[str, float], store: StoreSeen | None) -> bytes | None:
    """All numbers in Prometheus' text form; None without the extra."""
    metrics = _KEPT.metrics
    if metrics is None:
        return None
    from prometheus_client import generate_latest

    metrics.in_flight.set(in_flight)
    metrics.waited(waited_s)
    if store is not None:
        metrics.store(store)
    return generate_latest(metrics.registry)
