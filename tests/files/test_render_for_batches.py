"""Rows to requests that ride in a batch: what is left out of them, what is refused, and when that is found."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.job import Job, Mode
from runner.domain.request import NOT_IN_BATCHES, PREVIEW_NOT_IN_BATCHES, STREAM_ABOVE_TOKENS
from runner.errors import JobInvalid
from runner.files.bad_row import BadRow, BatchRefuses
from runner.files.render import Renderer

MODEL = "claude-haiku-5-5"
# A value with which a single call may be asked.
REFUSED: dict[str, Any] = {
    "speed": "standard",
    "store": True,
    "previous_thread_event_id": "event_1",
    "thread": {"type": "create"},
    "cache_hint": "x",
    "context_hint": "x",
    "fallbacks": "default",
    "fallback_credit_token": "fct_1",
    PREVIEW_NOT_IN_BATCHES: "active",
    "max_tokens": 0,
}
NOT_MODES_OF_BATCHES = [Mode.LIVE, Mode.AUTO]


def renderer(mode: Mode = Mode.BATCH, **fields: Any) -> Renderer:
    return Renderer(Job(**{"name": "test", "model": MODEL, "mode": mode, **fields}))


def row_with(**params: Any) -> dict[str, Any]:
    return {"prompt": "x", "params": params}


def test_every_refused_field_is_tried_here() -> None:
    assert set(REFUSED) == {*NOT_IN_BATCHES, PREVIEW_NOT_IN_BATCHES, "max_tokens"}


@pytest.mark.parametrize("max_tokens", [100, STREAM_ABOVE_TOKENS + 1])
@pytest.mark.parametrize("stream", [{}, {"stream": True}, {"stream": False}])
def test_in_a_batch_nothing_is_streamed(max_tokens: int, stream: dict[str, bool]) -> None:
    row = row_with(max_tokens=max_tokens, **stream)
    request = renderer().request(row, batch=True)
    assert not request.stream
    assert "stream" not in json.loads(request.body)
    assert renderer().request(row).stream == (max_tokens > STREAM_ABOVE_TOKENS), "a call of its own is streamed"


@given(
    st.dictionaries(
        st.sampled_from(["max_tokens", "stop_sequences", "metadata", "stream", "thinking", "service_tier"]),
        st.integers(1, STREAM_ABOVE_TOKENS),
    )
)
def test_but_for_the_stream_both_ways_ask_the_same(params: dict[str, Any]) -> None:
    told = renderer(system="Kurz.", request={"metadata": {"user_id": "u"}})
    alone, riding = told.request(row_with(**params)), told.request(row_with(**params), batch=True)
    assert alone == riding


@pytest.mark.parametrize("name", REFUSED)
def test_a_job_that_can_only_go_in_batches_is_refused_for_a_field_that_they_refuse(name: str) -> None:
    with pytest.raises(JobInvalid, match=f'"{name}"') as caught:
        renderer(prompt="x", request={name: REFUSED[name]})
    assert caught.value.name == "batch-refuses"
    assert "mode: live" in caught.value.message
    assert ("ask for 1" if name == "max_tokens" else "remove it") in caught.value.message


@pytest.mark.parametrize("mode", NOT_MODES_OF_BATCHES)
@pytest.mark.parametrize("name", REFUSED)
def test_a_job_that_may_go_live_says_what_keeps_it_out_of_batches(name: str, mode: Mode) -> None:
    told = renderer(mode, prompt="x", request={name: REFUSED[name]})
    assert told.batch_refuses == name
    told.check({})
    told.request({})
    with pytest.raises(BatchRefuses, match=f'"{name}"') as caught:
        told.request({}, batch=True)
    assert caught.value.field == name


@pytest.mark.parametrize("request_fields", [{}, {"speed": None, "max_tokens": 5, PREVIEW_NOT_IN_BATCHES: "off"}])
def test_what_has_no_value_keeps_nothing_out_of_batches(request_fields: dict[str, Any]) -> None:
    told = renderer(prompt="x", request=request_fields)
    assert told.batch_refuses is None
    told.request({}, batch=True)


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_that_a_batch_would_refuse_is_found_by_the_check(name: str) -> None:
    told = renderer()
    told.check(row_with())  # from here on rows are looked at, and not rendered
    rows = (
        row_with(**{name: REFUSED[name]}),
        {"custom_id": "a", "params": {"messages": [{"role": "user"}], name: 0}},
    )
    rows[1]["params"][name] = REFUSED[name]
    for row in rows:
        for look in (told.check, lambda row: told.request(row, batch=True), renderer().check):
            with pytest.raises(BatchRefuses, match=f'"{name}".*, or say mode: live') as caught:
                look(row)
            assert isinstance(caught.value, BadRow)
            assert caught.value.field == name


@pytest.mark.parametrize("mode", NOT_MODES_OF_BATCHES)
@pytest.mark.parametrize("name", REFUSED)
def test_a_row_that_may_go_live_is_good_with_any_field(name: str, mode: Mode) -> None:
    told = renderer(mode)
    row = row_with(**{name: REFUSED[name]})
    told.check(row)
    assert json.loads(told.request(row).body)[name] == REFUSED[name]
    with pytest.raises(BatchRefuses):
        told.request(row, batch=True)


def test_a_row_that_is_wrong_in_any_case_is_not_blamed_on_batches() -> None:
    with pytest.raises(BadRow, match="not a whole number") as caught:
        renderer().check(row_with(max_tokens=False))
    assert not isinstance(caught.value, BatchRefuses)


def test_columns_of_a_template_may_have_any_name() -> None:
    told = renderer(prompt="{{ speed }} {{ store }}")
    row = {"speed": "fast", "store": "yes", "fallbacks": "x"}
    told.check(row)
    assert json.loads(told.request(row, batch=True).body)["messages"][0]["content"] == "fast yes"


def test_the_betas_of_a_row_are_told_beside_its_params() -> None:
    request = renderer().request(row_with(betas=["a-2026-01-01"]), batch=True)
    assert request.betas == ("a-2026-01-01",)
    assert "betas" not in json.loads(request.body)
