"""A job's parameters: declared in the file, plain or with a type, and changed by `-p name=value`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from msgspec import Struct

from runner.domain.nearest import did_you_mean
from runner.files.job_yaml import Document, Problem

TYPES = ("text", "int", "float", "bool", "date", "list")
KEYS = ("type", "default", "choices")
DAYS = {"today": 0, "yesterday": -1, "tomorrow": 1}


class Declared(Struct, frozen=True, kw_only=True):
    """What the file says of a parameter. `given` is false where it has no default and must come from -p."""

    type: str
    value: Any
    given: bool
    choices: tuple[Any, ...] = ()


def resolved_params(
    document: Document, told: Mapping[str, Any], given: Mapping[str, Any], used: list[str], today: date
) -> tuple[dict[str, Any], list[Problem]]:
    """The values of all parameters, and what is wrong with them. `used` are texts that may name further ones."""
    problems: list[Problem] = []
    declared = {name: found for name in told if (found := _declared(document, name, told[name], problems))}
    values = {}
    for name, one in declared.items():
        if name not in given and one.given:
            place = document.value_place(("params", name))
            values[name] = _converted(one, one.value, today, f"params.{name}", place, problems)
    for name, value in given.items():
        if name not in told and not any(re.search(rf"\b{re.escape(name)}\b", text) for text in used):
            near = did_you_mean(name, told)
            problems.append(Problem(place=None, sentence=f"-p {name}: the job uses no such parameter{near}"))
        known = declared.get(name)
        values[name] = _converted(known, value, today, f"-p {name}", None, problems) if known else value
    return values, problems


def _declared(document: Document, name: str, value: Any, problems: list[Problem]) -> Declared | None:
    if not isinstance(value, dict):
        return Declared(type=_type_of(value), value=value, given=True)
    unknown = [key for key in value if key not in KEYS]
    if unknown:
        where = document.key_place(("params", name, unknown[0]))
        sentence = f"unknown key {unknown[0]} in params.{name}{did_you_mean(unknown[0], KEYS)}"
        problems.append(Problem(place=where, sentence=sentence))
        return None
    kind = value.get("type", _type_of(value.get("default")))
    if kind not in TYPES:
        sentence = f"params.{name}.type must be {' or '.join(TYPES)}, not {kind}{did_you_mean(str(kind), TYPES)}"
        problems.append(Problem(place=document.value_place(("params", name, "type")), sentence=sentence))
        return None
    choices = value.get("choices", [])
    if not isinstance(choices, list):
        problems.append(
            Problem(
                place=document.value_place(("params", name, "choices")),
                sentence=f"params.{name}.choices must be a list",
            )
        )
        return None
    return Declared(type=kind, value=value.get("default"), given="default" in value, choices=tuple(choices))


def _type_of(value: Any) -> str:
    kinds: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "bool"),
        (int, "int"),
        (float, "float"),
        (list, "list"),
    ]
    return next((name for kind, name in kinds if isinstance(value, kind)), "text")


def _converted(one: Declared, value: Any, today: date, where: str, place: Any, problems: list[Problem]) -> Any:
    try:
        found = _of_type(one.type, value, today)
    except ValueError:
        shown = f"{where}={value}" if place is None else f"{where} is {value}"
        problems.append(Problem(place=place, sentence=f"{shown}: the job has {_WORDS[one.type]} there"))
        return value
    if one.choices and found not in one.choices:
        near = did_you_mean(str(found), [str(choice) for choice in one.choices])
        choices = ", ".join(str(choice) for choice in one.choices)
        problems.append(Problem(place=place, sentence=f"{where} must be one of {choices}, not {found}{near}"))
    return found


_WORDS = {
    "text": "text",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "date": "a date such as 2026-11-20, today or yesterday",
    "list": "a list",
}


def _of_type(kind: str, value: Any, today: date) -> Any:
    if kind == "date":
        if value in DAYS:
            return (today + timedelta(days=DAYS[value])).isoformat()
        return date.fromisoformat(str(value)).isoformat()
    if kind == "list":
        return value.split(",") if isinstance(value, str) else _only(value, list)
    if not isinstance(value, str):
        return _only(value, {"int": int, "float": (int, float), "bool": bool}.get(kind, (str, int, float, bool)))
    if kind == "bool":
        return {"true": True, "false": False}[value.lower()] if value.lower() in ("true", "false") else _refuse()
    return {"int": int, "float": float}.get(kind, str)(value)


def _only(value: Any, kinds: Any) -> Any:
    if value is not None and not isinstance(value, kinds):
        _refuse()
    return value


def _refuse() -> Any:
    raise ValueError
