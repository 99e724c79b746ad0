"""The body of a batch create: what is refused at once, and the requests inside with their params still unread.

Params are kept as the bytes that came, so that a body of a hundred thousand requests costs little more than itself.
What is wrong inside of them shows only in the results.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from runner.simulator.problems import Problem, invalid

MAX_REQUESTS = 100_000
MAX_ID_CHARACTERS = 64
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
_PLACE = re.compile(r"\$\.requests\[(\d+)\]")


class Rider(msgspec.Struct, gc=False):
    """One request of a batch."""

    custom_id: Any = None
    params: msgspec.Raw = msgspec.Raw()


class _Envelope(msgspec.Struct):
    requests: list[Rider]


_decoder = msgspec.json.Decoder(_Envelope)


def riders_of(body: bytes) -> list[Rider] | Problem:
    """The requests, or the first thing wrong with the list."""
    riders = _decoded(body)
    if isinstance(riders, Problem):
        return riders
    if not riders:
        return invalid("requests: List should have at least 1 item")
    if len(riders) > MAX_REQUESTS:
        return invalid(f"requests: List should have at most {MAX_REQUESTS} items, not {len(riders)}")
    return _first_problem(riders) or riders


def _decoded(body: bytes) -> list[Rider] | Problem:
    try:
        return _decoder.decode(body).requests
    except msgspec.ValidationError as error:
        return _misshapen(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return invalid("the request body is not valid JSON")


def _misshapen(told: str) -> Problem:
    place = _PLACE.search(told)
    if place:
        return invalid(f"requests.{place[1]}: Input should be an object")
    if "missing required field" in told:
        return invalid("requests: Field required")
    if "$.requests" in told:
        return invalid("requests: Input should be a valid list")
    return invalid("the request body must be a JSON object")


def _first_problem(riders: list[Rider]) -> Problem | None:
    seen: set[str] = set()
    for number, rider in enumerate(riders):
        told = rider.custom_id
        if not isinstance(told, str) or not _ID.match(told):
            return invalid(f"requests.{number}.custom_id: {_id_complaint(told)}")
        if told in seen:
            return invalid(f"requests.{number}.custom_id: '{told}' is used more than once in this batch")
        seen.add(told)
        params = memoryview(rider.params)
        if bytes(params[:4]) in (b"", b"null"):
            return invalid(f"requests.{number}.params: Field required")
        if params[0] != 0x7B:
            return invalid(f"requests.{number}.params: Input should be an object")
    return None


def _id_complaint(told: object) -> str:
    if told is None:
        return "Field required"
    if not isinstance(told, str):
        return "Input should be a valid string"
    if not told:
        return "String should have at least 1 character"
    if len(told) > MAX_ID_CHARACTERS:
        return f"String should have at most {MAX_ID_CHARACTERS} characters"
    return "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
