"""Two bodies share a prefix exactly when they begin alike up to a mark, and raising marks changes nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.prefix import Prefix, PrefixReader, kept_longer, may_have_marks

FIVE = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
TOOL = {"name": "label", "input_schema": {"type": "object"}}


def text(words: str, mark: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "text", "text": words} | ({"cache_control": mark} if mark else {})


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": list(messages or [user("row")])} | more


def prefixes(told: dict[str, Any]) -> tuple[Prefix, ...]:
    return PrefixReader().prefixes(told)


def keys(told: dict[str, Any]) -> list[bytes]:
    return [prefix.key for prefix in prefixes(told)]


RULES = [text("Be kind. " * 100, FIVE)]


# -- where a body may be cached

DEPTHS = [
    (body(), []),
    (body(system="Be kind."), []),
    (body(system=RULES), [(1, "5m")]),
    (body(system=[text("a", HOUR), text("b", FIVE)]), [(1, "1h"), (2, "5m")]),
    (body(tools=[TOOL | {"cache_control": HOUR}], system=RULES), [(1, "1h"), (2, "5m")]),
    (body(user(text("doc", FIVE), text("question"))), [(1, "5m")]),
    (body(user("a"), user(text("b", HOUR), text("c", FIVE)), system=RULES), [(1, "5m"), (2, "1h"), (3, "5m")]),
    (body(cache_control=HOUR), [(1, "1h")]),
    (body(system=RULES, cache_control=FIVE), [(1, "5m"), (2, "5m")]),
    # Both marks stand on the last block: one prefix, of two marks.
    (body(user(text("a", FIVE)), cache_control=FIVE), [(2, "5m")]),
    # A thinking block cannot be marked, so the body's own mark stands before it.
    (body(user("a"), {"role": "assistant", "content": [{"type": "thinking"}]}, cache_control=FIVE), [(1, "5m")]),
    (body(system=[text("a") | {"cache_control": None}], cache_control=None), []),
    (body(user({"type": "tool_result", "content": [text("deep inside", FIVE)]})), []),
]


@pytest.mark.parametrize(("told", "expected"), DEPTHS)
def test_a_body_has_a_prefix_for_each_mark(told: dict[str, Any], expected: list[tuple[int, str]]) -> None:
    found = prefixes(told)
    assert [(prefix.depth, prefix.ttl) for prefix in found] == expected
    assert [prefix.tokens for prefix in found] == sorted(prefix.tokens for prefix in found)
    assert bool(found) <= may_have_marks(told)


def test_tokens_are_a_quarter_of_the_bytes_before_the_mark() -> None:
    (found,) = prefixes(body(user("x" * 9_000), system=[text("y" * 8_000, FIVE)]))
    assert 2_000 <= found.tokens < 2_020


MISSHAPEN = [
    {"messages": None},
    {"messages": ["a", {"role": "user"}, {"role": "user", "content": [1, None]}]},
    {"system": 5, "tools": "none"},
    {"system": [1, None, "x"], "tools": [None]},
    {"cache_control": "yes"},
    {"system": [text("a") | {"cache_control": 1}]},
]


@pytest.mark.parametrize("change", MISSHAPEN)
def test_what_the_api_will_refuse_is_read_without_complaint(change: dict[str, Any]) -> None:
    told = body() | change
    assert prefixes(told) == ()
    assert may_have_marks(told) == ("cache_control" in json.dumps(told))
    assert kept_longer(told, 4) == told


# -- who shares


def test_rows_share_what_stands_before_the_mark() -> None:
    one, two = (body(user(f"row {n}"), system=RULES, max_tokens=n + 1, metadata={"user_id": str(n)}) for n in (1, 2))
    assert keys(one) == keys(two) != []


def test_a_mark_of_another_time_and_another_way_to_write_a_text_make_no_difference() -> None:
    by_hand = body(user(text("few shots")), user(text("shared", FIVE)))
    as_text = body(user("few shots"), user(text("shared", HOUR)))
    assert keys(by_hand) == keys(as_text)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "claude-sonnet-5-5"},
        {"tools": [TOOL]},
        {"system": [text("Be kind", FIVE)]},
        {"system": [text("First."), *RULES]},
        {"tool_choice": {"type": "any"}},
        {"thinking": {"type": "adaptive"}},
        {"output_config": {"effort": "low"}},
        {"inference_geo": "us"},
        {"speed": "fast"},
    ],
)
def test_anything_decisive_makes_another_prefix(change: dict[str, Any]) -> None:
    assert keys(body(system=RULES) | change) != keys(body(system=RULES))


def test_a_block_moved_to_another_place_makes_another_prefix() -> None:
    told = text("the same words", FIVE)
    places = [
        body(system=[told]),
        body(user(told)),
        body({"role": "assistant", "content": [told]}, user("row")),
        body(user(text("the same"), text(" words", FIVE))),
    ]
    assert len({tuple(keys(one)) for one in places}) == len(places)


def test_a_reader_that_has_read_others_says_the_same() -> None:
    told = [told for told, _ in DEPTHS]
    reader = PrefixReader()
    assert [reader.prefixes(one) for one in told * 2] == [prefixes(one) for one in told * 2]


# -- kept for longer


def ttls(told: object) -> list[str]:
    """What all marks ask for, in the order of the prompt."""
    ordered = [told.get(name) for name in ("tools", "system", "messages")] if isinstance(told, dict) else []
    marks: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("cache_control"), dict):
                marks.append(value["cache_control"].get("ttl", "5m"))
            for name, inner in value.items():
                if name != "cache_control":
                    walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(ordered)
    if isinstance(told, dict) and isinstance(told.get("cache_control"), dict):
        marks.append(told["cache_control"].get("ttl", "5m"))
    return marks


MARKS = st.none() | st.just(FIVE) | st.just(HOUR)
BLOCKS = st.lists(st.builds(text, st.sampled_from("abc"), MARKS), max_size=3)
BODIES = st.builds(
    lambda tools, system, turns, own: (
        body(*(user(*turn) for turn in turns if turn), system=system)
        | {"tools": [TOOL | {"cache_control": mark} if mark else TOOL for mark in tools]}
        | ({"cache_control": own} if own else {})
    ),
    st.lists(MARKS, max_size=2),
    BLOCKS,
    st.lists(BLOCKS, max_size=3),
    MARKS,
)


@given(told=BODIES, depth=st.integers(0, 12))
def test_the_first_marks_ask_for_an_hour_and_nothing_else_changes(told: dict[str, Any], depth: int) -> None:
    before = copy.deepcopy(told)
    raised = kept_longer(told, depth)
    assert told == before
    own = ttls(told)
    assert ttls(raised) == ["1h"] * min(depth, len(own)) + own[depth:]
    assert keys(raised) == keys(told)
    short = json.dumps(raised).replace(', "ttl": "1h"', "")
    assert short == json.dumps(before).replace(', "ttl": "1h"', "")


@given(told=BODIES)
def test_a_prefix_raised_by_its_depth_asks_for_an_hour(told: dict[str, Any]) -> None:
    for number, prefix in enumerate(prefixes(told)):
        assert [one.ttl for one in prefixes(kept_longer(told, prefix.depth))][: number + 1] == ["1h"] * (number + 1)
