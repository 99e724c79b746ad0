"""The whole input before the first send: bad rows, double keys, the digest. Memory does not grow with rows."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left
from collections.abc import Iterator

from msgspec import Struct, field
from msgspec.structs import replace

from runner.domain.job import InputSpec, OnBadRow
from runner.domain.sampling import Drawn, Reservoir
from runner.errors import InputInvalid, JobInvalid, MissingColumn, NothingToDo
from runner.files.bad_row import BadLine, BadRow
from runner.files.double_keys import KeyLedger
from runner.files.render import Renderer
from runner.files.source import Block, Input, records
from runner.files.template import NO_COLUMN

SHOWN_BAD_ROWS = 20
SHOWN_COLUMNS = 12
# Reading 4 GB takes about 20 s; larger inputs are checked as they are staged.
CHECK_FIRST_BYTES = 4_000_000_000


class InputReport(Struct, kw_only=True):
    """What a check found. `records` counts good rows; `size` is in decompressed bytes, `digest` is of exactly those.

    `bad_rows` are the first of them in the order of the file, `bad_lines` the numbers of all. `drawn` are as many
    good records as were asked for, any as likely as any other; the first of them are a smaller sample.
    """

    records: int = 0
    size: int = 0
    digest: str = ""
    bad_rows: list[BadLine] = field(default_factory=list)
    bad_count: int = 0
    bad_lines: array[int] = field(default_factory=lambda: array("Q"))
    has_keys: bool = False
    dropped_fields: tuple[str, ...] = ()
    drawn: list[Drawn] = field(default_factory=list)

    def add_bad(self, number: int, source: Input, payload: bytes, bad: BadRow) -> None:
        self.bad_count += 1
        self.bad_lines.append(number)
        if len(self.bad_rows) < SHOWN_BAD_ROWS:
            self.bad_rows.append(BadLine.of(number, source.where(number), payload, bad))


def can_check_first(source: Input, check_first_bytes: float = CHECK_FIRST_BYTES) -> bool:
    """Is the input one that can be read whole before the first send, and again after?"""
    return source.checkable and (source.size or 0) <= check_first_bytes


def accepted_input(source: Input, renderer: Renderer, spec: InputSpec, *, draw: int = 0) -> InputReport:
    """The report of an input of which a run may begin. Raises InputInvalid or JobInvalid where none may, NothingToDo
    where no row was chosen."""
    report = check_input(source, renderer, on_bad_row=spec.on_bad_row, limit=spec.limit, draw=draw)
    if spec.on_bad_row is OnBadRow.FAIL:
        refuse_bad_rows(report)
    if report.records == 0 and source.may_be_empty:
        raise NothingToDo(f"nothing to do: none of the rows of {source.place} is asked for.")
    if report.records == 0:
        raise InputInvalid(f"{source.place} holds no rows.", name="empty-input")
    return report


def check_input(
    source: Input,
    renderer: Renderer,
    *,
    on_bad_row: OnBadRow = OnBadRow.FAIL,
    limit: int | None = None,
    draw: int = 0,
) -> InputReport:
    """Reads the input whole (or up to `limit` good rows), says what is wrong with it, and draws `draw` records.

    Bad rows are in the report, and `refuse_bad_rows` makes an error of them; InputInvalid is raised for what makes
    the input as a whole unreadable.
    """
    # The same dice each time: of the same input the same records are drawn.
    report, reservoir = InputReport(), Reservoir(draw, random.Random(draw).random)
    with KeyLedger() as keys:
        for block in source.blocks():
            _check_block(block, source, renderer, keys, report, reservoir, limit)
            report.size, report.digest = block.end_offset, block.digest
            keys.spill_if_large()
            if report.records == limit:
                break
        report.has_keys = keys.count > 0
        doubles = keys.doubles()
    report.drawn = reservoir.drawn()
    # Where a run will not start anyway, a second pass only to show more than enough is not worth its time.
    if doubles and (on_bad_row is OnBadRow.SKIP or report.bad_count < SHOWN_BAD_ROWS):
        _name_doubles(source, renderer, doubles, report)
    report.dropped_fields = tuple(sorted(renderer.dropped_fields))
    return report


def _check_block(
    block: Block,
    source: Input,
    renderer: Renderer,
    keys: KeyLedger,
    report: InputReport,
    reservoir: Reservoir,
    limit: int | None,
) -> None:
    parse, check, key_of, add = renderer.parse, renderer.check, renderer.key, keys.add
    good = report.records
    for number, payload in records(block):
        if good == limit:
            break
        try:
            row = parse(payload)
            check(row, len(payload))
            key = key_of(row)
        except BadRow as bad:
            report.add_bad(number, source, payload, bad)
            continue
        if good == reservoir.next:
            reservoir.take(Drawn(number=good, line=number, payload=payload))
        good += 1
        if key is not None:
            add(key)
    report.records = good


def _name_doubles(source: Input, renderer: Renderer, doubles: frozenset[int], report: InputReport) -> None:
    """A second pass over the rows that the first took for good: which lines share which key."""
    first_line: dict[str, int] = {}
    found = InputReport()
    left = report.records
    for number, payload in _good_records(source, report.bad_lines):
        if not left:
            break
        left -= 1
        key = renderer.key(renderer.parse(payload))
        if key is None or hash(key) not in doubles:
            continue
        before = first_line.setdefault(key, number)
        if before != number:
            found.add_bad(number, source, payload, BadRow(f'has the key "{_short(key)}" of line {before} again'))
    _merge(report, found)


def _good_records(source: Input, bad_lines: array[int]) -> Iterator[tuple[int, bytes]]:
    bad = iter(bad_lines)
    next_bad = next(bad, None)
    for block in source.blocks():
        for number, payload in records(block):
            if number == next_bad:
                next_bad = next(bad, None)
            else:
                yield number, payload


def _merge(report: InputReport, found: InputReport) -> None:
    report.records -= found.bad_count
    report.bad_count += found.bad_count
    report.bad_lines = array("Q", sorted([*report.bad_lines, *found.bad_lines]))
    report.bad_rows = sorted([*report.bad_rows, *found.bad_rows], key=lambda bad: bad.line)[:SHOWN_BAD_ROWS]
    report.drawn = _without(found.bad_lines, report.drawn)


def _without(lines: array[int], drawn: list[Drawn]) -> list[Drawn]:
    """The drawn records that do not stand on these ascending lines, numbered as they are without them."""
    gone = set(lines)
    return [
        replace(record, number=record.number - bisect_left(lines, record.line))
        for record in drawn
        if record.line not in gone
    ]


def _short(key: str) -> str:
    return key if len(key) <= 60 else key[:60] + "..."


def refuse_bad_rows(report: InputReport) -> None:
    """Raises what a person reads when the input holds bad rows and they may not be skipped."""
    if not report.bad_rows:
        return
    raise bad_rows_error(report.bad_rows, report.bad_count, records=report.records)


def bad_rows_error(bad_rows: list[BadLine], bad_count: int, *, records: int) -> InputInvalid | JobInvalid:
    """The error of these bad rows; where no row has a column, the job is at fault and not the rows."""
    first = bad_rows[0]
    if records == 0 and first.missing is not None and all(bad.missing == first.missing for bad in bad_rows):
        return _missing_column(first, first.missing)
    shown = [f"{first.line} | {first.excerpt}"]
    alike = records == 0 and len({bad.reason for bad in bad_rows}) == 1
    told = bad_rows[:1] if alike else bad_rows
    shown += [bad.sentence() for bad in told[1:]]
    if bad_count > len(told):
        shown.append("... and all others alike" if alike else f"... and {bad_count - len(told):,} more bad rows")
    fix = "fix the rows, or leave them out: --on-bad-row skip"
    if records == 0:
        fix = "no row can be asked: it is the job, or the input as a whole, that needs mending"
    hints = (*shown, f"nothing was sent.   {fix}")
    return InputInvalid(first.sentence(), name="bad-row", hints=hints)


def _missing_column(first: BadLine, column: str) -> MissingColumn:
    """No row has it, so the job is at fault and not the rows."""
    names = ", ".join(first.columns[:SHOWN_COLUMNS])
    more = f", ... ({len(first.columns)})" if len(first.columns) > SHOWN_COLUMNS else ""
    sentence = f"{first.reason.replace(NO_COLUMN, 'no row has a column', 1)}."
    return MissingColumn(sentence, column=column, hints=(f"columns: {names}{more}", "nothing was sent."))


def first_difference(
    source: Input, staged: Iterator[bytes], *, bad_lines: array[int] | None = None, whole: bool = True
) -> int | None:
    """The first line at which the input is not what was staged, None where they agree.

    `bad_lines` are lines of the present input that would be skipped. With `whole` an input that goes on after the
    last staged record differs there; without, staging had not come to the end. An input that has become shorter
    differs at the line after its last.
    """
    last = 0
    for number, payload in _good_records(source, bad_lines or array("Q")):
        before = next(staged, None)
        if before is None:
            return number if whole else None
        if before != payload:
            return number
        last = number
    return None if next(staged, None) is None else last + 1
