"""A row that cannot become a request: what is wrong, and where.

A bad row is not the end of a command: the check gathers them, and `--on-bad-row skip` goes on without them.
"""

from __future__ import annotations

from msgspec import Struct

from runner.domain.trap import anyway

EXCERPT_BYTES = 160


class BadRow(Exception):
    """What is wrong with one row, as the rest of a sentence that begins with "line 17".

    `column` counts characters from 1. `missing` is the column that a template asked for in vain, which makes the
    template a suspect and not only the row; `columns` are those that the row has.
    """

    def __init__(
        self,
        reason: str,
        column: int | None = None,
        *,
        missing: str | None = None,
        columns: tuple[str, ...] = (),
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.column = column
        self.missing = missing
        self.columns = columns


class BatchRefuses(BadRow):
    """A row that may be asked live and not in a batch, because of the request field `field`."""

    def __init__(self, field: str) -> None:
        what, fix = ('a "max_tokens" of 0', "ask for 1") if field == "max_tokens" else (f'"{field}"', "remove it")
        super().__init__(f"has {what}, which a batch refuses: {fix}, or say mode: live ({anyway('batch')})")
        self.field = field


class BadLine(Struct, frozen=True, kw_only=True):
    """A bad row with its place in the input and the beginning of its bytes, for a person to look at.

    `line` counts over the whole input; `where` says which line or row of which file that is.
    """

    line: int
    where: str
    reason: str
    column: int | None
    excerpt: str
    missing: str | None = None
    columns: tuple[str, ...] = ()

    @staticmethod
    def of(line: int, where: str, payload: bytes, bad: BadRow) -> BadLine:
        return BadLine(
            line=line,
            where=where,
            reason=bad.reason,
            column=bad.column,
            excerpt=excerpt(payload),
            missing=bad.missing,
            columns=bad.columns,
        )

    def sentence(self) -> str:
        """`data/in.jsonl line 17 is not JSON: expected ',' at column 30.`"""
        at = "" if self.column is None else f" at column {self.column}"
        return f"{self.where} {self.reason}{at}."


# JSON cannot begin with it.
_REFUSED = b"\x00"


def refused_line(reason: str, shown: str) -> bytes:
    """What stands for a record of another format that cannot be made into a JSON object; it is read as a BadRow."""
    shown = shown.replace("\n", " ")[: EXCERPT_BYTES + 1]
    return _REFUSED + reason.encode("utf-8", "replace") + _REFUSED + shown.encode("utf-8", "replace")


def reason_of_refused(line: bytes) -> str | None:
    """Why a reader refused this record, None where it did not."""
    if not line.startswith(_REFUSED):
        return None
    return line[1:].split(_REFUSED, 1)[0].decode("utf-8", "replace")


def excerpt(payload: bytes) -> str:
    """The beginning of a line as text. It is still somebody's data: whoever prints it makes it safe."""
    if payload.startswith(_REFUSED):
        payload = payload.rsplit(_REFUSED, 1)[1]
    shown = payload[:EXCERPT_BYTES].decode("utf-8", "replace")
    return shown + "..." if len(payload) > EXCERPT_BYTES else shown
