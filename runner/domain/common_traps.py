"""What the API refuses of every model: words, versions, and parts of a request that do not go together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runner.domain.asked import DEFAULTS, EFFORTS, NEW_VERSION, Asked
from runner.domain.cache_marks import mark_traps
from runner.domain.nearest import suggest
from runner.domain.schema_limits import MAX_STRICT_TOOLS, schema_problems
from runner.domain.trap import Path, Trap

LEAST_BUDGET = 1_024
MOST_SKILLS = 20


def _sampling_of_version(asked: Asked) -> Iterator[Trap]:
    if asked.api_version != NEW_VERSION:
        return
    for name in DEFAULTS:
        if name in asked.fields:
            yield Trap(
                path=(name,),
                rule="sampling",
                sentence=f"API version {NEW_VERSION} no longer knows {name}",
                fix='remove it, or set api_version: "2023-06-01"',
            )


def _blocks_of_version(asked: Asked) -> Iterator[Trap]:
    if asked.api_version != NEW_VERSION:
        return
    for number, turn in enumerate(asked.messages):
        content = turn.get("content") if isinstance(turn, Mapping) else None
        if not isinstance(content, (list, tuple)):
            continue
        for at, block in enumerate(content):
            where: Path = ("messages", number, "content", at)
            if not isinstance(block, Mapping):
                continue
            if turn.get("role") == "assistant" and block.get("type") == "document":
                sentence = f"API version {NEW_VERSION} takes no document in an assistant message"
                yield Trap(path=where, rule="document", sentence=sentence, fix="put it into a user message")
            if turn.get("role") == "user" and _cites(block):
                sentence = f"API version {NEW_VERSION} takes no citations in a user message"
                yield Trap(path=(*where, "citations"), rule="citations", sentence=sentence, fix="remove them")


def _cites(block: Mapping[str, Any]) -> bool:
    inner = block.get("content")
    if block.get("type") == "search_result" and isinstance(inner, (list, tuple)):
        return any(isinstance(part, Mapping) and _cites(part) for part in inner)
    told = block.get("citations")
    return block.get("type") == "text" and isinstance(told, (list, tuple)) and bool(told)


def _misspelt_words(asked: Asked) -> Iterator[Trap]:
    for path, known in WORDS.items():
        value = asked.of(*path)
        # A word that is like none of these may be newer than this program.
        if isinstance(value, str) and value not in known and suggest(value, known):
            sentence = f'{".".join(path)} "{value}" means nothing; did you mean "{suggest(value, known)}" ?'
            yield Trap(path=path, rule="word", sentence=sentence, fix=_one_of(known))


WORDS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("output_config", "effort"): EFFORTS,
    ("inference_geo",): ("global", "us"),
    ("speed",): ("standard", "fast"),
    ("service_tier",): ("auto", "standard_only"),
    ("tool_choice", "type"): ("auto", "any", "tool", "none"),
    ("thinking", "type"): ("adaptive", "enabled", "disabled", "between_tools"),
    ("thinking", "display"): ("summarized", "omitted", "updates"),
    ("cache_control", "ttl"): ("5m", "1h"),
}


def _one_of(known: tuple[str, ...]) -> str:
    return f"one of {', '.join(known)}"


def _manual_thinking(asked: Asked) -> Iterator[Trap]:
    if asked.of("thinking", "type") != "enabled":
        return
    if asked.traits is not None and "enabled" in asked.traits.thinking_refused:
        return  # said already: nothing about it matters
    budget, most = asked.of("thinking", "budget_tokens"), asked.of("max_tokens")
    path: Path = ("thinking", "budget_tokens")
    if type(budget) is not int or budget < LEAST_BUDGET:
        sentence = 'thinking.type "enabled" needs a budget_tokens'
        yield Trap(path=path, rule="thinking-budget", sentence=sentence, fix=f"at least {LEAST_BUDGET:,}")
    elif type(most) is int and budget >= most:
        sentence = f"thinking.budget_tokens {budget:,} leaves nothing of max_tokens {most:,} for the answer"
        yield Trap(path=path, rule="thinking-budget", sentence=sentence, fix="lower it, or raise max_tokens")
    for meets, at, what in (
        (asked.forces_a_tool, ("tool_choice", "type"), "a forced tool_choice"),
        (asked.prefills, ("messages",), "an answer that you begin"),
        (asked.of("temperature") not in (None, 1), ("temperature",), "a temperature other than 1"),
    ):
        if meets:
            sentence = f'thinking.type "enabled" does not go with {what}'
            yield Trap(path=at, rule="thinking", sentence=sentence, fix="leave one of them out")


def _json_output(asked: Asked) -> Iterator[Trap]:
    if asked.of("output_config", "format") is None:
        return
    if asked.prefills:
        sentence = "output_config.format does not go with an answer that you begin"
        yield Trap(path=("messages",), rule="json-output", sentence=sentence, fix="end with a user message")
    for number, turn in enumerate(asked.messages):
        content = turn.get("content") if isinstance(turn, Mapping) else None
        for at, block in enumerate(content if isinstance(content, (list, tuple)) else ()):
            told = block.get("citations") if isinstance(block, Mapping) else None
            if isinstance(told, Mapping) and told.get("enabled"):
                sentence = "output_config.format does not go with citations"
                path: Path = ("messages", number, "content", at, "citations")
                yield Trap(path=path, rule="json-output", sentence=sentence, fix="leave one of them out")
                return


def _skills(asked: Asked) -> Iterator[Trap]:
    skills = asked.of("container", "skills")
    if not isinstance(skills, (list, tuple)) or not skills:
        return
    if len(skills) > MOST_SKILLS:
        sentence = f"{len(skills)} skills are too many"
        yield Trap(path=("container", "skills"), rule="skills", sentence=sentence, fix=f"at most {MOST_SKILLS}")
    if not any(str(tool.get("type", "")).startswith("code_execution_") for _, tool in asked.tools):
        yield Trap(
            path=("container", "skills"),
            rule="skills",
            sentence="skills run in code execution, which is not among the tools",
            fix="add { type: code_execution_20260521, name: code_execution } to tools",
        )


def _mcp(asked: Asked) -> Iterator[Trap]:
    servers = asked.of("mcp_servers")
    if not isinstance(servers, (list, tuple)):
        servers = ()
    names = [server.get("name") for server in servers if isinstance(server, Mapping)]
    for number, tool in asked.tools:
        if tool.get("type") != "mcp_toolset":
            continue
        if tool.get("mcp_server_name") not in names:
            sentence = f'no server of mcp_servers is named "{tool.get("mcp_server_name")}"'
            fix = f"the servers are {', '.join(map(str, names))}" if names else "add it to mcp_servers"
            yield Trap(path=("tools", number, "mcp_server_name"), rule="mcp", sentence=sentence, fix=fix)


def _marks(asked: Asked) -> Iterator[Trap]:
    return mark_traps(asked.fields)


def _schemas(asked: Asked) -> Iterator[Trap]:
    """The schemas that answers are to be held to, and how many strict tools there are."""
    wanted = asked.of("output_config", "format", "schema")
    schemas: list[tuple[Path, Any]] = [] if wanted is None else [(("output_config", "format", "schema"), wanted)]
    strict = [(number, tool) for number, tool in asked.tools if tool.get("strict") is True]
    schemas += [(("tools", number, "input_schema"), tool.get("input_schema")) for number, tool in strict]
    for where, schema in schemas:
        for problem in schema_problems(schema):
            sentence, _, fix = problem.sentence.partition(": ")
            yield Trap(path=(*where, *problem.path), rule="schema", sentence=sentence, fix=fix or "see the schema")
    if len(strict) > MAX_STRICT_TOOLS:
        sentence = f"{len(strict)} strict tools are too many"
        yield Trap(path=("tools",), rule="schema", sentence=sentence, fix=f"at most {MAX_STRICT_TOOLS}")


OF_ALL: tuple[Callable[[Asked], Iterator[Trap]], ...] = (
    _sampling_of_version, _blocks_of_version, _misspelt_words, _manual_thinking, _json_output, _skills, _mcp, _marks,
    _schemas,
)  # fmt: skip
