"""The message that a body gets: always the same one for the same body and seed, whatever the hour or the order.

Pure: a request, a seed and what of it was cached in, a message out. It neither checks the request nor knows streams,
limits or money.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from runner.simulator import prompt
from runner.simulator.caches import NO_CACHE, CacheUse
from runner.simulator.directives import NO_WISHES, Wishes, user_texts, without_directives
from runner.simulator.facts import Model, find_model
from runner.simulator.instances import instance_of
from runner.simulator.server_tools import cited, served

Params = Mapping[str, Any]
Block = dict[str, Any]

QUOTED_CHARACTERS = 40
_OPENINGS = ("In short", "Looking at it plainly", "On the whole", "As far as the text says", "Put simply")
_VERDICTS = (
    "this is clear and needs nothing more",
    "the first part matters more than the rest",
    "the answer is yes, with one reservation",
    "there is little to add",
    "it depends on how the words are meant",
)
_FILLER = "and so the answer goes on, one plain word after another, until it is long enough, "


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """What the model would say: blocks, why it stops, and what it has written (in tokens)."""

    content: list[Block]
    stop_reason: str = "end_turn"
    output_tokens: int = 0
    thinking_tokens: int = 0
    stop_sequence: str | None = None
    stop_details: Block | None = None
    web_searches: int = 0
    web_fetches: int = 0
    container: Block | None = None


def compose_message(
    params: Params,
    *,
    seed: int,
    body: bytes,
    wishes: Wishes = NO_WISHES,
    default_tokens: int | None = None,
    broken_share: float = 0.0,
    cached: CacheUse = NO_CACHE,
) -> dict[str, Any]:
    """The whole message object for a valid request. What was cached shows in its usage and nowhere else."""
    digest = prompt.prompt_digest(params)
    draft = _Writer(params, f"{seed}:{digest}", digest, wishes, default_tokens, broken_share).draft()
    model = find_model(params["model"])
    message: dict[str, Any] = {
        "id": "msg_01" + hashlib.sha256(b"%d:%b" % (seed, body)).hexdigest()[:22],
        "type": "message",
        "role": "assistant",
        "model": model.id if model else params["model"],
        "content": draft.content,
        "stop_reason": draft.stop_reason,
        "stop_sequence": draft.stop_sequence,
        "stop_details": draft.stop_details,
        "container": draft.container,
        "diagnostics": None,
        "usage": _usage(params, draft, model, wishes, cached),
    }
    return _strange(message) if "unknown_fields" in wishes else message


def _usage(params: Params, draft: Draft, model: Model | None, wishes: Wishes, cached: CacheUse) -> dict[str, Any]:
    searched = {"web_search_requests": draft.web_searches, "web_fetch_requests": draft.web_fetches}
    fast = params.get("speed") == "fast" and model is not None and model.fast != "ignored"
    whole = prompt.input_tokens(params)
    if (wished := wishes.number("cache_read")) is not None:
        cached = CacheUse(read=min(wished, whole))
    return {
        "input_tokens": whole - cached.tokens,
        "cache_creation_input_tokens": cached.written_5m + cached.written_1h,
        "cache_read_input_tokens": cached.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": cached.written_5m,
            "ephemeral_1h_input_tokens": cached.written_1h,
        },
        "output_tokens": draft.output_tokens,
        "output_tokens_details": {"thinking_tokens": draft.thinking_tokens},
        "server_tool_use": searched if draft.web_searches or draft.web_fetches else None,
        "service_tier": "standard",
        "inference_geo": (params.get("inference_geo") or "global") if model and model.us_geo else None,
        "speed": "fast" if fast else "standard",
    }


def _strange(message: dict[str, Any]) -> dict[str, Any]:
    """Fields, a block type and a usage kind that no client of today knows."""
    hologram = {"type": "hologram", "frames": [1, 2, 3], "caption": None}
    usage = message["usage"] | {"spare_tokens": 3, "energy": {"joules": 2}}
    return message | {"content": [hologram, *message["content"]], "usage": usage, "mood": {"tone": "calm"}}


class _Writer:
    """Decides what kind of answer is due, and writes it."""

    def __init__(
        self, params: Params, seed: str, digest: str, wishes: Wishes, default_tokens: int | None, broken_share: float
    ) -> None:
        self._params = params
        self._seed = seed
        self._digest = digest
        self._wishes = wishes
        self._tokens = wishes.number("tokens") or default_tokens
        self._breaks = "broken_schema" in wishes or random.Random(f"broken:{seed}").random() < broken_share
        self._room: int = params.get("max_tokens", 1024)

    def draft(self) -> Draft:
        if self._room == 0:
            return Draft(content=[], stop_reason="max_tokens")
        if "refusal" in self._wishes:
            return self._refusal()
        if self._pauses():
            return self._paused()
        tool = self._wanted_tool()
        draft = self._tool_use(tool) if tool else self._with_server_tools(self._written())
        return self._with_thinking(draft)

    def _with_server_tools(self, draft: Draft) -> Draft:
        """What they did comes before the text, and is part of what was written."""
        content = draft.content
        if "cite" in self._wishes and content and content[-1]["type"] == "text":
            content = [*content[:-1], cited(self._params, content[-1])]
        work = served(self._params, self._wishes, self._digest)
        written = sum(_json_tokens(block["input"]) for block in work.blocks if "input" in block)
        if draft.output_tokens + written > self._room:
            return replace(draft, content=content)
        return replace(
            draft,
            content=[*work.blocks, *content],
            output_tokens=draft.output_tokens + written,
            web_searches=work.searches,
            web_fetches=work.fetches,
            container=work.container,
        )

    def _refusal(self) -> Draft:
        """`refusal=mid` refuses after some words, which are billed."""
        details = {"type": "refusal", "category": "general_harms", "explanation": None}
        content: list[Block] = []
        if self._wishes.said["refusal"] == "mid":
            content = [_text("I can begin, but ")]
        written = sum(prompt.tokens_of_text(block["text"]) for block in content)
        return Draft(content=content, stop_reason="refusal", output_tokens=written, stop_details=details)

    def _pauses(self) -> bool:
        turns = self._wishes.number("pause_turn") or 0
        sent_back: int = sum(message["role"] == "assistant" for message in self._params["messages"])
        return sent_back < turns

    def _paused(self) -> Draft:
        text = f"Working on it [{self._digest}]."
        query = {"query": f"sources for {self._digest}"}
        call = {"type": "server_tool_use", "id": f"srvtoolu_01{self._digest}", "name": "web_search", "input": query}
        written = prompt.tokens_of_text(text) + _json_tokens(query)
        return Draft(
            content=[_text(text), call],
            stop_reason="pause_turn",
            output_tokens=written,
            web_searches=int(self._may_search()),
        )

    def _may_search(self) -> bool:
        tools = self._params.get("tools") or ()
        return any(str(tool.get("type", "")).startswith("web_search") for tool in tools)

    def _wanted_tool(self) -> Block | None:
        """The tool that is forced, or that the prompt wishes for as long as no result of it was sent back."""
        tools: list[Block] = [tool for tool in self._params.get("tools") or () if "input_schema" in tool]
        choice = self._params.get("tool_choice") or {}
        kind = choice.get("type")
        if kind == "tool":
            return next((tool for tool in tools if tool["name"] == choice.get("name")), None)
        wished = "tool_use" in self._wishes and kind != "none" and not self._has_tool_result()
        if tools and (kind == "any" or wished):
            return tools[int(self._digest, 16) % len(tools)]
        return None

    def _has_tool_result(self) -> bool:
        content = self._params["messages"][-1]["content"]
        return isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)

    def _tool_use(self, tool: Block) -> Draft:
        value = instance_of(tool["input_schema"], seed=self._seed, digest=self._digest)
        if self._breaks:
            value = {"unasked": self._digest}
        block = {"type": "tool_use", "id": f"toolu_01{self._digest}", "name": tool["name"], "input": value}
        written = _json_tokens(value)
        if written > self._room:
            return Draft(content=[block | {"input": {}}], stop_reason="max_tokens", output_tokens=self._room)
        return Draft(content=[block], stop_reason="tool_use", output_tokens=written)

    def _written(self) -> Draft:
        text = self._structured()
        if text is None:
            text = self._sentences()
        return self._cut(text)

    def _structured(self) -> str | None:
        wanted = (self._params.get("output_config") or {}).get("format")
        if not wanted:
            return None
        value = instance_of(wanted.get("schema", {}), seed=self._seed, digest=self._digest)
        text = msgspec.json.encode(value).decode()
        if not self._breaks:
            return text
        # Cut off in the middle, or whole and of another shape.
        return text[: len(text) // 2] if int(self._digest[:2], 16) % 2 else f'{{"unasked": "{self._digest}"}}'

    def _sentences(self) -> str:
        number = int(self._digest, 16)
        opening = _OPENINGS[number % len(_OPENINGS)]
        verdict = _VERDICTS[number // 8 % len(_VERDICTS)]
        end = f" [{self._digest}]"
        text = f'{opening}, on "{self._quote()}": {verdict}.'
        if self._tokens is None:
            return text + end
        tokens = min(self._tokens, self._room + 1)  # more would be cut off again
        return _of_length(text + " ", tokens * prompt.BYTES_PER_TOKEN - len(end)) + end

    def _quote(self) -> str:
        texts = user_texts(self._params)
        words = without_directives(texts[-1]) if texts else "nothing"
        quoted = " ".join(words[: QUOTED_CHARACTERS * 2].split())[:QUOTED_CHARACTERS]
        return quoted.replace('"', "'")

    def _cut(self, text: str) -> Draft:
        """Stop where a stop sequence, the room or a wish says."""
        for sequence in self._params.get("stop_sequences") or ():
            before, found, _ = text.partition(sequence)
            if found and prompt.tokens_of_text(before) <= self._room:
                written = prompt.tokens_of_text(before)
                return Draft(
                    content=[_text(before)] if before else [],
                    stop_reason="stop_sequence",
                    stop_sequence=sequence,
                    output_tokens=written,
                )
        return self._fitted(text)

    def _fitted(self, text: str) -> Draft:
        written = prompt.tokens_of_text(text)
        room = min(self._room, max(1, written // 2)) if "max_tokens" in self._wishes else self._room
        if written > room:
            part = text.encode()[: room * prompt.BYTES_PER_TOKEN].decode(errors="ignore")
            return Draft(content=[_text(part)], stop_reason="max_tokens", output_tokens=room)
        full = "context_window" in self._wishes
        reason = "model_context_window_exceeded" if full else "end_turn"
        return Draft(content=[_text(text)], stop_reason=reason, output_tokens=written)

    def _with_thinking(self, draft: Draft) -> Draft:
        """Thinking asked for by name comes first, and is part of what was written."""
        thinking = self._params.get("thinking") or {}
        if thinking.get("type") not in ("adaptive", "enabled"):
            return draft
        thought = min(8 + int(self._digest[:2], 16) % 24, self._room)
        shown = "First the question, then the answer." if thinking.get("display") == "summarized" else ""
        block = {"type": "thinking", "thinking": shown, "signature": f"c2ln{self._digest}"}
        if draft.output_tokens + thought > self._room:
            return Draft(content=[block], stop_reason="max_tokens", output_tokens=self._room, thinking_tokens=thought)
        return replace(
            draft,
            content=[block, *draft.content],
            output_tokens=draft.output_tokens + thought,
            thinking_tokens=thought,
        )


def _text(text: str) -> Block:
    return {"type": "text", "text": text, "citations": None}


def _json_tokens(value: Any) -> int:
    return prompt.tokens_of_bytes(len(msgspec.json.encode(value)))


def _of_length(text: str, size: int) -> str:
    """Exactly `size` bytes when the opening fits; else the opening alone, cut."""
    size = max(0, size)
    opening = text.encode()[:size].decode(errors="ignore")
    lacking = size - len(opening.encode())
    return opening + (_FILLER * (lacking // len(_FILLER) + 1))[:lacking]
