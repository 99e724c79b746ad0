"""What one model refuses that another takes: the traps when a job moves to another model. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from runner.domain.asked import DEFAULTS, EFFORTS, NEW_VERSION, Asked
from runner.domain.model_traits import ModelTraits, models_with
from runner.domain.trap import Trap


def _max_tokens(asked: Asked, traits: ModelTraits) -> Iterator[Trap]:
    wanted = asked.of("max_tokens")
    most = (traits.max_output_batch or traits.max_output) if asked.batch else traits.max_output
    if type(wanted) is not int or wanted <= most:
        return
    fix = f"at most {most:,}"
    if traits.max_output_batch and not asked.batch and wanted <= traits.max_output_batch:
        fix += f"; in batches {traits.max_output_batch:,} (mode: batch)"
    yield Trap(
        path=("max_tokens",),
        rule="max-tokens",
        sentence=f"max_tokens {wanted:,} is more than {traits.id} writes",
        fix=fix,
    )


def _sampling(asked: Asked, traits: ModelTraits) -> Iterator[Trap]:
    given = [name for name in DEFAULTS if asked.of(name) is not None]
    if asked.api_version == NEW_VERSION:
        return  # refused for every model, by `_sampling_of_version`
    if traits.sampling == "default_only":
        for name in given:
            if asked.of(name) not in DEFAULTS[name]:
                sentence = f"{traits.id} takes no {name} but the default"
                yield Trap(path=(name,), rule="sampling", sentence=sentence, fix="remove it")
    if traits.sampling == "one_of_two" and "temperature" in given and "top_p" in given:
        sentence = f"{traits.id} takes temperature or top_p, not both"
        yield Trap(path=("top_p",), rule="sampling", sentence=sentence, fix="remove one of them")


def _prefill(asked: Asked, traits: ModelTraits) -> Iterator[Trap]:
    if asked.prefills and not traits.prefill:
        yield Trap(
            path=("messages", len(asked.messages) - 1, "role"),
            rule="prefill",
            sentence=f"{traits.id} does not continue an answer that you begin: the last message is the assistant's",
            fix="end with a user message, and ask for the form with output_config.format",
        )


def _thinking(asked: Asked, traits: ModelTraits) -> Iterator[Trap]:
    kind = asked.of("thinking", "type")
    if not isinstance(kind, str):
        return
    if kind in traits.thinking_refused:
        ways = " or ".join(f'"{known}"' for known in traits.thinking)
        leaving = " or leave thinking out" if traits.thinking_default != "off" else ""
        yield Trap(
            path=("thinking", "type"),
            rule="thinking",
            sentence=f'{traits.id} refuses thinking.type "{kind}"',
            fix=f"use {ways}{leaving}",
        )
        return
    effort = asked.of("output_config", "effort") or "high"
    most = traits.disabled_up_to
    if kind == "disabled" and most and effort in EFFORTS and EFFORTS.index(effort) > EFFORTS.index(most):
        yield Trap(
            path=("thinking", "type"),
            rule="thinking",
            sentence=f'{traits.id} takes thinking.type "disabled" only at effort {most} or lower, not {effort}',
            fix=f"lower output_config.effort to {most}, or let it think",
        )


def _effort(asked: Asked, traits: ModelTraits) -> Iterator[Trap]:
    effort = asked.of("output_config", "effort")
    if not isinstance(effort, str) or effort in traits.effort or effort not in EFFORTS:
        return
    fix = f"one of {', '.join(traits.effort)}" if traits.effort else "remove output_config.effort"
    yield Trap(
        path=("output_config", "effort"),
        rule="effort",
        sentence=f"{traits.id} knows no effort {effort}" if traits.effort else f"{traits.id} knows no effort",
        fix=fix,
    )


def _forced(asked: Asked, traits: ModelTraits) -> Iterator[Trap]:
    if asked.forces_a_tool and not traits.forced_tool_choice:
        yield Trap(
            path=("tool_choice", "type"),
            rule="forced-tool-choice",
            sentence=f'{traits.id} may not be forced to use a tool (tool_choice "{asked.of("tool_choice", "type")}")',
            fix='use "auto" and say in the prompt that the tool is to be used, or output_config.format for JSON',
        )


def _tools(asked: Asked, traits: ModelTraits) -> Iterator[Trap]:
    for number, tool in asked.tools:
        if tool.get("type") in traits.refused_tools:
            yield Trap(
                path=("tools", number, "type"),
                rule="tool",
                sentence=f"{traits.id} refuses the tool {tool['type']}",
                fix="use computer_toolset_20260801",
            )


def _geo(asked: Asked, traits: ModelTraits) -> Iterator[Trap]:
    if asked.of("inference_geo") is not None and not traits.geo:
        yield Trap(
            path=("inference_geo",),
            rule="inference-geo",
            sentence=f"{traits.id} knows no inference_geo",
            fix="remove it, or take a model from 4.6 on",
        )


def _speed(asked: Asked, traits: ModelTraits) -> Iterator[Trap]:
    if asked.of("speed") != "fast" or asked.batch:
        return  # batches refuse every speed, which is said elsewhere
    if traits.fast == "none":
        fix = f"remove speed, or take {' or '.join(models_with(fast='open'))}"
        yield Trap(path=("speed",), rule="speed", sentence=f"{traits.id} has no fast mode", fix=fix)


def _system_turns(asked: Asked, traits: ModelTraits) -> Iterator[Trap]:
    if traits.system_turns:
        return
    for number, turn in enumerate(asked.messages):
        if isinstance(turn, Mapping) and turn.get("role") == "system":
            yield Trap(
                path=("messages", number, "role"),
                rule="system-turn",
                sentence=f"{traits.id} takes no system message within a conversation",
                fix="put its text into system or into a user message",
            )
            return


OF_A_MODEL: tuple[Callable[[Asked, ModelTraits], Iterator[Trap]], ...] = (
    _max_tokens, _sampling, _prefill, _thinking, _effort, _forced, _tools, _geo, _speed, _system_turns,
)  # fmt: skip
