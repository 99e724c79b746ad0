"""Rows to requests: precedence, streams, bounds, and what is refused before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.job import InputSpec, Job
from runner.domain.pricing import shipped_prices
from runner.errors import JobInvalid
from runner.files.bad_row import BadRow
from runner.files.render import Renderer

MODEL = "claude-haiku-5-5"


def job(**fields: Any) -> Job:
    return Job(**{"name": "test", "model": MODEL, **fields})


def body(row: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return json.loads(Renderer(job(**fields)).request(row).body)  # type: ignore[no-any-return]


def refusal(row: dict[str, Any], **fields: Any) -> BadRow:
    renderer = Renderer(job(**fields))
    for look in (renderer.check, renderer.request):
        with pytest.raises(BadRow) as caught:
            look(row)
    return caught.value


def test_a_prompt_is_rendered_from_columns_params_and_job() -> None:
    told = body(
        {"id": 1, "odd name": "x"},
        prompt='{{ id }} {{ row["odd name"] }} {{ params.lang }} {{ job.name }}\n',
        system="be {{ params.lang }}",
        params={"lang": "de"},
    )
    assert told["messages"] == [{"role": "user", "content": "1 x de test\n"}]
    assert told["system"] == "be de"
    assert told["model"] == MODEL
    assert told["max_tokens"] == 4096


def test_templates_are_found_anywhere_inside_messages_and_system() -> None:
    request = {
        "system": [{"type": "text", "text": "S {{ a }}", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "{{ a }}!"}, {"n": 1}]}],
        "output_config": {"format": {"schema": {"description": "{{ a }}"}}},
    }
    told = body({"a": "x"}, request=request)
    assert told["system"][0]["text"] == "S x"
    assert told["messages"][0]["content"] == [{"type": "text", "text": "x!"}, {"n": 1}]
    assert told["output_config"] == request["output_config"], "only messages and system are templates"


@pytest.mark.parametrize(
    ("value", "printed"),
    [(None, "."), (True, "true."), ([1, "é"], '[1, "é"].'), ({"a": None}, '{"a": null}.'), (1.5, "1.5."), (7, "7.")],
)  # fmt: skip
def test_values_are_printed_as_they_stand_in_json(value: Any, printed: str) -> None:
    assert body({"a": value}, prompt="{{ a }}.")["messages"][0]["content"] == printed


@given(st.text(min_size=1))
def test_any_text_goes_through_a_template_unchanged(text: str) -> None:
    told = body({"text": text}, prompt="<{{ text }}>")
    assert told["messages"][0]["content"] == f"<{text}>"


@pytest.mark.parametrize(
    "value",
    ["{{7*7}}", "{% for x in y %}", "{{ ''.__class__.__mro__ }}", "{# c #}", "${HOME}", "%(a)s {0}", "\\u0041"],
)
def test_a_row_value_is_never_rendered_again(value: str) -> None:
    assert body({"a": value}, prompt="{{ a }} {{ row['a'] }}")["messages"][0]["content"] == f"{value} {value}"
    assert body({"prompt": value})["messages"][0]["content"] == value


def test_the_rows_own_fields_win_over_the_jobs_key_by_key() -> None:
    params = {"model": "claude-opus-5-5", "max_tokens": 7, "messages": [{"role": "user", "content": "x"}]}
    told = body({"custom_id": "a", "params": params}, request={"max_tokens": 5, "metadata": {"user_id": "u"}})
    assert told == {**params, "metadata": {"user_id": "u"}}


def test_the_rows_system_wins_over_the_jobs() -> None:
    assert body({"prompt": "x", "system": "row"}, system="job")["system"] == "row"
    assert body({"prompt": "x"}, system="job")["system"] == "job"


@pytest.mark.parametrize(("max_tokens", "streamed"), [(100, False), (8_192, False), (8_193, True)])
@pytest.mark.parametrize("said", [True, False, None])
def test_long_answers_are_streamed_whatever_the_row_says(max_tokens: int, streamed: bool, said: bool | None) -> None:
    params = {"messages": [{"role": "user", "content": "x"}], "max_tokens": max_tokens, "stream": said}
    request = Renderer(job()).request({"custom_id": "a", "params": params})
    assert request.stream is streamed
    assert ("stream" in json.loads(request.body)) is streamed


def test_the_request_carries_what_prices_depend_on() -> None:
    params = {"messages": [{"role": "user", "content": "x"}], "inference_geo": "us", "speed": "fast", "betas": ["b"]}
    request = Renderer(job()).request({"custom_id": "a", "params": params})
    assert (request.inference_geo, request.speed, request.betas) == ("us", "fast", ("b",))
    assert b"betas" not in request.body


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
TEXT = {"type": "text", "text": "x"}
ANY_LENGTH = [
    [{"type": "image", "source": {"type": "url", "url": "https://x"}}],
    [{"type": "document", "source": {"type": "file", "file_id": "f"}}],
    [{"type": "document", "source": {"type": "base64", "data": "JVBERi0="}}],
    [{"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "u"}}]}],
]


@pytest.mark.parametrize("content", ANY_LENGTH)
def test_what_may_be_of_any_length_is_bounded_by_the_models_context(content: list[dict[str, Any]]) -> None:
    prices = shipped_prices()
    facts = prices.find("claude-haiku-5-5")
    assert facts is not None
    request = Renderer(job()).request(
        {"custom_id": "a", "params": {"messages": [{"role": "user", "content": content}]}}
    )
    bound = prices.bound_pico(request.model, prompt_tokens=facts.context_window, max_tokens=request.max_tokens)
    assert prices.worst_pico(request) == bound


NO_BOUND = [
    {"content": [{"type": "container_upload", "file_id": "f"}]},
    {"tools": [{"type": "web_search_20260318", "name": "web_search"}]},
    {"tools": [{"type": "mcp_toolset"}]},
    {"mcp_servers": [{"type": "url"}]},
]


@pytest.mark.parametrize("extra", NO_BOUND)
def test_where_the_api_goes_on_by_itself_there_is_no_bound(extra: dict[str, Any]) -> None:
    content = extra.get("content", "x")
    fields = {name: value for name, value in extra.items() if name != "content"}
    params = {"messages": [{"role": "user", "content": content}], **fields}
    assert Renderer(job()).request({"custom_id": "a", "params": params}).prompt_tokens_bound is None


def test_the_bound_grows_with_bytes_and_images() -> None:
    nested = {"type": "tool_result", "content": [IMAGE, TEXT]}
    params = {"messages": [{"role": "user", "content": [IMAGE, TEXT, nested]}], "tools": [{"name": "own"}]}
    request = Renderer(job()).request({"custom_id": "a", "params": params})
    assert request.prompt_tokens_bound == len(request.body) + 1_000 + 2 * 4_784


def test_a_missing_column_is_named_with_the_nearest() -> None:
    bad = refusal({"Comment": "x", "id": 1}, prompt="Say {{ comment }}")
    assert bad.reason == 'has no column "comment", which the prompt uses (did you mean "Comment"?)'
    assert bad.missing == "comment"


def test_a_column_that_a_condition_asks_for_may_be_missing() -> None:
    renderer = Renderer(job(prompt="x{% if extra is defined %} {{ extra }}{% endif %}"))
    renderer.check({"a": 1})
    assert b'"x"' in renderer.request({"a": 1}).body


@pytest.mark.parametrize("prompt", ["{{ a.b }}", "{{ a | round }} x", "{{ a['k'] }} x", "{{ a + 1 }} x", "{{ a() }}"])
def test_what_only_rendering_shows_is_found_by_the_check(prompt: str) -> None:
    renderer = Renderer(job(prompt=prompt))
    for _ in range(2):
        with pytest.raises(BadRow, match="cannot be rendered"):
            renderer.check({"a": "text"})


@pytest.mark.parametrize("value", ["", "  \n", None])
def test_a_prompt_that_renders_to_nothing_is_a_bad_row(value: Any) -> None:
    assert refusal({"a": value}, prompt="{{ a }}\n").reason == "renders to an empty prompt"


def test_an_empty_system_prompt_is_left_out() -> None:
    assert "system" not in body({"a": "", "b": "x"}, prompt="{{ b }}", system="{{ a }}")


def test_a_request_larger_than_the_api_takes_is_a_bad_row() -> None:
    row = {"a": "x" * 11_000_000}
    with pytest.raises(BadRow, match=r"the API takes 32,000,000|more than 32 MB"):
        Renderer(job(prompt="{{ a }}{{ a }}{{ a }}")).check(row, size=11_000_000)


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_sampling_fields_are_refused_under_the_new_api_version_only(name: str) -> None:
    row = {"custom_id": "a", "params": {"messages": [{"role": "user", "content": "x"}], name: 1}}
    assert f'has "{name}", which API version 2026-10-21 no longer knows' in refusal(row).reason
    assert body(row, api_version="2023-06-01")[name] == 1
    with pytest.raises(JobInvalid, match=f'request has "{name}"'):
        Renderer(job(request={name: 1}))


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"max_tokens": "5"}, 'has a "max_tokens" that is not a whole number'),
        ({"max_tokens": True}, 'has a "max_tokens" that is not a whole number'),
        ({"model": 3}, 'has a "model" that is not a name'),
        ({"betas": "x"}, 'has "betas" that are not a list of names'),
    ],
)
def test_fields_that_the_program_reads_itself_are_checked(params: dict[str, Any], reason: str) -> None:
    assert refusal({"prompt": "x", "params": params}).reason == reason


def test_no_model_anywhere_is_said() -> None:
    with pytest.raises(JobInvalid, match="no model is named"):
        Renderer(job(model=None, prompt="x"))
    assert "names no model" in refusal({"prompt": "x"}, model=None).reason
    row = {"custom_id": "a", "params": {"model": "m", "messages": [{"role": "user", "content": "x"}]}}
    assert body(row, model=None)["model"] == "m"


def test_a_missing_parameter_is_the_jobs_fault() -> None:
    with pytest.raises(JobInvalid, match=r'params.dat, and there is no such parameter \(did you mean "date"\?\)'):
        Renderer(job(prompt="{{ params.dat }}", params={"date": 1}))


@pytest.mark.parametrize(
    ("row", "id_column", "key"),
    [
        ({"custom_id": "a"}, None, "a"),
        ({"id": "a"}, None, None),
        ({"id": 7}, "id", "7"),
        ({"id": "a", "custom_id": "b"}, "id", "a"),
    ],
)
def test_a_rows_key_is_the_named_column_or_the_custom_id(
    row: dict[str, Any], id_column: str | None, key: str | None
) -> None:
    assert Renderer(job(input=InputSpec(id=id_column))).key(row) == key


@pytest.mark.parametrize("value", ["", " ", None, True, 1.5, [], "x" * 1_001])
def test_a_key_that_is_no_name_is_a_bad_row(value: Any) -> None:
    with pytest.raises(BadRow, match='"id"'):
        Renderer(job(input=InputSpec(id="id"))).key({"id": value})
    with pytest.raises(BadRow, match=r'has no column "id", which input\.id names'):
        Renderer(job(input=InputSpec(id="id"))).key({"ID": 1})


@pytest.mark.parametrize(
    "row",
    [
        b'{"custom_id":"a","prompt":"x"}',
        b'{"custom_id":7,"prompt":"x"}',
        b'{"custom_id":123456789012345678901234567890,"prompt":"x"}',
        b'{"prompt":{"custom_id":"inner"},"x":"custom_id"}',
        b'{"custom_id":"\\u00e9 \xc3\xa9","prompt":"x"}',
        b' {"custom_id":"a"} ',
    ],
)
@pytest.mark.parametrize("id_", [None, "custom_id", 'a "strange" one'])
def test_the_key_of_a_line_is_that_of_its_row(row: bytes, id_: str | None) -> None:
    row = row if id_ != 'a "strange" one' else row.replace(b'"custom_id"', json.dumps(id_).encode())
    renderer = Renderer(job(prompt="{{ prompt }}", input=InputSpec(id=id_)))
    found: list[object] = []
    for read in (renderer.key_of, lambda line: renderer.key(renderer.parse(line))):
        try:
            found.append(read(row))
        except BadRow as bad:
            found.append(bad.reason)
    assert found[0] == found[1]
