"""What all requests of a job begin with, and the mark that it gets where that pays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.domain.job import Job, PromptCache, Variant
from runner.domain.pricing import shipped_prices
from runner.files.bad_row import BadRow
from runner.files.render import Renderer

PRICES = shipped_prices()
RULES = "Weigh each word that you read. " * 400  # about 3,000 tokens
MARK = {"type": "ephemeral"}
OWN = {"type": "text", "text": RULES, "cache_control": MARK}


def job(**more: Any) -> Job:
    told: dict[str, Any] = {"name": "j", "model": "claude-sonnet-5-5", "prompt": "Say {{ text }}"}
    return Job(**(told | more))


def sent(job: Job, row: dict[str, Any] | None = None, *, rows: int = 10_000, variant: int = 0) -> dict[str, Any]:
    """The body that a live call has, in a run of so many rows."""
    renderer = Renderer(job)
    renderer.keep_heads(PRICES, rows)
    request = renderer.request(row or {"text": "it"}, variant=variant)
    return json.loads(request.body)  # type: ignore[no-any-return]


def places(value: Any, path: str = "") -> list[str]:
    """Where marks stand."""
    if isinstance(value, dict):
        own = [path] if "cache_control" in value else []
        return own + [found for name, inner in value.items() for found in places(inner, f"{path}.{name}".strip("."))]
    if isinstance(value, list):
        return [found for n, inner in enumerate(value) for found in places(inner, f"{path}.{n}")]
    return []


TOOL = {"name": "look", "description": RULES, "input_schema": {"type": "object"}}
LOADED_LATER = {**TOOL, "name": "later", "defer_loading": True}
EXAMPLE = [{"role": "user", "content": RULES}, {"role": "assistant", "content": "yes"}]
ROW = {"role": "user", "content": "{{ text }}"}
WHERE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a system prompt": ({"system": RULES}, ["system.0"]),
    "a system prompt of the request": ({"request": {"system": [{"type": "text", "text": RULES}]}}, ["system.0"]),
    "a system prompt with parameters of the job": (
        {"system": "{{ params.rules }}", "params": {"rules": RULES}},
        ["system.0"],
    ),
    "tools alone": ({"request": {"tools": [TOOL]}}, ["tools.0"]),
    "tools before a system prompt of the row": ({"request": {"tools": [TOOL]}, "system": "{{ who }}"}, ["tools.0"]),
    "tools of which the last is found when needed": ({"request": {"tools": [TOOL, LOADED_LATER]}}, ["tools.0"]),
    "tools and a system prompt": ({"request": {"tools": [TOOL]}, "system": "Be brief."}, ["system.0"]),
    "examples before the row": (
        {"prompt": None, "request": {"messages": [*EXAMPLE, ROW]}},
        ["messages.1.content.0"],
    ),
    "a document before the question": (
        {
            "prompt": None,
            "request": {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": RULES}, {"type": "text", "text": "{{ text }}"}],
                    }
                ]
            },
        },
        ["messages.0.content.0"],
    ),
    "the same question again and again": ({"prompt": RULES}, ["messages.0.content.0"]),
    "a system prompt of the row": ({"system": RULES + "{{ text }}"}, []),
    "a system prompt that looks at the whole row": ({"system": RULES + "{{ row | tojson }}"}, []),
    "a prompt that begins alike, which is one block": ({"prompt": RULES + "{{ text }}"}, []),
    "a system prompt that is too short": ({"system": "Be brief."}, []),
    "a column that is put in as it is": (
        {"prompt": None, "system": RULES, "request": {"messages": [{"role": "user", "content": {"$row": "text"}}]}},
        ["system.0"],
    ),
    "marks of the job's own": ({"request": {"system": [OWN]}}, ["system.0"]),
    "the job's own mark on the body": ({"system": RULES, "request": {"cache_control": MARK}}, [""]),
    "a job that wants none": ({"system": RULES, "prompt_cache": PromptCache.NEVER}, []),
}


@pytest.mark.parametrize("what", WHERE)
def test_the_mark_stands_at_the_end_of_what_does_not_depend_on_the_row(what: str) -> None:
    told, expected = WHERE[what]
    assert places(sent(job(**told), {"text": "it", "who": RULES})) == expected


def test_marks_that_a_row_puts_in_are_left_alone() -> None:
    messages = [{"role": "user", "content": {"$row": "blocks"}}]
    told = job(prompt=None, system=RULES, request={"messages": messages})
    assert places(sent(told, {"blocks": [OWN]})) == ["messages.0.content.0"]
    assert places(sent(told, {"blocks": [{"type": "text", "text": "it"}]})) == ["system.0"]


def test_rows_with_requests_of_their_own_share_what_the_job_says() -> None:
    told = job(prompt=None, system=RULES)
    assert places(sent(told, {"prompt": "it"})) == ["system.0"]
    assert places(sent(told, {"messages": [{"role": "user", "content": [OWN]}]})) == ["messages.0.content.0"]
    for own in ({"system": RULES + "!"}, {"model": "claude-opus-5-5"}, {"tools": [TOOL]}, {"cache_control": MARK}):
        marks = places(sent(told, {"prompt": "it", "params": own}))
        assert marks == ([""] if "cache_control" in own else []), own


def test_a_mark_is_placed_only_where_so_many_rows_make_it_pay() -> None:
    told = job(system=RULES)
    assert places(sent(told, rows=1)) == []
    assert places(sent(told, rows=2)) == []  # half a cent is not worth a wait
    assert places(sent(told, rows=100)) == ["system.0"]


def test_each_variant_has_a_beginning_of_its_own() -> None:
    variants = (
        Variant(name="a"),
        Variant(name="b", system="{{ text }}"),
        Variant(name="c", model="claude-haiku-4-5"),
    )
    told = job(system=RULES, variants=variants)
    assert [places(sent(told, variant=n)) for n in range(3)] == [["system.0"], [], []]  # haiku keeps from 4,096 on


def test_without_being_told_and_in_batches_the_body_is_as_the_job_says() -> None:
    renderer = Renderer(job(system=RULES))
    before = renderer.request({"text": "it"}).body
    renderer.keep_heads(PRICES, 10_000)
    assert renderer.request({"text": "it"}, batch=True).body == before
    assert renderer.body({"text": "it"})["system"] == RULES


def test_braces_in_a_tool_are_no_template() -> None:
    told = job(request={"tools": [{**TOOL, "description": RULES + "{{ not %} a template"}]})
    assert places(sent(told)) == ["tools.0"]


def test_a_system_prompt_that_cannot_be_rendered_is_the_rows_trouble_and_not_the_jobs() -> None:
    renderer = Renderer(job(system=RULES + "{{ params.more.than }}", params={"more": "text"}))
    assert not renderer.has_heads
    with pytest.raises(BadRow):
        renderer.request({"text": "it"})
