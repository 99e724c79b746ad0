"""A day's books against the provider's reports of it: where they differ, and what explains that. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from msgspec import Struct, field

from runner.domain.money import dollars
from runner.domain.pricing import PICO_PER_MICRO
from runner.domain.quantity import of_calls, quantity
from runner.domain.spending import NOTHING, Spending, Sums

TOKEN_KINDS = ("input_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "output_tokens")
KIND_WORDS = {
    "input_tokens": "input",
    "cache_write_5m": "5-minute cache write",
    "cache_write_1h": "1-hour cache write",
    "cache_read": "cache read",
    "output_tokens": "output",
    "web_searches": "web search",
}
# Reports may round each amount; a hundredth of a cent a line is not worth a sentence.
TOLERANCE_PICO = 10**8
LATE_OR_NEAR_MIDNIGHT = (
    "Reports are complete some hours after the day; else the calls were made shortly before or after midnight UTC"
)


class Used(Struct, frozen=True, kw_only=True):
    """A line of the usage report: tokens by kind of one model in one workspace, in batches or not. `workspace` None
    is the organisation's default one."""

    workspace: str | None
    model: str
    batch: bool
    tokens: Mapping[str, int]


class Billed(Struct, frozen=True, kw_only=True):
    """A line of the cost report. `model` and `kind` are None for what is not told by tokens."""

    workspace: str | None
    model: str | None
    batch: bool
    kind: str | None
    pico: int
    description: str = ""


class Compared(Struct, frozen=True, kw_only=True):
    """One model, in batches or not: what the books and the bill say. `findings` explain the difference; it is
    `explained` where they leave nothing open."""

    model: str
    batch: bool
    books: Sums
    bill_pico: int
    bill_tokens: Mapping[str, int]
    findings: tuple[str, ...] = ()
    explained: bool = True

    @property
    def difference_pico(self) -> int:
        """How much more is on the bill than in the books."""
        return self.bill_pico - self.books.cost_pico


class Reconciled(Struct, frozen=True, kw_only=True):
    """All of a day. `elsewhere_pico` is what other workspaces cost, `beside_pico` what ours cost that no call of a
    model explains (containers, sessions, fees)."""

    day: str
    compared: Sequence[Compared]
    elsewhere_pico: int = 0
    beside: Mapping[str, int] = field(default_factory=dict)

    @property
    def books_pico(self) -> int:
        return sum(one.books.cost_pico for one in self.compared)

    @property
    def bill_pico(self) -> int:
        return sum(one.bill_pico for one in self.compared) + sum(self.beside.values())

    @property
    def explained(self) -> bool:
        return all(one.explained for one in self.compared) and not self.beside


def reconcile(
    day: str, books: Sequence[Spending], used: Iterable[Used], billed: Iterable[Billed], *, unread_batches: int
) -> Reconciled:
    """Hold the books of a day against the reports. `unread_batches` were made by that day and are not read yet."""
    ours = {one.workspace for one in books}
    used, billed = list(used), list(billed)
    # Who never heard of a workspace (a rehearsed or older run) has nothing to tell apart.
    mine = None if not books or None in ours else ours | {None}
    sums: dict[tuple[str, bool], Sums] = {}
    for one in books:
        key = (one.model, one.batch)
        sums[key] = sums.get(key, NOTHING).plus(one.sums)
    tokens: dict[tuple[str, bool], dict[str, int]] = {}
    for usage in used:
        if mine is None or usage.workspace in mine:
            counts = tokens.setdefault((usage.model, usage.batch), dict.fromkeys(usage.tokens, 0))
            for kind, number in usage.tokens.items():
                counts[kind] = counts.get(kind, 0) + number
    amounts: dict[tuple[str, bool], dict[str | None, int]] = {}
    elsewhere, beside, searches = 0, dict[str, int](), 0
    for line in billed:
        if mine is not None and line.workspace not in mine:
            elsewhere += line.pico
        elif line.model is not None:
            by_kind = amounts.setdefault((line.model, line.batch), {})
            by_kind[line.kind] = by_kind.get(line.kind, 0) + line.pico
        elif line.kind == "web_searches":
            searches += line.pico
        else:
            beside[line.description] = beside.get(line.description, 0) + line.pico
    _spread(searches, tokens, amounts)
    keys = sorted({*sums, *amounts, *(key for key, counts in tokens.items() if any(counts.values()))})
    compared = [
        _compared(key, sums.get(key, NOTHING), tokens.get(key, {}), amounts.get(key, {}), unread_batches)
        for key in keys
    ]
    return Reconciled(day=day, compared=compared, elsewhere_pico=elsewhere, beside=beside)


def _spread(
    searches_pico: int,
    tokens: Mapping[tuple[str, bool], Mapping[str, int]],
    amounts: dict[tuple[str, bool], dict[str | None, int]],
) -> None:
    """The report tells the fee of searches without their model; usage tells who searched how often."""
    total = sum(counts.get("web_searches", 0) for counts in tokens.values())
    for key, counts in tokens.items():
        if total and counts.get("web_searches"):
            share = round(Fraction(searches_pico * counts["web_searches"], total))
            by_kind = amounts.setdefault(key, {})
            by_kind["web_searches"] = by_kind.get("web_searches", 0) + share


def _compared(
    key: tuple[str, bool],
    books: Sums,
    tokens: Mapping[str, int],
    amounts: Mapping[str | None, int],
    unread_batches: int,
) -> Compared:
    model, batch = key
    bill_pico = sum(amounts.values())
    findings, explained = _explained(books, tokens, amounts, bill_pico, unread_batches if batch else 0)
    return Compared(
        model=model,
        batch=batch,
        books=books,
        bill_pico=bill_pico,
        bill_tokens=tokens,
        findings=tuple(findings),
        explained=explained,
    )


def _explained(
    books: Sums, tokens: Mapping[str, int], amounts: Mapping[str | None, int], bill_pico: int, unread_batches: int
) -> tuple[list[str], bool]:
    more = bill_pico - books.cost_pico
    counts = {kind: getattr(books, kind) for kind in (*TOKEN_KINDS, "web_searches")}
    same_tokens = all(tokens.get(kind, 0) == number for kind, number in counts.items())
    if more == 0 or (same_tokens and abs(more) <= TOLERANCE_PICO):
        found = []
        if books.unknown_calls:
            found.append(f"{of_calls(books.unknown_calls)} of unknown end cost nothing: they were not billed")
        return found, True
    if same_tokens and not books.uncosted:
        return [_of_prices(counts, amounts)], False
    if more < 0:
        lacks = f"the books have {dollars(-more)} more than the bill: {_token_words(counts, tokens)}"
        return [f"{lacks}. {LATE_OR_NEAR_MIDNIGHT}"], False
    return _of_more_on_the_bill(more, books, counts, tokens, unread_batches)


def _of_prices(counts: Mapping[str, int], amounts: Mapping[str | None, int]) -> str:
    """The tokens agree and the money does not: what the bill asked for a million of each kind."""
    asked = [
        f"{KIND_WORDS[kind]} ${float(Fraction(pico, counts[kind] * PICO_PER_MICRO)):g}"
        for kind, pico in amounts.items()
        if kind in TOKEN_KINDS and counts.get(kind)
    ]
    return (
        "the tokens agree, so the prices differ: the bill asked " + ", ".join(asked) + " for a million of each. "
        "Correct the table ([model_prices] in runner.toml), then: runner cost reprice"
    )


def _of_more_on_the_bill(
    more: int, books: Sums, counts: Mapping[str, int], tokens: Mapping[str, int], unread_batches: int
) -> tuple[list[str], bool]:
    found = []
    uncertain = books.unknown_calls + books.uncosted
    if uncertain and not books.unbounded and more <= books.bound_pico + TOLERANCE_PICO:
        what = _uncertain(books)
        return [f"{dollars(more)} more than is known; {what} may cost up to {dollars(books.bound_pico)}"], True
    if uncertain:
        bound = "an amount that nothing bounds" if books.unbounded else f"up to {dollars(books.bound_pico)}"
        found.append(f"{_uncertain(books)} may cost {bound} of the {dollars(more)}")
    if unread_batches:
        batches = quantity(unread_batches, "batch made by then is", "batches made by then are")
        found.append(f"{batches} not read yet: runner collect")
    found.append(
        f"the bill has {dollars(more)} more than the books: {_token_words(counts, tokens)}. What is left over was "
        "asked by others in this workspace, or shortly before or after midnight UTC, or from another store"
    )
    return found, False


def _uncertain(books: Sums) -> str:
    parts = []
    if books.unknown_calls:
        parts.append(f"{of_calls(books.unknown_calls)} of unknown end")
    if books.uncosted:
        parts.append(f"{of_calls(books.uncosted)} without a price")
    return " and ".join(parts)


def _token_words(counts: Mapping[str, int], tokens: Mapping[str, int]) -> str:
    """`output 1,200 on the bill, 1,000 in the books`, for what differs."""
    told = [
        f"{KIND_WORDS[kind]} {tokens.get(kind, 0):,} on the bill, {number:,} in the books"
        for kind, number in counts.items()
        if tokens.get(kind, 0) != number
    ]
    return "; ".join(told) or "all tokens agree"
