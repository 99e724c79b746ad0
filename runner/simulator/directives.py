"""Wishes that a test writes into its prompt, such as `[[sim:refusal]]`, and that the answer then follows.

A prompt without one costs a substring search. What each wish leads to is said where answers are made.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.simulator.problems import EDGE, TYPE_OF_STATUS, Problem, invalid

MARK = "[[sim:"
_DIRECTIVE = re.compile(r"\[\[sim:([a-z_]+)(?:=([^\]]*))?\]\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """All directives of one prompt, by name; an empty text where none was given after `=`."""

    said: Mapping[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.said

    def number(self, name: str) -> int | None:
        value = self.said.get(name, "")
        return int(value) if _is_number(value) else None

    @property
    def error(self) -> Problem | None:
        """`error=STATUS:TYPE[:CODE]`; the type `edge` is a page of a proxy before the service, as is `error=413`."""
        told = self.said.get("error")
        return None if told is None else _problem(told.split(":"))

    @property
    def flaky(self) -> tuple[int, Problem] | None:
        """`flaky=N:STATUS:TYPE[:CODE]`: how many calls fail, and how."""
        told = self.said.get("flaky")
        if told is None:
            return None
        times, *rest = told.split(":")
        return (int(times), _problem(rest)) if _is_number(times) else (0, _problem(rest))


NO_WISHES = Wishes(said={})


def wishes_of(params: Mapping[str, Any]) -> Wishes:
    """The directives in the text of all user messages."""
    found: dict[str, str] = {}
    for text in user_texts(params):
        if MARK in text:
            found.update((match[1], match[2] or "") for match in _DIRECTIVE.finditer(text))
    return Wishes(said=found) if found else NO_WISHES


def body_key(body: bytes) -> bytes:
    """By this `flaky` knows a body again."""
    return hashlib.sha256(body).digest()


def wished_trouble(wishes: Wishes, body: bytes, flaky: Counter[bytes]) -> Problem | None:
    """The error that the prompt asks for; `flaky` counts how often each body has come."""
    if wishes.flaky is not None:
        times, problem = wishes.flaky
        key = body_key(body)
        flaky[key] += 1
        if flaky[key] <= times:
            return problem
    return wishes.error


def without_directives(text: str) -> str:
    """The prompt as a person would read it."""
    return _DIRECTIVE.sub("", text).strip() if MARK in text else text


def user_texts(params: Mapping[str, Any]) -> list[str]:
    """Every text of the user's messages, in order."""
    texts: list[str] = []
    for message in params["messages"]:
        if message.get("role") != "user":
            continue
        content = message["content"]
        if isinstance(content, str):
            texts.append(content)
        else:
            texts.extend(block["text"] for block in content if block.get("type") == "text")
    return texts


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _problem(parts: list[str]) -> Problem:
    if not parts or not _is_number(parts[0]):
        return invalid("unreadable directive: a status must follow")
    status = int(parts[0])
    default = EDGE if status == 413 else TYPE_OF_STATUS.get(status, "api_error")
    kind = parts[1] if len(parts) > 1 else default
    code = parts[2] if len(parts) > 2 else None
    wait = (("retry-after", "1"),) if status == 429 and code is None else ()
    return Problem(status=status, type=kind, message="as the prompt asked", code=code, headers=wait)
