"""A mark for the prompt cache where nobody has placed one: at the end of what all requests begin with. Pure.

The API keeps what stands before a `cache_control` mark and asks 1.25 times its price for it once, and a tenth or less
for each call that reads it. It keeps whole blocks only, and nothing below a length that each model has. A mark alters
no answer. Who has placed marks has decided: then we add none.

Live it pays from the second call on. In a batch a call that finds nothing kept pays for keeping it, so a mark goes in
only behind a row that went ahead (`priming.py`), and hits there are best effort: see `BATCH_HIT_SHARE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from runner.domain.outcome import Usage
from runner.domain.prefix import MARK, UNMARKABLE, Body
from runner.domain.pricing import PICO_PER_USD, PriceBook

EPHEMERAL = {"type": "ephemeral"}

# The share of a batch's rows that find what was kept. 30% to 98% are reported; the middle of that, until the run's
# own batches tell. Marks of an hour pay above 53% where a read costs a tenth.
BATCH_HIT_SHARE = 0.65
EXTREME_HIT_SHARES = (0.30, 1.0)
# The others wait for the row ahead: of a batch up to half an hour, of live calls some seconds. So much is worth that.
LEAST_SAVED_BATCH_PICO = PICO_PER_USD
LEAST_SAVED_LIVE_PICO = PICO_PER_USD // 100
# Rows of an input of which nobody knows how long it is.
MANY_ROWS = 10_000
# Tokens by which prices are compared, in the lowest band of any model.
_A_LOT = 10_000

SECTIONS = {"tools": "the tools", "system": "the system prompt", "messages": "the first messages"}


class Head(Struct, frozen=True, kw_only=True):
    """What all requests of one way to ask begin with: `tools`, `system` or `messages` up to block `at`, in the
    messages of turn `turn`. `tokens` are estimated from bytes, and `bytes` are those of all up to there."""

    section: str
    at: int
    tokens: int
    bytes: int
    turn: int = 0

    @property
    def words(self) -> str:
        return SECTIONS[self.section]

    def marked(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body with the mark; `body` itself is untouched, and given back where it does not begin so."""
        value = body.get(self.section)
        if self.section == "messages":
            if not isinstance(value, list) or len(value) <= self.turn:
                return body
            turn = value[self.turn]
            content = _marked_at(turn["content"], self.at)
            told = None if content is None else _replaced(value, self.turn, {**turn, "content": content})
        else:
            told = _marked_at(value, self.at)
        return body if told is None else {**body, self.section: told}


def _marked_at(content: Any, at: int) -> list[Any] | None:
    """A text is the same as a list of one text block."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or len(content) <= at or not may_carry(content[at]):
        return None
    return _replaced(content, at, {**content[at], MARK: EPHEMERAL})


def _replaced(values: list[Any], at: int, value: Any) -> list[Any]:
    return [*values[:at], value, *values[at + 1 :]]


def may_carry(block: object) -> bool:
    """Whether a mark may stand on a block: not on thoughts, empty texts, or tools that are found only when needed."""
    if not isinstance(block, Mapping) or block.get("type") in UNMARKABLE or block.get("defer_loading"):
        return False
    return block.get("type") != "text" or bool(str(block.get("text", "")).strip())


def has_mark(value: object) -> bool:
    """Whether a mark stands anywhere in a value, in the results of tools too."""
    if isinstance(value, Mapping):
        return value.get(MARK) is not None or any(has_mark(inner) for inner in value.values())
    return isinstance(value, (list, tuple)) and any(has_mark(inner) for inner in value)


def brings_marks(body: Body) -> bool:
    """The same for a whole body: a look at most of them is enough, whose messages are texts."""
    if body.get(MARK) is not None or has_mark(body.get("system")) or has_mark(body.get("tools")):
        return True
    return any(not _is_text(turn) and has_mark(turn) for turn in body["messages"])


def _is_text(turn: object) -> bool:
    return isinstance(turn, Mapping) and type(turn.get("content")) is str and MARK not in turn


# -- does it pay


class Kept(Struct, frozen=True, kw_only=True):
    """What `rows` calls pay for a shared beginning of `tokens` tokens: with no mark, and with one as is expected.

    `hit_share` of the calls after the first one read it; the others write it once more.
    """

    rows: int
    tokens: int
    plain_pico: int
    kept_pico: int

    @property
    def saved_pico(self) -> int:
        return self.plain_pico - self.kept_pico


def kept_live(prices: PriceBook, model: str, tokens: int, rows: int) -> Kept | None:
    """What a mark saves live, None where it is not worth one call's wait."""
    write = Usage(cache_write_5m=tokens)
    return _worth(prices, model, tokens, rows, write, hit_share=1.0, least=LEAST_SAVED_LIVE_PICO, batch=False)


def kept_in_batch(
    prices: PriceBook, model: str, tokens: int, rows: int, hit_share: float = BATCH_HIT_SHARE
) -> Kept | None:
    """The same for rows of batches behind one that went ahead."""
    write = Usage(cache_write_1h=tokens)
    return _worth(prices, model, tokens, rows, write, hit_share=hit_share, least=LEAST_SAVED_BATCH_PICO, batch=True)


def pays_behind(prices: PriceBook, model: str, hit_share: float) -> bool:
    """Whether rows of a batch cost less marked than unmarked, where this share of them finds what was kept."""
    usages = (Usage(input_tokens=_A_LOT), Usage(cache_write_1h=_A_LOT), Usage(cache_read=_A_LOT))
    plain, written, read = (prices.cost_pico(model, usage, batch=True) for usage in usages)
    if plain is None or written is None or read is None:
        return False
    return read * hit_share + written * (1 - hit_share) < plain


def _worth(
    prices: PriceBook,
    model: str,
    tokens: int,
    rows: int,
    write: Usage,
    *,
    hit_share: float,
    least: int,
    batch: bool,
) -> Kept | None:
    facts = prices.find(model)
    if facts is None or rows < 2 or tokens < facts.min_cache_tokens:
        return None
    plain = prices.cost_pico(model, Usage(input_tokens=tokens), batch=batch)
    written = prices.cost_pico(model, write, batch=batch)
    read = prices.cost_pico(model, Usage(cache_read=tokens), batch=batch)
    if plain is None or written is None or read is None:
        return None
    each = read * hit_share + written * (1 - hit_share)
    kept = Kept(rows=rows, tokens=tokens, plain_pico=rows * plain, kept_pico=written + round((rows - 1) * each))
    return kept if kept.saved_pico >= least else None
