"""A JSON file to JSON lines: the elements of one array, or values one after the other, in their own bytes.

Only where each value ends is found out here; what it may hold is the strict reader's business, as with JSON lines.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO

from runner.errors import InputInvalid
from runner.files.sources.blocks import MAX_LINE_BYTES, too_long

PIECE_BYTES = 1 << 18
BLANKS = " \t\r\n"
_LINE_BREAKS = {0x0A: " ", 0x0D: " "}
# Keeps every value as it stands: numbers of any length are passed over, not read.
_scan = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str).scan_once  # type: ignore[attr-defined]


def json_values(data: IO[bytes], place: str) -> Iterator[tuple[int, bytes]]:
    """The number of the line on which each value begins, and the value on one line."""
    text = _Text(data, place)
    in_array = text.next_character() == "["
    if in_array:
        text.step()
    first = True
    while (character := text.next_character()) is not None:
        if in_array and character == "]":
            text.step()
            if text.next_character() is not None:
                raise text.problem("something follows the end of the array")
            return
        if in_array and not first:
            if character != ",":
                raise text.problem("expected ',' or ']'")
            text.step()
            text.next_character()
        first = False
        yield text.line, text.value()
    if in_array:
        raise text.problem("the array has no end")


class _Text:
    """A window over the file, moved on value by value."""

    def __init__(self, data: IO[bytes], place: str) -> None:
        self._data = data
        self._place = place
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._window = ""
        self._at = 0
        self._ended = False
        self.line = 1

    def next_character(self) -> str | None:
        """The character after the blanks, not taken; None at the end of the file."""
        while True:
            while self._at < len(self._window):
                character = self._window[self._at]
                if character not in BLANKS:
                    return character
                self.line += character == "\n"
                self._at += 1
            if not self._more():
                return None

    def step(self) -> None:
        self._at += 1

    def value(self) -> bytes:
        """The value that begins here, on one line."""
        while True:
            end = self._end_of_value()
            # A number may go on behind the window.
            if end is not None and (end < len(self._window) or not self._more()):
                break
            if end is None:
                if len(self._window) - self._at > MAX_LINE_BYTES:
                    raise too_long(self._place, f"line {self.line}")
                if not self._more(double=True):
                    raise self._what_is_wrong()
        text = self._window[self._at : end]
        self.line += text.count("\n")
        self._at = end
        return text.translate(_LINE_BREAKS).encode()

    def problem(self, what: str) -> InputInvalid:
        return InputInvalid(f"{self._place} line {self.line} is not JSON: {what}.", name="bad-row")

    def _end_of_value(self) -> int | None:
        try:
            return int(_scan(self._window, self._at)[1])
        except (StopIteration, ValueError):
            return None
        except RecursionError:
            raise self.problem("it is nested too deeply") from None

    def _what_is_wrong(self) -> InputInvalid:
        try:
            json.JSONDecoder().raw_decode(self._window, self._at)
        except json.JSONDecodeError as found:
            self.line += self._window.count("\n", self._at, found.pos)
            column = found.pos - self._window.rfind("\n", 0, found.pos)
            return self.problem(f"{found.msg[:1].lower()}{found.msg[1:]} at column {column}")
        except ValueError:
            pass
        return self.problem("a value has no end")

    def _more(self, *, double: bool = False) -> bool:
        """Read on; with `double` as much again as is there, so that a long value is not looked through too often."""
        if self._ended:
            return False
        rest = self._window[self._at :]
        data = self._data.read(max(PIECE_BYTES, len(rest) if double else 0))
        self._ended = not data
        try:
            self._window = rest + self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as found:
            byte = found.object[found.start]
            raise InputInvalid(f"{self._place} is not UTF-8: byte 0x{byte:02x} behind line {self.line}.") from None
        self._at = 0
        return not self._ended or bool(self._window[len(rest) :])
