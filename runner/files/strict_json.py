"""One line to one object, refusing what JSON does not mean.

The standard library's parser with hooks, because it is the one that can be told about double keys, NaN and numbers
that do not fit; what it lets through is exactly what can be sent on. NUL and integers above 2^53 pass unchanged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn, cast

from runner.files.bad_row import BadRow, reason_of_refused

# Python itself stops at 4,300 digits, with a message about interpreter settings.
MAX_INTEGER_DIGITS = 4_000

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,:\[\]{}"]+')
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_KINDS: dict[type, str] = {
    list: "a JSON array",
    str: "a JSON string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


class _Refused(ValueError):
    """What a hook found. The parser does not tell hooks where they are; `literal` is looked up afterwards."""

    def __init__(self, reason: str, literal: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.literal = literal


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) != len(pairs):
        raise _Refused(f"has the key {json.dumps(_first_double(pairs), ensure_ascii=False)} twice in one object")
    return told


def _first_double(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    return next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise _Refused(f"holds an integer of more than {MAX_INTEGER_DIGITS:,} digits", digits)
    return int(digits)


def _float(literal: str) -> float:
    number = float(literal)
    if math.isinf(number):
        shown = literal if len(literal) <= 40 else literal[:40] + "..."
        raise _Refused(f"holds the number {shown}, which is too large", literal)
    return number


def refuse_constant(literal: str) -> NoReturn:
    """NaN and the infinities, which Python reads and JSON does not have."""
    raise _Refused(f"holds {literal}, which is not JSON", literal)


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=refuse_constant
)
# Past `decode`, which looks for blanks with two regular expressions a line.
_scan = cast("Callable[[str, int], tuple[Any, int]]", vars(_decoder)["scan_once"])


def parse_object(line: bytes) -> dict[str, Any]:
    """The object of one line, or BadRow."""
    try:
        text = line.decode()
        value, end = _scan(text, 0)
        # Blanks around the object, and everything that is wrong, take the slow road.
        if end != len(text) or type(value) is not dict:
            value = _whole_object(text)
    except (StopIteration, ValueError, RecursionError) as problem:
        return _second_look(line, problem)
    if b"\\" in line and _SURROGATE_ESCAPE.search(line):
        _refuse_lone_surrogates(value)
    return value  # type: ignore[no-any-return]


def _whole_object(text: str) -> dict[str, Any]:
    value = _decoder.decode(text)
    if type(value) is not dict:
        raise _Refused(f"is {_KINDS[type(value)]}; each line must be one JSON object")
    return value


def _second_look(line: bytes, problem: Exception) -> dict[str, Any]:
    """The scanner without the decoder around it trips over leading blanks; then say what is wrong."""
    if (reason := reason_of_refused(line)) is not None:
        raise BadRow(reason) from None
    if isinstance(problem, UnicodeDecodeError):
        raise BadRow(f"is not UTF-8: byte 0x{line[problem.start]:02x} at byte {problem.start + 1}") from None
    text = line.decode()
    try:
        value = _whole_object(text)
    except _Refused as refused:
        raise BadRow(refused.reason, _column_of(text, refused.literal)) from None
    except json.JSONDecodeError as error:
        raise BadRow(f"is not JSON: {_plain(error)}", error.pos + 1) from None
    except RecursionError:
        raise BadRow("is nested too deeply") from None
    _refuse_lone_surrogates(value)
    return value


def _plain(error: json.JSONDecodeError) -> str:
    """The parser's words in ours: `Expecting ',' delimiter` reads `expected ','`."""
    words = error.msg.removesuffix(" delimiter").removesuffix(" starting at").removesuffix(" at")
    words = words.replace("Expecting", "expected")
    return words[:1].lower() + words[1:]


def _column_of(text: str, literal: str | None) -> int | None:
    if literal is None:
        return None
    return next((found.start() + 1 for found in _TOKEN.finditer(text) if found[0] == literal), None)


def _refuse_lone_surrogates(value: dict[str, Any]) -> None:
    """Half of a surrogate pair is no character: it could be neither sent nor stored."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise BadRow(f"holds half a character: the lone surrogate \\u{ord(half):04x}") from None
