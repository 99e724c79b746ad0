"""Answers held to their schema: asked again, within bounds, and by another variant where the job says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.domain.job import AnswerSpec, Match, Variant
from runner.domain.outcome import Outcome
from runner.domain.request import MessagesRequest
from runner.domain.states import PauseReason
from runner.simulator import Simulator
from tests.engine.batch_house import batch_job, office
from tests.engine.house import MODEL, House, Scripted, answered, prompts, served

pytestmark = pytest.mark.anyio

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["label", "sure"],
    "properties": {"label": {"enum": ["a", "b"]}, "sure": {"type": "boolean"}},
}
REQUEST = {"max_tokens": 500, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
DEAR = "claude-sonnet-5-5"


def check_books(house: House, simulator: Simulator) -> None:
    """Every call on the bill stands in the ledger with its cost, and nothing else does."""
    charged = sorted(int(charge.cost_usd * 10**12) for charge in simulator.ledger.charges)
    assert sorted(line.cost_pico for line in house.table("ledger")) == charged


def outputs(house: House, run: Any) -> list[Any]:
    found = []
    for row in house.rows(run):
        assert row.message is not None
        found.append(json.loads(row.message)["content"][0]["text"])
    return found


async def test_broken_answers_are_asked_for_again_and_every_call_is_in_the_books(house: House) -> None:
    run = house.new_run(prompts(500), request=REQUEST, limits={"concurrency": 32})
    async with served(house, broken_output_share=0.2) as api:
        end = await house.work(run, api)
        assert end.run.state in ("done", "done_with_failures")
        statuses = house.statuses(run)
        assert set(statuses) <= {"succeeded", "invalid_output"}
        assert sum(statuses.values()) == 500
        assert statuses["succeeded"] > 480  # three broken ones in a row are one in 125
        reasked = sum(row.result.attempts > 0 for row in house.rows(run)) and len(house.table("ledger")) - 500
        assert 80 < reasked < 180  # a fifth of the first answers, and of those asked for again
        check_books(house, api.simulator)
    for row in house.rows(run):
        if row.result.status == "succeeded":
            assert row.message is not None
            told = json.loads(json.loads(row.message)["content"][0]["text"])
            assert set(told) == {"label", "sure"}
        else:
            assert row.result.error_type == "invalid_output"
            assert row.result.error_message


async def test_an_answer_that_stays_broken_ends_as_invalid_output_with_what_is_wrong(house: House) -> None:
    run = house.new_run(prompts(3, "[[sim:broken_schema]]"), request=REQUEST, answer=AnswerSpec(reask=2))
    async with served(house) as api:
        await house.work(run, api)
        check_books(house, api.simulator)
    assert house.statuses(run) == {"invalid_output": 3}
    assert len(house.table("ledger")) == 9
    (row, *_) = house.rows(run)
    assert row.result.usage is not None
    assert row.result.cost_pico == sum(line.cost_pico for line in house.table("ledger") if line.idx == 0)


async def test_the_model_is_told_what_was_wrong_and_shown_its_own_answer(house: House) -> None:
    run = house.new_run(prompts(1), request=REQUEST)
    bodies: list[dict[str, Any]] = []
    answers = ['{"label": "c", "sure": true}', '{"label": "a"', '{"label": "a", "sure": false}']

    def answer(request: MessagesRequest, number: int) -> Outcome:
        bodies.append(json.loads(request.body))
        return answered(request, number, text=answers[len(bodies) - 1])

    await house.work(run, Scripted(house.clock, answer))
    assert house.statuses(run) == {"succeeded": 1}
    said = bodies[2]["messages"]
    assert [turn["role"] for turn in said] == ["user", "assistant", "user", "assistant", "user"]
    assert said[1]["content"][0]["text"] == answers[0]
    assert "$.label: 'c' is not one of ['a', 'b']" in said[2]["content"]
    assert "it is not JSON" in said[4]["content"]
    assert outputs(house, run) == [answers[2]]


async def test_a_strict_tool_is_held_to_its_schema_too(house: House) -> None:
    tool = {"name": "label", "strict": True, "input_schema": SCHEMA}
    request = {"max_tokens": 500, "tools": [tool]}
    run = house.new_run(prompts(200, "[[sim:tool_use]]"), request=request)
    async with served(house, broken_output_share=0.3) as api:
        await house.work(run, api)
        check_books(house, api.simulator)
    assert house.statuses(run)["succeeded"] > 150
    assert len(house.table("ledger")) > 220


async def test_asking_again_stays_within_the_budget_and_goes_on_from_there(house: House) -> None:
    lines = prompts(40, "[[sim:broken_schema]]")
    run = house.new_run(lines, request=REQUEST, budget_pico=1_000_000_000, limits={"concurrency": 4})
    async with served(house) as api:
        end = await house.work(run, api)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.BUDGET
        check_books(house, api.simulator)
        from msgspec.structs import replace

        await house.work(run, api, job=replace(end.run.job, budget_pico=10**13))
        check_books(house, api.simulator)
    assert house.statuses(run) == {"invalid_output": 40}
    assert len(house.table("ledger")) == 120  # nothing that was paid for is asked again


CHEAP_FIRST: dict[str, Any] = {
    "request": REQUEST,
    "match": Match.FIRST,
    "variants": (
        Variant(name="cheap"),
        Variant(name="dear", model=DEAR, when="result.status != 'succeeded' or not result.output.sure"),
    ),
}


async def test_the_dear_model_is_asked_only_where_the_cheap_one_says_so(house: House) -> None:
    run = house.new_run(prompts(200), **CHEAP_FIRST)
    async with served(house) as api:
        await house.work(run, api)
        check_books(house, api.simulator)
    by_variant = {0: 0, 1: 0}
    for row in house.rows(run):
        by_variant[row.result.variant] += 1
        assert row.result.model == (DEAR if row.result.variant else MODEL)
        assert row.message is not None
        if row.result.variant == 0:
            assert json.loads(json.loads(row.message)["content"][0]["text"])["sure"] is True
    assert min(by_variant.values()) > 50
    ledger = house.table("ledger")
    assert len(ledger) == 200 + by_variant[1]
    assert sum(line.model == DEAR for line in ledger) == by_variant[1]
    for row in house.rows(run):  # a row costs what all of its calls cost
        assert row.result.cost_pico == sum(line.cost_pico for line in ledger if line.idx == row.result.idx)


async def test_the_dear_model_sees_the_question_and_not_the_cheap_answer(house: House) -> None:
    run = house.new_run(prompts(1), **CHEAP_FIRST)
    bodies: list[dict[str, Any]] = []

    def answer(request: MessagesRequest, number: int) -> Outcome:
        bodies.append(json.loads(request.body))
        return answered(request, number, text=json.dumps({"label": "a", "sure": len(bodies) > 1}))

    await house.work(run, Scripted(house.clock, answer))
    assert [body["model"] for body in bodies] == [MODEL, DEAR]
    assert bodies[0]["messages"] == bodies[1]["messages"]


async def test_a_restart_in_the_middle_of_an_escalation_goes_on_with_the_dear_model(house: House) -> None:
    run = house.new_run(prompts(1), **CHEAP_FIRST)
    asked: list[str] = []

    class Killed(Exception):
        pass

    def answer(request: MessagesRequest, number: int) -> Outcome:
        asked.append(request.model)
        if len(asked) == 2:
            raise Killed
        return answered(request, number, text=json.dumps({"label": "a", "sure": request.model == DEAR}))

    with pytest.raises(ExceptionGroup):
        await house.work(run, Scripted(house.clock, answer))
    await house.work(run, Scripted(house.clock, answer))
    assert asked == [MODEL, DEAR, DEAR]
    assert [(row.result.variant, str(row.result.status)) for row in house.rows(run)] == [(1, "succeeded")]


async def test_every_variant_answers_every_row_as_often_as_is_said(house: House) -> None:
    variants = (Variant(name="cheap"), Variant(name="terse", model=DEAR, system="Be short."))
    run = house.new_run(prompts(7), variants=variants, repeat=3)
    async with served(house) as api:
        await house.work(run, api)
        check_books(house, api.simulator)
    rows = house.rows(run)
    assert [(row.result.record, row.result.variant, row.result.repeat) for row in rows] == [
        (record, variant, repeat) for record in range(7) for variant in range(2) for repeat in range(3)
    ]
    assert all(row.result.model == (DEAR if row.result.variant else MODEL) for row in rows)


async def test_a_row_is_asked_by_the_first_variant_that_fits(house: House) -> None:
    variants = (
        Variant(name="long", model=DEAR, when="row.prompt | length > 10"),
        Variant(name="short"),
    )
    lines = [b'{"prompt": "hi"}', b'{"prompt": "a long prompt, this"}']
    run = house.new_run(lines, variants=variants, match=Match.FIRST)
    async with served(house) as api:
        await house.work(run, api)
    assert [(row.result.variant, row.result.model) for row in house.rows(run)] == [(1, MODEL), (0, DEAR)]


async def test_answers_of_a_batch_are_held_to_their_schema_too_and_asked_again_live(house: House) -> None:
    run = house.new_run(prompts(60), **{**CHEAP_FIRST, **batch_job(max_requests=25)})
    async with office(house, broken_output_share=0.3) as api:
        end = await api.work(run)
        assert end.run.state in ("done", "done_with_failures")
        asked_live = len(api.live)
        ledger = house.table("ledger")
        assert len(ledger) == 60 + asked_live
        assert 20 < asked_live < 90
        api.books(run).check_budget_row()
    statuses = house.statuses(run)
    assert set(statuses) <= {"succeeded", "invalid_output"}
    assert statuses["succeeded"] >= 55
    for row in house.rows(run):
        assert row.result.cost_pico == sum(line.cost_pico for line in ledger if line.idx == row.result.idx)


async def test_every_variant_rides_in_a_batch_with_its_own_request(house: House) -> None:
    variants = (Variant(name="cheap"), Variant(name="dear", model=DEAR))
    run = house.new_run(prompts(10), variants=variants, repeat=2, **batch_job(max_requests=7))
    async with office(house) as api:
        await api.work(run)
        assert api.live == []
    assert [(row.result.variant, row.result.repeat, row.result.model) for row in house.rows(run)] == [
        (variant, repeat, (MODEL, DEAR)[variant]) for _ in range(10) for variant in range(2) for repeat in range(2)
    ]
