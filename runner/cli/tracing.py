"""A span for each call, for OpenTelemetry: where `OTEL_EXPORTER_OTLP_ENDPOINT` is set and the extra `otel` is there.

The names of its GenAI conventions are not settled and their constants deprecated, so they stand here as words, in one
place. No prompt, answer or key of a row is among them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from runner import __version__
from runner.domain.seen import CallSeen, Saw

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_MS = 5_000


@contextmanager
def traced(env: Mapping[str, str] = os.environ) -> Iterator[Saw | None]:
    """Hears of calls and hands them on as spans; None where nobody wants them."""
    if not any(env.get(name) for name in ENDPOINTS):
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        from runner.cli.messages import warning

        warning("otel-extra", "spans are wanted, but the extra that makes them is not installed.",
                ("pip install 'claude-job-runner[otel]'",))  # fmt: skip
        yield None
        return
    provider = provider_of(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield Spans(provider).saw
    finally:
        provider.force_flush(FLUSH_MS)
        provider.shutdown()


def provider_of(processor: Any) -> Any:
    """A provider of this program's own, beside whatever else the process may have."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    told = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "runner"), "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(told))
    provider.add_span_processor(processor)
    return provider


class Spans:
    """Makes a span of each call after it has ended."""

    def __init__(self, provider: Any) -> None:
        self._tracer = provider.get_tracer("runner", __version__)

    def saw(self, call: CallSeen) -> None:
        """`chat MODEL`, from the moment it was sent to its end."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        span = self._tracer.start_span(
            f"chat {call.model}",
            kind=SpanKind.CLIENT,
            start_time=call.began_us * 1_000,
            attributes=attributes(call),
        )
        if call.error_type is not None:
            span.set_status(Status(StatusCode.ERROR, call.error_type))
        span.end(end_time=call.ended_us * 1_000)


def attributes(call: CallSeen) -> dict[str, Any]:
    """What a span says. The convention's input tokens are the sum; the API's own leave out what was cached."""
    tokens = call.tokens
    written = tokens.get("cache_write_5m", 0) + tokens.get("cache_write_1h", 0)
    read = tokens.get("cache_read", 0)
    told: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": call.model,
        "gen_ai.request.max_tokens": call.max_tokens,
        "gen_ai.response.model": call.response_model,
        "gen_ai.response.finish_reasons": None if call.stop_reason is None else [call.stop_reason],
        "error.type": call.error_type,
        "server.address": urlsplit(call.base_url).hostname,
        "anthropic.request.id": call.request_id,
        "anthropic.workspace.id": call.workspace,
        "runner.job": call.job,
        "runner.run.id": call.run,
        "runner.attempt": call.attempt,
    }
    if tokens:
        told |= {
            "gen_ai.usage.input_tokens": tokens.get("input_tokens", 0) + written + read,
            "gen_ai.usage.output_tokens": tokens.get("output_tokens", 0),
            "gen_ai.usage.cache_read.input_tokens": read,
            "gen_ai.usage.cache_write.input_tokens": written,
        }
    return {name: value for name, value in told.items() if value is not None}


def both(*hearers: Saw | None) -> Saw | None:
    """All of those that are there; None where none is."""
    there = [hearer for hearer in hearers if hearer is not None]
    if not there:
        return None

    def saw(call: CallSeen) -> None:
        for hearer in there:
            hearer(call)

    return saw
