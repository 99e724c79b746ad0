"""The numbers of a run in mid-flight, to be varied."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from runner.domain.progress import LimitShown, Progress

USD = 10**12

MIDWAY = Progress(
    run="r_7f3k2a",
    job="branch-labels",
    mode="live",
    model="claude-sonnet-5-5",
    simulated=False,
    elapsed_s=760,
    total=9600,
    staged=9600,
    done=4790,
    failed=9,
    retrying=13,
    in_flight=48,
    concurrency=48,
    requests_per_min=380,
    input_per_min=551_000,
    output_per_min=68_000,
    rpm=LimitShown(per_minute=1000, source="--rpm"),
    itpm=LimitShown(per_minute=800_000, source="tier"),
    otpm=LimitShown(per_minute=160_000, source="headers"),
    rate_limited=3,
    overloaded=1,
    latency_p50_s=2.1,
    latency_p95_s=5.4,
    latency_p99_s=11.8,
    spent_pico=22 * USD + 62 * USD // 100,
    committed_pico=0,
    cap_pico=60 * USD,
    failures={"invalid_output": 6, "invalid_request_error": 2, "timeout": 1},
    eta_s=756,
)


def numbers(**changes: Any) -> Progress:
    return replace(MIDWAY, **changes)
