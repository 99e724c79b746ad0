"""The row shapes that need no template, each as the request it becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.domain.job import Job
from runner.files.bad_row import BadRow
from runner.files.render import Renderer

USER = {"role": "user", "content": "hi"}
OPENAI = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}


def fields(row: dict[str, Any], api_version: str = "2026-10-21") -> dict[str, Any]:
    body = json.loads(Renderer(Job(name="t", model="m", api_version=api_version)).request(row).body)
    return {
        name: value for name, value in body.items() if (name, value) not in (("model", "m"), ("max_tokens", 4096))
    }


def openai(**body: Any) -> dict[str, Any]:
    return {**OPENAI, "body": {"messages": [USER], **body}}


SHAPES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"prompt": "hi", "other": 1}, {"messages": [USER]}),
    ({"prompt": "hi", "system": "s"}, {"messages": [USER], "system": "s"}),
    ({"prompt": "hi", "params": {"max_tokens": 9}}, {"messages": [USER], "max_tokens": 9}),
    ({"messages": [USER]}, {"messages": [USER]}),
    ({"messages": [{"role": "system", "content": "s"}, USER]}, {"messages": [USER], "system": "s"}),
    ({"messages": [USER, {"role": "assistant", "content": "expected"}]}, {"messages": [USER]}),
    (
        {"messages": [USER, {"role": "assistant", "content": "a"}, USER]},
        {"messages": [USER, {"role": "assistant", "content": "a"}, USER]},
    ),
    (
        {"custom_id": "x", "params": {"messages": [USER], "model": "n", "thinking": {"type": "adaptive"}}},
        {"messages": [USER], "model": "n", "thinking": {"type": "adaptive"}},
    ),
    (openai(model="n"), {"messages": [USER], "model": "n"}),
    (openai(max_tokens=5), {"messages": [USER], "max_tokens": 5}),
    (openai(max_completion_tokens=6, max_tokens=5), {"messages": [USER], "max_tokens": 6}),
    (openai(stop="x"), {"messages": [USER], "stop_sequences": ["x"]}),
    (openai(stop=["x", "y"]), {"messages": [USER], "stop_sequences": ["x", "y"]}),
    (openai(user="u"), {"messages": [USER], "metadata": {"user_id": "u"}}),
    (openai(temperature=0.5, stream=True), {"messages": [USER]}),
    (
        openai(messages=[{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, USER]),
        {"messages": [USER], "system": "a\n\nb"},
    ),
    (
        openai(tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]),
        {"messages": [USER], "tools": [{"name": "f", "input_schema": {"type": "object"}}]},
    ),
    (openai(tool_choice="required"), {"messages": [USER], "tool_choice": {"type": "any"}}),
    (
        openai(tool_choice={"type": "function", "function": {"name": "f"}}),
        {"messages": [USER], "tool_choice": {"type": "tool", "name": "f"}},
    ),
    (
        openai(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}),
        {"messages": [USER], "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    ),
    (
        openai(messages=[{"role": "user", "content": [
            {"type": "text", "text": "t"},
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]}]),
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "t"},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        ]}]},
    ),
    (
        openai(messages=[
            USER,
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "1", "content": "one"},
            {"role": "tool", "tool_call_id": "2", "content": "two"},
        ]),
        {"messages": [
            USER,
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "2", "name": "g", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "2", "content": "two"},
            ]},
        ]},
    ),
]  # fmt: skip

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"question": "x"}, "has no prompt and the job has no template"),
    ({"prompt": ""}, 'has an empty "prompt"'),
    ({"prompt": " \n"}, 'has an empty "prompt"'),
    ({"prompt": 3}, 'has a "prompt" that is not text'),
    ({"prompt": "x", "system": 3}, 'has a "system"'),
    ({"messages": []}, 'has empty "messages"'),
    ({"messages": "x"}, 'has "messages" that are not a list'),
    ({"messages": [{"content": "x"}]}, 'has a turn without a "role"'),
    ({"messages": [{"role": "system", "content": "x"}]}, "has no turn to send"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "has no turn to send"),
    ({"custom_id": "a", "params": []}, 'has "params" that are not an object'),
    ({"custom_id": "a", "params": {}}, 'has no "params.messages"'),
    ({**OPENAI, "body": 3}, 'has a "body" that is not an object'),
    ({**OPENAI, "body": {}}, 'has no "body.messages"'),
    ({**OPENAI, "url": "/v1/embeddings", "body": {}}, 'asks for "/v1/embeddings"'),
    (openai(n=2), "asks for several answers"),
    (openai(messages=[{"role": "function", "content": "x"}]), 'has a turn with the role "function"'),
    (openai(messages=[{"role": "user", "content": [{"type": "input_audio"}]}]), "has a content part of type"),
    (openai(response_format={"type": "x"}), 'has a "body.response_format"'),
    (openai(tools=[{"type": "x"}]), 'has a tool in "body.tools"'),
]


@pytest.mark.parametrize(("row", "expected"), SHAPES)
def test_each_shape_becomes_its_request(row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert fields(row) == expected


@pytest.mark.parametrize(("row", "reason"), REFUSED)
def test_a_row_of_no_shape_says_what_it_lacks(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        fields(row)
    assert caught.value.reason.startswith(reason)


def test_with_a_template_every_shape_is_only_columns() -> None:
    renderer = Renderer(Job(name="t", model="m", prompt="Say {{ prompt }}"))
    body = json.loads(renderer.request({"prompt": "hi", "params": {"model": "dear"}}).body)
    assert body["messages"] == [{"role": "user", "content": "Say hi"}]
    assert body["model"] == "m"


def test_what_is_not_sent_is_listed_once() -> None:
    renderer = Renderer(Job(name="t", model="m"))
    for _ in range(3):
        renderer.request(openai(temperature=0, seed=1, logit_bias={}))
    assert renderer.dropped_fields == {"body.temperature", "body.seed", "body.logit_bias"}


def test_sampling_of_an_openai_line_is_kept_where_the_api_version_knows_it() -> None:
    assert fields(openai(temperature=0.5), "2023-06-01")["temperature"] == 0.5
