"""A job's estimate as a page and as JSON: live, batch and auto side by side, and what is not known said so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from runner.domain.budget import Level, name_of, tightest
from runner.domain.choice import Choice
from runner.domain.forecast import Forecast, off_by
from runner.domain.job import Job, Mode
from runner.domain.job_estimate import JobEstimate, ModeEstimate
from runner.domain.quantity import of_rows
from runner.views.cost_words import token_words
from runner.views.durations import span
from runner.views.money import dollars, usd
from runner.views.numbers import brief, count
from runner.views.safe_text import safe_line
from runner.views.tables import facts_lines

COLUMN = 26


class EstimatePage(Struct, frozen=True, kw_only=True):
    """`not_counted` says why the service did not count; `sample_pico` is what the answers of the sample cost, which
    the run `kept_in` keeps. `batch_s` are the middle and the slow end of batches that this store has seen."""

    job: str
    model: str
    input: str
    told: JobEstimate
    choice: Choice
    cap_pico: int | None
    room_pico: int | None
    not_counted: str | None
    sample_pico: int | None
    kept_in: str | None
    batch_s: tuple[float, float] | None
    simulated: bool
    unbounded: bool
    cache: str


def estimate_lines(page: EstimatePage) -> list[str]:
    """For people."""
    told = page.told
    facts = [
        ("job", f"{safe_line(page.job)}   {safe_line(page.model)}" + ("   SIMULATED" if page.simulated else "")),
        ("input", f"{safe_line(page.input)}   {of_rows(told.rows)}"),
        ("sample", _sample(page)),
        ("tokens", _tokens(page)),
        ("", ""),
        ("", _columns("live", "batch")),
        ("cost", _columns(_cost(told.live), _cost(told.batch))),
        ("90% sure", _columns(_interval(told.live), _interval(told.batch))),
        ("at worst", _columns(_worst(told.live), _worst(told.batch))),
        ("time", _columns(_live_time(told.live), _batch_time(page))),
        ("batches", _columns("", _batches(told.batch))),
    ]
    if page.room_pico is not None:
        facts.append(("at once", _columns(_at_once(told.live), _at_once(told.batch))))
    facts.append(("", ""))
    facts.append(("auto", safe_line(page.choice.reason)))
    facts.append(("know that", "\n".join(_caveats(page))))
    return [line.rstrip() for line in facts_lines(facts)]


def _columns(*cells: str) -> str:
    return "".join(f"{cell:<{COLUMN}}" for cell in cells).rstrip()


def _sample(page: EstimatePage) -> str:
    told = page.told
    words = f"{of_rows(told.sampled)}, drawn from all"
    words += f", {count(told.counted)} counted by the service (free)" if told.counted else ", none counted"
    if told.answered:
        words += f", {count(told.answered)} answered"
        words += "" if page.sample_pico is None else f" for {dollars(page.sample_pico)}"
    kept = f"run {page.kept_in} keeps the answers: they are not asked again"
    return words if page.kept_in is None else f"{words}\n{kept}"


def _tokens(page: EstimatePage) -> str:
    told = page.told
    if told.output_known:
        return token_words(told.tokens)
    return f"in {brief(told.tokens.prompt_tokens)}   out unknown: nothing was answered yet"


def _cost(mode: ModeEstimate) -> str:
    if mode.forecast.pico is None:
        return "unknown"
    return ("perhaps " if mode.forecast.is_guess else "") + dollars(mode.forecast.pico)


def _interval(mode: ModeEstimate) -> str:
    forecast = mode.forecast
    if forecast.low_pico is None or forecast.high_pico is None:
        return "unknown"
    return f"{dollars(forecast.low_pico)} to {dollars(forecast.high_pico)}"


def _worst(mode: ModeEstimate) -> str:
    return "no bound" if mode.forecast.worst_pico is None else dollars(mode.forecast.worst_pico)


def _live_time(mode: ModeEstimate) -> str:
    return "unknown" if mode.seconds is None else f"about {span(mode.seconds)}"


def _batch_time(page: EstimatePage) -> str:
    if page.batch_s is None:
        return "mostly 1h, at most 24h each"
    middle, slow = page.batch_s
    return f"{span(middle)} to {span(slow)} each"


def _batches(mode: ModeEstimate) -> str:
    if mode.batches is None:
        return ""
    if mode.in_sequence is None:
        return "more than the budget holds"
    return f"{count(mode.batches)}" + (f", {count(mode.in_sequence)} in sequence" if mode.in_sequence > 1 else "")


def _at_once(mode: ModeEstimate) -> str:
    return "unknown" if mode.at_once is None else of_rows(mode.at_once)


def _caveats(page: EstimatePage) -> list[str]:
    told, found = page.told, []
    basis = told.live.forecast.basis
    found.append(f"the cost rests on {basis}" if not basis.startswith("no ") else basis)
    if told.live.forecast.is_guess and told.live.forecast.pico is not None:
        least = f"{dollars(told.live.least_pico)} live" if told.live.least_pico is not None else ""
        found[-1] += f"; answers of one token make {least}.   --answer 50 measures them"
    if told.live.seconds is not None:
        found.append(f"the time live is set by {told.live.seconds_why}")
    if page.not_counted is not None:
        found.append(f"prompt tokens are a guess from bytes: {page.not_counted}")
    if page.cap_pico is not None:
        found.append(f"the tightest budget is {dollars(page.cap_pico)}; {dollars(page.room_pico)} of it is left")
    if page.unbounded:
        found.append("some rows have no bound of cost: a budget needs limits.row_usd")
    if told.dearer_rows:
        found.append(f"about {of_rows(told.dearer_rows)} have prompts so long that a dearer price applies")
    if page.cache:
        found.append(page.cache)
    if told.cached and told.batch.forecast.low_pico is not None:
        found.append("of the rows of a batch, 30% or all may find the prompt cache: its interval holds both")
    return found


def estimate_json(page: EstimatePage) -> dict[str, Any]:
    """For machines; what is not known is null."""
    told = page.told
    return {
        "job": page.job,
        "model": page.model,
        "simulated": page.simulated,
        "rows": told.rows,
        "sample": {
            "rows": told.sampled,
            "counted": told.counted,
            "answered": told.answered,
            "cost_usd": usd(page.sample_pico),
            "run": page.kept_in,
            "not_counted": page.not_counted,
        },
        "tokens": {
            "input": told.tokens.input_tokens,
            "cache_write_5m": told.tokens.cache_write_5m,
            "cache_write_1h": told.tokens.cache_write_1h,
            "cache_read": told.tokens.cache_read,
            "output": told.tokens.output_tokens if told.output_known else None,
        },
        "live": _mode_json(told.live),
        "batch": _mode_json(told.batch)
        | {
            "batches": told.batch.batches,
            "in_sequence": told.batch.in_sequence,
            "seconds_each": None if page.batch_s is None else list(page.batch_s),
        },
        "auto": {"mode": page.choice.mode, "reason": page.choice.reason},
        "budget_usd": usd(page.cap_pico),
        "budget_left_usd": usd(page.room_pico),
        "rows_in_a_dearer_band": told.dearer_rows,
        "caveats": _caveats(page),
    }


def _mode_json(mode: ModeEstimate) -> dict[str, Any]:
    return forecast_json(mode.forecast) | {
        "usd_at_least": usd(mode.least_pico),
        "rows_at_once": mode.at_once,
        "seconds": None if mode.seconds is None else round(mode.seconds),
    }


def start_words(job: Job, told: JobEstimate, levels: Sequence[Level], choice: Choice) -> str:
    """`9,600 rows, perhaps $12.40, at worst $98.30; the budget of $60.00 holds 5,860 rows at once`."""
    mode = told.batch if (choice.mode if job.mode is Mode.AUTO else job.mode) is Mode.BATCH else told.live
    forecast = mode.forecast
    cost = "cost unknown" if forecast.pico is None else f"{_cost(mode).replace('perhaps', 'perhaps about')}"
    words = f"{of_rows(told.rows)}: {cost}, {_at_worst(forecast)}"
    full = tightest(levels)
    return words if full is None else f"{words}\n{budget_words(full, mode)}"


def _at_worst(forecast: Forecast) -> str:
    return "without a bound" if forecast.worst_pico is None else f"at worst {dollars(forecast.worst_pico)}"


def budget_words(full: Level, mode: ModeEstimate) -> str:
    """`the run's budget, $60.00, holds 5,860 rows at once at their worst: 4 batches in sequence`."""
    if mode.at_once is None:
        return f"{name_of(full.key)}, {dollars(full.cap_pico)}, has {dollars(full.room_pico)} left"
    words = f"{name_of(full.key)}, {dollars(full.cap_pico)}, holds {of_rows(mode.at_once)} at once at their worst"
    if mode.batches is None:
        return words
    if mode.in_sequence is None:
        return f"{words}: it will probably be used up before the last row"
    return f"{words}: {count(mode.in_sequence)} batches in sequence" if mode.in_sequence > 1 else words


def forecast_json(forecast: Forecast) -> dict[str, Any]:
    return {
        "usd": usd(forecast.pico),
        "usd_low": usd(forecast.low_pico),
        "usd_high": usd(forecast.high_pico),
        "usd_at_most": usd(forecast.worst_pico),
        "basis": forecast.basis,
    }


def compared_words(forecast: Forecast, actual_pico: int, *, finished: bool) -> str:
    """`$12.40 (90%: $11.80 to $13.10), came to $12.71: +2.5%`."""
    words = ("perhaps " if forecast.is_guess else "") + dollars(forecast.pico)
    if not forecast.is_guess:
        words += f" (90%: {dollars(forecast.low_pico)} to {dollars(forecast.high_pico)})"
    off = off_by(forecast, actual_pico)
    return words if off is None or not finished else f"{words}, came to {dollars(actual_pico)}: {off:+.1%}"
