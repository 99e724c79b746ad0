"""Prompt caches: what is written and read, for how long, by whom; and that the bill follows.

Only usage depends on what was asked before. The text of an answer never does.
"""

from __future__ import annotations

import gzip
import json
import tracemalloc
from fractions import Fraction
from typing import Any

import pytest

from runner.simulator import Simulator, SimulatorConfig, expected_message
from runner.simulator.billing import cost_usd
from runner.simulator.caches import MAX_ENTRIES, Entry, PromptCaches
from runner.simulator.facts import facts
from tests.simulator.batch_calls import ask, create, requests, results, simulator_on
from tests.simulator.calls import MODEL, body, error_of, header, params, post
from tests.turned_clock import TurnedClock

pytestmark = pytest.mark.anyio

LONG = "Rules, rules and more rules. " * 100  # 725 tokens
SHORT_MARK = {"type": "ephemeral"}
LONG_MARK = {"type": "ephemeral", "ttl": "1h"}


def text(words: str = LONG, mark: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "text", "text": words} | ({"cache_control": mark} if mark else {})


def marked(mark: dict[str, Any] | None = SHORT_MARK, words: str = LONG) -> list[dict[str, Any]]:
    """A system prompt that is to be cached."""
    return [text(words, mark)]


def used(message: dict[str, Any]) -> tuple[int, int, int, int]:
    """Input, written for five minutes, written for an hour, read."""
    usage = message["usage"]
    split = usage["cache_creation"]
    five, hour = split["ephemeral_5m_input_tokens"], split["ephemeral_1h_input_tokens"]
    assert usage["cache_creation_input_tokens"] == five + hour
    return usage["input_tokens"], five, hour, usage["cache_read_input_tokens"]


def live(simulator: Simulator, words: str = "hi", *, key: str = "sk-ant-test", **more: Any) -> tuple[int, ...]:
    """What a call of its own says it used."""
    reply = post(simulator, body(words, **more), x_api_key=key)
    assert reply.status == 200, reply.body
    return used(json.loads(reply.body))


async def batch(simulator: Simulator, clock: TurnedClock, asked: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    """What each request of a batch used, once it has ended."""
    made = create(simulator, asked)
    await clock.advance(simulator.config.batch_seconds)
    return [used(line["result"]["message"]) for line in results(simulator, made["id"])]


# -- one call after another


async def test_what_one_call_writes_the_next_one_reads(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    assert live(simulator, "one", system=marked()) == (1, 725, 0, 0)
    assert live(simulator, "two", system=marked()) == (1, 0, 0, 725)
    assert live(simulator, "one", system=marked(LONG_MARK)) == (1, 0, 725, 0)
    assert live(simulator, "one", system=[text()]) == (726, 0, 0, 0)


@pytest.mark.parametrize(("mark", "seconds"), [(SHORT_MARK, 300), (LONG_MARK, 3600)])
async def test_it_is_kept_from_its_last_use_on(clock: TurnedClock, mark: dict[str, Any], seconds: int) -> None:
    simulator = simulator_on(clock)
    live(simulator, system=marked(mark))
    for _ in range(3):
        await clock.advance(seconds - 1)
        assert live(simulator, system=marked(mark))[3] == 725
    await clock.advance(seconds)
    assert live(simulator, system=marked(mark))[3] == 0


async def test_a_prefix_is_there_only_when_the_first_answer_has_begun(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, latency_s=10.0)
    assert live(simulator, system=marked())[1] == 725
    await clock.advance(9)
    assert live(simulator, system=marked())[1] == 725
    await clock.advance(1)
    assert live(simulator, system=marked())[3] == 725


@pytest.mark.parametrize("model", ["claude-haiku-5-5", "claude-sonnet-5", "claude-opus-4-7", "claude-haiku-4-5"])
async def test_a_prefix_below_the_models_minimum_is_silently_not_cached(clock: TurnedClock, model: str) -> None:
    least = next(known.min_cache_tokens for known in facts().models if model in (known.id, *known.aliases))
    simulator = simulator_on(clock)
    for words, written in (("x" * (4 * least - 1), 0), ("x" * 4 * least, least)):
        assert live(simulator, system=marked(words=words), model=model)[1] == written


DIFFERENT = [
    {"model": "claude-sonnet-5-5"},
    {"system": marked(words=LONG + "And one.")},
    {"system": [text("First. "), *marked()]},
    {"tools": [{"name": "t", "input_schema": {"type": "object"}}]},
]


@pytest.mark.parametrize("change", DIFFERENT)
async def test_another_beginning_is_another_prefix(clock: TurnedClock, change: dict[str, Any]) -> None:
    simulator = simulator_on(clock)
    live(simulator, system=marked())
    told = live(simulator, **({"system": marked()} | change))
    assert told[3] == 0


async def test_a_change_of_settings_spares_the_system_prompt_but_not_the_messages(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    asked = {"system": marked(LONG_MARK), "messages": [{"role": "user", "content": [text("a" * 4000, SHORT_MARK)]}]}
    assert live(simulator, **asked) == (0, 1000, 725, 0)
    assert live(simulator, **asked) == (0, 0, 0, 1725)
    for change in ({"output_config": {"effort": "low"}}, {"thinking": {"type": "adaptive"}}):
        written = live(simulator, **asked, **change)
        assert written[1:] == (1000, 0, 725)


async def test_no_workspace_reads_what_another_wrote(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, workspaces={"other": "wrkspc_other"})
    live(simulator, system=marked())
    assert live(simulator, system=marked(), key="other")[3] == 0
    assert live(simulator, system=marked(), key="other")[3] == 725


async def test_a_mark_of_the_whole_body_stands_on_its_last_block(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    turns = [{"role": "user", "content": LONG}]
    assert live(simulator, messages=turns, cache_control=SHORT_MARK) == (0, 725, 0, 0)
    turns += [{"role": "assistant", "content": "okay"}, {"role": "user", "content": "x" * 400}]
    assert live(simulator, messages=turns, cache_control=SHORT_MARK) == (0, 101, 0, 725)


@pytest.mark.parametrize(("between", "read"), [(18, 725), (19, 0)])
async def test_a_breakpoint_looks_back_at_twenty_blocks(clock: TurnedClock, between: int, read: int) -> None:
    simulator = simulator_on(clock)
    live(simulator, messages=[{"role": "user", "content": [text(LONG, SHORT_MARK)]}])
    content = [text(), *[text("more")] * between, text("last", SHORT_MARK)]
    assert live(simulator, messages=[{"role": "user", "content": content}])[3] == read


async def test_the_same_body_has_the_same_answer_cached_or_not(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    asked = body("one", system=marked())
    cold, warm = (json.loads(post(simulator, asked).body) for _ in range(2))
    assert cold == expected_message(simulator.config, asked)
    assert warm["usage"] != cold["usage"]
    assert warm | {"usage": None} == cold | {"usage": None}
    kept_longer = json.loads(post(simulator, body("one", system=marked(LONG_MARK))).body)
    assert kept_longer["content"] == cold["content"]


async def test_a_compressed_body_is_cached_too(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    packed = gzip.compress(body("one", system=marked()))
    reply = post(simulator, packed, content_encoding="gzip")
    assert used(json.loads(reply.body))[1] == 725


async def test_a_stream_tells_the_same_usage(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    reply = post(simulator, body("one", system=marked(), stream=True))
    assert b'"ephemeral_5m_input_tokens":725' in b"".join(reply.events or ())


async def test_what_is_read_is_free_of_the_limit_of_input_tokens(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, itpm=6000)
    left = []
    for _ in range(3):
        reply = post(simulator, body("one", system=marked(words="x" * 12_000)))
        left.append(header(reply.with_headers(reply.late_headers()), "anthropic-ratelimit-input-tokens-remaining"))
    assert left == ["3000", "3000", "3000"]


async def test_a_refused_call_writes_nothing(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, rpm=1)
    live(simulator)
    assert post(simulator, body("one", system=marked())).status == 429
    await clock.advance(60)
    assert live(simulator, "one", system=marked())[1] == 725


# -- batches


async def test_the_requests_of_a_cold_batch_share_nothing_and_each_pays(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    told = await batch(simulator, clock, requests(10, system=marked()))
    assert {use[1:] for use in told} == {(725, 0, 0)}


@pytest.mark.parametrize(("mark", "kept_s"), [(SHORT_MARK, 300), (LONG_MARK, 3600)])
async def test_a_batch_reads_what_one_left_that_had_ended(
    clock: TurnedClock, mark: dict[str, Any], kept_s: int
) -> None:
    simulator = simulator_on(clock)
    for pause_s, read in ((kept_s - 1, 725), (kept_s, 0)):
        await batch(simulator, clock, requests(1, system=marked(mark)))
        await clock.advance(pause_s)
        told = await batch(simulator, clock, requests(10, "then", system=marked(mark)))
        assert {use[3] for use in told} == {read}
        await clock.advance(2 * kept_s)


async def test_a_batch_reads_nothing_of_one_that_still_ran_when_it_was_created(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_seconds=10)
    create(simulator, requests(1, system=marked(LONG_MARK)))
    await clock.advance(9)
    second = create(simulator, requests(5, "second", system=marked(LONG_MARK)))
    await clock.advance(10)
    assert {used(line["result"]["message"])[2:] for line in results(simulator, second["id"])} == {(725, 0)}


async def test_calls_and_batches_read_what_the_others_left(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    live(simulator, system=marked(LONG_MARK))
    told = await batch(simulator, clock, requests(5, system=marked(LONG_MARK)))
    assert {use[2:] for use in told} == {(0, 725)}
    await clock.advance(3599)  # the batch has used it last
    assert live(simulator, system=marked(LONG_MARK))[3] == 725


async def test_what_another_ttl_wrote_is_not_found(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    await batch(simulator, clock, requests(1, system=marked(LONG_MARK)))
    told = await batch(simulator, clock, requests(3, "then", system=marked()))
    assert {use[1:] for use in told} == {(725, 0, 0)}


async def test_requests_without_a_turn_and_failed_ones_leave_nothing(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_seconds=100, batch_canceled_share=1.0)
    made = create(simulator, requests(3, system=marked(LONG_MARK)))
    while simulator.work_ahead():
        pass
    ask(simulator, "POST", f"/{made['id']}/cancel")
    await clock.advance(2)
    wished = [{"custom_id": "x", "params": params("[[sim:error=500:api_error]]", system=marked(LONG_MARK))}]
    create(simulator, wished)
    await clock.advance(100)
    assert live(simulator, system=marked(LONG_MARK))[2:] == (725, 0)


async def test_work_done_ahead_of_time_changes_no_usage(clock: TurnedClock) -> None:
    files = []
    for ahead in (True, False):
        simulator = simulator_on(clock, batch_seconds=10)
        live(simulator, system=marked())
        made = create(simulator, requests(200, system=marked()))
        while ahead and simulator.work_ahead():
            pass
        await clock.advance(4)
        live(simulator, system=marked(words=LONG + "Else."))
        other = create(simulator, requests(20, "other", system=marked(words=LONG + "Else.")))
        ask(simulator, "POST", f"/{made['id']}/cancel")
        await clock.advance(10)
        files.append([results(simulator, one["id"]) for one in (made, other)])
        await clock.advance(3600)
    assert files[0] == files[1]


# -- money


async def test_a_cold_batch_costs_more_than_one_without_marks_and_a_primed_one_less(clock: TurnedClock) -> None:
    """The order that was measured with the service: $0.0816 cold, $0.0744 without marks, $0.0484 primed."""
    costs: dict[str, Fraction] = {}
    for name, mark in (("unmarked", None), ("cold", SHORT_MARK), ("primed", LONG_MARK)):
        simulator = simulator_on(clock, output_tokens=300)
        asked = requests(50, system=marked(mark))
        if name == "primed":
            await batch(simulator, clock, asked[:1])
            asked = asked[1:]
        await batch(simulator, clock, asked)
        costs[name] = simulator.ledger.cost_usd
    assert costs["primed"] < costs["unmarked"] < costs["cold"]


async def test_the_bill_of_a_batch_halves_every_cache_price_exactly(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    live(simulator, system=marked(LONG_MARK))
    asked = requests(1, system=[*marked(LONG_MARK), text("x" * 400, SHORT_MARK)])
    ((input_tokens, five, hour, read),) = await batch(simulator, clock, asked)
    assert (five, hour, read) == (100, 0, 725)
    charge = list(simulator.ledger.all_charges())[-1]
    rest = input_tokens + 2 * 0 + Fraction(5, 4) * five + Fraction(1, 10) * read
    assert charge.cost_usd == (rest * Fraction("0.1") + charge.usage["output_tokens"] * Fraction("0.5")) / 2 / 10**6
    assert charge.cost_usd == cost_usd(MODEL, charge.usage, batch=True)
    assert simulator.ledger.tokens["cache_read_input_tokens"] == 725
    assert simulator.ledger.cost_usd == sum(one.cost_usd for one in simulator.ledger.all_charges())


# -- what is refused


REFUSED = [
    ({"system": [text("a", {"type": "forever"})]}, "ephemeral"),
    ({"system": [text("a", {"type": "ephemeral", "ttl": "1d"})]}, "'5m' or '1h'"),
    ({"system": [{"type": "text", "text": "a", "cache_control": "yes"}]}, "ephemeral"),
    ({"cache_control": {"ttl": "5m"}}, "ephemeral"),
    ({"system": [text("a", SHORT_MARK)] * 5}, "Found 5"),
    ({"system": [text("a", SHORT_MARK)] * 4, "cache_control": SHORT_MARK}, "Found 5"),
    ({"system": [text("a", SHORT_MARK), text("b", LONG_MARK)]}, "must not come after"),
    ({"system": [text("a", SHORT_MARK)], "cache_control": LONG_MARK}, "must not come after"),
    (
        {"messages": [{"role": "user", "content": [text("a", LONG_MARK)]}], "cache_control": SHORT_MARK},
        "another ttl",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": [{"type": "thinking", "cache_control": SHORT_MARK}]},
                {"role": "user", "content": "b"},
            ]
        },
        "cannot carry",
    ),
]


@pytest.mark.parametrize(("change", "says"), REFUSED)
async def test_a_wrong_mark_is_refused(clock: TurnedClock, change: dict[str, Any], says: str) -> None:
    reply = post(simulator_on(clock), body("one", **change))
    assert reply.status == 400
    assert says in error_of(reply)["message"]


ACCEPTED = [
    {"system": [text("a", LONG_MARK), text("b", SHORT_MARK)], "cache_control": SHORT_MARK},
    {"messages": [{"role": "user", "content": [text("a", SHORT_MARK)]}], "cache_control": SHORT_MARK},
    {"system": [{"type": "text", "text": "a", "cache_control": None}], "cache_control": None},
    {"system": ["not a block"], "cache_control": SHORT_MARK},
]


@pytest.mark.parametrize("change", ACCEPTED)
async def test_a_right_mark_is_not(clock: TurnedClock, change: dict[str, Any]) -> None:
    assert post(simulator_on(clock), body("one", **change)).status == 200


# -- memory


def test_a_million_prefixes_take_no_more_memory_than_some() -> None:
    caches = PromptCaches()
    tracemalloc.start()
    for number in range(3 * MAX_ENTRIES):
        caches.use([Entry("5m", number.to_bytes(16))], began_us=number, readable_us=number)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(caches) == MAX_ENTRIES
    assert size < 6_000_000


def test_what_is_used_all_the_time_is_not_forgotten() -> None:
    caches, hot = PromptCaches(), Entry("5m", b"hot")
    for number in range(2 * MAX_ENTRIES):
        caches.use([hot, Entry("5m", number.to_bytes(16))], began_us=number, readable_us=number)
    assert hot in caches.now(2 * MAX_ENTRIES)


def test_batches_that_ended_in_any_order_leave_the_same() -> None:
    ends_s = (100, 350, 1000)
    seen = set()
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)):
        caches, entry = PromptCaches(), Entry("5m", b"e")
        for number in order:
            at_us = ends_s[number] * 10**6
            caches.use([entry], began_us=at_us, readable_us=at_us)
        seen.add(tuple(entry in caches.now(at_s * 10**6) for at_s in (999, 1000, 1299, 1300)))
    assert seen == {(False, True, True, False)}


async def test_a_body_without_marks_is_answered_as_ever(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    asked = body("one", system=LONG)
    answers = [json.loads(post(simulator, asked).body) for _ in range(2)]
    assert answers == [expected_message(SimulatorConfig(), asked)] * 2
    assert used(answers[0])[1:] == (0, 0, 0)
