"""The results of an ended batch: downloaded whole, compared with who rode, read line by line into the store.

Nothing is believed of a file that its lines do not prove: a download may be cut, lines may be missing, strange,
double or in contradiction. Lines are settled in the order of the rows, some hundred a transaction, so that each
chunk's records are read once. What is not settled goes again with the last transaction, and only then.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from runner.api.results_file import LineTooLong, ResultLines
from runner.api.wire import outcome_of_result_line
from runner.domain.batch import Retention, retention
from runner.domain.budget import Reserve
from runner.domain.decide import Decision, Finish, PauseRun, TryAgain, decide_line
from runner.domain.outcome import Failure, FailureKind, Outcome
from runner.domain.probe import shape_of
from runner.domain.request import MessagesRequest
from runner.domain.reservation import worst_pico
from runner.domain.states import PauseReason, RowStatus
from runner.domain.submission import custom_id, parse_custom_id
from runner.engine.batch.calls import is_missing
from runner.engine.batch.common import Common
from runner.engine.feeder import NOTHING_BEHIND, Work
from runner.engine.settle import Try, settlement
from runner.errors import StoreFault
from runner.failpoints import Failpoint, failpoint
from runner.files.bad_row import BadRow
from runner.store.claims import PastTries
from runner.store.group import Fence, Settlement
from runner.store.holder import taken_over
from runner.store.submissions import Riding, Share, Submission

# Results of one transaction.
ROWS_A_COMMIT = 1_000
DOWNLOADS = 3
# So many rows that failed with one same message say something about the account, not about the rows.
MOST = 0.95
FEW_ROWS = 10
# Messages that are counted; where there are more, none of them is that of most rows.
MESSAGES_KEPT = 64
# A batch holds its chunks together; its own fence guards its results.
NO_EPOCH = 0


class _End(msgspec.Struct):
    type: str
    error: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct):
    custom_id: str
    result: _End


_read = msgspec.json.Decoder(_Line).decode


@dataclass(slots=True)
class Sorted:
    """Where each rider's line lies in a results file. Rows without one have a length of 0."""

    idxs: Sequence[int]
    offsets: array[int]
    lengths: array[int]
    conflicting: set[int] = field(default_factory=set)
    strange: int = 0
    doubled: int = 0
    unreadable: int = 0
    cut: bool = False
    errors: Counter[bytes] = field(default_factory=Counter)

    @property
    def missing(self) -> int:
        return sum(not length for length in self.lengths)

    @property
    def nothing(self) -> bool:
        return not any(self.lengths)


def sort_lines(path: Path, submission: str, idxs: Sequence[int]) -> Sorted:
    """Compare a file of results with the rows that rode, `idxs` ascending. Blocks."""
    found = Sorted(idxs=idxs, offsets=array("q", bytes(8 * len(idxs))), lengths=array("q", bytes(8 * len(idxs))))
    lines = ResultLines(path)
    with path.open("rb") as file:
        try:
            for offset, line in lines.located():
                _place(found, file.fileno(), submission, offset, line)
        except LineTooLong:
            found.cut = True
        if lines.unfinished:
            before = found.unreadable
            _place(found, file.fileno(), submission, lines.unfinished_at, lines.unfinished)
            found.cut = found.unreadable > before
    return found


def _place(found: Sorted, descriptor: int, submission: str, offset: int, line: bytes) -> None:
    try:
        told = _read(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found.unreadable += 1
        return
    name = parse_custom_id(told.custom_id)
    slot = -1 if name is None or name[0] != submission else _slot(found.idxs, name[1])
    if slot < 0:
        found.strange += 1
        return
    if found.lengths[slot]:
        first = os.pread(descriptor, found.lengths[slot], found.offsets[slot])
        if first == line:
            found.doubled += 1
        else:
            found.conflicting.add(found.idxs[slot])
        return
    found.offsets[slot], found.lengths[slot] = offset, len(line)
    if told.result.type == "errored" and (len(found.errors) < MESSAGES_KEPT or told.result.error in found.errors):
        found.errors[bytes(told.result.error)] += 1


def _slot(idxs: Sequence[int], idx: int) -> int:
    slot = bisect_left(idxs, idx)
    return slot if slot < len(idxs) and idxs[slot] == idx else -1


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
        tallies: Counter[str] = Counter()
        pause: PauseRun | None = None
        descriptor = -1 if found.nothing else os.open(path, os.O_RDONLY)
        try:
            for part in _parts(riding):
                lines = _Lines(c, submission, found, descriptor, row_errors_go_again=trouble is not None)
                settled = await c.read(lines.settle, part)
                if settled and not await c.write(
                    c.store.ingest, c.run.id, submission.id, submission.epoch, settled, lines.shares
                ):
                    raise taken_over(c.run)
                self._count(settled)
                tallies += lines.tallies
                pause = pause or lines.trouble
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if not await c.write(c.store.ingested, c.run.id, submission.id, submission.epoch, c.clock.now_us()):
            raise taken_over(c.run)
        c.meter.committed_pico -= submission.reserved_pico
        self._tell_end(submission, tallies)
        if pause is not None:  # only now: a batch that is read to its end does not pause the run a second time
            c.stop.pause_for(pause.reason, pause.message)
        c.wake()

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


def _parts(riding: Sequence[Riding]) -> Iterator[list[Riding]]:
    """Riding rows in portions of at most ROWS_A_COMMIT, chunks together where they fit."""
    part: list[Riding] = []
    rows = 0
    for chunk in riding:
        for start in range(0, len(chunk.idxs), ROWS_A_COMMIT):
            idxs = chunk.idxs[start : start + ROWS_A_COMMIT]
            if part and rows + len(idxs) > ROWS_A_COMMIT:
                yield part
                part, rows = [], 0
            part.append(Riding(seq=chunk.seq, first_idx=chunk.first_idx, n=chunk.n, idxs=idxs))
            rows += len(idxs)
    if part:
        yield part


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


class _Lines:
    """Lines of some chunks, as what is to be stored."""

    def __init__(
        self,
        common: Common,
        submission: Submission,
        found: Sorted,
        descriptor: int,
        *,
        row_errors_go_again: bool,
    ) -> None:
        self._c, self._submission, self._found = common, submission, found
        self._descriptor = descriptor
        self._policy = common.run.job.limits.policy()
        self._row_errors_go_again = row_errors_go_again
        self._gone = found.cut and found.nothing
        self._learns = common.run.job.budget.reserve is Reserve.LIKELY
        self.shares: dict[int, Share] = {}
        self.tallies: Counter[str] = Counter()
        self.trouble: PauseRun | None = None  # the account's, not the rows'

    def settle(self, part: Sequence[Riding]) -> list[Settlement]:
        """What is to be stored of these rows; those whose lines are stored already are passed over. Blocks."""
        lines, past, ended = self._c.store.riding_records(self._c.run.id, part)
        settled: list[Settlement] = []
        for chunk in part:
            records = lines[chunk.seq]
            for idx in chunk.idxs:
                if idx in ended or idx < self._submission.read_upto:
                    continue
                record, repeat = divmod(idx, self._c.run.fan)
                line = records[record - chunk.first_idx // self._c.run.fan]
                one = self._settled(chunk.seq, idx, record, repeat, line, past.get(idx, NOTHING_BEHIND))
                if one is not None:
                    settled.append(one)
        return settled

    def _settled(
        self, seq: int, idx: int, record: int, repeat: int, line: bytes, past: PastTries
    ) -> Settlement | None:
        outcome = self._outcome(idx)
        if self._row_errors_go_again and isinstance(outcome, Failure) and outcome.kind is FailureKind.ROW:
            self.tallies["rows wait"] += 1
            return None
        decision = decide_line(outcome, past.history, self._policy)
        self.tallies[_word(decision)] += 1
        if isinstance(decision, PauseRun):
            self.trouble = decision
            return None
        work = Work(
            fence=Fence(seq=seq, epoch=NO_EPOCH),
            idx=idx,
            record=record,
            repeat=repeat,
            line=line,
            last_try=past.last_try + 1,
            history=past.history,
            turns=list(past.turns),
        )
        row = self._c.renderer.parse(line)
        tried = Try(
            work=work,
            key=self._c.renderer.key(row),
            round=self._c.run.round,
            model=self._c.run.job.model or "",
            try_=work.last_try,
            turn=len(work.turns),
            worst_pico=None,
            batch=self._submission.provider_id,
            custom_id=custom_id(self._submission.id, idx),
        )
        settled = settlement(tried, outcome, decision, self._c.prices, now_us=self._c.clock.now_us(), latency_us=None)
        if settled.booking is not None and self._learns:
            self._learn(idx, row, settled.booking.cost_pico)
        if settled.booking is not None and settled.booking.cost_pico is None:
            settled = self._bounded(settled, row)
        return settled

    def _learn(self, idx: int, row: dict[str, object], cost_pico: int | None) -> None:
        """What the row took of the most that it could have cost; all, where nobody knows."""
        try:
            body = self._c.renderer.body(row, batch=True)
            request = self._c.renderer.request_of(body)
        except BadRow:
            return
        worst = self._worst_pico(request)
        if worst:
            share = 1.0 if cost_pico is None else cost_pico / worst
            self.shares[idx] = Share(shape_of(body), share)

    def _worst_pico(self, request: MessagesRequest) -> int | None:
        row_pico = self._c.run.job.limits.row_pico
        return worst_pico(self._c.prices, request, row_pico=row_pico, batch=True)

    def _outcome(self, idx: int) -> Outcome:
        slot = _slot(self._found.idxs, idx)
        if idx in self._found.conflicting:
            return _lost("conflicting_results", "the batch's results hold contradicting lines for this row")
        length = self._found.lengths[slot]
        if not length:
            if self._gone:
                return _lost("results_expired", "the API keeps results for 29 days, and they are over")
            return _lost("missing_result", "the batch's results hold no line for this row")
        line = os.pread(self._descriptor, length, self._found.offsets[slot])
        return outcome_of_result_line(line).outcome

    def _bounded(self, settled: Settlement, row: dict[str, object]) -> Settlement:
        """A line whose cost is not known stands in the books with the most that it can be."""
        try:
            request = self._c.renderer.request(row, batch=True)
        except BadRow:
            return settled
        assert settled.booking is not None  # noqa: S101 - the caller has just looked
        bound_pico = self._worst_pico(request)
        booking = replace(settled.booking, model=request.model, bound_pico=bound_pico)
        return replace(settled, booking=booking)


def _lost(type_: str, message: str) -> Failure:
    """A row that has been paid for, perhaps: it does not go again by itself."""
    return Failure(kind=FailureKind.ROW, type=type_, message=message, perhaps_billed=True)


def _word(decision: Decision) -> str:
    if isinstance(decision, Finish):
        return "ended" if decision.status is RowStatus.SUCCEEDED else str(decision.status)
    if isinstance(decision, TryAgain):
        return "go again"
    return "wait" if isinstance(decision, PauseRun) else "go on live"
