"""The results of an ended batch: downloaded whole, compared with who rode, read line by line into the store.

Nothing is believed of a file that its lines do not prove: a download may be cut, lines may be missing, strange,
double or in contradiction. Lines are settled some hundred a transaction; what is not settled goes again with the
last transaction, and only then.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import anyio

from runner.api.wire import outcome_of_result_line
from runner.domain.batch import Retention, retention
from runner.domain.outcome import Failure, FailureKind
from runner.domain.states import PauseReason, RowStatus
from runner.engine.batch.calls import is_missing
from runner.engine.batch.common import Common
from runner.engine.batch.lines import Lines, Part, Settled, parts
from runner.engine.batch.sorting import Sorted, sort_lines
from runner.errors import StoreFault
from runner.failpoints import Failpoint, failpoint
from runner.store.group import Settlement
from runner.store.holder import taken_over
from runner.store.submissions import Riding, Submission

DOWNLOADS = 3
# So many rows that failed with one same message say something about the account, not about the rows.
MOST = 0.95
FEW_ROWS = 10


class Collector:
    """Reads ended batches of a run, one at a time."""

    def __init__(self, common: Common) -> None:
        self._c = common
        self._told: set[str] = set()  # submissions whose cut results somebody knows of

    async def collect(self, submission: Submission) -> bool:
        """Fetch, compare, store. False when it has to be tried again later; the batch stays `ended`."""
        c = self._c
        riding = await c.read(c.store.riding, submission.id)
        idxs = array("q", [idx for chunk in riding for idx in chunk.idxs])
        # A process that slept through its lease may be reading the same.
        path = c.file(submission.id, f"{submission.epoch}.results")
        try:
            found = await self._fetched(submission, path, idxs)
            if found is None:
                return False
            reason = await c.read(_account_trouble, found)
            await self._store_all(submission, riding, found, path, reason)
        except OSError as error:
            raise StoreFault(f"cannot read {path}: {error.strerror or error}.", name="spool") from error
        finally:
            path.unlink(missing_ok=True)
        if reason is not None:
            c.stop.pause_for(PauseReason.REFUSED, f"most rows of a batch failed alike: {reason}")
        return True

    # --- the file

    async def _fetched(self, submission: Submission, path: Path, idxs: Sequence[int]) -> Sorted | None:
        """The lines in place, downloaded anew while some are missing; None when there is nothing to read yet.

        What a download that was cut keeps back is paid for and still there: it is no reason to give a row up.
        """
        c = self._c
        found: Sorted | None = None
        for download in range(DOWNLOADS):
            if download:
                await c.stop.sleep(c.clock, c.timing.poll_s)
            told = await c.calls.results(str(submission.provider_id), path)
            if isinstance(told, Failure):
                return self._without(submission, told, idxs)
            failpoint(Failpoint.BATCH_FETCHED)
            found = await c.read(sort_lines, path, submission.id, idxs)
            if not found.missing and not found.cut:
                break
            if c.stop.is_asked():
                return None
        if found is not None and found.cut and found.missing and not self._is_gone(submission):
            self._tell_of_cut(submission)
            return None
        self._tell_of(submission, found)
        return found

    def _without(self, submission: Submission, told: Failure, idxs: Sequence[int]) -> Sorted | None:
        """No results can be had: for ever, once the API has thrown them away."""
        if not self._is_gone(submission):
            return None
        if not is_missing(told) and told.kind is not FailureKind.ROW:
            return None
        n = len(idxs)
        return Sorted(idxs=idxs, offsets=array("q", bytes(8 * n)), lengths=array("q", bytes(8 * n)), cut=True)

    def _is_gone(self, submission: Submission) -> bool:
        created_us = submission.created_us
        return created_us is not None and retention(created_us, self._c.clock.now_us()) is Retention.GONE

    def _tell_of_cut(self, submission: Submission) -> None:
        if submission.id not in self._told:
            self._told.add(submission.id)
            text = f"the results of batch {submission.provider_id} break off in the middle; they are asked for again"
            self._c.note("batch_results_cut", text, warning=True, batch=submission.id)

    def _tell_of(self, submission: Submission, found: Sorted | None) -> None:
        if found is None:
            return
        odd = {
            "lines missing": found.missing,
            "rows with contradicting lines": len(found.conflicting),
            "lines of nobody's": found.strange,
            "unreadable lines": found.unreadable,
        }
        told = ", ".join(f"{count:,} {what}" for what, count in odd.items() if count)
        if told:
            self._c.note(
                "batch_results_odd", f"batch {submission.provider_id}: {told}", warning=True, batch=submission.id
            )

    # --- into the store

    async def _store_all(
        self, submission: Submission, riding: Sequence[Riding], found: Sorted, path: Path, trouble: str | None
    ) -> None:
        """Raises RunLocked when the submission is in somebody else's hands by now."""
        c = self._c
        descriptor = -1 if found.nothing else os.open(path, os.O_RDONLY)
        lines = Lines(c, submission, found, descriptor, row_errors_go_again=trouble is not None)
        try:
            await self._store_lines(submission, lines, parts(riding, found))
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if not await c.write(c.store.ingested, c.run.id, submission.id, submission.epoch, c.clock.now_us()):
            raise taken_over(c.run)
        c.meter.committed_pico -= submission.reserved_pico
        self._tell_end(submission, lines.tallies)
        if lines.trouble is not None:  # only now: a batch that is read to its end does not pause the run again
            c.stop.pause_for(lines.trouble.reason, lines.trouble.message)
        c.wake()

    async def _store_lines(self, submission: Submission, lines: Lines, in_parts: Iterable[Part]) -> None:
        """Part after part; while one is committed the next is read."""
        c = self._c
        done, ready = anyio.create_memory_object_stream[Settled](0)

        async def read_ahead() -> None:
            async with done:
                for part in in_parts:
                    await done.send(await c.read(lines.settle, part))

        async with anyio.create_task_group() as tasks, ready:
            tasks.start_soon(read_ahead)
            async for settled in ready:
                if settled.rows and not await c.write(
                    c.store.ingest, c.run.id, submission.id, submission.epoch, settled.rows, settled.shares
                ):
                    raise taken_over(c.run)
                self._count(settled.rows)

    def _count(self, settled: Sequence[Settlement]) -> None:
        """For whoever watches. What was stored before a crash was counted at the start."""
        meter, now_s = self._c.meter, self._c.clock.monotonic()
        for one in settled:
            if one.booking is not None:
                meter.spent_pico += one.booking.cost_pico or 0
            if one.result is not None:
                failed = one.result.status is not RowStatus.SUCCEEDED
                meter.ended(now_s, failure=(one.result.error_type or one.result.status) if failed else None)
                if one.result.usage is not None:
                    meter.input_tokens += one.result.usage.prompt_tokens
                    meter.output_tokens += one.result.usage.output_tokens
        self._c.check_failures()

    def _tell_end(self, submission: Submission, tallies: Counter[str]) -> None:
        told = ", ".join(f"{count:,} {what}" for what, count in sorted(tallies.items()))
        again = sum(count for what, count in tallies.items() if what.endswith("again"))
        self._c.note(
            "batch_ingested",
            f"batch {submission.provider_id} read: {told or 'nothing new'}",
            warning=False,
            batch=submission.id,
            id=submission.provider_id,
            rows=submission.n,
            again=again,
        )


def _account_trouble(found: Sorted) -> str | None:
    """The one message with which most rows were refused, None where rows failed for reasons of their own."""
    if len(found.idxs) < FEW_ROWS or not found.errors:
        return None
    body, count = found.errors.most_common(1)[0]
    if count < MOST * len(found.idxs):
        return None
    line = b'{"custom_id":"","result":{"type":"errored","error":%b}}' % body
    outcome = outcome_of_result_line(line).outcome
    if isinstance(outcome, Failure) and outcome.kind is FailureKind.ROW:
        return outcome.message
    return None
