"""What the service lists of its models, held against what this program knows of them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from runner.domain.lifecycle import NOT_BEFORE
from runner.domain.pricing import ModelFacts, PriceBook

RETIRED = "retired"


class ListedModel(Struct, frozen=True, kw_only=True):
    """A model as the service lists it; dates are days, None where nothing is said."""

    id: str
    lifecycle: str | None = None
    deprecated: str | None = None
    retires: str | None = None
    context_window: int | None = None
    max_output: int | None = None


class Difference(Struct, frozen=True, kw_only=True):
    """Something that the service says otherwise. `model` is the id, `sentence` says both."""

    model: str
    sentence: str


def differences(book: PriceBook, listed: Iterable[ListedModel]) -> list[Difference]:
    """What is listed and not known, known and not listed, or known otherwise; in the order of ids."""
    by_id = {one.id: one for one in listed}
    known = {facts.id: facts for facts in book.models.values()}
    found: list[Difference] = []
    for id_ in sorted({*by_id, *known}):
        facts, told = known.get(id_) or book.find(id_), by_id.get(id_)
        if facts is None and told is not None:
            if told.lifecycle != RETIRED and id_ not in book.retired:
                found.append(Difference(model=id_, sentence="the service has it; no price is known for it here"))
        elif told is None:
            if facts is not None and not {facts.id, *facts.aliases} & by_id.keys():
                found.append(Difference(model=id_, sentence="the service does not list it to this key"))
        elif facts is not None:
            found += [Difference(model=id_, sentence=sentence) for sentence in _otherwise(facts, told)]
    return found


def _otherwise(facts: ModelFacts, told: ListedModel) -> list[str]:
    found = []
    if told.lifecycle == RETIRED:
        found.append("it is retired")
    elif told.lifecycle == "deprecated" and facts.deprecated is None:
        found.append(f"it is deprecated{f' since {told.deprecated}' if told.deprecated else ''}; not so here")
    ours = None if facts.retires is None or facts.retires.startswith(NOT_BEFORE) else facts.retires
    if told.retires is not None and told.retires != ours:
        found.append(f"it retires on {told.retires}; here {ours or 'no day is known'}")
    for name, one, other in (
        ("context window", told.context_window, facts.context_window),
        ("longest answer", told.max_output, facts.max_output),
    ):
        if one is not None and one != other:
            found.append(f"its {name} is {one:,} tokens; here {other:,}")
    return found
