"""What one model refuses that another accepts: the traps when a job moves to a newer model.

Pure; the table itself is data in `facts.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.simulator.directives import MARK, user_texts
from runner.simulator.facts import Model, find_model
from runner.simulator.problems import Problem, invalid, not_found
from runner.simulator.prompt import input_tokens

Params = Mapping[str, Any]

EFFORTS = ("low", "medium", "high", "xhigh", "max")
FAST_BETA = "fast-mode-2026-02-01"
EXTENDED_OUTPUT_BETA = "output-300k-2026-03-24"
EXTENDED_OUTPUT = 300_000
EXTENDED_OUTPUT_MODELS = frozenset(
    {
        "claude-opus-5-5",
        "claude-opus-5",
        "claude-opus-4-8",
        "claude-opus-4-7",
        "claude-opus-4-6",
        "claude-sonnet-5-5",
        "claude-sonnet-5",
        "claude-sonnet-4-6",
    }
)
_DEFAULTS = {"temperature": (1,), "top_p": (1, 0.99), "top_k": ()}


def model_problem(params: Params, betas: Sequence[str] = (), *, batch: bool = False) -> Problem | None:
    """The first thing that this model does not accept."""
    model = find_model(params["model"])
    if model is None:
        return not_found(f"model: {params['model']}")
    return (
        _length(params, model, _most_output(model, betas) if batch else model.max_output)
        or _sampling(params, model)
        or _prefill(params, model)
        or _thinking(params, model)
        or _effort(params, model)
        or _tools(params, model)
        or _geo(params, model)
        or _speed(params, model, betas)
    )


def _most_output(model: Model, betas: Sequence[str]) -> int:
    """In a batch, a beta lets some models write far more."""
    extended = EXTENDED_OUTPUT_BETA in betas and model.id in EXTENDED_OUTPUT_MODELS
    return EXTENDED_OUTPUT if extended else model.max_output


def _length(params: Params, model: Model, most: int) -> Problem | None:
    wanted = params.get("max_tokens", 0)
    if wanted > most:
        return invalid(
            f"max_tokens: {wanted} > {most}, which is the maximum allowed number of output tokens for {model.id}"
        )
    tokens = input_tokens(params)
    if tokens > model.context_window:
        return invalid(f"prompt is too long: {tokens} tokens > {model.context_window} maximum")
    return None


def _sampling(params: Params, model: Model) -> Problem | None:
    given = [name for name in _DEFAULTS if params.get(name) is not None]
    if model.sampling == "default_only":
        for name in given:
            if params[name] not in _DEFAULTS[name]:
                return invalid(f"{name}: only the default value is supported by {model.id}")
    if model.sampling == "one_of_two" and "temperature" in given and "top_p" in given:
        return invalid(f"temperature and top_p cannot both be specified for {model.id}")
    return None


def _prefill(params: Params, model: Model) -> Problem | None:
    last = params["messages"][-1]
    if last["role"] != "assistant" or model.prefill or _continues_a_pause(params):
        return None
    return invalid(f"{model.id} does not support assistant message prefill; end with a user message")


def _continues_a_pause(params: Params) -> bool:
    """A paused turn is sent back as it came: its last message is the assistant's, and is no prefill."""
    content = params["messages"][-1]["content"]
    if isinstance(content, list) and any(block["type"] == "server_tool_use" for block in content):
        return True
    return any(f"{MARK}pause_turn" in text for text in user_texts(params))


def _thinking(params: Params, model: Model) -> Problem | None:
    kind = (params.get("thinking") or {}).get("type")
    if kind is None:
        return None
    if kind not in model.thinking:
        return invalid(f"thinking.type: '{kind}' is not supported by {model.id}")
    most = model.thinking_disabled_max_effort
    effort = (params.get("output_config") or {}).get("effort", "high")
    if kind == "disabled" and most and effort in EFFORTS and EFFORTS.index(effort) > EFFORTS.index(most):
        return invalid(f"thinking.type: 'disabled' needs effort {most} or lower on {model.id}")
    return _manual_thinking(params) if kind == "enabled" else None


def _manual_thinking(params: Params) -> Problem | None:
    if (params.get("tool_choice") or {}).get("type") in ("any", "tool"):
        return invalid("thinking: may not be enabled when tool_choice forces tool use")
    if params["messages"][-1]["role"] == "assistant":
        return invalid("thinking: may not be enabled together with prefill")
    if params.get("temperature", 1) != 1:
        return invalid("temperature: may only be set to 1 when thinking is enabled")
    return None


def _effort(params: Params, model: Model) -> Problem | None:
    effort = (params.get("output_config") or {}).get("effort")
    if effort is None or effort in model.effort:
        return None
    if effort not in EFFORTS:
        return invalid("output_config.effort: Input should be one of " + ", ".join(EFFORTS))
    return invalid(f"output_config.effort: '{effort}' is not supported by {model.id}")


def _tools(params: Params, model: Model) -> Problem | None:
    forced = (params.get("tool_choice") or {}).get("type") in ("any", "tool")
    if forced and not model.forced_tool_choice:
        return invalid(f"tool_choice: forced tool use is not supported by {model.id}")
    for number, tool in enumerate(params.get("tools") or ()):
        if tool.get("type") in model.refused_tools:
            return invalid(f"tools.{number}.type: '{tool['type']}' is not supported by {model.id}")
    return None


def _geo(params: Params, model: Model) -> Problem | None:
    geo = params.get("inference_geo")
    if geo is None:
        return None
    if geo not in ("global", "us"):
        return invalid("inference_geo: Input should be 'global' or 'us'")
    return None if model.us_geo else invalid(f"inference_geo: not supported by {model.id}")


def _speed(params: Params, model: Model, betas: Sequence[str]) -> Problem | None:
    speed = params.get("speed")
    if speed is None:
        return None
    if speed not in ("standard", "fast"):
        return invalid("speed: Input should be 'standard' or 'fast'")
    if model.fast == "beta" and FAST_BETA not in betas:
        return invalid(f"speed: needs the beta header {FAST_BETA} on {model.id}")
    if speed == "fast" and model.fast == "none":
        return invalid(f"speed: 'fast' is not supported by {model.id}")
    return None
