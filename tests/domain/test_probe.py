"""Parameter shapes are told apart by what the API judges, and only three refused rows speak against one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.probe import MOST_SHAPES, MOST_WORDS, ROWS_A_SHAPE, Probing, shape_of

BODY: dict[str, Any] = {
    "model": "claude-haiku-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "one"}],
}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}
TEXT = {"type": "text", "text": "what is this"}
TOOL = {"name": "label", "input_schema": {"type": "object"}}


def turns(*content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": part} for part in content]}


ALIKE = [
    turns("two"),
    turns("two", "three"),
    turns([TEXT]),
    turns([TEXT, TEXT | {"cache_control": {"type": "ephemeral"}}]),
    {"system": "Be kind."},
    {"metadata": {"user_id": "u1"}},
    {"messages": [*turns("a")["messages"], {"role": "assistant", "content": "b"}, *turns("c")["messages"]]},
]
OTHERS = [
    {"model": "claude-sonnet-5-5"},
    {"max_tokens": 101},
    {"thinking": {"type": "adaptive"}},
    {"extra_body": {}},
    {"tools": [TOOL]},
    {"tools": [TOOL | {"strict": True}]},
    {"tools": [TOOL | {"input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}]},
    turns([IMAGE]),
    turns([TEXT, IMAGE]),
    turns([TEXT, IMAGE | {"source": {"type": "url", "url": "https://example.com/a.png"}}]),
    turns([{"type": "tool_result", "tool_use_id": "t", "content": "done"}]),
    turns([{"type": "tool_result", "tool_use_id": "t", "content": [TEXT, IMAGE]}]),
    {"messages": [*BODY["messages"], {"role": "assistant", "content": "It is"}]},
]


@pytest.mark.parametrize("change", ALIKE)
def test_prompts_have_no_part_in_the_shape(change: dict[str, Any]) -> None:
    assert shape_of(BODY | change) == shape_of(BODY)


def test_every_other_parameter_makes_another_shape() -> None:
    shapes = [shape_of(BODY | change) for change in [{}, *OTHERS]]
    assert len(set(shapes)) == len(shapes)


def test_the_order_of_fields_does_not_matter() -> None:
    assert shape_of(dict(reversed(BODY.items()))) == shape_of(BODY)


@pytest.mark.parametrize("messages", [None, "text", [], [1], [{"role": "user"}], [{"role": "user", "content": [1]}]])
def test_a_misshapen_body_has_a_shape_too(messages: Any) -> None:
    assert len(shape_of(BODY | {"messages": messages})) == 16


# -- probing

WORDS = "invalid_request_error: extra_body: Extra inputs are not permitted"


def refused(*rows: int, shape: str = "s") -> Probing:
    """These rows went ahead one after the other, and none was taken."""
    probing = Probing()
    for idx in rows:
        probing = probing.sent(shape, idx).refused(idx, WORDS)
    return probing


def test_one_row_goes_ahead_and_its_answer_proves_the_shape() -> None:
    probing = Probing()
    assert (probing.wants("s"), probing.undecided) == (True, False)
    probing = probing.sent("s", 0)
    assert (probing.wants("s"), probing.undecided) == (False, True)
    probing = probing.answered(0)
    assert (probing.wants("s"), probing.undecided) == (False, False)
    assert probing.verdict() is None


def test_after_a_refused_row_the_next_one_is_asked() -> None:
    probing = refused(0)
    assert (probing.wants("s"), probing.undecided, probing.verdict()) == (True, True, None)
    assert not probing.sent("s", 1).answered(1).undecided


def test_three_refused_rows_are_a_verdict_with_the_apis_own_words() -> None:
    probing = refused(*range(ROWS_A_SHAPE))
    assert (probing.wants("s"), probing.undecided) == (False, False)
    assert probing.verdict() == (
        "the API refused all 3 rows that were sent ahead to try these parameters, so the others of their kind were "
        "not sent: invalid_request_error: extra_body: Extra inputs are not permitted"
    )


def test_one_row_refused_again_and_again_is_one_row() -> None:
    probing = refused(0).refused(0, WORDS).refused(0, WORDS)
    assert (probing.wants("s"), probing.verdict()) == (True, None)


def test_very_long_words_are_cut() -> None:
    probing = refused(0, 1).sent("s", 2).refused(2, "x" * 10_000)
    assert len(probing.verdict() or "") < MOST_WORDS + 200


def test_a_row_that_ends_without_the_apis_word_makes_room_for_another() -> None:
    probing = Probing().sent("s", 0).given_up(0)
    assert (probing.wants("s"), probing.verdict()) == (True, None)
    assert refused(0).given_up(0) == refused(0)


def test_one_refused_shape_is_enough_for_a_verdict() -> None:
    probing = Probing().sent("good", 0).answered(0)
    for idx in range(1, 4):
        probing = probing.sent("bad", idx).refused(idx, WORDS)
    assert probing.verdict() is not None


def test_more_shapes_than_can_be_tried_ride_unprobed() -> None:
    probing = Probing()
    for number in range(MOST_SHAPES):
        probing = probing.sent(f"s{number}", number)
    assert not probing.wants("another")


def test_a_row_that_nobody_wanted_is_a_bug_and_a_strange_row_none() -> None:
    probing = Probing().sent("s", 0)
    with pytest.raises(ValueError, match="row 1"):
        probing.sent("s", 1)
    assert probing.refused(7, WORDS) == probing.answered(7) == probing.given_up(7) == probing


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefghij"), st.sampled_from(["answered", "refused", "neither"])), max_size=80
    )
)
def test_whatever_happens_few_rows_go_ahead(events: list[tuple[str, str]]) -> None:
    probing, sent = Probing(), 0
    for idx, (shape, how) in enumerate(events):
        if probing.wants(shape):
            probing, sent = probing.sent(shape, idx), sent + 1
            if how == "answered":
                probing = probing.answered(idx)
            elif how == "refused":
                probing = probing.refused(idx, WORDS)
    assert sent <= MOST_SHAPES * ROWS_A_SHAPE
    assert len(probing.shapes) <= MOST_SHAPES
