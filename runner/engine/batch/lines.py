"""Lines of a batch's results, as what is to be stored of them: some hundred rows at a time, in the order of the rows,
so that each chunk's records are read once and nobody holds more than a few MB. Blocks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from anyio import from_thread
from msgspec import Struct, field
from msgspec.structs import replace

from runner.api.wire import outcome_of_result_line
from runner.domain.booking import Booking, BookingKind
from runner.domain.budget import Reserve
from runner.domain.decide import Decision, Finish, PauseRun, TryAgain, decide_line
from runner.domain.outcome import Answer, Failure, FailureKind, Outcome
from runner.domain.probe import shape_of
from runner.domain.request import MessagesRequest
from runner.domain.reservation import worst_pico
from runner.domain.states import RowStatus
from runner.domain.submission import custom_id
from runner.engine.batch.common import Common
from runner.engine.batch.sorting import Sorted
from runner.engine.feeder import NOTHING_BEHIND, Work
from runner.engine.file_desk import FileDesk, going_again, is_gone
from runner.engine.settle import Try, settlement
from runner.errors import StoreFault
from runner.files.bad_row import BadRow
from runner.store.claims import PastTries
from runner.store.group import Fence, Settlement
from runner.store.submissions import Riding, Share, Submission

# Results of one transaction.
ROWS_A_COMMIT = 1_000
BYTES_A_COMMIT = 8_000_000
# A batch holds its chunks together; its own fence guards its results.
NO_EPOCH = 0


class Part(Struct, frozen=True, kw_only=True):
    """Riding rows for one transaction. `slot` is the place of the first of them among all that ride."""

    riding: list[Riding]
    slot: int


def parts(riding: Sequence[Riding], found: Sorted) -> Iterator[Part]:
    """As many rows as a transaction may have, in their order."""
    part: list[Riding] = []
    rows = size = slot = 0
    for chunk in riding:
        start = 0
        for end in range(len(chunk.idxs)):
            length = found.lengths[slot + end]
            if rows and (rows == ROWS_A_COMMIT or size + length > BYTES_A_COMMIT):
                part.append(replace(chunk, idxs=chunk.idxs[start:end]))
                yield Part(riding=[one for one in part if one.idxs], slot=slot + end - rows)
                part, rows, size, start = [], 0, 0, end
            rows, size = rows + 1, size + length
        part.append(replace(chunk, idxs=chunk.idxs[start:]))
        slot += len(chunk.idxs)
    if rows:
        yield Part(riding=part, slot=slot - rows)


class Settled(Struct, frozen=True):
    """What is to be stored of some rows; `shares` are of those from which the job wants to learn what rows cost."""

    rows: list[Settlement] = field(default_factory=list)
    shares: dict[int, Share] = field(default_factory=dict)


class Lines:
    """The lines of one submission; `descriptor` is that of their file. What they come to is counted in `tallies`."""

    def __init__(
        self, common: Common, submission: Submission, found: Sorted, descriptor: int, *, row_errors_go_again: bool
    ) -> None:
        self._c, self._submission, self._found = common, submission, found
        self._descriptor = descriptor
        self._policy = common.run.job.limits.policy()
        self._row_errors_go_again = row_errors_go_again
        self._gone = found.cut and found.nothing
        self._learns = common.run.job.budget.reserve is Reserve.LIKELY
        self._now_us = 0
        self._records: dict[int, list[bytes]] = {}  # of the chunks of the last part: the next may go on in one
        self.tallies: Counter[str] = Counter()
        self.trouble: PauseRun | None = None  # the account's, not the rows'

    def settle(self, part: Part) -> Settled:
        """What is to be stored of these rows; those whose lines are stored already are passed over."""
        fan, repeats, slot = self._c.run.fan, self._c.run.job.repeat, part.slot
        past, ended = self._look_up(part)
        self._now_us = self._c.clock.now_us()
        settled = Settled()
        for chunk in part.riding:
            fence = Fence(seq=chunk.seq, epoch=NO_EPOCH)
            records, first_record = self._records[chunk.seq], chunk.first_idx // fan
            for place, idx in enumerate(chunk.idxs, slot):
                if idx < self._submission.read_upto:
                    continue  # stored by whoever was reading before
                record, in_fan = divmod(idx, fan)
                behind = past.get(idx, NOTHING_BEHIND)
                work = _work(fence, idx, record, in_fan % repeats, records[record - first_record], behind)
                outcome = self._outcome(idx, place)
                one = self._beaten(work, outcome) if idx in ended else self._settled(work, outcome)
                if one is None:
                    continue
                settled.rows.append(one)
                if self._learns and idx not in ended and (share := self._share(work, one)) is not None:
                    settled.shares[idx] = share
            slot += len(chunk.idxs)
        return settled

    def _look_up(self, part: Part) -> tuple[dict[int, PastTries], frozenset[int]]:
        """The records of these chunks, their rows' past, and the rows that have ended."""
        kept = {one.seq: self._records[one.seq] for one in part.riding if one.seq in self._records}
        more, past, ended = self._c.store.riding_records(self._c.run.id, part.riding, without=kept.keys())
        self._records = kept | more
        return past, ended

    def _settled(self, work: Work, outcome: Outcome) -> Settlement | None:
        if self._c.files is not None and is_gone(outcome):
            outcome = self._without_its_files(self._c.files, outcome, work)
        if self._row_errors_go_again and isinstance(outcome, Failure) and outcome.kind is FailureKind.ROW:
            self.tallies["rows wait"] += 1
            return None
        judge, row = self._c.judge, self._row(work)
        judge.place(row, work)
        decision = judge.judged(decide_line(outcome, work.history, self._policy), outcome, row, work)
        self.tallies[_word(decision)] += 1
        if isinstance(decision, PauseRun):
            self.trouble = self.trouble or decision
            return None
        run, renderer = self._c.run, self._c.renderer
        tried = Try(
            work=work,
            key=renderer.key_of(work.line),
            round=run.round,
            model=run.job.model or "",
            try_=work.last_try,
            turn=len(work.turns),
            worst_pico=None,
            batch=self._submission.provider_id,
            custom_id=custom_id(self._submission.id, work.idx),
            billed_us=self._submission.ended_us,
        )
        settled = settlement(tried, outcome, decision, self._c.prices, now_us=self._now_us, latency_us=None)
        if settled.booking is not None and settled.booking.cost_pico is None:
            settled = self._bounded(settled, work)
        return settled

    def _share(self, work: Work, settled: Settlement) -> Share | None:
        """What the row took of the most that it could have cost; all, where nobody knows. A row that was tried before
        is not like the others."""
        if settled.booking is None or work.last_try > 1:
            return None
        try:
            body, request = self._asked(work)
        except BadRow:
            return None
        worst = self._worst_pico(request)
        if not worst:
            return None
        cost_pico = settled.booking.cost_pico
        return Share(shape_of(body), 1.0 if cost_pico is None else cost_pico / worst)

    def _asked(self, work: Work) -> tuple[dict[str, Any], MessagesRequest]:
        """The row's body and request once more: nobody keeps those of a whole batch. Raises BadRow."""
        renderer = self._c.renderer
        body = renderer.body(renderer.parse(work.line), variant=work.variant, batch=True)
        betas = renderer.betas_of(body, batch=True)
        return body, renderer.request_of(body, betas)

    def _worst_pico(self, request: MessagesRequest) -> int | None:
        return worst_pico(self._c.prices, request, row_pico=self._c.run.job.limits.row_pico, batch=True)

    def _row(self, work: Work) -> dict[str, Any]:
        """The row, where answers are judged by it: to parse each line would double what it costs to read it in."""
        return self._c.renderer.parse(work.line) if self._c.judge.judges else {}

    def _beaten(self, work: Work, outcome: Outcome) -> Settlement | None:
        """A row that another answer has ended meanwhile, a late one of whoever lost its claim: what its line says was
        paid for all the same."""
        answer = outcome if isinstance(outcome, Answer) else None
        if not (answer.billed if answer is not None else isinstance(outcome, Failure) and outcome.perhaps_billed):
            return None
        self.tallies["paid twice"] += 1
        prices = self._c.prices
        booking = Booking(
            kind=BookingKind.UNKNOWN if answer is None else BookingKind.DUPLICATE,
            model=self._c.run.job.model or "" if answer is None else answer.model,
            price=None if answer is None else prices.price(answer.model, answer.usage, batch=True),
            bound_pico=None,
            usage=None if answer is None else answer.usage,
            price_version=prices.version,
            request_id=outcome.origin.request_id,
            batch=self._submission.provider_id,
            key=custom_id(self._submission.id, work.idx),
            at_us=self._submission.ended_us,
        )
        settled = Settlement(fence=work.fence, idx=work.idx, try_=0, turn=0, at_us=self._now_us, booking=booking)
        if booking.price is not None:
            return settled
        self._c.judge.place(self._row(work), work)
        return self._bounded(settled, work)

    def _without_its_files(self, desk: FileDesk, outcome: Outcome, work: Work) -> Outcome:
        """A row that brought files along which are gone by now goes again, with new ones."""
        renderer = self._c.renderer
        try:
            row = renderer.parse(work.line)
            request = renderer.request(row, variant=renderer.variant_at(row, work.idx), batch=True)
        except BadRow:
            return outcome
        if not request.attachments:
            return outcome
        from_thread.run(desk.forget, request.attachments)
        return going_again(outcome)

    def _outcome(self, idx: int, slot: int) -> Outcome:
        if idx in self._found.conflicting:
            return _lost("conflicting_results", "the batch's results hold contradicting lines for this row")
        length = self._found.lengths[slot]
        if not length:
            if self._gone:
                return _lost("results_expired", "the API keeps results for 29 days, and they are over")
            return _lost("missing_result", "the batch's results hold no line for this row")
        try:
            line = os.pread(self._descriptor, length, self._found.offsets[slot])
        except OSError as error:
            raise StoreFault(f"cannot read the results: {error.strerror or error}.", name="spool") from error
        return outcome_of_result_line(line).outcome

    def _bounded(self, settled: Settlement, work: Work) -> Settlement:
        """A line whose cost is not known stands in the books with the most that it can be."""
        try:
            _body, request = self._asked(work)
        except BadRow:
            return settled
        assert settled.booking is not None  # noqa: S101 - the caller has just looked
        booking = replace(settled.booking, model=request.model, bound_pico=self._worst_pico(request))
        return replace(settled, booking=booking)


def _work(fence: Fence, idx: int, record: int, repeat: int, line: bytes, past: PastTries) -> Work:
    return Work(
        fence=fence,
        idx=idx,
        record=record,
        repeat=repeat,
        line=line,
        last_try=past.last_try + 1,
        history=past.history,
        turns=list(past.turns),
    )


def _lost(type_: str, message: str) -> Failure:
    """A row that has been paid for, perhaps: it does not go again by itself."""
    return Failure(kind=FailureKind.ROW, type=type_, message=message, perhaps_billed=True)


def _word(decision: Decision) -> str:
    if isinstance(decision, Finish):
        return "ended" if decision.status is RowStatus.SUCCEEDED else str(decision.status)
    if isinstance(decision, TryAgain):
        return "go again"
    return "wait" if isinstance(decision, PauseRun) else "go on live"
