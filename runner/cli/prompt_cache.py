"""What the prompt cache does for a job that marks nothing itself, in words and as JSON."""

from __future__ import annotations

from typing import Any

from runner.domain.job import Job
from runner.domain.marking import BATCH_HIT_SHARE, Head, Kept, kept_in_batch, kept_live
from runner.domain.pricing import PICO_PER_USD, PriceBook
from runner.files.render import Renderer
from runner.files.shared_head import lead_tokens
from runner.views.money import dollars, usd
from runner.views.numbers import brief

# A prompt that could be cut otherwise is worth a word from here on.
LEAST_WORTH_A_WORD_PICO = PICO_PER_USD // 10
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


def lead_warning(job: Job, prices: PriceBook, rows: int, *, batch: bool) -> tuple[str, str] | None:
    """About a prompt whose first part is the same for all rows: in `system` it could be kept. None where that would
    not be worth a word."""
    tokens = lead_tokens(job)
    worth = kept_in_batch if batch else kept_live
    kept = None if job.model is None else worth(prices, job.model, tokens, rows)
    if kept is None or kept.saved_pico < LEAST_WORTH_A_WORD_PICO:
        return None
    sentence = (
        f"the prompt begins with about {brief(tokens)} tokens that are the same for all rows, and the prompt cache "
        f"keeps only whole blocks: as system: they would save about {dollars(kept.saved_pico)}."
    )
    return "could-be-cached", sentence


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
