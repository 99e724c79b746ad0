"""What the prompt cache does for a job that marks nothing itself, in words and as JSON."""

from __future__ import annotations

from typing import Any

from runner.domain.marking import BATCH_HIT_SHARE, Head, Kept
from runner.domain.pricing import PriceBook
from runner.files.render import Renderer
from runner.views.money import dollars, usd
from runner.views.numbers import brief

FORBID = "prompt_cache: never leaves it out"


def cache_words(renderer: Renderer, prices: PriceBook, rows: int, *, batch: bool | None) -> str:
    """What is kept, and on lines of their own what that saves in each way to send: `saves about $4.35 of $4.80 live`.
    Nothing where nothing is marked. `batch` None: for both ways."""
    ways = (False, True) if batch is None else (batch,)
    kept = {way: renderer.heads_worth(prices, rows, batch=way) for way in ways}
    variants = sorted({variant for told in kept.values() for variant in told})
    if not variants:
        return ""
    head = renderer.head_of(variants[0])
    what = "" if head is None else f"{place_words(head)} is kept in the prompt cache"
    saving = "\n".join(_saving(told, batch=way) for way, told in kept.items() if told)
    return f"{what}\n{saving}   ({FORBID})"


def place_words(head: Head) -> str:
    """`what all requests begin with, to the end of the system prompt, about 2.9k tokens`."""
    return f"what all requests begin with, to the end of {head.words}, about {brief(head.tokens)} tokens,"


def _saving(told: dict[int, Kept], *, batch: bool) -> str:
    plain, saved = (sum(getattr(one, name) for one in told.values()) for name in ("plain_pico", "saved_pico"))
    words = f"saves about {dollars(saved)} of {dollars(plain)}"
    if not batch:
        return f"{words} live"
    return f"{words} in batches, behind one row that goes ahead, if {BATCH_HIT_SHARE:.0%} of the others find it"


def cache_json(renderer: Renderer, prices: PriceBook, rows: int, *, batch: bool) -> list[dict[str, Any]]:
    """What is marked, by variant; empty where nothing is."""
    found = []
    for variant, kept in renderer.heads_worth(prices, rows, batch=batch).items():
        head = renderer.head_of(variant)
        found.append(
            {
                "variant": variant,
                "upto": None if head is None else head.section,
                "tokens": kept.tokens,
                "saves_usd": usd(kept.saved_pico),
            }
        )
    return found
