"""For each trap, of one model or of all: a request that falls into it, and one beside it that does not."""

from __future__ import annotations

from typing import Any, NamedTuple

ASK = {"role": "user", "content": "hello"}
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
TOOL = {"name": "label", "input_schema": SCHEMA}
OLD = "2023-06-01"
NEW = "2026-10-21"

FABLE, OPUS_5_5, SONNET_5_5, HAIKU_5_5 = (
    "claude-fable-5-2",
    "claude-opus-5-5",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
)
OPUS_5, OPUS_4_8, OPUS_4_7, OPUS_4_6 = "claude-opus-5", "claude-opus-4-8", "claude-opus-4-7", "claude-opus-4-6"
SONNET_5, SONNET_4_6, SONNET_4_5 = "claude-sonnet-5", "claude-sonnet-4-6", "claude-sonnet-4-5"
OPUS_4_5, HAIKU_4_5 = "claude-opus-4-5", "claude-haiku-4-5"


class Example(NamedTuple):
    """`row` names the rule as the service's own table does; `said` stands in the message, and so does the fix."""

    row: str
    model: str
    fields: dict[str, Any]
    said: str
    fix: str
    version: str = NEW


def thinking(kind: str, **more: Any) -> dict[str, Any]:
    return {"thinking": {"type": kind, **more}}


def effort(level: str) -> dict[str, Any]:
    return {"output_config": {"effort": level}}


def output(schema: dict[str, Any]) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def content(*blocks: dict[str, Any], role: str = "user") -> dict[str, Any]:
    told = [ASK, {"role": role, "content": list(blocks)}]
    return {"messages": told if role == "user" else [*told, ASK]}


def marked(ttl: str | None = None, text: str = "x") -> dict[str, Any]:
    mark = {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})
    return {"type": "text", "text": text, "cache_control": mark}


ENABLED = thinking("enabled", budget_tokens=1_024)
FORCED = {"tools": [TOOL], "tool_choice": {"type": "any"}}
PREFILL = {"messages": [ASK, {"role": "assistant", "content": "{"}]}
COMPUTER = {"tools": [{"type": "computer_20251124", "name": "computer"}]}
DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
SKILLS = {"container": {"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}}
TOOLSET = {"type": "mcp_toolset", "mcp_server_name": "y"}
SERVER = {"type": "url", "name": "x", "url": "https://mcp.example"}

TRAPPED = [
    Example("sampling-version", HAIKU_5_5, {"temperature": 1}, "temperature", 'set api_version: "2023-06-01"'),
    Example("sampling-version", OPUS_4_6, {"top_p": 0.5}, "top_p", 'set api_version: "2023-06-01"'),
    Example("sampling-version", HAIKU_4_5, {"top_k": 5}, "top_k", 'set api_version: "2023-06-01"'),
    Example("sampling-default", OPUS_4_7, {"temperature": 0.2}, "no temperature but the default", "remove it", OLD),
    Example("sampling-default", HAIKU_5_5, {"top_p": 0.5}, "no top_p but the default", "remove it", OLD),
    Example("sampling-default", SONNET_5, {"top_k": 40}, "no top_k but the default", "remove it", OLD),
    Example("sampling-both", SONNET_4_5, {"temperature": 0.2, "top_p": 0.5}, "not both", "remove one", OLD),
    Example("prefill", OPUS_4_6, PREFILL, "does not continue an answer", "end with a user message"),
    Example("prefill", SONNET_5_5, PREFILL, "does not continue an answer", "end with a user message"),
    Example("enabled", OPUS_4_7, ENABLED, 'refuses thinking.type "enabled"', '"adaptive" or "disabled"'),
    Example("enabled", OPUS_5_5, ENABLED, 'refuses thinking.type "enabled"', "leave thinking out"),
    Example("adaptive", SONNET_4_5, thinking("adaptive"), 'refuses thinking.type "adaptive"', 'use "enabled"'),
    Example("adaptive", OPUS_4_5, thinking("adaptive"), 'refuses thinking.type "adaptive"', 'use "enabled"'),
    Example("disabled", FABLE, thinking("disabled"), 'refuses thinking.type "disabled"', 'use "adaptive"'),
    Example("disabled", SONNET_5_5, thinking("disabled"), "refuses thinking.type", '"between_tools"'),
    Example("disabled", OPUS_5, thinking("disabled") | effort("max"), "only at effort high or lower", "lower output"),
    Example("between_tools", HAIKU_5_5, thinking("between_tools"), "refuses thinking.type", 'use "adaptive"'),
    Example("forced", OPUS_5_5, FORCED, "may not be forced to use a tool", 'use "auto"'),
    Example("forced", SONNET_5_5, FORCED, "may not be forced to use a tool", 'use "auto"'),
    Example("forced", "claude-mythos-5-1", FORCED, "may not be forced", 'use "auto"'),
    Example("computer", HAIKU_5_5, COMPUTER, "refuses the tool computer_20251124", "computer_toolset_20260801"),
    Example("computer", FABLE, COMPUTER, "refuses the tool computer_20251124", "computer_toolset_20260801"),
    Example("geo", HAIKU_4_5, {"inference_geo": "us"}, "knows no inference_geo", "remove it"),
    Example("speed", OPUS_4_7, {"speed": "fast"}, "has no fast mode", "claude-opus-5-5"),
    Example("speed", HAIKU_5_5, {"speed": "fast"}, "has no fast mode", "claude-opus-5-5"),
    Example("max-tokens", HAIKU_4_5, {"max_tokens": 64_001}, "more than claude-haiku-4-5", "at most 64,000"),
    Example("max-tokens", OPUS_5_5, {"max_tokens": 200_000}, "more than claude-opus-5-5", "mode: batch"),
    Example("effort", HAIKU_4_5, effort("low"), "knows no effort", "remove output_config.effort"),
    Example("effort", OPUS_4_6, effort("xhigh"), "knows no effort xhigh", "one of low, medium, high, max"),
    Example("effort", OPUS_4_5, effort("max"), "knows no effort max", "one of low, medium, high"),
    Example("budget", SONNET_4_5, thinking("enabled"), "needs a budget_tokens", "at least 1,024"),
    Example(
        "budget", SONNET_4_5, thinking("enabled", budget_tokens=9_000), "leaves nothing of max_tokens", "lower it"
    ),
    Example("enabled-forced", SONNET_4_6, ENABLED | FORCED, "does not go with a forced tool_choice", "leave one"),
    Example("enabled-prefill", SONNET_4_5, ENABLED | PREFILL, "with an answer that you begin", "leave one"),
    Example("enabled-heat", SONNET_4_6, ENABLED | {"temperature": 0.5}, "temperature other than 1", "leave one", OLD),
    Example("json-prefill", HAIKU_4_5, output(SCHEMA) | PREFILL, "does not go with an answer", "end with a user"),
    Example(
        "json-citations",
        HAIKU_5_5,
        output(SCHEMA) | content({**DOCUMENT, "citations": {"enabled": True}}),
        "does not go with citations",
        "leave one",
    ),
    Example(
        "document", HAIKU_5_5, content(DOCUMENT, role="assistant"), "no document in an assistant", "user message"
    ),
    Example(
        "citations",
        HAIKU_5_5,
        content({"type": "text", "text": "x", "citations": [{"type": "char_location"}]}),
        "no citations in a user message",
        "remove them",
    ),
    Example("schema", HAIKU_5_5, output({"type": "object"}), "additionalProperties: false", "false"),
    Example(
        "schema",
        HAIKU_5_5,
        output({"type": "integer", "minimum": 1}),
        "minimum is not supported",
        "the description",
    ),
    Example("schema", HAIKU_5_5, output({"type": "array", "minItems": 2}), "minItems must be 0 or 1", "0 or 1"),
    Example(
        "schema",
        HAIKU_5_5,
        {"tools": [{**TOOL, "name": f"t{n}", "strict": True} for n in range(21)]},
        "21 strict tools are",
        "20",
    ),
    Example("marks", HAIKU_5_5, content(*[marked()] * 5), "5 cache breakpoints", "at most 4"),
    Example(
        "marks",
        HAIKU_5_5,
        content(*[marked()] * 4) | {"cache_control": {"type": "ephemeral"}},
        "5 cache breakpoints, the automatic one included",
        "at most 4",
    ),
    Example("marks", HAIKU_5_5, content(marked("5m"), marked("1h")), "1h stands after one of 5m", "come first"),
    Example(
        "marks",
        HAIKU_5_5,
        content(marked("1h")) | {"cache_control": {"type": "ephemeral", "ttl": "5m"}},
        "another ttl than the automatic",
        "the same ttl",
    ),
    Example("skills", HAIKU_5_5, SKILLS, "skills run in code execution", "code_execution_20260521"),
    Example("mcp", HAIKU_5_5, {"mcp_servers": [SERVER], "tools": [TOOLSET]}, 'is named "y"', "the servers are x"),
]
# Each is one step from a trap.
FREE: list[tuple[str, dict[str, Any], str]] = [
    (OPUS_4_7, {"temperature": 1, "top_p": 0.99}, OLD),
    (OPUS_4_6, {"temperature": 0.2, "top_p": 0.5}, OLD),
    (SONNET_4_5, {"temperature": 0.2}, OLD),
    (HAIKU_4_5, PREFILL, NEW),
    (OPUS_4_6, ENABLED, NEW),
    (SONNET_4_6, thinking("adaptive"), NEW),
    (OPUS_5, thinking("disabled") | effort("high"), NEW),
    (OPUS_5, thinking("disabled"), NEW),
    (SONNET_5, thinking("disabled") | effort("max"), NEW),
    (SONNET_5_5, thinking("between_tools"), NEW),
    (HAIKU_5_5, FORCED, NEW),
    (OPUS_5, FORCED, NEW),
    (OPUS_5_5, {"tools": [TOOL], "tool_choice": {"type": "auto"}}, NEW),
    (OPUS_4_6, {"inference_geo": "us"}, NEW),
    (OPUS_5_5, {"speed": "fast"}, NEW),
    (OPUS_4_6, {"speed": "fast"}, NEW),
    (HAIKU_4_5, {"max_tokens": 64_000}, NEW),
    (OPUS_4_7, effort("xhigh"), NEW),
    (HAIKU_5_5, content(DOCUMENT), NEW),
    (HAIKU_5_5, content(*[marked()] * 4), NEW),
    (HAIKU_5_5, content(marked("1h"), marked("5m")), NEW),
    (HAIKU_5_5, output(SCHEMA), NEW),
    (HAIKU_5_5, SKILLS | {"tools": [{"type": "code_execution_20260521", "name": "code_execution"}]}, NEW),
]


class Doubt(NamedTuple):
    """What may be refused: a request that is warned of, and a model of which it is not."""

    rule: str
    model: str
    fields: dict[str, Any]
    said: str
    not_of: str


FETCH = {"tools": [{"type": "web_fetch_20260318", "name": "web_fetch"}]}
THINKING = {"type": "thinking", "thinking": "", "signature": "s"}
THINKING_SENT_BACK = {"messages": [ASK, {"role": "assistant", "content": [THINKING]}, ASK]}
DOUBTFUL = [
    Doubt("tool-not-offered", OPUS_5, FETCH, "was launched without web_fetch_20260318", OPUS_5_5),
    Doubt("bound-thinking", SONNET_5_5, THINKING_SENT_BACK, "whose conversation before them was edited", OPUS_4_7),
    Doubt("retention", FABLE, {}, "30 days of data retention", OPUS_5_5),
    Doubt("restricted-model", "claude-mythos-5-2", {}, "open to verified organizations only", OPUS_5_5),
]
