"""The end of a run in a few lines: rows, tokens, cost, time, where the output is, what comes next."""

from __future__ import annotations

from runner.domain.quantity import of_rows
from runner.domain.states import RunState
from runner.views.batch_words import duplicates_words, out_words
from runner.views.cost_words import cost_words, token_words
from runner.views.durations import duration
from runner.views.estimate_page import compared_words
from runner.views.estimate_words import estimate_words
from runner.views.failure_advice import pause_advice
from runner.views.numbers import count
from runner.views.run_facts import RunFacts, state_words
from runner.views.safe_text import safe_line, safe_text
from runner.views.tables import facts_lines


def summary_lines(facts: RunFacts, *, elapsed_s: float | None = None, output: str | None = None) -> list[str]:
    """`elapsed_s` is of this process; `output` is the file that was written, `-` for stdout."""
    run = facts.run
    simulated = "  SIMULATED" if run.job.simulated else ""
    told = [("rows", rows_words(facts))]
    if facts.copied:
        told.append(("asked once", copied_words(facts)))
    if out := out_words(facts.submissions):
        told.append(("batches", out))
    if facts.tokens.prompt_tokens or facts.tokens.output_tokens:
        told.append(("tokens", token_words(facts.tokens)))
    told.append(("cost", cost_words(facts.money, simulated=run.job.simulated, in_batches=facts.riding > 0)))
    if (forecast := run.forecast) is not None:
        told.append(("estimate", compared_words(forecast, facts.money.spent_pico, finished=facts.finished)))
    if facts.duplicates:
        told.append(("paid twice", duplicates_words(facts.duplicates)))
    if elapsed_s is not None and facts.estimates is not None:
        told.append(("call sizes", estimate_words(facts.estimates)))
    if elapsed_s is not None:
        told.append(("time", duration(elapsed_s)))
    if output is not None and output != "-":
        told.append(("output", safe_line(output)))
    following = next_step(facts, output)
    if following:
        told.append(("next", following))
    head = f"{safe_line(run.job.name)}  run {run.label}  {state_words(run)}{simulated}"
    return [head, *(safe_text(line) for line in facts_lines(told))]


def rows_words(facts: RunFacts) -> str:
    """`9,600: 9,591 succeeded, 6 invalid_output, 3 errored, 12 waiting`."""
    parts = [f"{count(rows)} {status}" for status, rows in facts.by_status()]
    if facts.riding:
        parts.append(f"{count(facts.riding)} in batches")
    if facts.waiting and facts.waiting > facts.riding:
        parts.append(f"{count(facts.waiting - facts.riding)} waiting")
    total = "so far" if facts.total is None else count(facts.total)
    return f"{total}: {', '.join(parts)}" if parts else f"{total}: none has ended"


def copied_words(facts: RunFacts) -> str:
    """`6,000 rows have the answer of another that asked the same`; nothing where none has."""
    if not facts.copied:
        return ""
    verb = "has" if facts.copied == 1 else "have"
    return f"{of_rows(facts.copied)} {verb} the answer of another that asked the same, and cost nothing"


def next_step(facts: RunFacts, output: str | None) -> str | None:
    """What a person would type now, if anything."""
    run = facts.run
    if run.state is RunState.PAUSED and run.pause_reason is not None:
        return pause_advice(run.pause_reason, run.label, run.pause_message)
    if run.state is RunState.CANCELING and facts.riding:
        return f"runner collect {run.label}   fetches what is finished, and ends the run"
    if run.state is RunState.DONE_WITH_FAILURES:
        return f"runner failures {run.label}   says why; runner retry {run.label}   asks them again"
    if facts.finished and output is None and run.output is None:
        return f"runner export {run.label} -o FILE"
    return None
