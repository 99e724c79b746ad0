"""A run's rows to where they are to go: streamed by chunk, in input order, all of them or none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from runner.domain.job import RUN_NAME, OutputSpec
from runner.domain.quantity import quantity
from runner.domain.result import ExportedRow
from runner.domain.run import Run
from runner.domain.states import RowStatus
from runner.engine.provenance import Provenance, meta_path
from runner.errors import JobInvalid
from runner.files.environment import filled_in
from runner.files.output_lines import line_writer
from runner.files.rows_of_run import source_idx
from runner.files.sinks.columns import Columns, Literal, found_columns, reads_json
from runner.files.sinks.csv_table import CsvTable, as_json
from runner.files.sinks.formats import format_of_output
from runner.files.sinks.lines import Line, Lines, column_line
from runner.files.sinks.targets import Targets
from runner.files.sinks.writing import Bytes, Table
from runner.files.sources.formats import Format
from runner.store.store import Store

RUNNER_FORM = "runner"


class Exported(Struct, frozen=True, kw_only=True):
    """What was written: how many rows, into which files, what a format could not keep."""

    rows: int
    paths: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def export(
    store: Store, run: Run, path: str | None, *, form: str = RUNNER_FORM, spec: OutputSpec | None = None
) -> Exported:
    """Write every ended row of the run to `path` (`-` is stdout), or to the database of its output. Blocks.

    `form` other than runner's own are lines of other programs and know no columns.
    """
    spec = run.job.output if spec is None else spec
    rows = _Rows(store, run, spec)
    if path is None:
        return _to_database(run, spec, rows)
    path = path.replace(RUN_NAME, run.label)
    format_ = Format.JSONL if form != RUNNER_FORM else format_of_output(path, spec)
    names: list[str] = list(spec.columns)
    notes: list[str] = []
    told = Provenance(run, form)
    if format_ in (Format.JSONL, Format.JSON):
        line = _line(run, spec, form)
        return _written(
            path, spec, rows, lambda file: _AsLines(Lines(file, line, array=format_ is Format.JSON)), told, notes
        )
    columns = _columns(run)
    names = names or found_columns(rows, parse_json=reads_json(run.job, spec))
    table = _table(format_, spec, columns, names, rows, notes)
    return _written(path, spec, rows, lambda file: _AsTable(table(file), columns, names), told, notes)


class _Rows:
    """The rows to be written, as often as they are asked for."""

    def __init__(self, store: Store, run: Run, spec: OutputSpec) -> None:
        self._store, self._run, self._merges = store, run, spec.merge_into_source

    def __iter__(self) -> Iterator[ExportedRow]:
        answered = self._store.exported(self._run)
        return _merged(self._store, answered) if self._merges else answered


def _merged(store: Store, answered: Iterator[ExportedRow]) -> Iterator[ExportedRow]:
    """The rows of the run that the input came from, those that were answered now in their places.

    Both come in the order of that run, so one walk over both is enough.
    """
    first = next(answered, None)
    if first is None:
        return
    source = store.run(_source_label(first))
    news = _succeeded([first], answered)
    new = next(news, None)
    for old in store.exported(source):
        idx = old.result.idx
        while new is not None and new[0] < idx:
            new = next(news, None)
        if new is not None and new[0] == idx:
            result = replace(new[1].result, idx=idx, record=old.result.record, key=old.result.key)
            yield replace(new[1], row=old.row, result=result)
        else:
            yield old


def _succeeded(*parts: Iterable[ExportedRow]) -> Iterator[tuple[int, ExportedRow]]:
    for part in parts:
        for exported in part:
            idx = source_idx(exported.row)
            if idx is not None and exported.result.status is RowStatus.SUCCEEDED:
                yield idx, exported


def _source_label(exported: ExportedRow) -> str:
    label = json.loads(exported.row).get("_run")
    if not isinstance(label, str):
        raise JobInvalid("output.merge_into: the rows of this run do not come from another run.", name="output")
    return label


class _AsLines:
    def __init__(self, lines: Lines) -> None:
        self.write, self.end = lines.write, lines.end


class _AsTable:
    def __init__(self, table: Table, columns: Columns, names: list[str]) -> None:
        self._table, self._columns, self._names = table, columns, names
        self.end = table.end

    def write(self, exported: ExportedRow) -> None:
        self._table.write(self._columns.values(exported, self._names))


_Writer = _AsLines | _AsTable


def _written(
    path: str,
    spec: OutputSpec,
    rows: Iterable[ExportedRow],
    writer: Callable[[Bytes], _Writer],
    told: Provenance,
    notes: list[str],
) -> Exported:
    written = 0
    beside = meta_path(path)
    with Targets(path, spec.part_rows) as targets:
        into = writer(targets.next_file())
        for exported in rows:
            if targets.is_full():
                into.end()
                targets.complete()
                into = writer(targets.next_file())
                targets.is_full()
            into.write(exported)
            told.take(exported)
            written += 1
        into.end()
        targets.complete()
    if beside is not None:
        told.write(beside, targets.paths)
    return Exported(rows=written, paths=targets.paths, notes=notes)


def _line(run: Run, spec: OutputSpec, form: str) -> Line:
    if spec.columns and form == RUNNER_FORM:
        return column_line(_columns(run), spec.columns)
    return line_writer(
        form,
        run=run.label,
        mode=run.job.mode,
        simulated=run.job.simulated,
        parse_json=reads_json(run.job, spec),
        variants=[variant.name for variant in run.job.variants],
        keep=spec.keep,
    )


def _columns(run: Run) -> Columns:
    return Columns(run.label, [variant.name for variant in run.job.variants])


def _table(
    format_: Format,
    spec: OutputSpec,
    columns: Columns,
    names: list[str],
    rows: Iterable[ExportedRow],
    notes: list[str],
) -> Callable[[Bytes], Table]:
    if format_ is not Format.PARQUET:
        delimiter = "\t" if format_ is Format.TSV else ","
        return lambda file: CsvTable(file, names, delimiter=delimiter, raw=spec.raw_csv)
    from runner.files.sinks.parquet_table import Kinds, ParquetTable

    kinds = Kinds(names)
    kinds.learn(columns.values(exported, names) for exported in rows)
    notes += [f"column {name} holds {what}; it is written as text" for name, what in kinds.as_text.items()]
    return lambda file: ParquetTable(file, kinds)


def _to_database(run: Run, spec: OutputSpec, rows: Iterable[ExportedRow]) -> Exported:
    from runner.files.foreign_database import bind_names, write_rows

    if spec.sql is None or spec.database is None:
        raise JobInvalid("there is nowhere to write to.", name="output", hints=("fix: -o FILE",))
    names = bind_names(spec.sql)
    columns = _columns(run)
    left_out = 0
    # What an earlier export wrote stands there; a new round adds what it has answered.
    since_round = 0 if run.exported_us is None else run.round

    def values() -> Iterator[dict[str, Any]]:
        nonlocal left_out
        for exported in rows:
            if exported.result.status is not RowStatus.SUCCEEDED:
                left_out += 1
                continue
            if exported.result.round < since_round:
                continue
            found = zip(names, columns.values(exported, names), strict=True)
            yield {name: _bindable(value) for name, value in found}

    written = write_rows(filled_in(spec.database, os.environ, "output.database"), spec.sql, values())
    gone = quantity(left_out, "row did not succeed and was", "rows did not succeed and were")
    notes = [f"{gone} not written"] if left_out else []
    return Exported(rows=written, paths=["the table of output.sql"], notes=notes)


def _bindable(value: Any) -> Any:
    if isinstance(value, Literal):
        return float(value)
    return as_json(value) if isinstance(value, (list, dict)) else value
