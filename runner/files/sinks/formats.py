"""In which format an output is written, by its name or the job's word."""

from __future__ import annotations

from runner.domain.job import OutputSpec
from runner.errors import JobInvalid
from runner.files.sources.formats import ENDINGS, PACKED, UNREADABLE, Format


def format_of_output(path: str, spec: OutputSpec) -> Format:
    """JSON lines where nothing is said. Raises JobInvalid for formats that are not written."""
    if spec.format is not None:
        return Format(spec.format)
    plain = path.partition("?")[0].lower()
    for ending in PACKED:
        plain = plain.removesuffix(ending)
    if plain.endswith(UNREADABLE):
        raise JobInvalid(
            f"{path} has a format that is not written here.",
            name="output",
            hints=("written are jsonl, json, csv, tsv and parquet, also as .gz or .zst",),
        )
    return next((format_ for ending, format_ in ENDINGS.items() if plain.endswith(ending)), Format.JSONL)
