"""What the API would refuse about a request with a 400, found before anything is sent: the traps of each model, and
those that are the same for all.

Pure and lenient: what is not surely refused passes, and of a model that is not known only the common rules are asked.
Shapes that are simply wrong are left to the API's own words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner.domain.asked import NEW_VERSION, Asked, Fields
from runner.domain.common_traps import OF_ALL
from runner.domain.model_traits import traits_of
from runner.domain.model_traps import OF_A_MODEL
from runner.domain.trap import Trap

# Every rule by which a request is refused before it is sent; a job's `allow` names those that are not to be heeded.
TRAP_NAMES = (
    "batch", "cache-breakpoints", "citations", "document", "effort", "forced-tool-choice", "inference-geo",
    "json-output", "max-tokens", "mcp", "prefill", "sampling", "schema", "skills", "speed", "system-turn", "thinking",
    "thinking-budget", "tool", "word",
)  # fmt: skip


def traps(fields: Fields, *, model: str | None, api_version: str, batch: bool | None) -> Iterator[Trap]:
    """Everything in a Messages body, `model` aside, that this model or any refuses."""
    traits = traits_of(model) if model else None
    asked = Asked(fields=fields, traits=traits, api_version=api_version, batch=batch)
    if traits is not None:
        for of_model in OF_A_MODEL:
            yield from of_model(asked, traits)
    for common in OF_ALL:
        yield from common(asked)


def doubts(fields: Fields, *, model: str | None) -> Iterator[Trap]:
    """What is taken from some and refused from others, as far as anybody can tell from here: worth a warning."""
    traits = traits_of(model) if model else None
    if traits is None:
        return
    asked = Asked(fields=fields, traits=traits, api_version=NEW_VERSION, batch=None)
    for number, tool in asked.tools:
        kind = tool.get("type")
        if isinstance(kind, str) and kind.startswith(traits.doubtful_tools or ("\0",)):
            yield Trap(
                path=("tools", number, "type"),
                rule="tool-not-offered",
                sentence=f"{traits.id} was launched without {kind}, and may still refuse it",
                fix="try one row first, or take another model",
            )
    if traits.bound_thinking and _sends_thinking_back(asked) and not asked.of("thinking", "block_binding"):
        yield Trap(
            path=("messages",),
            rule="bound-thinking",
            sentence=f"{traits.id} refuses thinking blocks whose conversation before them was edited",
            fix='send it back unchanged, or set thinking.block_binding.prefix_mismatch_behavior: "drop_block"',
        )
    if traits.retention_30_days:
        yield Trap(
            path=("model",),
            rule="retention",
            sentence=f"{traits.id} is only for organizations with 30 days of data retention",
            fix="with zero data retention take another model",
        )
    if traits.restricted:
        yield Trap(
            path=("model",),
            rule="restricted-model",
            sentence=f"{traits.id} is open to verified organizations only",
            fix="runner doctor --online shows whose key this is",
        )


def _sends_thinking_back(asked: Asked) -> bool:
    return any(
        isinstance(block, Mapping) and block.get("type") in ("thinking", "redacted_thinking")
        for turn in asked.messages
        if isinstance(turn, Mapping) and isinstance(turn.get("content"), (list, tuple))
        for block in turn["content"]
    )
