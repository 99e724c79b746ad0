"""What the service refuses because one part of a body does not go with another. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runner.simulator.problems import Problem, invalid

Params = Mapping[str, Any]

MAX_SKILLS = 20


def together_problem(params: Params) -> Problem | None:
    """The first contradiction; the shapes of the parts have been looked at before."""
    return _citations(params) or _skills(params) or _toolsets(params)


def _citations(params: Params) -> Problem | None:
    wanted = (params.get("output_config") or {}).get("format")
    if wanted is not None and _asks_for_citations(params["messages"]):
        return invalid("output_config.format: cannot be combined with citations")
    return None


def _asks_for_citations(messages: Iterable[Mapping[str, Any]]) -> bool:
    blocks = [block for turn in messages if isinstance(turn["content"], list) for block in turn["content"]]
    return any(isinstance(told := block.get("citations"), dict) and bool(told.get("enabled")) for block in blocks)


def _skills(params: Params) -> Problem | None:
    container = params.get("container")
    skills = container.get("skills") if isinstance(container, dict) else None
    if not isinstance(skills, list) or not skills:
        return None
    if len(skills) > MAX_SKILLS:
        return invalid(f"container.skills: at most {MAX_SKILLS} skills are allowed")
    kinds = [tool.get("type") for tool in params.get("tools") or ()]
    if not any(isinstance(kind, str) and kind.startswith("code_execution_") for kind in kinds):
        return invalid("container.skills: a code execution tool is required to use skills")
    return None


def _toolsets(params: Params) -> Problem | None:
    servers = params.get("mcp_servers")
    names = [one.get("name") for one in servers if isinstance(one, dict)] if isinstance(servers, list) else []
    for number, tool in enumerate(params.get("tools") or ()):
        if tool.get("type") == "mcp_toolset" and tool.get("mcp_server_name") not in names:
            return invalid(f"tools.{number}.mcp_server_name: no such server in mcp_servers")
    return None
