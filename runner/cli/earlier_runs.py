"""What a job takes from earlier runs: rows that ended in some way, and which keys have been answered."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from runner.domain.job import InputSpec, Job
from runner.domain.run import Run
from runner.domain.states import FINISHED_RUN, RowStatus
from runner.errors import InputInvalid
from runner.files.input_door import Answered, RowsOfRun
from runner.files.rows_of_run import record_of
from runner.store.store import Store

# How far back a job's latest run is looked for.
RECENT_RUNS = 10_000


def rows_of(store: Store) -> RowsOfRun:
    def rows(spec: InputSpec) -> Iterable[bytes]:
        run = source_run(store, spec)
        wanted = {RowStatus(status) for status in spec.statuses} or set(RowStatus) - {RowStatus.SUCCEEDED}
        return _records(store, run, wanted)

    return rows


def _records(store: Store, run: Run, wanted: set[RowStatus]) -> Iterator[bytes]:
    for exported in store.exported(run):
        if exported.result.status in wanted:
            yield record_of(exported, run.label)


def source_run(store: Store, spec: InputSpec) -> Run:
    """The run that `input.run` names: by its label, or the latest that has ended of a job's name."""
    named = spec.run or ""
    ended = [run for run in store.recent_runs(RECENT_RUNS) if run.state in FINISHED_RUN]
    found = next((run for run in ended if named in (run.label, run.job.name)), None)
    if found is None:
        raise InputInvalid(
            f"input.run: no run of {named} has ended.",
            name="no-run",
            hints=("runner status   lists the runs and their jobs",),
        )
    return found


def answered_in(store: Store, job: Job) -> Answered:
    """Which of some keys an earlier run of the job has answered. Eight bytes a row that was."""
    hashes: array[int] | None = None

    def answered(keys: list[str]) -> set[str]:
        nonlocal hashes
        if hashes is None:
            hashes = _hashes(store, job.name)
        return {key for key in keys if _holds(hashes, hash(key))}

    return answered


def _hashes(store: Store, name: str) -> array[int]:
    found = array("q")
    for run in store.recent_runs(RECENT_RUNS):
        if run.job.name == name:
            found.extend(hash(key) for key in store.answered_keys(run))
    return array("q", sorted(found))


def _holds(hashes: array[int], wanted: int) -> bool:
    at = bisect_left(hashes, wanted)
    return at < len(hashes) and hashes[at] == wanted
