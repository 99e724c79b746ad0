"""How many tokens a call will probably take, learned from what the job's own answers took.

Input follows the length of the body, output the mean of the answers. Both are means rather than safe bounds: every
call is corrected once its usage is known, so what matters is that the errors cancel out.
"""

from __future__ import annotations

import json

from msgspec import Struct

from runner.domain.outcome import Usage

# Before the first answer: bytes of a body per token, and the share of `max_tokens` that an answer fills.
BYTES_PER_TOKEN = 4.0
SHARE_OF_MAX_TOKENS = 0.25
# How many answers are remembered, roughly: enough for a steady mean, few enough to follow an input that changes.
MEMORY = 200


def input_tokens(usage: Usage) -> int:
    """Input as the limits count it: reads of the cache are free."""
    return usage.prompt_tokens - usage.cache_read


class EstimateError(Struct, frozen=True, kw_only=True):
    """How far estimates were off, in shares of the actual tokens: all together, and call by call."""

    together: float
    each: float


class EstimatesTold(Struct, frozen=True, kw_only=True):
    """What was learned from so many answers, and how far off the estimates were."""

    answers: int
    bytes_per_token: float
    output_tokens: float
    input_error: EstimateError
    output_error: EstimateError


class _Errors:
    """Over all answers, of one kind of token: what was estimated, what it was, and by how much each was off."""

    def __init__(self, estimated: float = 0.0, actual: float = 0.0, off: float = 0.0) -> None:
        self.estimated = estimated
        self.actual = actual
        self.off = off

    def add(self, estimated: float, actual: float) -> None:
        self.estimated += estimated
        self.actual += actual
        self.off += abs(estimated - actual)

    def told(self) -> EstimateError:
        actual = self.actual or 1.0
        return EstimateError(together=(self.estimated - self.actual) / actual, each=self.off / actual)


class Estimator:
    """One job's. `answers` counts what it has learned from; sums over the last of them give the means."""

    def __init__(self) -> None:
        self.answers = 0
        self._weight = 0.0
        self._bytes = 0.0
        self._input = 0.0
        self._output = 0.0
        self._of_input = _Errors()
        self._of_output = _Errors()

    def estimate(self, body_bytes: int, max_tokens: int) -> tuple[float, float]:
        """Input and output tokens of a call."""
        if not self.answers:
            return body_bytes / BYTES_PER_TOKEN, max_tokens * SHARE_OF_MAX_TOKENS
        return body_bytes * self._input / self._bytes, min(self._output / self._weight, max_tokens)

    def learn(self, body_bytes: int, estimate: tuple[float, float], usage: Usage) -> None:
        """From an answer to a call that was estimated so."""
        actual = input_tokens(usage)
        self._of_input.add(estimate[0], actual)
        self._of_output.add(estimate[1], usage.output_tokens)
        kept = 1 - 1 / MEMORY
        self.answers += 1
        self._weight = self._weight * kept + 1
        self._bytes = self._bytes * kept + max(1, body_bytes)
        self._input = self._input * kept + actual
        self._output = self._output * kept + usage.output_tokens

    def told(self) -> EstimatesTold | None:
        """How the estimates have been; None before the first answer."""
        if not self.answers:
            return None
        return EstimatesTold(
            answers=self.answers,
            bytes_per_token=self._bytes / max(self._input, 1.0),
            output_tokens=self._output / self._weight,
            input_error=self._of_input.told(),
            output_error=self._of_output.told(),
        )

    def to_json(self) -> str:
        """What a run keeps, so that it goes on with what it has learned."""
        sums = (self._weight, self._bytes, self._input, self._output)
        errors = [vars(self._of_input), vars(self._of_output)]
        return json.dumps({"answers": self.answers, "sums": sums, "errors": errors})

    @staticmethod
    def from_json(text: str | None) -> Estimator:
        made = Estimator()
        if text is not None:
            told = json.loads(text)
            made.answers = told["answers"]
            made._weight, made._bytes, made._input, made._output = told["sums"]
            made._of_input, made._of_output = (_Errors(**errors) for errors in told["errors"])
        return made
