"""A job as the text of a job file, for people to go on with."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from runner.domain.job import Job, Limits, Mode
from runner.domain.pricing import PICO_PER_USD

SCHEMA_LINE = "# yaml-language-server: $schema=.runner/job.schema.json\n"


def job_text(job: Job, input_path: str, output_path: str | None) -> str:
    """The file; paths as they are to stand in it. Only what says something is in it."""
    told: dict[str, Any] = {"version": 1, "name": job.name}
    of_input = {name: getattr(job.input, name) for name in ("format", "delimiter", "encoding", "id", "limit")}
    told["input"] = _only({"path": input_path, **of_input})
    told |= _only({"model": job.model, "mode": None if job.mode is Mode.LIVE else str(job.mode)})
    told |= _only({"params": dict(job.params), "system": _text(job.system), "prompt": _text(job.prompt)})
    told |= _only({"request": dict(job.request), "output": _only({"path": output_path})})
    told |= _only({"limits": _pace(job.limits), "budget": _only({"usd": _usd(job.budget_pico)})})
    return SCHEMA_LINE + yaml_text(told)


def yaml_text(value: Any) -> str:
    """Block style, in the order of the keys."""
    yaml = YAML()
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(value, out)
    return out.getvalue()


def _pace(limits: Limits) -> dict[str, Any]:
    names = ("concurrency", "rpm", "itpm", "otpm")
    return {name: getattr(limits, name) for name in names if getattr(limits, name) != getattr(Limits(), name)}


def _usd(pico: int | None) -> int | float | None:
    if pico is None:
        return None
    return pico // PICO_PER_USD if pico % PICO_PER_USD == 0 else pico / PICO_PER_USD


def _only(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value not in (None, {}, [])}


def _text(text: str | None) -> str | None:
    """More than one line stands as a block, as people write it."""
    return LiteralScalarString(text) if text is not None and "\n" in text else text
