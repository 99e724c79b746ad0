"""The requests of one batch, worked through in a shuffled order, and what stands when the batch ends.

Work may be done ahead of the clock, a slice at a time; whatever had no turn when the batch ends is cut off again, so
that the outcome depends on the clock alone. Each result is made once and kept compressed; params are then let go.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import msgspec

from runner.simulator.batch_envelope import Rider
from runner.simulator.batch_pages import Pages
from runner.simulator.batch_verdicts import Judge
from runner.simulator.billing import PICO_PER_USD, cost_usd
from runner.simulator.caches import MAX_ENTRIES, Entry

TOKEN_KINDS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
HASH_BYTES = 32

Ending = Literal["canceled", "expired"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """An ended batch: its lines, its counts and its bill."""

    pages: Pages
    counts: dict[str, int]
    billed: int
    tokens: dict[str, int]
    cost_usd: Fraction
    hashes: bytes  # of the params of every request that had its turn, in the order of the lines

    def billed_lines(self) -> Iterator[tuple[str, dict[str, Any], str]]:
        """custom_id, message and hash of the params, for each line of the bill."""
        at = 0
        for line in self.pages.lines():
            told = msgspec.json.decode(line)
            if told["result"]["type"] not in ("succeeded", "errored"):
                continue
            digest = self.hashes[at : at + HASH_BYTES].hex()
            at += HASH_BYTES
            message = told["result"].get("message")
            if message is not None and not _is_free(message):
                yield told["custom_id"], message, digest


class Work:
    """Riders on their way to results. `done` of them have had their turn."""

    def __init__(self, riders: list[Rider], judge: Judge, *, seed: str, errored_share: float) -> None:
        self._riders = riders
        self._judge = judge
        self._dice = random.Random(seed)
        self._order = array("I", range(len(riders)))
        self._dice.shuffle(self._order)
        self._errored_share = errored_share
        self._pages = Pages()
        self._succeeded = bytearray()
        self._hashes = bytearray()
        self._pico = array("Q")
        self._tokens = {name: array("Q") for name in TOKEN_KINDS}
        self._entries: dict[Entry, int] = {}  # and the position of the first request that left it

    @property
    def done(self) -> int:
        return len(self._succeeded)

    @property
    def entries(self) -> Iterable[Entry]:
        """What the requests that had their turn leave in the caches."""
        return self._entries

    def go_on(self, upto: int) -> None:
        """Give all before position `upto` their turn."""
        for position in range(self.done, upto):
            self._turn(position, self._riders[self._order[position]])

    def finish(self, processed: int, ending: Ending) -> Outcome:
        """The batch ends with so many processed; the rest ends as `ending`."""
        self.go_on(processed)
        self._cut(processed)
        pages = self._pages
        rest = len(self._order) - processed
        if rest:
            pages = Pages(self._merged(processed, rest, ending))
        succeeded = sum(self._succeeded)
        counts = {"succeeded": succeeded, "errored": processed - succeeded, "canceled": 0, "expired": 0}
        return Outcome(
            pages=pages,
            counts=counts | {ending: rest},
            billed=sum(1 for pico in self._pico if pico),
            tokens={name: sum(counts) for name, counts in self._tokens.items()},
            cost_usd=Fraction(sum(self._pico), PICO_PER_USD),
            hashes=bytes(self._hashes),
        )

    def _turn(self, position: int, rider: Rider) -> None:
        body = bytes(rider.params)
        result, entries = self._judge.configured_error() if self._fails(position) else self._judge.verdict(body)
        for entry in entries:
            if len(self._entries) < MAX_ENTRIES:
                self._entries.setdefault(entry, position)
        self._pages.append(msgspec.json.encode({"custom_id": rider.custom_id, "result": result}))
        self._hashes += hashlib.sha256(body).digest()
        self._succeeded.append("message" in result)
        self._bill(result.get("message"))

    def _bill(self, message: dict[str, Any] | None) -> None:
        if message is None or _is_free(message):
            for column in (self._pico, *self._tokens.values()):
                column.append(0)
            return
        usage = message["usage"]
        self._pico.append(int(cost_usd(message["model"], usage, batch=True) * PICO_PER_USD))
        for name, column in self._tokens.items():
            column.append(usage[name])

    def _fails(self, position: int) -> bool:
        """An even spread: of any first so many, the share fails."""
        return int((position + 1) * self._errored_share) > int(position * self._errored_share)

    def _cut(self, count: int) -> None:
        for position in range(count, self.done):
            if not self._fails(position):
                self._judge.forget(bytes(self._riders[self._order[position]].params))
        self._pages.keep(count)
        del self._succeeded[count:], self._hashes[count * HASH_BYTES :], self._pico[count:]
        for column in self._tokens.values():
            del column[count:]
        self._entries = {entry: position for entry, position in self._entries.items() if position < count}

    def _merged(self, processed: int, rest: int, ending: Ending) -> Iterator[bytes]:
        """Processed lines in their order, the others strewn among them."""
        lines = self._pages.lines()
        others = iter(self._order[processed:])
        for left in range(processed + rest, 0, -1):
            if self._dice.random() * left < rest:
                rest -= 1
                told = {"custom_id": self._riders[next(others)].custom_id, "result": {"type": ending}}
                yield msgspec.json.encode(told)
            else:
                yield next(lines)


def _is_free(message: dict[str, Any]) -> bool:
    """A refusal before the first word costs nothing."""
    return message["stop_reason"] == "refusal" and not message["content"]
