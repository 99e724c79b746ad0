"""The Models API: what there is to call, newest first, in pages.

Knows the facts; nothing of messages or money.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import parse_qs

from runner.simulator.facts import Model, facts, find_model
from runner.simulator.paging import page_of
from runner.simulator.problems import Problem, not_found

_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_THINKING = ("adaptive", "between_tools", "disabled", "enabled")


def model_info(name: str) -> dict[str, Any] | Problem:
    """One model by id or alias."""
    model = find_model(name)
    return _described(model) if model else not_found(f"model: {name}")


def model_page(query: str) -> dict[str, Any] | Problem:
    """One page of the list."""
    asked = parse_qs(query)
    found = _newest_first()
    if "lifecycle[]" in asked:
        found = [model for model in found if model["lifecycle"] in asked["lifecycle[]"]]
    return page_of(found, query, id_of=lambda model: str(model["id"]), told=lambda model: model)


@cache
def _newest_first() -> list[dict[str, Any]]:
    return [_described(model) for model in sorted(facts().models, key=lambda m: m.created_at, reverse=True)]


def _described(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "type": "model",
        "display_name": model.display_name,
        "line": model.line,
        "created_at": model.created_at,
        "lifecycle": model.lifecycle,
        "deprecated_at": model.deprecated_at,
        "retires_at": model.retires_at,
        "max_input_tokens": model.context_window,
        "max_tokens": model.max_output,
        "capabilities": _capabilities(model),
    }


def _capabilities(model: Model) -> dict[str, Any]:
    plain = (
        "batch", "citations", "code_execution", "context_management", "image_input", "pdf_input",
        "structured_outputs",
    )  # fmt: skip
    can: dict[str, Any] = {name: _can(True) for name in plain}
    can["server_tools"] = _can(True) | {"web_search": _can(True), "code_execution": _can(True)}
    can["effort"] = _can(bool(model.effort)) | {name: _can(name in model.effort) for name in _EFFORTS}
    can["thinking"] = _can(True) | {"types": {name: _can(name in model.thinking) for name in _THINKING}}
    return can


def _can(supported: bool) -> dict[str, Any]:
    return {"supported": supported}
