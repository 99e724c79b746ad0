"""How well the sizes of calls were estimated, in words and as values."""

from __future__ import annotations

from typing import Any

from runner.domain.estimates import EstimateError, EstimatesTold


def estimate_words(told: EstimatesTold) -> str:
    """`input +2% in all, 8% off a call   output -1% in all, 35% off a call`."""
    return f"input {_words(told.input_error)}   output {_words(told.output_error)}"


def _words(error: EstimateError) -> str:
    return f"{error.together:+.0%} in all, {error.each:.0%} off a call"


def estimate_json(told: EstimatesTold | None) -> dict[str, Any] | None:
    if told is None:
        return None
    return {
        "answers": told.answers,
        "bytes_per_input_token": round(told.bytes_per_token, 3),
        "output_tokens_per_answer": round(told.output_tokens, 1),
        "input_error": _json(told.input_error),
        "output_error": _json(told.output_error),
    }


def _json(error: EstimateError) -> dict[str, float]:
    return {"together": round(error.together, 4), "each": round(error.each, 4)}
