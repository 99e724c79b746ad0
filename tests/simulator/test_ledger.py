"""The bill is exact, complete, and readable from outside."""

from __future__ import annotations

import hashlib
import json
import sys
from fractions import Fraction
from typing import Any

import pytest

from runner.simulator import Fault, Simulator, SimulatorConfig
from runner.simulator.billing import cost_usd, pico_text
from runner.simulator.facts import facts
from tests.simulator.calls import body, finished, post
from tests.simulator.conftest import Start
from tests.turned_clock import TurnedClock


def usage(**more: Any) -> dict[str, Any]:
    none: dict[str, Any] = {
        "input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 0,
        "server_tool_use": None,
        "inference_geo": "global",
        "speed": "standard",
    }
    return none | more


MILLION = 1_000_000
CACHED = {"ephemeral_5m_input_tokens": MILLION, "ephemeral_1h_input_tokens": MILLION}

# Dollars for a million tokens, as the price page has them.
PRICES: list[tuple[str, dict[str, Any], str]] = [
    ("claude-opus-5-5", {"input_tokens": MILLION}, "4"),
    ("claude-opus-5-5", {"output_tokens": MILLION}, "20"),
    ("claude-opus-5-5", {"cache_read_input_tokens": MILLION}, "0.20"),
    ("claude-opus-5-5", {"cache_creation": CACHED}, "13"),
    ("claude-opus-5-5", {"input_tokens": MILLION, "inference_geo": "us"}, "4.4"),
    ("claude-opus-5-5", {"output_tokens": MILLION, "speed": "fast"}, "40"),
    ("claude-fable-5-2", {"cache_read_input_tokens": MILLION}, "0.20"),
    ("claude-fable-5", {"cache_read_input_tokens": MILLION}, "1"),
    ("claude-sonnet-4-5", {"output_tokens": MILLION}, "15"),
    ("claude-haiku-5-5", {"input_tokens": 100_000, "output_tokens": MILLION}, "0.51"),
    ("claude-haiku-5-5", {"input_tokens": 100_001, "output_tokens": 0}, "0.0500005"),
    ("claude-haiku-5-5", {"cache_read_input_tokens": 100_001, "output_tokens": MILLION}, "2.50500005"),
    ("claude-haiku-4-5", {"server_tool_use": {"web_search_requests": 3}}, "0.03"),
]


@pytest.mark.parametrize(("model", "used", "dollars"), PRICES)
def test_a_call_costs_what_the_price_page_says(model: str, used: dict[str, Any], dollars: str) -> None:
    assert cost_usd(model, usage(**used)) == Fraction(dollars)


def test_a_batch_is_half_price_but_searches_are_not() -> None:
    used = usage(input_tokens=MILLION, server_tool_use={"web_search_requests": 1})
    assert cost_usd("claude-opus-5-5", used, batch=True) == Fraction("2.01")


def test_every_price_is_a_whole_number_of_pico_dollars() -> None:
    for model in facts().models:
        used = usage(input_tokens=1, cache_read_input_tokens=1, output_tokens=1, inference_geo="us", speed="fast")
        assert pico_text(cost_usd(model.id, used, batch=True)).isdigit()


def test_a_charge_says_all_about_its_call() -> None:
    simulator = Simulator(SimulatorConfig(), TurnedClock())
    message = json.loads(finished(post(simulator, body())).body)
    (line,) = [json.loads(line) for line in simulator.ledger.lines()]
    assert line["body_sha256"] == hashlib.sha256(body()).hexdigest()
    assert line["usage"] == message["usage"]
    assert Fraction(line["cost_usd"]) == cost_usd(line["model"], message["usage"])
    assert Fraction(line["pico"]) == Fraction(line["cost_usd"]) * 10**12
    assert (line["ordinal"], line["wire"], line["stream"]) == (1, "delivered", False)


def test_totals_equal_the_sum_of_the_lines() -> None:
    simulator = Simulator(SimulatorConfig(), TurnedClock())
    for number in range(50):
        post(simulator, body(f"row {number} " * (number + 1)))
    assert simulator.ledger.cost_usd == sum(charge.cost_usd for charge in simulator.ledger.charges)
    assert simulator.ledger.counts["billed"] == 50


def test_totals_alone_keep_nothing_per_call() -> None:
    full, totals = (Simulator(SimulatorConfig(keep_ledger=keep), TurnedClock()) for keep in ("full", "totals"))
    for number in range(200):
        for simulator in (full, totals):
            finished(post(simulator, body(f"row {number}")))
    assert (totals.ledger.charges, totals.ledger.offers) == ([], [])
    assert totals.ledger.cost_usd == full.ledger.cost_usd
    assert sys.getsizeof(totals.ledger.windows) < 10_000


# -- over the admin door


@pytest.mark.anyio
async def test_the_ledger_and_the_tallies_are_read_without_a_key(start: Start) -> None:
    _, client = await start()
    for number in range(3):
        await client.post("/v1/messages", content=body(str(number)))
    client.headers.clear()
    lines = (await client.get("/_simulator/ledger")).text.splitlines()
    tallies = (await client.get("/_simulator/tallies")).json()
    assert len(lines) == tallies["billed"] == tallies["accepted"] == tallies["wire"]["delivered"] == 3
    assert Fraction(tallies["cost_usd"]) == sum(Fraction(json.loads(line)["cost_usd"]) for line in lines)
    seen = await client.get("/_simulator/seen", params={"hash": hashlib.sha256(body("1")).hexdigest()})
    assert seen.json()["billed"] == 1


@pytest.mark.anyio
async def test_faults_can_be_changed_while_it_runs(start: Start) -> None:
    _, client = await start()
    told = await client.post("/_simulator/faults", json=[{"kind": "overloaded", "first": 1}])
    assert told.json() == {"faults": 1}
    codes = [(await client.post("/v1/messages", content=body())).status_code for _ in range(2)]
    assert codes == [529, 200]


@pytest.mark.anyio
@pytest.mark.parametrize("told", [b"{", b"{}", b'[{"kind": "gremlin"}]'])
async def test_unreadable_faults_are_refused_and_change_nothing(start: Start, told: bytes) -> None:
    _, client = await start(faults=(Fault(kind="overloaded"),))
    assert (await client.post("/_simulator/faults", content=told)).status_code == 400
    assert (await client.post("/v1/messages", content=body())).status_code == 529


@pytest.mark.anyio
async def test_reset_begins_anew(start: Start) -> None:
    server, client = await start(rpm=1)
    codes = [(await client.post("/v1/messages", content=body())).status_code for _ in range(2)]
    assert codes == [200, 429]
    await client.post("/_simulator/reset")
    assert (await client.post("/v1/messages", content=body())).status_code == 200
    assert server.simulator.ledger.counts["billed"] == 1
    assert (await client.get("/_simulator/nothing")).status_code == 404
