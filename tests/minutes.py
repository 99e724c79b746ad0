"""Minute by minute, what a simulator with limits was offered; and rows of a size for it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.simulator.ledger import Offer

WINDOW_S = 60.0


def rows(
    count: int, *, input_tokens: int, output_tokens: int, spread: float = 0.0, cached: float = 0.0
) -> list[bytes]:
    """Prompts of about so many tokens that are answered with about so many; `spread` is how far each may be off."""
    chance = random.Random(7)
    made = []
    for number in range(count):
        size = round(input_tokens * chance.uniform(1 - spread, 1 + spread))
        answer = round(output_tokens * chance.uniform(1 - spread, 1 + spread))
        wish = f"[[sim:tokens={answer}]][[sim:cache_read={round(size * cached)}]]"
        text = f"row {number} {wish}"
        made.append(b'{"prompt":"%s"}' % text.ljust(size * 4, "x").encode())
    return made


@dataclass
class Minutes:
    """The simulator's own account of what it was offered."""

    offers: Sequence[Offer]

    def windows(self, from_s: float) -> Iterator[list[Offer]]:
        """Every stretch of a minute from then on, a second apart, that was over before the last row."""
        begin = self.offers[0].at_s
        last = self.offers[-1].at_s
        at = begin + from_s
        while at + WINDOW_S <= last:
            yield [offer for offer in self.offers if at <= offer.at_s < at + WINDOW_S]
            at += 1

    @property
    def refused(self) -> float:
        return sum(offer.kind != "accepted" for offer in self.offers) / len(self.offers)


def amount(offers: Sequence[Offer], limit: str) -> float:
    if limit == "rpm":
        return len(offers)
    name = {"itpm": "input_tokens", "otpm": "output_tokens"}[limit]
    return sum(getattr(offer, name) for offer in offers if offer.kind == "accepted")


def check(
    minutes: Minutes, limits: dict[str, int], binding: str, *, from_s: float = 60.0, least: float = 0.96
) -> None:
    seen = list(minutes.windows(from_s))
    assert len(seen) >= 10
    shares = {name: [amount(window, name) / limit for window in seen] for name, limit in limits.items()}
    figures = {name: f"{min(share):.3f} to {max(share):.3f}" for name, share in shares.items()}
    print(f"share of each limit used in a minute: {figures}; refused {minutes.refused:.4%}")
    assert all(max(share) <= 1.05 for share in shares.values()), figures
    assert sum(shares[binding]) / len(seen) >= least, figures
    assert minutes.refused < 0.005
