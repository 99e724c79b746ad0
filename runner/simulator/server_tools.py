"""What server tools put into an answer: searches, fetched pages, code that ran, calls of MCP servers, citations.

Asked for by a directive (`[[sim:server]]`, `[[sim:file=report.csv]]`, `[[sim:cite]]`) and given only for tools
that are in the request. Pure; ids follow from the prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.simulator.directives import Wishes

Block = dict[str, Any]
EXPIRES = "2026-12-21T00:00:00Z"


@dataclass(kw_only=True, slots=True)
class Served:
    """Blocks before the text, what was counted, and the container that ran."""

    blocks: list[Block] = field(default_factory=list)
    searches: int = 0
    fetches: int = 0
    container: Block | None = None


def served(params: Mapping[str, Any], wishes: Wishes, digest: str) -> Served:
    """The work of each server tool, once, in the order of the tools."""
    found = Served()
    if "server" not in wishes and "file" not in wishes:
        return found
    for number, tool in enumerate(params.get("tools") or ()):
        kind, mark = str(tool.get("type", "")), f"{digest}{number}"
        if kind.startswith("web_search_") and "server" in wishes:
            _search(found, mark)
        elif kind.startswith("web_fetch_") and "server" in wishes:
            _fetch(found, mark)
        elif kind.startswith("code_execution_"):
            _code(found, mark, wishes, params.get("container"))
        elif kind == "mcp_toolset" and "server" in wishes:
            _mcp(found, mark, str(tool.get("mcp_server_name")))
    return found


def file_id_of(digest: str, name: str) -> str:
    """The id of a file that code execution writes for this prompt."""
    return "file_011" + hashlib.sha256(f"{digest}:{name}".encode()).hexdigest()[:20]


def cited(params: Mapping[str, Any], text: Block) -> Block:
    """The text with a citation of the first document that may be cited."""
    documents = [
        block
        for turn in params["messages"]
        if isinstance(turn["content"], list)
        for block in turn["content"]
        if block.get("type") == "document"
    ]
    for index, block in enumerate(documents):
        if isinstance(block.get("citations"), dict) and block["citations"].get("enabled"):
            place = {"start_char_index": 0, "end_char_index": 5}
            about = {"document_index": index, "document_title": block.get("title"), "file_id": None}
            return text | {"citations": [{"type": "char_location", "cited_text": "words", **about, **place}]}
    return text


def _search(found: Served, mark: str) -> None:
    use = f"srvtoolu_01{mark}"
    page = {
        "type": "web_search_result",
        "url": f"https://example.com/{mark}",
        "title": "A page",
        "encrypted_content": "ZW5j",
        "page_age": "1 day ago",
    }
    found.searches += 1
    found.blocks += [
        _use(use, "web_search", {"query": f"sources for {mark}"}),
        {"type": "web_search_tool_result", "tool_use_id": use, "content": [page]},
    ]


def _fetch(found: Served, mark: str) -> None:
    use = f"srvtoolu_02{mark}"
    source = {"type": "text", "media_type": "text/plain", "data": "A page of plain text."}
    page = {
        "type": "web_fetch_result",
        "url": f"https://example.com/{mark}",
        "retrieved_at": "2026-11-21T00:00:00Z",
        "content": {"type": "document", "title": "A page", "source": source, "citations": None},
    }
    found.fetches += 1
    found.blocks += [
        _use(use, "web_fetch", {"url": page["url"]}),
        {"type": "web_fetch_tool_result", "tool_use_id": use, "content": page},
    ]


def _code(found: Served, mark: str, wishes: Wishes, container: Any) -> None:
    use = f"srvtoolu_03{mark}"
    outputs = []
    if "file" in wishes:
        name = wishes.said["file"] or "out.csv"
        outputs.append({"type": "bash_code_execution_output", "file_id": file_id_of(mark[:-1], name)})
    result = {
        "type": "bash_code_execution_result",
        "stdout": "42\n",
        "stderr": "",
        "return_code": 0,
        "content": outputs,
    }
    found.blocks += [
        _use(use, "bash_code_execution", {"command": "python -c 'print(42)'"}),
        {"type": "bash_code_execution_tool_result", "tool_use_id": use, "content": result},
    ]
    skills = container.get("skills") if isinstance(container, dict) else None
    known = container if isinstance(container, str) else container.get("id") if isinstance(container, dict) else None
    told = [{"type": one.get("type"), "skill_id": one.get("skill_id"), "version": one.get("version", "latest")}
            for one in skills or () if isinstance(one, dict)]  # fmt: skip
    found.container = {"id": known or f"container_01{mark}", "expires_at": EXPIRES, "skills": told or None}


def _mcp(found: Served, mark: str, server: str) -> None:
    use = f"mcptoolu_01{mark}"
    found.blocks += [
        {"type": "mcp_tool_use", "id": use, "name": "look", "server_name": server, "input": {"for": mark}},
        {
            "type": "mcp_tool_result",
            "tool_use_id": use,
            "is_error": False,
            "content": [{"type": "text", "text": "found", "citations": None}],
        },
    ]


def _use(use: str, name: str, value: Block) -> Block:
    return {"type": "server_tool_use", "id": use, "name": name, "input": value, "caller": {"type": "direct"}}
