"""What is refused without its beta header: fields, tools and blocks that are not open to everybody.

A reading of its own, made apart from the program's. One of several names opens each door. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.simulator.problems import Problem, invalid

Params = Mapping[str, Any]
Names = tuple[str, ...]

MCP: Names = ("mcp-client-2025-04-04", "mcp-client-2025-11-20", "mcp-client-2026-09-15")
COMPUTER_2024: Names = ("computer-use-2024-10-22",)

FIELDS: Mapping[str, Names] = {
    "mcp_servers": MCP,
    "context_management": ("context-management-2025-06-27", "compact-2026-01-12"),
    "compaction": ("compact-2026-09-04",),
    "fallbacks": ("server-side-fallback-2026-06-01", "server-side-fallback-2026-07-01"),
    "fallback_credit_token": ("fallback-credit-2026-07-01", "fallback-credit-2026-06-01"),
    "thread": ("message-threads-2026-08-12",),
    "billing_policy": ("user-profiles-billing-2026-10-01",),
    "output_format": ("structured-outputs-2025-11-13",),
}
TOOLS: Mapping[str, Names] = {
    "mcp_toolset": MCP,
    "advisor_20260301": ("advisor-tool-2026-03-01",),
    "computer_20251124": ("computer-use-2025-11-24",),
    "computer_20250124": ("computer-use-2025-01-24",),
    "computer_20241022": COMPUTER_2024,
    "bash_20241022": COMPUTER_2024,
    "text_editor_20241022": COMPUTER_2024,
}
EDITS: Mapping[str, Names] = {
    "clear_tool_uses_20250919": ("context-management-2025-06-27",),
    "clear_thinking_20251015": ("context-management-2025-06-27",),
    "compact_20260112": ("compact-2026-01-12",),
}
TOOL_CHANGES: Names = ("mid-conversation-tool-changes-2026-07-01",)
TURN_FIELDS: Mapping[str, Names] = {
    "output_config": ("mid-conversation-output-config-2026-07-01",),
    "clear_at": ("mid-conversation-system-clear-at-2026-08-21",),
}


def beta_problem(params: Params, betas: Sequence[str]) -> Problem | None:
    """The first thing in the body that none of the betas opens."""
    for where, told, names in _closed(params):
        if not any(name in betas for name in names):
            return invalid(f"{where}: {told}")
    return None


EXTRA = "Extra inputs are not permitted"


def _closed(params: Params) -> Iterator[tuple[str, str, Names]]:
    """Where, what is said there, and which names open it."""
    for name, names in FIELDS.items():
        if params.get(name) is not None:
            yield name, EXTRA, names
    if params.get("fallbacks") == "default":
        yield "fallbacks", "Input should be a valid list", FIELDS["fallbacks"][1:]
    for number, tool in enumerate(_list(params.get("tools"))):
        kind = _of(tool, "type")
        if isinstance(kind, str) and kind in TOOLS:
            yield f"tools.{number}", _tag(kind), TOOLS[kind]
    for number, edit in enumerate(_list(_of(params.get("context_management"), "edits"))):
        kind = _of(edit, "type")
        if isinstance(kind, str) and kind in EDITS:
            yield f"context_management.edits.{number}", _tag(kind), EDITS[kind]
    if _of(params.get("output_config"), "task_budget") is not None:
        yield "output_config.task_budget", EXTRA, ("task-budgets-2026-03-13",)
    if _of(params.get("thinking"), "display") == "updates":
        allowed = "Input should be 'summarized' or 'omitted'"
        yield "thinking.display", allowed, ("thinking-display-updates-2026-08-18",)
    if _of(params.get("thinking"), "block_binding") is not None:
        yield "thinking.block_binding", EXTRA, ("thinking-binding-controls-2026-08-01",)
    for number, turn in enumerate(params["messages"]):
        if turn["role"] == "system":
            yield from _of_turn(f"messages.{number}", turn)


def _of_turn(where: str, turn: Params) -> Iterator[tuple[str, str, Names]]:
    for name, names in TURN_FIELDS.items():
        if turn.get(name) is not None:
            yield f"{where}.{name}", EXTRA, names
    for number, block in enumerate(_list(turn.get("content"))):
        kind = _of(block, "type")
        if kind not in ("tool_addition", "tool_removal"):
            continue
        yield f"{where}.content.{number}", _tag(str(kind)), TOOL_CHANGES
        tool = _of(block, "tool")
        if _of(tool, "type") == "tool_definition":
            yield f"{where}.content.{number}.tool", _tag("tool_definition"), ("inline-tools-2026-09-15",)
        if _of(_of(tool, "definition"), "type") == "mcp_toolset":
            yield f"{where}.content.{number}.tool.definition", _tag("mcp_toolset"), MCP[2:]


def _tag(kind: str) -> str:
    return f"Input tag '{kind}' found using 'type' does not match any of the expected tags"


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
