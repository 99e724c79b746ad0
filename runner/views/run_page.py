"""One run in full: as facts for a screen, and as values for JSON."""

from __future__ import annotations

from typing import Any

from runner.domain.job import Job
from runner.domain.outcome import Usage
from runner.domain.states import RunState
from runner.store.reports import Money
from runner.views.batch_page import batch_json, duplicate_json
from runner.views.batch_words import duplicates_words
from runner.views.beta_words import beta_lines, sent_betas
from runner.views.cost_words import cost_words
from runner.views.durations import duration, moment, utc
from runner.views.estimate_page import compared_words, forecast_json
from runner.views.estimate_words import estimate_json, estimate_words
from runner.views.failure_advice import pause_advice
from runner.views.money import usd
from runner.views.numbers import count
from runner.views.run_facts import RunFacts, pause_of, state_words
from runner.views.safe_text import safe_line, safe_text
from runner.views.summary import copied_words, next_step, rows_words
from runner.views.tables import facts_lines

SHORT_HASH = 12


def page_lines(facts: RunFacts, *, worked_on_by: str | None, batches: str = "") -> list[str]:
    """`worked_on_by` names the process that holds the run, None where nobody does; `batches` tells of its batches."""
    run = facts.run
    job = run.job
    told = [
        ("run", run.label + ("   SIMULATED" if job.simulated else "")),
        ("job", f"{safe_line(job.name)}   identity {run.identity[:SHORT_HASH]}" + _keyed(run.key)),
        ("tags", "   ".join(f"{safe_line(name)}={safe_line(value)}" for name, value in sorted(job.tags.items()))),
        ("state", _state(facts, worked_on_by)),
        ("model", f"{safe_line(job.model or 'named by each row')}   {job.mode}   {_address(job)}"),
        ("betas", beta_lines(job)),
        ("input", _input(facts)),
        ("output", safe_line(run.output or "none: runner export writes one")),
        ("rows", rows_words(facts) + _reasons(facts)),
        ("asked once", copied_words(facts)),
        ("batches", batches),
        ("tokens", _tokens(facts.tokens)),
        ("cost", cost_words(facts.money, simulated=job.simulated, in_batches=facts.riding > 0)),
        ("estimate", _forecast(facts)),
        ("paid twice", _paid_twice(facts)),
        ("tries", _tries(facts)),
        ("call sizes", "" if facts.estimates is None else estimate_words(facts.estimates)),
        ("started", _times(facts)),
    ]
    following = None if worked_on_by else next_step(facts, run.output)
    if following is None and not facts.finished and worked_on_by is None and run.state is not RunState.PAUSED:
        following = f"nobody works on it: runner resume {run.label}"
        if run.detached:
            following = f"it is with the fleet: runner attach {run.label}"
    if following:
        told.append(("next", following))
    return [safe_text(line) for line in facts_lines([fact for fact in told if fact[1]])]


def _address(job: Job) -> str:
    return "the built-in simulator" if job.simulated else safe_line(job.base_url)


def _keyed(key: str | None) -> str:
    return "" if key is None else f"   key {safe_line(key, 40)}"


def _state(facts: RunFacts, worked_on_by: str | None) -> str:
    run = facts.run
    words = state_words(run)
    if run.round > 1:
        words += f"   round {run.round}"
    if worked_on_by is not None:
        words += f"   worked on by {safe_line(worked_on_by)}"
    if run.wanted is not None:
        words += f"   asked to {run.wanted}"
    if run.state is RunState.PAUSED and run.pause_message:
        words += f"\n{safe_line(run.pause_message)}"
    return words


def _input(facts: RunFacts) -> str:
    run = facts.run
    parts = [safe_line(run.input_uri)]
    if run.input_digest is not None:
        parts.append(f"sha256 {run.input_digest[:SHORT_HASH]}")
    if run.skipped:
        parts.append(f"{count(run.skipped)} bad rows skipped")
    if not run.ingest_done:
        parts.append(f"{count(run.ingested_upto)} read so far")
    return "   ".join(parts)


def _reasons(facts: RunFacts) -> str:
    """What failed rows died of, below the counts."""
    lines = [
        f"{count(status.rows)} {status.status}: {safe_line(status.error_type or status.stop_reason or '', 40)}"
        for status in facts.statuses
        if status.error_type
    ]
    return "".join(f"\n{line}" for line in lines)


def _tokens(usage: Usage) -> str:
    parts = [f"input {count(usage.input_tokens)}"]
    for name, tokens in (
        ("cache read", usage.cache_read),
        ("cache write 5m", usage.cache_write_5m),
        ("cache write 1h", usage.cache_write_1h),
    ):
        if tokens:
            parts.append(f"{name} {count(tokens)}")
    parts.append(f"output {count(usage.output_tokens)}")
    if usage.web_searches:
        parts.append(f"web searches {count(usage.web_searches)}")
    return "   ".join(parts)


def _forecast(facts: RunFacts) -> str:
    """What the run was said to cost, beside what it did."""
    forecast = facts.run.forecast
    if forecast is None:
        return ""
    told = compared_words(forecast, facts.money.spent_pico, finished=facts.finished)
    return f"{told}   ({forecast.basis})"


def _paid_twice(facts: RunFacts) -> str:
    if facts.duplicates:
        return duplicates_words(facts.duplicates)
    return "" if facts.money.duplicate_pico else "nothing"


def _tries(facts: RunFacts) -> str:
    """Tries beyond the one that gave the result."""
    return "   ".join(f"{safe_line(tries.reason, 40)} x{count(tries.tries)}" for tries in facts.failed_tries)


def _times(facts: RunFacts) -> str:
    run = facts.run
    words = moment(run.created_us)
    if run.ended_us is not None and facts.finished:
        words += f"   ended {moment(run.ended_us)}, {duration((run.ended_us - run.created_us) / 1e6)} later"
    return words


def page_json(facts: RunFacts, *, worked_on_by: str | None) -> dict[str, Any]:
    """The same for machines; names as in the output lines where they mean the same."""
    run = facts.run
    pause_reason, pause_message = pause_of(run)
    return {
        "run": run.label,
        "job": run.job.name,
        "identity": run.identity,
        "key": run.key,
        "simulated": run.job.simulated,
        "tags": dict(run.job.tags),
        "state": run.state,
        "pause_reason": pause_reason,
        "pause_message": pause_message,
        "what_to_do": None if pause_reason is None else pause_advice(pause_reason, run.label, pause_message),
        "worked_on_by": worked_on_by,
        "asked_to": run.wanted,
        "round": run.round,
        "model": run.job.model,
        "mode": run.job.mode,
        "base_url": run.job.base_url,
        "betas": [{"name": beta.name, "added": beta.added, "for": beta.why} for beta in sent_betas(run.job)],
        "input": {
            "path": run.input_uri,
            "sha256": run.input_digest,
            "bytes": run.input_bytes,
            "skipped": run.skipped,
        },
        "output": run.output,
        "rows": {
            "total": facts.total,
            "done": facts.tally.done,
            "failed": facts.tally.failed,
            "waiting": facts.waiting,
            "copied": facts.copied,
        },
        "statuses": [
            {"status": s.status, "error_type": s.error_type, "stop_reason": s.stop_reason, "rows": s.rows}
            for s in facts.statuses
        ],
        "usage": {
            "input_tokens": facts.tokens.input_tokens,
            "cache_read_input_tokens": facts.tokens.cache_read,
            "cache_creation_5m_input_tokens": facts.tokens.cache_write_5m,
            "cache_creation_1h_input_tokens": facts.tokens.cache_write_1h,
            "output_tokens": facts.tokens.output_tokens,
            "web_search_requests": facts.tokens.web_searches,
        },
        "batches": [batch_json(one) for one in facts.submissions],
        "duplicates": [duplicate_json(one) for one in facts.duplicates],
        "cost": cost_json(facts.money),
        "failed_tries": [{"reason": tries.reason, "tries": tries.tries} for tries in facts.failed_tries],
        "estimated_cost": None if run.forecast is None else forecast_json(run.forecast),
        "estimates": estimate_json(facts.estimates),
        "organization": run.organization,
        "workspace": run.workspace,
        "started": utc(run.created_us),
        "ended": utc(run.ended_us),
    }


def cost_json(money: Money) -> dict[str, Any]:
    return {
        "spent_usd": usd(money.spent_pico),
        "budget_usd": usd(money.cap_pico),
        "committed_usd": usd(money.committed_pico),
        "duplicate_usd": usd(money.duplicate_pico),
        "unknown_calls": money.unknown_calls,
        "unknown_usd_at_most": usd(money.unknown_bound_pico),
        "calls_without_price": money.uncosted,
        "calls_without_bound": money.unbounded,
        "saved_by_batch_usd": usd(money.saved_by_batch_pico),
        "saved_by_cache_usd": usd(money.saved_by_cache_pico),
    }
