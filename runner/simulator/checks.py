"""What the service refuses about the shape of a Messages body, whatever the model.

Pure: a body in, the first problem out, or None. What depends on the model stands in `model_rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runner.simulator import schema_rules
from runner.simulator.breakpoints import mark_problem
from runner.simulator.problems import Problem, invalid

Params = Mapping[str, Any]

MAX_MESSAGES = 100_000
ROLES = ("user", "assistant", "system")
SAMPLING = ("temperature", "top_p", "top_k")
NEW_VERSION = "2026-10-21"
MIN_THINKING_BUDGET = 1024
MAX_STRICT_TOOLS = 20


def shape_problem(params: Params, version: str, *, counting: bool = False) -> Problem | None:
    """The first thing wrong with the body."""
    return (
        _fields(params, counting=counting)
        or _messages(params["messages"])
        or _types(params)
        or mark_problem(params)
        or (version_problem(params) if version == NEW_VERSION else None)
        or _thinking_budget(params)
        or _tool_choice(params)
        or _output_format(params)
    )


def version_problem(params: Params) -> Problem | None:
    """What version 2026-10-21 took away."""
    for name in SAMPLING:
        if name in params:
            return invalid(f"{name}: not supported in anthropic-version {NEW_VERSION}")
    for number, message in enumerate(params["messages"]):
        problem = _new_version_content(f"messages.{number}.content", message)
        if problem:
            return problem
    return None


def _fields(params: Params, *, counting: bool) -> Problem | None:
    required = ("model", "messages") if counting else ("model", "max_tokens", "messages")
    for name in required:
        if params.get(name) is None:
            return invalid(f"{name}: Field required")
    if not isinstance(params["model"], str):
        return invalid("model: Input should be a valid string")
    limit = params.get("max_tokens", 1)
    if not isinstance(limit, int) or isinstance(limit, bool):
        return invalid("max_tokens: Input should be a valid integer")
    return invalid("max_tokens: must be greater than or equal to 0") if limit < 0 else None


def _messages(messages: Any) -> Problem | None:
    if not isinstance(messages, list):
        return invalid("messages: Input should be a valid list")
    if not messages:
        return invalid("messages: at least one message is required")
    if len(messages) > MAX_MESSAGES:
        return invalid(f"messages: at most {MAX_MESSAGES} messages are allowed")
    for number, message in enumerate(messages):
        problem = _message(f"messages.{number}", message)
        if problem:
            return problem
    return None


def _message(where: str, message: Any) -> Problem | None:
    if not isinstance(message, dict):
        return invalid(f"{where}: Input should be an object")
    if message.get("role") not in ROLES:
        return invalid(f"{where}.role: Input should be 'user', 'assistant' or 'system'")
    content = message.get("content")
    if isinstance(content, str):
        return None if content else invalid(f"{where}: text content blocks must be non-empty")
    if not isinstance(content, list):
        return invalid(f"{where}.content: Field required")
    if not content and message["role"] != "assistant":
        return invalid(f"{where}: content must be non-empty")
    return _first(_block(f"{where}.content.{number}", block) for number, block in enumerate(content))


def _block(where: str, block: Any) -> Problem | None:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        return invalid(f"{where}.type: Field required")
    if block["type"] == "text":
        if not isinstance(block.get("text"), str):
            return invalid(f"{where}.text: Field required")
        if not block["text"]:
            return invalid(f"{where}: text content blocks must be non-empty")
    return None


def _new_version_content(where: str, message: Mapping[str, Any]) -> Problem | None:
    content = message["content"]
    if isinstance(content, str):
        return None
    for number, block in enumerate(content):
        if message["role"] == "assistant" and block["type"] == "document":
            return invalid(f"{where}.{number}: document blocks are not allowed in assistant messages")
        if message["role"] == "user" and _carries_citations(block):
            return invalid(f"{where}.{number}.citations: not allowed in user messages")
    return None


def _carries_citations(block: Mapping[str, Any]) -> bool:
    if block["type"] == "search_result":
        inner = block.get("content")
        return isinstance(inner, list) and any(_carries_citations(part) for part in inner)
    return block["type"] == "text" and bool(block.get("citations"))


_TYPES: dict[str, type | tuple[type, ...]] = {
    "system": (str, list),
    "tools": list,
    "tool_choice": dict,
    "stop_sequences": list,
    "stream": bool,
    "thinking": dict,
    "output_config": dict,
    "metadata": dict,
    "temperature": (int, float),
    "top_p": (int, float),
    "top_k": int,
}


def _types(params: Params) -> Problem | None:
    for name, wanted in _TYPES.items():
        value = params.get(name)
        if value is not None and not isinstance(value, wanted):
            return invalid(f"{name}: Input has the wrong type")
    if any(not isinstance(sequence, str) or not sequence for sequence in params.get("stop_sequences") or ()):
        return invalid("stop_sequences: each must be a non-empty string")
    tools = params.get("tools") or ()
    return _first(_tool(f"tools.{number}", tool) for number, tool in enumerate(tools))


def _tool(where: str, tool: Any) -> Problem | None:
    if not isinstance(tool, dict):
        return invalid(f"{where}: Input should be an object")
    kind = tool.get("type", "custom")
    if not isinstance(kind, str):
        return invalid(f"{where}.type: Input should be a valid string")
    if kind != "custom" and "input_schema" not in tool:
        return None
    if not isinstance(tool.get("name"), str):
        return invalid(f"{where}.name: Field required")
    if not isinstance(tool.get("input_schema"), dict):
        return invalid(f"{where}.input_schema: Field required")
    schema, at = tool["input_schema"], f"{where}.input_schema"
    return schema_rules.unsound(schema, at) or (
        schema_rules.without_grammar(schema, at) if tool.get("strict") else None
    )


def _thinking_budget(params: Params) -> Problem | None:
    thinking = params.get("thinking") or {}
    if thinking.get("type") != "enabled":
        return None
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < MIN_THINKING_BUDGET:
        return invalid(f"thinking.budget_tokens: must be at least {MIN_THINKING_BUDGET}")
    if budget >= params.get("max_tokens", budget + 1):
        return invalid("max_tokens: must be greater than thinking.budget_tokens")
    return None


def _tool_choice(params: Params) -> Problem | None:
    choice = params.get("tool_choice") or {}
    if choice.get("type") not in (None, "auto", "any", "tool", "none"):
        return invalid("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")
    if choice.get("type") in ("any", "tool") and not params.get("tools"):
        return invalid("tool_choice: may only be given together with tools")
    if choice.get("type") == "tool":
        names = [tool.get("name") for tool in params["tools"]]
        if choice.get("name") not in names:
            return invalid(f"tool_choice.name: tool {choice.get('name')!r} is not among the tools")
    return None


def _output_format(params: Params) -> Problem | None:
    strict = [tool for tool in params.get("tools") or () if tool.get("strict")]
    if len(strict) > MAX_STRICT_TOOLS:
        return invalid(f"tools: at most {MAX_STRICT_TOOLS} strict tools are allowed")
    wanted = (params.get("output_config") or {}).get("format")
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return invalid("output_config.format.type: Input should be 'json_schema'")
    if not isinstance(wanted.get("schema"), dict):
        return invalid("output_config.format.schema: Field required")
    if params["messages"][-1]["role"] == "assistant":
        return invalid("output_config.format: cannot be combined with prefill")
    where = "output_config.format.schema"
    return schema_rules.unsound(wanted["schema"], where) or schema_rules.without_grammar(wanted["schema"], where)


def _first(problems: Iterable[Problem | None]) -> Problem | None:
    return next((problem for problem in problems if problem is not None), None)
