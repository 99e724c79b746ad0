"""For each rule of `betas.json` a request that calls for it, as the fields of a job or of a row."""

from __future__ import annotations

from typing import Any

ASK = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
MCP = [{"type": "url", "name": "x", "url": "https://mcp.example"}]
TOOLSET = {"type": "mcp_toolset", "mcp_server_name": "x"}
TOOL = {"name": "label", "input_schema": SCHEMA}


def tools(*kinds: str) -> dict[str, Any]:
    return {"tools": [{"type": kind, **NAMED.get(kind, {"name": kind.rpartition("_")[0]})} for kind in kinds]}


SCREEN = {"name": "computer", "display_width_px": 1_024, "display_height_px": 768}
NAMED: dict[str, dict[str, Any]] = {
    "computer_20251124": SCREEN,
    "computer_20250124": SCREEN,
    "computer_20241022": SCREEN,
    "computer_toolset_20260801": {},
    "browser_toolset_20260801": {},
    "advisor_20260301": {"name": "advisor", "model": "claude-opus-5"},
}


def edits(kind: str) -> dict[str, Any]:
    return {"context_management": {"edits": [{"type": kind}]}}


def in_between(*blocks: dict[str, Any], **turn: Any) -> dict[str, Any]:
    """A conversation with a system turn in its middle."""
    told = {"role": "system", "content": [{"type": "text", "text": "from now on"}, *blocks], **turn}
    return {"messages": [*ASK, {"role": "assistant", "content": "yes?"}, *ASK, told, *ASK]}


def with_source(kind: str) -> dict[str, Any]:
    block = {"type": kind, "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    return {"messages": [{"role": "user", "content": [block]}]}


# A file that lies beside the job, and goes to the service once.
UPLOADED = {"type": "document", "source": {"$file": "a.txt", "upload": "always"}}
TEXT = {"type": "text", "text": "what is it?"}
OPUS, OPUS_4_8, OPUS_5_5, HAIKU_4_5 = "claude-opus-5", "claude-opus-4-8", "claude-opus-5-5", "claude-haiku-4-5"
DEFINED = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": TOOL}}
ADDED = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "label"}}
ADDED_SERVER = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": TOOLSET}}
CHANGES, INLINE = "mid-conversation-tool-changes-2026-07-01", "inline-tools-2026-09-15"

# Rule: the request, the names it must go with, the model where it matters.
EXAMPLES: dict[str, tuple[dict[str, Any], list[str], str | None]] = {
    "mcp_connector": ({"mcp_servers": MCP, "tools": [TOOLSET]}, ["mcp-client-2025-11-20"], None),
    "context_editing": (edits("clear_tool_uses_20250919"), ["context-management-2025-06-27"], None),
    "compaction_threshold": (edits("compact_20260112"), ["compact-2026-01-12"], None),
    "compaction_on_demand": ({"compaction": {"type": "summarize"}}, ["compact-2026-09-04"], None),
    "output_300k": ({"max_tokens": 200_000}, ["output-300k-2026-03-24"], OPUS_5_5),
    "fast_mode_preview": ({"speed": "fast"}, ["fast-mode-2026-02-01"], OPUS_4_8),
    "fast_mode_ga": ({"speed": "fast"}, [], OPUS_5_5),
    "computer_20251124": (tools("computer_20251124"), ["computer-use-2025-11-24"], OPUS),
    "computer_20250124": (tools("computer_20250124"), ["computer-use-2025-01-24"], HAIKU_4_5),
    "computer_20241022": (tools("bash_20241022", "computer_20241022"), ["computer-use-2024-10-22"], HAIKU_4_5),
    "computer_toolset": (tools("computer_toolset_20260801"), [], None),
    "browser_toolset": (tools("browser_toolset_20260801"), [], None),
    "advisor_tool": (tools("advisor_20260301"), ["advisor-tool-2026-03-01"], None),
    "files_in_messages": ({"messages": [{"role": "user", "content": [UPLOADED, TEXT]}]}, [], None),
    "skills_in_messages": (
        {"container": {"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}, **tools("code_execution_20260521")},
        [],
        None,
    ),
    "code_execution": (tools("code_execution_20260521"), [], None),
    "web_search": (tools("web_search_20250305"), [], None),
    "web_fetch": (tools("web_fetch_20250910"), [], None),
    "tool_search": (tools("tool_search_tool_regex_20251119"), [], None),
    "memory_tool": (tools("memory_20250818"), [], None),
    "structured_outputs": ({"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, [], None),
    "structured_outputs_legacy_field": (
        {"output_format": {"type": "json_schema", "schema": SCHEMA}},
        ["structured-outputs-2025-11-13"],
        None,
    ),
    "effort": ({"output_config": {"effort": "low"}}, [], None),
    "task_budget": (
        {"output_config": {"task_budget": {"type": "tokens", "total": 50_000}}},
        ["task-budgets-2026-03-13"],
        None,
    ),
    "fallbacks_list": ({"fallbacks": [{"model": OPUS}]}, ["server-side-fallback-2026-06-01"], None),
    "fallbacks_default": ({"fallbacks": "default"}, ["server-side-fallback-2026-07-01"], None),
    "fallback_credit": ({"fallback_credit_token": "fct_1"}, ["fallback-credit-2026-07-01"], None),
    "threads": ({"thread": {"type": "create"}}, ["message-threads-2026-08-12"], None),
    "billing_policy": (
        {"billing_policy": {"type": "billing_policy", "bill_to": "self"}},
        ["user-profiles-billing-2026-10-01"],
        None,
    ),
    "mid_conversation_tool_changes": ({**in_between(ADDED), "tools": [TOOL]}, [CHANGES], None),
    "mid_conversation_output_config": (
        in_between(output_config={"effort": "low"}),
        ["mid-conversation-output-config-2026-07-01"],
        None,
    ),
    "mid_conversation_system": (in_between(), [], None),
    "mid_conversation_system_clear_at": (
        in_between(clear_at="next_user_message"),
        ["mid-conversation-system-clear-at-2026-08-21"],
        None,
    ),
    "inline_tools": (in_between(DEFINED), [CHANGES, INLINE], None),
    "inline_mcp_toolset": (
        {**in_between(ADDED_SERVER), "mcp_servers": MCP},
        [CHANGES, INLINE, "mcp-client-2026-09-15", "mcp-client-2025-11-20"],
        None,
    ),
    "thinking_display_updates": (
        {"thinking": {"type": "adaptive", "display": "updates"}},
        ["thinking-display-updates-2026-08-18"],
        None,
    ),
    "thinking_block_binding": (
        {"thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}},
        ["thinking-binding-controls-2026-08-01"],
        None,
    ),
    "interleaved_thinking": (
        {"thinking": {"type": "enabled", "budget_tokens": 2_000}, "tools": [TOOL]},
        [],
        HAIKU_4_5,
    ),
    "prompt_caching": ({"cache_control": {"type": "ephemeral"}}, [], None),
    "cache_diagnostics": ({"diagnostics": {"previous_message_id": "msg_1"}}, [], None),
    "pdfs": (with_source("document"), [], None),
    "fine_grained_tool_streaming": ({"tools": [{**TOOL, "eager_input_streaming": True}]}, [], None),
}
# Rules that nothing in a Messages body shows: their names go out where somebody writes them, and nothing is added.
NOT_IN_A_BODY = {
    "files_endpoints_old_shape",
    "skills_endpoints_old_shape",
    "skill_version_download",
    "user_profile_header",
    "thinking_token_count",
    "context_1m",
    "output_128k",
    "batches",
    "count_tokens",
    "model_context_window_exceeded",
    "token_efficient_tools",
    "usage_report_speed",
    "managed_agents",
}
