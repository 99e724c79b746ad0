"""Tokens and money of a run in words: what was spent, what may be on the bill beside it, what was paid twice."""

from __future__ import annotations

from runner.domain.outcome import Usage
from runner.domain.quantity import of_calls
from runner.store.reports import Money
from runner.views.money import dollars
from runner.views.numbers import brief, count, percent


def token_words(usage: Usage) -> str:
    """`in 362M (12.0% from cache)   out 45.0M`."""
    prompt = usage.prompt_tokens
    cached = f" ({percent(usage.cache_read, prompt)} from cache)" if usage.cache_read else ""
    searches = f"   web searches {count(usage.web_searches)}" if usage.web_searches else ""
    return f"in {brief(prompt)}{cached}   out {brief(usage.output_tokens)}{searches}"


def cost_words(money: Money, *, simulated: bool, in_batches: bool = False) -> str:
    """The sum on the first line; on further ones what is not known and what was paid twice."""
    cap = f" of {dollars(money.cap_pico)}" if money.cap_pico is not None else ""
    lines = [f"{dollars(money.spent_pico)}{cap}" + ("   simulated: nothing is billed" if simulated else "")]
    # What calls of unknown end may cost stays reserved, and is told on a line of its own.
    reserved = money.committed_pico - money.unknown_bound_pico
    if reserved > 0:
        what = "batches whose results are not here" if in_batches else "calls that have not ended"
        lines.append(f"and {dollars(reserved)} reserved for {what}")
    return "\n".join([*lines, *_saved(money), *caveats(money)])


def _saved(money: Money) -> list[str]:
    """Against the list price, by what is asked otherwise than call by call."""
    by = (("batches", money.saved_by_batch_pico), ("the prompt cache", money.saved_by_cache_pico))
    parts = [f"{dollars(pico)} by {what}" for what, pico in by if pico > 0]
    lines = [f"saved {', '.join(parts)}"] if parts else []
    if money.saved_by_cache_pico < 0:
        lines.append(f"the prompt cache cost {dollars(-money.saved_by_cache_pico)} more than it saved")
    return lines


def caveats(money: Money) -> list[str]:
    """What makes the sum less than exact; nothing when it is."""
    lines = []
    if money.unknown_calls:
        calls = of_calls(money.unknown_calls)
        lines.append(f"and at most {dollars(money.unknown_bound_pico)} for {calls} of unknown end")
    if money.uncosted:
        lines.append(f"and {of_calls(money.uncosted)} whose price is not known")
    if money.unbounded:
        lines.append(f"{of_calls(money.unbounded)} of these without any bound")
    if money.duplicate_pico:
        lines.append(f"in it {dollars(money.duplicate_pico)} paid twice")
    return lines
