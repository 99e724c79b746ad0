"""What the API would refuse of a job's requests, whatever the row: for the job, or for each of its variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.domain.job import CURRENT_API_VERSION
from runner.domain.trap import Trap
from runner.domain.traps import traps
from runner.files.ask import SAMPLING
from runner.files.job_yaml import Document, Problem
from runner.files.job_yaml import Path as KeyPath

IN_BATCHES = {"live": False, "batch": True}


def refused_requests(document: Document) -> Iterator[Problem]:
    """Each with its line. Values may be of any kind: that has its own errors."""
    values = document.values
    request = _map(values.get("request"))
    variants = [_map(variant) for variant in _list(values.get("variants"))]
    if not variants:
        for trap in _traps(values, request, values.get("model")):
            yield _problem(document, trap, ("request",))
    for number, variant in enumerate(variants):
        own = _map(variant.get("request"))
        for trap in _traps(values, _over(request, own), variant.get("model") or values.get("model")):
            here = trap.path[0] in own
            yield _problem(document, trap, ("variants", number, "request") if here else ("request",))


def _traps(values: Mapping[str, Any], request: Mapping[str, Any], model: Any) -> Iterator[Trap]:
    version = values.get("api_version", CURRENT_API_VERSION)
    allowed = _list(values.get("allow"))
    found = traps(
        request,
        model=model if isinstance(model, str) else None,
        api_version=version,
        batch=IN_BATCHES.get(str(values.get("mode", "live"))),
    )
    for trap in found:
        # Of schemas, and of sampling in this version, others tell.
        elsewhere = trap.rule == "schema" or (version == CURRENT_API_VERSION and trap.path[0] in SAMPLING)
        if trap.rule not in allowed and not elsewhere:
            yield trap


def _problem(document: Document, trap: Trap, before: KeyPath) -> Problem:
    name = ".".join(str(part) for part in before)
    return Problem(place=document.value_place((*before, *trap.path)), sentence=f"{name}.{trap.place}: {trap.told}")


def _over(request: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Key by key, maps in them too."""
    merged = dict(request)
    for name, value in own.items():
        before = merged.get(name)
        merged[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
