"""What is known of a model id before anything is sent."""

from __future__ import annotations

from msgspec import Struct

from runner.domain.nearest import suggest
from runner.domain.pricing import PriceBook


class ModelProblem(Struct, frozen=True, kw_only=True):
    """Why a model id cannot be used, or probably not. `retired` is the date; None means the id is not known."""

    model: str
    retired: str | None
    nearest: str | None

    @property
    def sentence(self) -> str:
        if self.retired is not None:
            return f"{self.model} was retired on {self.retired}."
        return f'"{self.model}" is not a model id that this runner knows.'


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
