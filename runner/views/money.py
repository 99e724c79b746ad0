"""Money for people and for JSON. The rounding is a rule of the domain, which names amounts in its reasons too."""

from __future__ import annotations

from runner.domain.money import UNKNOWN, dollars, usd

__all__ = ["UNKNOWN", "dollars", "usd"]
