"""What a person does about batches, outside of an engine: the run is held, the service asked, the store told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio
from msgspec import Struct

from runner.api.batches import Batches
from runner.api.client import Client
from runner.api.credentials import Credential, find_credential
from runner.cli.batch_news import teller
from runner.cli.context import Context
from runner.cli.launch import timing_of
from runner.cli.sending import connected, spool_of
from runner.domain.batch import DAY_US, RETENTION_DAYS, BatchStatus
from runner.domain.outcome import AccountTrouble, Failure
from runner.domain.quantity import of_rows
from runner.domain.run import Run
from runner.domain.states import BatchState
from runner.domain.submission import Whose, verify_first_line
from runner.engine.batch.calls import SHORT_PATIENCE_S, BatchCalls, is_missing
from runner.engine.batch.common import Common
from runner.engine.batch.sweep import Swept, sweep
from runner.engine.holding import beat
from runner.engine.judge import Judge
from runner.engine.meter import Meter
from runner.engine.stop import Stop
from runner.errors import (
    BudgetReached,
    CredentialsRefused,
    JobInvalid,
    RunLocked,
    RunnerError,
    Stalled,
    UsageInvalid,
    first_of,
)
from runner.files.render import Renderer
from runner.store.holder import Hold
from runner.store.store import Store
from runner.store.submissions import Submission
from runner.views.batch_page import BatchRow
from runner.views.durations import moment
from runner.views.progress_view import NoProgress

# More submissions than anybody makes in the 29 days that the service remembers them.
MANY = 100_000

T = TypeVar("T")


class FoundBatch(Struct, frozen=True, kw_only=True):
    """A submission that somebody has named, its run, and the open store of both."""

    store: Store
    run: Run
    submission: Submission


@contextmanager
def found_batch(context: Context, name: str) -> Iterator[FoundBatch]:
    """By the beginning of its id or by the service's; the real store is looked at first. Raises UsageInvalid."""
    for simulated in context.existing_stores():
        with context.store(simulated=simulated) as store:
            try:
                submission = store.submission(name)
            except UsageInvalid as error:
                if error.name != "no-batch":
                    raise
                continue
            yield FoundBatch(store=store, run=store.run_by_id(submission.run), submission=submission)
            return
    raise UsageInvalid(
        f"there is no batch {name!r} here.", name="no-batch", hints=("runner batches list   shows them",)
    )


# --- looking


def all_rows(context: Context, label: str | None, limit: int) -> list[BatchRow]:
    """Submissions of one run or of all, newest first."""
    if label is not None:
        with context.found_run(label) as (store, run):
            return _rows(store, store.submissions_of(run.id))[::-1][:limit]
    rows: list[BatchRow] = []
    for simulated in context.existing_stores():
        with context.store(simulated=simulated) as store:
            rows += _rows(store, store.recent_submissions(limit))
    return sorted(rows, key=lambda row: -row.submission.intent.intent_us)[:limit]


def batch_row(store: Store, submission: Submission) -> BatchRow:
    """One submission with its run and what the books hold of it."""
    return _rows(store, [submission])[0]


def _rows(store: Store, submissions: list[Submission]) -> list[BatchRow]:
    ids = {one.run for one in submissions}
    runs = {id_: store.run_by_id(id_) for id_ in ids}
    books = {id_: store.money_by_batch(id_) for id_ in ids}
    doubles = [double for id_ in ids for double in store.duplicates_of(id_)]
    numbers = {one.id: number for id_ in ids for number, one in enumerate(store.submissions_of(id_), start=1)}
    return [
        BatchRow(
            submission=one,
            run=runs[one.run],
            money=books[one.run].get(one.provider_id or one.id),
            number=numbers[one.id],
            duplicates=[double for double in doubles if double.submission == one.id],
        )
        for one in submissions
    ]


# --- deciding


class Adopted(Struct, frozen=True, kw_only=True):
    """What adopting has come to: `claimed`, or `provisional` while the batch is in progress."""

    word: str
    sentence: str
    following: str


def refuse_settled(found: FoundBatch, word: str, *, also_asked: bool = False) -> None:
    """Only of a submission of unknown end is there anything to decide; `also_asked`: or of a batch in progress that
    the service does not show any more."""
    one, run = found.submission, found.run
    if run.job.simulated:
        raise UsageInvalid(
            f"batch {one.id} is simulated: it ended with the command that sent it.",
            name="simulated-batches",
            hints=(f"runner resume {run.label}   sends its rows again",),
        )
    lost = also_asked and one.question is not None and one.state in (BatchState.ACCEPTED, BatchState.CLAIMED)
    if one.state not in (BatchState.UNKNOWN, BatchState.SENDING) and not lost:
        raise UsageInvalid(
            f"there is nothing to {word}: what became of batch {one.id} is known.",
            name="batch-state",
            hints=(f"runner batches show {one.id}",),
        )


def adopted(context: Context, found: FoundBatch, provider_id: str, *, takes_word: bool) -> Adopted:
    """Make a batch that a person has named the submission's, as far as the service does not prove otherwise."""

    async def work(common: Common) -> Adopted:
        submission = await common.read(common.store.submission, found.submission.id)
        refuse_settled(FoundBatch(store=found.store, run=found.run, submission=submission), "adopt")
        status = await common.calls.retrieve(provider_id)
        if isinstance(status, Failure):
            raise _not_there(provider_id, status)
        await common.read(_refuse_strange, common, submission, status)
        listed = await _listed(common, provider_id)
        if not status.has_ended:
            return await _awaited(common, submission, status, listed=listed)
        return await _verified(common, submission, status, takes_word=takes_word)

    return _at_desk(context, found.store, found.run, work)


def _not_there(provider_id: str, failure: Failure) -> RunnerError:
    if not is_missing(failure):
        return _unanswered(failure)
    return UsageInvalid(
        f"the service does not show {provider_id} to this key.",
        name="no-such-batch",
        hints=("it may be of another workspace: runner doctor --online says whose key this is",),
    )


def _refuse_strange(common: Common, submission: Submission, status: BatchStatus) -> None:
    """What can be told without the results. Raises UsageInvalid."""
    intent, store = submission.intent, common.store
    young_us = common.clock.now_us() - RETENTION_DAYS * DAY_US
    known = store.known_batches(intent.organization, intent.workspace, young_us)
    if status.id in known.owned:
        raise _refused(f"{status.id} belongs to batch {store.submission(status.id).id} already")
    if status.id in known.foreign:
        raise _refused(f"{status.id} is somebody else's: its first result has shown that")
    if status.id in known.duplicates:
        raise _refused(f"{status.id} is in the books as a duplicate already")
    if status.total != submission.n:
        raise _refused(f"{status.id} holds {of_rows(status.total)}, and {of_rows(submission.n)} were sent")


def _refused(sentence: str, *hints: str) -> UsageInvalid:
    return UsageInvalid(f"{sentence}.", name="not-this-batch", hints=("nothing was changed.", *hints))


async def _listed(common: Common, provider_id: str) -> bool:
    """Whether the service's list shows it; what it shows is remembered."""
    listing = await common.calls.walk(lambda seen: all(batch.id != provider_id for batch in seen.batches))
    if isinstance(listing, Failure):
        raise _unanswered(listing)
    await common.write(common.store.note_listing, listing)
    return any(batch.id == provider_id for batch in listing.batches)


async def _awaited(common: Common, submission: Submission, status: BatchStatus, *, listed: bool) -> Adopted:
    """In progress: nothing proves whose it is before it ends."""
    if not submission.intent.could_own(status, common.timing):
        when = "then" if status.created_us is None else moment(status.created_us)
        raise _refused(
            f"{status.id} was created {when}, when this submission can no longer have made it",
            "when it has ended, adopt it again: its first result then proves whose it is",
        )
    if not listed:
        raise _refused(f"the service's list does not show {status.id} yet", "try again in some minutes")
    await common.write(common.store.claim_provisionally, submission.id, [status.id])
    await common.write(common.store.ask_about, submission.id, None)
    return Adopted(
        word="provisional",
        sentence=f"{status.id} is in progress and is waited for; its first result will show whether it is the one",
        following="looks at it",
    )


async def _verified(common: Common, submission: Submission, status: BatchStatus, *, takes_word: bool) -> Adopted:
    """Ended: its first line says whose it is, unless there is none any more."""
    line = None if status.archived else await common.calls.first_line(status.id)
    if isinstance(line, Failure) and not is_missing(line):
        raise _unanswered(line)
    whose = verify_first_line(None if isinstance(line, Failure) else line, submission.id)
    if whose is Whose.FOREIGN:
        await common.write(common.store.note_foreign, status.id)
        raise _refused(f"{status.id} is somebody else's: its first result has another name than ours")
    if whose is Whose.UNVERIFIABLE and not (takes_word and status.archived):
        hint = "--yes takes your word for it: its rows then end as lost" if status.archived else "try again later"
        raise _refused(f"{status.id} has no results that can be read, so nothing proves whose it is", hint)
    await common.write(common.store.claim_batch, submission.id, status)
    proved = "by your word" if whose is Whose.UNVERIFIABLE else "its first result proves it"
    return Adopted(
        word="claimed",
        sentence=f"{status.id} is the batch of submission {submission.id}: {proved}",
        following="fetches its results",
    )


def let_go(context: Context, found: FoundBatch) -> None:
    """The rows go again; what a batch may cost stays in the books as an unknown amount. Raises RunLocked."""
    store, run = found.store, found.run
    hold = store.hold(run, context.clock.now_us)
    try:
        store.take_up_submissions(run.id)
        submission = store.submission(found.submission.id)
        refuse_settled(FoundBatch(store=store, run=run, submission=submission), "abandon", also_asked=True)
        store.let_go(
            run.id,
            found.submission.id,
            model=run.job.model or "",
            price_version=context.prices.version,
            now_us=context.clock.now_us(),
        )
    finally:
        hold.release()


# --- sweeping


class SweptRun(Struct, frozen=True, kw_only=True):
    """`known` duplicates were in the books before; `collect` names the runs whose batches were found again."""

    run: Run
    swept: Swept
    known: int
    collect: tuple[str, ...]


def sweep_runs(context: Context, label: str | None) -> list[SweptRun]:
    """Sweep for one run, or for each that sent batches which the service may still know."""
    if label is not None:
        with context.found_run(label) as (store, run):
            if run.job.simulated:
                raise UsageInvalid(f"run {run.label} is simulated: it has no batches.", name="simulated-batches")
            return [_swept(context, store, run)]
    if False not in context.existing_stores():
        return []
    swept: list[SweptRun] = []
    with context.store(simulated=False) as store:
        for run in _young_runs(context, store):
            try:
                swept.append(_swept(context, store, run))
            except RunLocked:
                context.note(f"run {run.label} is being worked on; it sweeps by itself when it ends.")
    return swept


def _young_runs(context: Context, store: Store) -> list[Run]:
    since_us = context.clock.now_us() - RETENTION_DAYS * DAY_US
    ids = [one.run for one in store.recent_submissions(MANY) if one.intent.intent_us >= since_us]
    return [store.run_by_id(run) for run in dict.fromkeys(ids)]


def _swept(context: Context, store: Store, run: Run) -> SweptRun:
    known = len(store.duplicates_of(run.id))
    told = _at_desk(context, store, run, sweep)
    if isinstance(told, Failure):
        raise _unanswered(told)
    owners = [store.run_by_id(store.submission(batch_id).run).label for batch_id in told.claimed]
    return SweptRun(run=run, swept=told, known=known, collect=tuple(dict.fromkeys(owners)))


# --- the desk


def _at_desk(context: Context, store: Store, run: Run, work: Callable[[Common], Awaitable[T]]) -> T:
    """Do something about a run's batches with the service, while nobody else works on the run. Raises RunLocked."""
    credential = find_credential(context.settings.service)
    hold = store.hold(run, context.clock.now_us)
    try:
        # What a dead process was just sending is of unknown end from now on, and nothing else.
        store.take_up_submissions(run.id)
        return anyio.run(_connected_to, context, store, run, credential, hold, work)
    finally:
        hold.release()


async def _connected_to(
    context: Context,
    store: Store,
    run: Run,
    credential: Credential,
    hold: Hold,
    work: Callable[[Common], Awaitable[T]],
) -> T:
    job, settings, clock = run.job, context.settings, context.clock
    async with Client(connected(job, settings, job.base_url, credential), clock=clock) as client:
        service, stop, renderer = Batches(client), Stop(), Renderer(job)
        common = Common(
            run=run,
            store=store,
            service=service,
            calls=BatchCalls(service, clock, stop, patience_s=SHORT_PATIENCE_S),
            renderer=renderer,
            judge=Judge(job, renderer),
            prices=context.prices,
            clock=clock,
            stop=stop,
            meter=Meter(clock.monotonic()),
            timing=timing_of(settings),
            spool=spool_of(settings),
            fingerprint=credential.fingerprint,
            writes=anyio.CapacityLimiter(1),
            tell=teller(context, run, NoProgress()),
        )
        return await _while_held(common, hold, work)


async def _while_held(common: Common, hold: Hold, work: Callable[[Common], Awaitable[T]]) -> T:
    """The lease of a run has to be extended while we work on it."""
    told: list[T] = []

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beat, hold, common.run, common.clock)
            told.append(await work(common))
            tasks.cancel_scope.cancel()
    except* RunnerError as group:
        raise first_of(group) from None
    return told[0]


_ERROR_OF_TROUBLE: dict[AccountTrouble, type[RunnerError]] = {
    AccountTrouble.CREDENTIALS: CredentialsRefused,
    AccountTrouble.ADDRESS: JobInvalid,
    AccountTrouble.BILLING: BudgetReached,
    AccountTrouble.SPEND_CAP: BudgetReached,
    AccountTrouble.MODEL: JobInvalid,
    AccountTrouble.BETA: JobInvalid,
}


def _unanswered(failure: Failure) -> RunnerError:
    """What the service said instead of an answer, as the error that a command ends with."""
    if failure.trouble is not None:
        return _ERROR_OF_TROUBLE[failure.trouble](f"{failure.message}", hints=("runner doctor --online",))
    return Stalled(f"the service gave no answer: {failure.message}", hints=("nothing was changed; try again later.",))
