"""`multipart/form-data` from bytes to parts. It knows no endpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^;\s]+))', re.IGNORECASE)
_ATTRIBUTE = re.compile(r'(\w+\*?)=(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))')


class Part(NamedTuple):
    """`filename` is None for a plain field."""

    name: str
    filename: str | None
    content_type: str
    body: bytes


def parts_of(headers: Mapping[str, str], body: bytes) -> list[Part] | None:
    """The parts in their order; None where the body is no form."""
    found = _BOUNDARY.search(headers.get("content-type", ""))
    if found is None or "multipart/form-data" not in headers.get("content-type", ""):
        return None
    mark = b"--" + (found[1] or found[2]).encode("latin-1")
    pieces = body.split(mark)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        return None
    parts = [_part(piece) for piece in pieces[1:-1]]
    return None if None in parts else [part for part in parts if part is not None]


def _part(piece: bytes) -> Part | None:
    head, separator, body = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    if not separator:
        return None
    fields = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    told = {name: _value(quoted, plain) for name, quoted, plain in
            _ATTRIBUTE.findall(fields.get("content-disposition", ""))}  # fmt: skip
    if "filename*" in told:
        told["filename"] = unquote(told["filename*"].rpartition("'")[2])
    if "name" not in told:
        return None
    kind = fields.get("content-type", "text/plain")
    return Part(told["name"], told.get("filename"), kind, body.removesuffix(b"\r\n"))


def _value(quoted: str, plain: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
