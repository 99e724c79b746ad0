"""What is known of a model id before anything is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from runner.domain.nearest import suggest
from runner.domain.pricing import PriceBook

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelProblem:
    """Why a model id cannot be used, or probably not. `retired` is the date; None means the id is not known."""

    model: str
    retired: str | None
    nearest: str | None

    @property
    def sentence(self) -> str:
        if self.retired is not None:
            return f"{self.model} was retired on {self.retired}."
        return f'"{self.model}" is not a model id that this runner knows.'


# Model ids are announced to retire at least 60 days ahead; what may retire within a month is worth a word.
SOON_DAYS = 30


def retiring(model: str, prices: PriceBook, today: date) -> str | None:
    """A sentence about a model that retires, or may, within a month; None where there is nothing to say."""
    facts = prices.find(model)
    found = _DATE.search(facts.retires) if facts is not None and facts.retires else None
    if facts is None or found is None:
        return None
    when = date.fromisoformat(found[0])
    if (when - today).days > SOON_DAYS:
        return None
    if facts.retires == found[0]:
        return f"{facts.id} retires on {when}; calls fail from then on."
    return f"{facts.id} may be retired from {when} on; it is announced 60 days ahead."


def model_problem(model: str, prices: PriceBook) -> ModelProblem | None:
    """None when the model is known and not retired."""
    if prices.find(model) is not None:
        return None
    active = [facts.id for facts in prices.models.values() if facts.status != "deprecated"]
    line = model.removeprefix("claude-").lstrip("0123456789.-").split("-")[0]
    same_line = [facts.id for facts in prices.models.values() if facts.line == line and facts.status == "active"]
    named_like_it = None if model in prices.retired else suggest(model, active)
    return ModelProblem(
        model=model,
        retired=prices.retired.get(model),
        nearest=named_like_it or next(iter(same_line), None),
    )
