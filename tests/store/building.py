"""Runs, chunks, calls and their ends, in few words; and whole tables to compare."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, select, text

from runner.domain.batch import BatchStatus
from runner.domain.booking import Booking, BookingKind
from runner.domain.job import Job
from runner.domain.outcome import Usage
from runner.domain.pricing import Price
from runner.domain.result import RowResult
from runner.domain.run import NewRun, Run
from runner.domain.states import BatchState, RowStatus
from runner.domain.submission import Intent, ServerTime
from runner.store import staging
from runner.store.claims import ClaimedChunk
from runner.store.database import Database
from runner.store.group import (
    AttemptRecord,
    Fence,
    Operation,
    SendIntent,
    Settlement,
    TurnRecord,
    Verdict,
)
from runner.store.queries import Wanted
from runner.store.store import Store
from runner.store.submissions import IntentVerdict, NewSubmission, Rider
from runner.store.tables import metadata

MODEL = "claude-haiku-5-5"
PRICES = "prices-1"
NOW_US = 1_800_000_000_000_000
WORST_PICO = 1_000
COST_PICO = 400


def ready_store(url: str) -> Store:
    """A store whose schema is up to date; PostgreSQL never upgrades itself."""
    database = Database(url)
    database.upgrade()
    database.close()
    return Store.open(url)


def a_job(**changes: Any) -> Job:
    return replace(Job(name="letters", model=MODEL, prompt="Answer {{ text }}"), **changes)


def new_run(job: Job | None = None, **changes: Any) -> NewRun:
    plain = NewRun(
        job=job or a_job(),
        key=None,
        input_uri="/in/letters.jsonl",
        input_digest=None,
        input_bytes=None,
        records=None,
        skipped=0,
        output=None,
    )
    return replace(plain, **changes)


def lines_of(records: int, first: int = 0) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(first, first + records)]


def packed(sizes: Sequence[int]) -> list[staging.StagedChunk]:
    """Chunks of so many records each, numbered through."""
    chunks, first = [], 0
    for seq, size in enumerate(sizes):
        chunks.append(staging.pack(seq, first, lines_of(size, first)))
        first += size
    return chunks


def whole(records: int) -> staging.IngestMark:
    """The mark of an input that is staged to its end."""
    return staging.IngestMark(records=records, bytes=records * 8, digest="d", skipped=0, total=records)


def staged_run(store: Store, *sizes: int, **job: Any) -> Run:
    """A run whose whole input is staged, in chunks of so many records."""
    run = store.create_run(new_run(a_job(**job)), NOW_US)
    store.stage(run, packed(sizes), whole(sum(sizes)))
    return store.run_by_id(run.id)


def claim(store: Store, run: Run, now_us: int = NOW_US) -> ClaimedChunk:
    claimed = store.claim_next(run.id, now_us, PRICES)
    assert claimed is not None
    return claimed


def send(fence: Fence, idx: int, *, try_: int = 1, turn: int = 0, worst_pico: int | None = WORST_PICO) -> SendIntent:
    return SendIntent(fence=fence, idx=idx, try_=try_, turn=turn, model=MODEL, worst_pico=worst_pico, at_us=NOW_US)


def price(cost_pico: int | None) -> Price | None:
    """A price without discounts."""
    if cost_pico is None:
        return None
    return Price(cost_pico=cost_pico, unbatched_pico=cost_pico, list_pico=cost_pico)


def spend(cost_pico: int | None = COST_PICO, **changes: Any) -> Booking:
    plain = Booking(
        kind=BookingKind.SPEND,
        model=MODEL,
        price=price(cost_pico),
        bound_pico=None,
        usage=Usage(output_tokens=3),
        price_version=PRICES,
        request_id="req_1",
    )
    return replace(plain, **changes)


def result(idx: int, status: RowStatus = RowStatus.SUCCEEDED, **changes: Any) -> RowResult:
    answered = status is not RowStatus.ERRORED
    plain = RowResult(
        idx=idx,
        record=idx,
        variant=0,
        repeat=0,
        round=1,
        key=f"key-{idx}",
        status=status,
        stop_reason="end_turn" if answered else None,
        model=MODEL if answered else None,
        usage=Usage(input_tokens=10, output_tokens=3) if answered else None,
        cost_pico=COST_PICO if answered else 0,
        price_version=PRICES,
        request_id="req_1",
        attempts=1,
        latency_us=2_000,
        batch=None,
        error_type=None if answered else "invalid_request_error",
        error_message=None if answered else "no",
    )
    return replace(plain, **changes)


def ended(
    fence: Fence,
    idx: int,
    status: RowStatus = RowStatus.SUCCEEDED,
    *,
    try_: int = 1,
    turn: int = 0,
    message: bytes | None = b'{"id":"msg_1"}',
    booking: Booking | None = None,
    **changes: Any,
) -> Settlement:
    """A row's end: paid for when there is an answer, not billed when it errored."""
    answered = status is not RowStatus.ERRORED
    return Settlement(
        fence=fence,
        idx=idx,
        try_=try_,
        turn=turn,
        at_us=NOW_US + 1,
        booking=booking or (spend() if answered else None),
        result=result(idx, status, **changes),
        message=message if answered else None,
    )


def tried(
    fence: Fence, idx: int, *, try_: int = 1, counted: bool = True, booking: Booking | None = None, round_: int = 1
) -> Settlement:
    """A try that failed; the row goes again."""
    attempt = AttemptRecord(round=round_, counted=counted, kind="server", error_type="api_error", error_message="500")
    return Settlement(fence=fence, idx=idx, try_=try_, turn=0, at_us=NOW_US + 1, booking=booking, attempt=attempt)


def turned(fence: Fence, idx: int, *, try_: int, turn: int) -> Settlement:
    """A paid turn after which the row goes on."""
    record = TurnRecord(message=b"turn %d.%d" % (try_, turn), usage=b"{}", cost_pico=COST_PICO)
    return Settlement(
        fence=fence, idx=idx, try_=try_, turn=turn, at_us=NOW_US + 1, booking=spend(), turn_record=record
    )


def stored(store: Store, run: Run, *operations: Operation) -> None:
    """Commit a group all of whose operations are to be stored."""
    assert set(store.commit_group(run.id, operations)) <= {Verdict.STORED}


def settle_all(store: Store, run: Run, status: RowStatus = RowStatus.SUCCEEDED) -> None:
    """Claim what there is and end every row that way, in the run's round."""
    while (chunk := store.claim_next(run.id, NOW_US, PRICES)) is not None:
        rows = [idx for idx in range(chunk.first_idx, chunk.first_idx + chunk.n) if idx not in chunk.taken]
        tries = {idx: chunk.past[idx].last_try + 1 if idx in chunk.past else 1 for idx in rows}
        stored(store, run, *(send(chunk.fence, idx, try_=tries[idx]) for idx in rows))
        ends = [ended(chunk.fence, idx, status, try_=tries[idx], round=store.run_by_id(run.id).round) for idx in rows]
        stored(store, run, *ends)


def rows_of(store: Store, table: str, **among: Collection[Any]) -> list[dict[str, Any]]:
    """A whole table, in the order of its key; or the rows of it whose columns have one of these values."""
    columns = metadata.tables[table]
    query = select(columns).order_by(*columns.primary_key.columns)
    for name, values in among.items():
        query = query.where(columns.c[name].in_(values))
    return [dict(row._mapping) for row in store.database.read(lambda c: c.execute(query).all())]


# What may differ between two stores that did the same: a random label, a process, a counter that skips.
_OWN = {"runs": {"label", "holder"}, "ledger": {"id"}}


def whole_store(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Every table, without what two equal stores may differ in: budgets of which nothing is used say nothing."""
    return {
        name: sorted(
            (
                {key: value for key, value in row.items() if key not in _OWN.get(name, ())}
                for row in rows_of(store, name)
                if name != "budgets" or row["cap_pico"] is not None or row["spent_pico"] or row["committed_pico"]
            ),
            key=lambda row: str(row.get("key", "")) if name == "ledger" else "",
        )
        for name in metadata.tables
    }


def execute(store: Store, statement: str) -> None:
    """A foreign hand in the database."""
    store.database.write(lambda c: c.execute(text(statement)))


def budget(store: Store, run: Run) -> tuple[int, int]:
    """What the run's budget says: spent, committed."""
    (row,) = [row for row in rows_of(store, "budgets") if row["scope"] == f"run:{run.id}"]
    return row["spent_pico"], row["committed_pico"]


@contextmanager
def every_answer_lost_once(store: Store) -> Iterator[None]:
    """Each transaction is committed, then done again as after a commit whose answer never came."""
    database = store.database
    write = database.write

    def twice(work: Callable[[Connection], Any]) -> Any:
        write(work)
        return write(work)

    database.write = twice  # type: ignore[method-assign]
    try:
        yield
    finally:
        database.write = write  # type: ignore[method-assign]


# -- batches


def intent_of(submission: str, n: int, *, at_us: int = NOW_US, workspace: str | None = "w") -> Intent:
    return Intent(
        submission=submission,
        n=n,
        asked=ServerTime(server_us=at_us - 5, shared_us=at_us - 3),
        intent_us=at_us,
        organization="o",
        workspace=workspace,
    )


def packing(
    run: Run,
    submission: str,
    *rows: tuple[ClaimedChunk, Sequence[int]],
    worst_pico: int | None = WORST_PICO,
    at_us: int = NOW_US,
    workspace: str | None = "w",
) -> NewSubmission:
    """These rows of chunks in hand, about to ride."""
    riders = [Rider(fence=chunk.fence, first_idx=chunk.first_idx, n=chunk.n, idxs=idxs) for chunk, idxs in rows]
    count = sum(len(idxs) for _, idxs in rows)
    return NewSubmission(
        intent=intent_of(submission, count, at_us=at_us, workspace=workspace),
        run=run.id,
        round=run.round,
        body_hash="h",
        body_bytes=100,
        worst_pico=worst_pico,
        key_fingerprint="k",
        riders=riders,
    )


def remote(batch_id: str, n: int, status: str = "in_progress", at_us: int = NOW_US, **told: Any) -> BatchStatus:
    """A batch as the service tells it."""
    plain = BatchStatus(
        id=batch_id, status=status, counts={"processing": n}, created_us=at_us, expires_us=at_us + 86_400_000_000
    )
    return replace(plain, **told)


def free_chunk(store: Store, run: Run, after_seq: int = -1) -> ClaimedChunk | None:
    """The next chunk with rows that are not under way, claimed."""
    return store.claim_next(run.id, NOW_US, PRICES, Wanted.FREE, after_seq=after_seq)


def submitted(store: Store, run: Run, submission: str, *idxs: int, worst_pico: int | None = WORST_PICO) -> str:
    """Rows of the first free chunk ride in a batch that the service has taken; its id."""
    chunk = free_chunk(store, run)
    assert chunk is not None
    rows = idxs or [idx for idx in range(chunk.first_idx, chunk.first_idx + chunk.n) if idx not in chunk.taken]
    new = packing(run, submission, (chunk, rows), worst_pico=worst_pico)
    assert store.intend(new, 0) is IntentVerdict.STORED
    batch_id = f"msgbatch_{submission}"
    assert store.received(submission, remote(batch_id, len(rows)), NOW_US + 1) is BatchState.ACCEPTED
    return batch_id


def read(store: Store, run: Run, submission: str, *lines: Settlement) -> None:
    """The batch has ended, and these are its lines."""
    batch_id = str(store.submission(submission).provider_id)
    store.batch_ended(submission, remote(batch_id, len(lines), status="ended", ended_us=NOW_US + 9))
    epoch = store.submission(submission).epoch
    assert store.ingest(run.id, submission, epoch, lines)
    assert store.ingested(run.id, submission, epoch, NOW_US + 10)


def line_of(submission: str, kind: str, seq: int, idx: int, **told: Any) -> Settlement:
    """A line of a batch's results as it is stored: `success`, `failure`, `again`, `turn` or `lost`."""
    fence = Fence(seq=seq, epoch=0)
    place: dict[str, Any] = {"try_": told.pop("try_", 1)}
    batch = {"batch": f"msgbatch_{submission}", "key": f"{submission}-{idx}"}
    if kind == "success":
        return ended(fence, idx, booking=spend(**batch), message=b"answer to %d" % idx, **place, **told)
    if kind == "failure":
        return ended(fence, idx, RowStatus.ERRORED, **place, **told)
    if kind == "lost":
        unknown = spend(None, kind=BookingKind.UNKNOWN, bound_pico=WORST_PICO, usage=None, **batch)
        return ended(fence, idx, RowStatus.ERRORED, booking=unknown, **place, **told)
    if kind == "turn":
        one = turned(fence, idx, turn=told.pop("turn", 0), **place)
        return replace(one, booking=spend(**batch))
    return tried(fence, idx, **place, **told)
