"""A line written for OpenAI's batch endpoint, as the fields of a Messages request.

What has a counterpart is translated; what has none is told by name, so that a person hears once what is not sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from runner.files.bad_row import BadRow

Fields = dict[str, Any]

CHAT_URL = "/v1/chat/completions"
SAMPLING = ("temperature", "top_p")
SYSTEM_ROLES = ("system", "developer")
TRANSLATED = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "stop", "tools", "tool_choice", "user"}
    | {"response_format", "parallel_tool_calls", "stream", "n", *SAMPLING}
)
TOOL_CHOICES: dict[str, Fields] = {"auto": {"type": "auto"}, "required": {"type": "any"}, "none": {"type": "none"}}


def translate_body(row: Mapping[str, Any], *, sampling_allowed: bool, drop: Callable[[str], None]) -> Fields:
    """The Messages fields of a line with `url` and `body`."""
    body = row["body"]
    if type(body) is not dict:
        raise BadRow('has a "body" that is not an object')
    if row.get("url", CHAT_URL) != CHAT_URL:
        raise BadRow(f'asks for "{row["url"]}"; only {CHAT_URL} can be translated')
    if body.get("n") not in (None, 1):
        raise BadRow('asks for several answers ("n"); use "repeat" in the job')
    for name in body.keys() - TRANSLATED:
        drop(f"body.{name}")
    fields = _conversation(body.get("messages"), drop)
    fields |= _plain_fields(body, sampling_allowed=sampling_allowed, drop=drop)
    fields |= _tools(body)
    if body.get("response_format") is not None:
        fields |= _response_format(body["response_format"], drop)
    return fields


def _plain_fields(body: Fields, *, sampling_allowed: bool, drop: Callable[[str], None]) -> Fields:
    fields: Fields = {}
    if body.get("model") is not None:
        fields["model"] = body["model"]
    max_tokens = body.get("max_completion_tokens") or body.get("max_tokens")
    if max_tokens is not None:
        fields["max_tokens"] = max_tokens
    if body.get("stop") is not None:
        fields["stop_sequences"] = [body["stop"]] if type(body["stop"]) is str else body["stop"]
    if body.get("user") is not None:
        fields["metadata"] = {"user_id": body["user"]}
    for name in SAMPLING:
        if body.get(name) is None:
            continue
        if sampling_allowed:
            fields[name] = body[name]
        else:
            drop(f"body.{name}")
    return fields


def _conversation(messages: Any, drop: Callable[[str], None]) -> Fields:
    if type(messages) is not list or not messages:
        raise BadRow('has no "body.messages"')
    system: list[str] = []
    turns: list[Fields] = []
    for message in messages:
        if type(message) is not dict or type(message.get("role")) is not str:
            raise BadRow('has a turn without a "role" in "body.messages"')
        if message["role"] in SYSTEM_ROLES:
            system.append(_text_of(message.get("content")))
        else:
            _append(turns, _turn(message, drop))
    if not turns:
        raise BadRow('has no turn to send in "body.messages"')
    return {"messages": turns, **({"system": "\n\n".join(system)} if any(system) else {})}


def _append(turns: list[Fields], turn: Fields) -> None:
    """Results of tools called together belong into one user turn."""
    before = turns[-1] if turns else None
    if before and _only_tool_results(before) and _only_tool_results(turn):
        before["content"] += turn["content"]
    else:
        turns.append(turn)


def _only_tool_results(turn: Fields) -> bool:
    content = turn["content"]
    return type(content) is list and all(part.get("type") == "tool_result" for part in content)


def _turn(message: Fields, drop: Callable[[str], None]) -> Fields:
    role, content = message["role"], message.get("content")
    if role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": _text_of(content)}
        return {"role": "user", "content": [result]}
    if role not in ("user", "assistant"):
        raise BadRow(f'has a turn with the role "{role}", which cannot be translated')
    if message.get("name") is not None:
        drop("body.messages[].name")
    if message.get("tool_calls"):
        return {"role": role, "content": _blocks(content) + [_tool_use(call) for call in message["tool_calls"]]}
    return {"role": role, "content": content if type(content) is str else _blocks(content)}


def _text_of(content: Any) -> str:
    if type(content) is str:
        return content
    return "".join(part["text"] for part in _blocks(content) if part["type"] == "text")


def _blocks(content: Any) -> list[Fields]:
    if content is None or content == "":
        return []
    if type(content) is str:
        return [{"type": "text", "text": content}]
    if type(content) is not list:
        raise BadRow('has a "content" that is neither text nor a list of parts')
    return [_block(part) for part in content]


def _block(part: Any) -> Fields:
    kind = part.get("type") if type(part) is dict else None
    if kind == "text" and type(part.get("text")) is str:
        return {"type": "text", "text": part["text"]}
    if kind == "image_url":
        return {"type": "image", "source": _image_source(part.get("image_url"))}
    raise BadRow(f"has a content part of type {json.dumps(kind)}, which cannot be translated")


def _image_source(image: Any) -> Fields:
    url = image.get("url") if type(image) is dict else image
    if type(url) is not str:
        raise BadRow('has an "image_url" part without a url')
    head, comma, data = url.partition(",")
    if not head.startswith("data:"):
        return {"type": "url", "url": url}
    if not comma or not head.endswith(";base64"):
        raise BadRow('has an "image_url" whose data is not base64')
    return {"type": "base64", "media_type": head[len("data:") :].split(";")[0], "data": data}


def _tool_use(call: Any) -> Fields:
    try:
        function = call["function"]
        arguments = json.loads(function["arguments"] or "{}")
        return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}
    except (TypeError, KeyError, ValueError, RecursionError):
        raise BadRow('has a tool call in "body.messages" that cannot be read') from None


def _tools(body: Fields) -> Fields:
    fields: Fields = {}
    if body.get("tools"):
        fields["tools"] = [_tool(tool) for tool in body["tools"]]
    choice = body.get("tool_choice")
    if choice is not None:
        fields["tool_choice"] = _tool_choice(choice)
    if body.get("parallel_tool_calls") is False and fields.get("tools"):
        chosen = fields.setdefault("tool_choice", {"type": "auto"})
        if chosen["type"] != "none":
            chosen["disable_parallel_tool_use"] = True
    return fields


def _tool(tool: Any) -> Fields:
    function = tool.get("function") if type(tool) is dict else None
    if type(function) is not dict or type(function.get("name")) is not str:
        raise BadRow('has a tool in "body.tools" that is not a function')
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    told = {"name": function["name"], "input_schema": schema}
    return told | {name: function[name] for name in ("description", "strict") if function.get(name) is not None}


def _tool_choice(choice: Any) -> Fields:
    if type(choice) is str and choice in TOOL_CHOICES:
        return dict(TOOL_CHOICES[choice])
    if type(choice) is dict and type(choice.get("function")) is dict:
        return {"type": "tool", "name": choice["function"].get("name")}
    raise BadRow('has a "body.tool_choice" that cannot be translated')


def _response_format(told: Any, drop: Callable[[str], None]) -> Fields:
    kind = told.get("type") if type(told) is dict else None
    if kind == "text":
        return {}
    if kind == "json_object":
        drop("body.response_format")
        return {}
    schema = told.get("json_schema", {}).get("schema") if kind == "json_schema" else None
    if type(schema) is not dict:
        raise BadRow('has a "body.response_format" that cannot be translated')
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
