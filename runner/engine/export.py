"""A run's rows to a file: streamed by chunk, in input order, the whole file or none of it."""

from __future__ import annotations

from runner.domain.run import Run
from runner.files.output_lines import line_writer
from runner.files.sink import AtomicFile
from runner.store.store import Store


def export(store: Store, run: Run, path: str, *, form: str = "runner") -> int:
    """Write every ended row of the run to `path` (`-` is stdout); how many there were. Blocks."""
    config = run.job.request.get("output_config")
    write_line = line_writer(
        form,
        run=run.label,
        mode=run.job.mode,
        simulated=run.job.simulated,
        parse_json=isinstance(config, dict) and "format" in config,
    )
    rows = 0
    with AtomicFile(path) as file:
        for row in store.exported(run):
            file.write(write_line(row))
            rows += 1
    return rows
