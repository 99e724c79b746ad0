"""What a file of results says of itself, in a small file beside it: of which run it is, what was asked, what it cost.

Written from the same rows in the same pass, so that it speaks of exactly these; the same results give the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import msgspec

from runner.domain.result import ExportedRow
from runner.domain.run import Run
from runner.files.output_lines import usd_number
from runner.files.sink import STDOUT
from runner.files.sinks.targets import PART, Targets
from runner.files.sources.remote import is_address

ENDING = ".meta.json"
SCHEMA = 1
_PART = re.compile(r"[-_.]*\{n\}[-_.]*")


def meta_path(path: str) -> str | None:
    """`out.csv.meta.json` for `out.csv`, and for parts one file whose name begins with `_`, which readers of whole
    folders pass over. None where nothing can stand beside it: stdout, a pipe, a device."""
    if path == STDOUT or (not is_address(path) and Path(path).exists() and not Path(path).is_file()):
        return None
    if PART not in path:
        return f"{path}{ENDING}"
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}_{_PART.sub('', name.partition('.')[0]) or 'parts'}{ENDING}"


class Provenance:
    """Takes every row that is written, and writes what they have in common."""

    def __init__(self, run: Run, form: str) -> None:
        self._run = run
        self._form = form
        self._statuses: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._prices: set[str] = set()
        self._pico = 0
        self._uncosted = 0

    def take(self, exported: ExportedRow) -> None:
        result = exported.result
        self._statuses[result.status] += 1
        if result.model is not None:
            self._models[result.model] += 1
        if result.price_version is not None:
            self._prices.add(result.price_version)
        if result.cost_pico is None:
            self._uncosted += 1
        else:
            self._pico += result.cost_pico

    def write(self, path: str, names: list[str]) -> None:
        with Targets(path, 1) as targets:
            targets.next_file().write(self._text(names))
            targets.complete()

    def _text(self, names: list[str]) -> bytes:
        run, job = self._run, self._run.job
        told = {
            "schema": SCHEMA,
            "run": run.label,
            "job": job.name,
            "key": run.key,
            "simulated": job.simulated,
            "mode": job.mode,
            "round": run.round,
            "identity": run.identity,
            "prompt_sha256": job.prompt_hash(),
            "api_version": job.api_version,
            "params": job.params,
            "tags": job.tags,
            "input": {
                "place": run.input_uri,
                "sha256": run.input_digest,
                "bytes": run.input_bytes,
                "records": run.records,
                "skipped": run.skipped,
            },
            "output": {"form": self._form, "files": [name.rpartition("/")[2] for name in names]},
            "rows": self._statuses.total(),
            "statuses": dict(sorted(self._statuses.items())),
            "models": dict(sorted(self._models.items())),
            "cost_usd": usd_number(self._pico),
            "rows_without_price": self._uncosted,
            "price_versions": sorted(self._prices),
        }
        return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"
