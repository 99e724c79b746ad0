"""A short text that matches a regular expression: its simplest branch, each repeat as often as it must be.

Look-around and back-references are beyond it; structured outputs do not accept them either.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

# The library's own parser is the only one that agrees with its matcher; it has no public name.
_parser: Any = importlib.import_module("re._parser")

_PREFERRED = "aA0_- .@/#+:x1b"  # tried in this order where a class of characters or its complement is asked for
_CATEGORIES = {"CATEGORY_DIGIT": "0", "CATEGORY_WORD": "a", "CATEGORY_SPACE": " "}


def text_matching(pattern: str) -> str:
    """One text that `re.search` finds the pattern in; empty where none could be made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _sequence(_parser.parse(pattern))


def _sequence(items: Any) -> str:
    return "".join(_item(str(code), value) for code, value in items)


def _item(code: str, value: Any) -> str:
    if code == "LITERAL":
        return chr(value)
    if code in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, inner = value
        times: int = max(least, min(1, most))
        return _sequence(inner) * times
    if code == "SUBPATTERN":
        return _sequence(value[-1])
    if code == "BRANCH":
        return _sequence(value[1][0])
    if code == "IN":
        return _member(value)
    if code == "NOT_LITERAL":
        return "b" if value == ord("a") else "a"
    return "a" if code == "ANY" else ""


def _member(options: Any) -> str:
    """A character of the class."""
    first = str(options[0][0])
    if first == "NEGATE":
        return next((char for char in _PREFERRED if not _within(options[1:], char)), "~")
    code, value = options[0]
    if str(code) == "RANGE":
        return chr(value[0])
    return chr(value) if str(code) == "LITERAL" else _CATEGORIES.get(str(value), "-")


def _within(options: Any, char: str) -> bool:
    for code, value in options:
        if str(code) == "LITERAL" and chr(value) == char:
            return True
        if str(code) == "RANGE" and value[0] <= ord(char) <= value[1]:
            return True
        if str(code) == "CATEGORY" and _of_category(str(value), char):
            return True
    return False


def _of_category(name: str, char: str) -> bool:
    holds = {
        "DIGIT": char.isdigit(),
        "WORD": char.isalnum() or char == "_",
        "SPACE": char.isspace(),
    }[name.rpartition("_")[2]]
    return holds != ("_NOT_" in name)
