"""Priming as the runner plans it, carried out against the simulator's own reading of the caching rules."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from runner.api.usage import read_usage
from runner.domain.outcome import Usage
from runner.domain.prefix import PrefixReader, kept_longer
from runner.domain.pricing import PICO_PER_USD, shipped_prices
from runner.domain.priming import Groups, Plan
from runner.simulator import Simulator, SimulatorConfig
from runner.simulator.facts import facts
from tests.simulator.batch_calls import create, results
from tests.turned_clock import TurnedClock

pytestmark = pytest.mark.anyio

HAIKU = "claude-haiku-5-5"
ROWS = 30
FIVE = {"type": "ephemeral"}
RULES = "Label each letter by what it is about. " * 80

Body = dict[str, Any]


def text(words: str, mark: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "text", "text": words} | ({"cache_control": mark} if mark else {})


def user(*content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


def body(messages: list[dict[str, Any]], **more: Any) -> Body:
    return {"model": HAIKU, "max_tokens": 200, "messages": messages} | more


KINDS: dict[str, list[Body]] = {
    "a system prompt": [body(user(text(f"row {n}")), system=[text(RULES, FIVE)]) for n in range(ROWS)],
    "tools": [
        body(
            user(text(f"row {n}")),
            tools=[
                {"name": "label", "description": RULES, "input_schema": {"type": "object"}, "cache_control": FIVE}
            ],
        )
        for n in range(ROWS)
    ],
    "a document in the messages": [body(user(text(RULES, FIVE), text(f"question {n}"))) for n in range(ROWS)],
    "a system prompt, and a document for every ten rows": [
        body(user(text(f"{n % 3} {RULES}" * 4, FIVE), text(f"question {n}")), system=[text(RULES, FIVE)])
        for n in range(ROWS)
    ],
    "a system prompt, and the body's own mark": [
        body(user(text(f"row {n} " * 500)), system=[text(RULES, FIVE)], cache_control=FIVE) for n in range(ROWS)
    ],
    "the same body again and again": [body(user(text(RULES)), cache_control=FIVE) for _ in range(ROWS)],
}


class Service:
    """Batches of rows by their idx, and what they are answered with."""

    def __init__(self, clock: TurnedClock) -> None:
        self.clock = clock
        self.simulator = Simulator(SimulatorConfig(output_tokens=20), clock)

    async def batch(self, bodies: dict[int, Body]) -> dict[int, Usage]:
        made = create(self.simulator, [{"custom_id": str(idx), "params": told} for idx, told in bodies.items()])
        await self.clock.advance(600)
        lines = results(self.simulator, made["id"])
        assert {line["result"]["type"] for line in lines} == {"succeeded"}, lines[0]
        return {int(line["custom_id"]): read_usage(line["result"]["message"]["usage"]) for line in lines}

    @property
    def pico(self) -> int:
        return int(self.simulator.ledger.cost_usd * PICO_PER_USD)


def planned(bodies: list[Body]) -> tuple[Plan, list[Any]]:
    reader, groups = PrefixReader(), Groups()
    chains = [reader.prefixes(told) for told in bodies]
    for idx, chain in enumerate(chains):
        groups.add(idx, chain)
    return groups.plan(shipped_prices()), chains


@pytest.mark.parametrize("kind", KINDS)
async def test_rows_that_waited_read_what_those_ahead_left_and_all_together_cost_less(kind: str) -> None:
    bodies, clock = KINDS[kind], TurnedClock()
    cold, primed = Service(clock), Service(clock)
    await cold.batch(dict(enumerate(bodies)))
    plan, chains = planned(bodies)
    assert 1 <= len(plan.ahead) <= 3
    usages = await primed.batch({idx: kept_longer(bodies[idx], plan.depth(chains[idx])) for idx in plan.ahead})
    rest = plan.after(usages)
    assert rest.warm == plan.leaders.keys()
    others = {idx: told for idx, told in enumerate(bodies) if idx not in plan.ahead}
    read = await primed.batch({idx: kept_longer(told, rest.depth(chains[idx])) for idx, told in others.items()})
    assert all(usage.cache_read for usage in read.values())
    assert primed.pico < cold.pico
    # Estimates of tokens differ a little between the two readings.
    assert cold.pico - primed.pico == pytest.approx(plan.saved_pico, rel=0.15)


async def test_rows_whose_leader_was_refused_are_sent_as_they_are_and_cost_no_more_than_cold() -> None:
    bodies, clock = KINDS["a system prompt"], TurnedClock()
    cold, failed = Service(clock), Service(clock)
    await cold.batch(dict(enumerate(bodies)))
    plan, chains = planned(bodies)
    rest = plan.after({})
    await failed.batch({idx: kept_longer(told, rest.depth(chains[idx])) for idx, told in enumerate(bodies)})
    assert failed.pico == cold.pico


async def test_an_hours_mark_alters_no_answer() -> None:
    clock = TurnedClock()
    told = KINDS["a system prompt"][0]
    texts = []
    for one in (told, kept_longer(told, 1)):
        service = Service(clock)
        made = create(service.simulator, [{"custom_id": "0", "params": one}])
        await clock.advance(600)
        (line,) = results(service.simulator, made["id"])
        texts.append(msgspec.json.encode(line["result"]["message"]["content"]))
    assert texts[0] == texts[1]


def test_both_know_the_same_minimums() -> None:
    book = shipped_prices()
    for model in facts().models:
        known = book.find(model.id)
        assert known is not None
        assert known.min_cache_tokens == model.min_cache_tokens, model.id
