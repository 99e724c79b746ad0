"""From a job to a run in the store: found again, gone on with, or made new. Nothing is sent in here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from runner.api.credentials import check_base_url
from runner.cli.context import Context
from runner.cli.earlier_runs import answered_in, rows_of
from runner.cli.row_sample import LOOKED_AT_ROWS
from runner.clock import Clock
from runner.domain.job import DEFAULT_BASE_URL, DEFAULT_CONCURRENCY, Job, OnBadRow, OutputSpec
from runner.domain.model_rules import model_problem
from runner.domain.packing import API_MAX_REQUESTS
from runner.domain.pricing import PICO_PER_USD, PriceBook
from runner.domain.quantity import of_rows
from runner.domain.run import NewRun, Run
from runner.domain.states import FINISHED_RUN, PauseReason, RunState
from runner.domain.submission import Timing
from runner.errors import InputChanged, InputInvalid, JobInvalid
from runner.files.check import (
    InputReport,
    accepted_input,
    can_check_first,
    check_input,
    first_difference,
)
from runner.files.environment import filled_in
from runner.files.input_door import is_local, opened_door, place_of
from runner.files.render import Renderer
from runner.files.sinks.targets import check_target
from runner.files.source import STDIN, Input
from runner.settings import DOTENV, ENV, FLAG, Settings
from runner.store.runs import MadeMeanwhile
from runner.store.store import Store

ABOVE_THE_JOB = frozenset({FLAG, ENV, DOTENV})


class Launch(Struct, frozen=True, kw_only=True):
    """A run that is ready to be worked on, or found again with nothing left to send.

    `job` is the present one; the run keeps its own, but for what may change on resume.
    """

    run: Run
    job: Job
    source: Input
    report: InputReport | None
    renderer: Renderer

    @property
    def finished(self) -> bool:
        return self.run.state in FINISHED_RUN


def settled(job: Job, settings: Settings, *, simulated: bool, betas: Sequence[str] = ()) -> Job:
    """The job with the limits, the budget and the address that settings decide, and the betas of all who name some:
    the job, the flags, the environment's custom headers. They are part of what is asked, so the run keeps them."""
    limits = replace(
        job.limits,
        concurrency=_chosen(settings, "concurrency", job.limits.concurrency, unset=DEFAULT_CONCURRENCY),
        rpm=_chosen(settings, "rpm", job.limits.rpm),
        itpm=_chosen(settings, "itpm", job.limits.itpm),
        otpm=_chosen(settings, "otpm", job.limits.otpm),
    )
    budget_usd = _chosen(settings, "max_usd", job.budget_pico)
    return replace(
        job,
        limits=limits,
        batch=replace(job.batch, max_requests=_smallest(job.batch.max_requests, settings.batch_max_requests)),
        budget_pico=int(budget_usd * PICO_PER_USD) if isinstance(budget_usd, Decimal) else budget_usd,
        base_url=DEFAULT_BASE_URL if simulated else check_base_url(settings.service.base_url or DEFAULT_BASE_URL),
        simulated=simulated,
        betas=tuple(dict.fromkeys((*job.betas, *betas, *_betas_of(settings.service.custom_headers)))),
    )


def _smallest(*told: int | None) -> int | None:
    """The requests of a batch: nobody's word is exceeded, the API's included; None where nobody says."""
    given = [number for number in told if number is not None]
    return min(*given, API_MAX_REQUESTS) if given else None


def timing_of(settings: Settings) -> Timing:
    """The times of the batch protocol, its defaults where the environment says nothing."""
    told = {
        "window_s": settings.batch_window_s,
        "settle_s": settings.batch_settle_s,
        "poll_s": settings.batch_poll_s,
    }
    return Timing(**{name: seconds for name, seconds in told.items() if seconds is not None})


def _betas_of(headers: Mapping[str, str]) -> list[str]:
    told = [value for name, value in headers.items() if name.lower() == "anthropic-beta"]
    return [name.strip() for value in told for name in value.split(",") if name.strip()]


def _chosen(settings: Settings, name: str, of_job: Any, *, unset: Any = None) -> Any:
    """Flags and the environment go before the job, files of settings after it."""
    of_settings = getattr(settings, name)
    if of_settings is None:
        return of_job
    above = settings.layer.get(name) in ABOVE_THE_JOB
    return of_settings if above or of_job == unset else of_job


def own_limits_from(job: Job, settings: Settings) -> dict[str, str]:
    """Where each of the job's own limits was set, in words; those that only the job itself sets are left out."""
    return {
        name: settings.origin[name]
        for name in ("rpm", "itpm", "otpm")
        if name in settings.origin and getattr(settings, name) == getattr(job.limits, name)
    }


# What stands in a job file for a later version, and what can be done now.
_LATER = {
    "eval": "--set eval=null asks, and judges nothing",
    "tools": "--set tools=null sends the request as it is; a tool call then ends the row",
}


def refuse_later_blocks(job: Job) -> None:
    """Raises JobInvalid for a block that this version checks and cannot carry out."""
    if job.later:
        it = "it" if len(job.later) == 1 else "them"
        raise JobInvalid(
            f"this version checks {' and '.join(job.later)} and cannot carry {it} out yet.",
            name="not-yet",
            hints=tuple(_LATER[name] for name in job.later),
        )


def check_model(job: Job, prices: PriceBook, *, any_model: bool) -> None:
    """Raises JobInvalid for a retired model, one that looks misspelt, or a budget without a price."""
    instead = [job.instead.model] if job.instead else []
    for model in dict.fromkeys((job.model, *(variant.model for variant in job.variants), *instead)):
        if model is not None:
            _check_model(replace(job, model=model), prices, any_model=any_model)


def _check_model(job: Job, prices: PriceBook, *, any_model: bool) -> None:
    problem = model_problem(job.model, prices) if job.model else None
    if problem is None:
        return
    known_address = job.base_url == DEFAULT_BASE_URL
    if not any_model and (problem.retired or known_address):
        hints = [f"did you mean {problem.nearest} ?"] if problem.nearest else []
        why = "if it answers all the same" if problem.retired else "if it is newer than this runner"
        hints.append(f"{why}: --any-model (its cost will be unknown)")
        name = "retired-model" if problem.retired else "unknown-model"
        raise JobInvalid(problem.sentence, name=name, hints=hints)
    if job.budget_pico is not None or job.budget.has_cap:
        raise JobInvalid(
            f"no price is known for {problem.model}, so a budget cannot be kept.",
            name="no-price",
            hints=("leave the budget out, or use a model that `runner models` lists",),
        )


def check_output(spec: OutputSpec) -> None:
    """Raises, before anything is paid for, where results could not be written."""
    if spec.path is not None:
        check_target(spec.path, spec)
    elif spec.database is not None:
        from runner.files.foreign_database import check_reachable

        check_reachable(filled_in(spec.database, os.environ, "output.database"))


@contextmanager
def opened_input(job: Job, home: Path, store: Store | None = None) -> Iterator[tuple[Job, Input]]:
    """The job's input, and the job with its place as the run's identity knows it."""
    rows_of_run, answered = (None, None) if store is None else (rows_of(store), answered_in(store, job))
    with opened_door(job, home / "spool", rows_of_run=rows_of_run, answered=answered) as source:
        if is_local(job.input):
            job = replace(job, input=replace(job.input, path=source.place))
        yield job, source


@contextmanager
def looked_at_input(context: Context, job: Job) -> Iterator[tuple[Job, Input]]:
    """The same for commands that only look: a store is opened where the job asks for earlier runs."""
    home = context.settings.home
    with ExitStack() as open_:
        asks = job.input.run is not None or job.input.unanswered
        store = open_.enter_context(context.store()) if asks else None
        yield open_.enter_context(opened_input(job, home, store))


# Asked before a run is made, with its checked input: the job as it is agreed to.
Agree = Callable[[Job, InputReport, Renderer], Job]


class Wish(Struct, frozen=True, kw_only=True):
    """What the command line says beside the job."""

    key: str | None = None
    new: bool = False
    agree: Agree | None = None


def launch(job: Job, wish: Wish, source: Input, store: Store, clock: Clock) -> Launch:
    """The run that this command means. Raises InputChanged, InputInvalid, JobInvalid.

    The same question over the same input is the same run: gone on with if it has not ended, found done if it has.
    """
    renderer = Renderer(job)
    store.set_job_caps(job.name, job.budget.per_day_pico, job.budget.per_month_pico)
    while True:
        try:
            return _found_or_made(job, wish, source, renderer, store, clock)
        except MadeMeanwhile:
            continue  # the same command began at the same moment: its run is ours


def _found_or_made(job: Job, wish: Wish, source: Input, renderer: Renderer, store: Store, clock: Clock) -> Launch:
    found = None if wish.new else _found(job, wish.key, store)
    if found is not None and not can_check_first(source):
        return _again(found, job, source, renderer)
    if found is not None:
        if _same_input(found, source):
            if wish.agree is not None and found.pause_reason is PauseReason.SAMPLED:
                read = accepted_input(source, renderer, job.input, draw=LOOKED_AT_ROWS)
                job = wish.agree(job, read, renderer)
            return _again(found, job, source, renderer)
        if found.state not in FINISHED_RUN or wish.key is not None:
            raise _changed(found, source, renderer, store)
    new, report = _new(job, wish, source, renderer)
    if wish.agree is not None and report is not None:
        job = wish.agree(job, report, renderer)
        new = replace(new, job=job)
    newest = None if wish.new else found.id if found else 0
    run = store.create_run(new, clock.now_us(), newest=newest)
    return Launch(run=run, job=job, source=source, report=report, renderer=renderer)


def _found(job: Job, key: str | None, store: Store) -> Run | None:
    runs = store.find_runs(job.identity(), key)
    if key is not None and runs and runs[0].identity != job.identity():
        raise JobInvalid(
            f"the key {key!r} belongs to run {runs[0].label}, which asks something else.",
            name="key-taken",
            hints=(f"runner show {runs[0].label}", "use another --key for another question"),
        )
    return runs[0] if runs else None


def _same_input(run: Run, source: Input) -> bool:
    """Has the input the bytes that the run began with? A run with a limit looks no further than it has read."""
    if run.input_digest is None or run.input_bytes is None:
        return True  # checked as it was staged; the ingest compares what it has
    end, digest = 0, ""
    for block in source.blocks():
        end, digest = block.end_offset, block.digest
        if run.job.input.limit is not None and end >= run.input_bytes:
            break
    return (end, digest) == (run.input_bytes, run.input_digest)


def _changed(run: Run, source: Input, renderer: Renderer, store: Store) -> InputChanged:
    skipped = _report(run.job, source, renderer).bad_lines
    line = first_difference(source, store.staged_lines(run.id), bad_lines=skipped, whole=run.ingest_done)
    where = "after the rows that are staged" if line is None else f"at line {line}"
    return InputChanged(
        f"{source.place} is not what run {run.label} began with: it differs {where}.",
        hints=(
            f"{_rows(store, run)} are answered and kept; nothing was sent.",
            "to go on with that run: restore the input and run the same command again",
            "to ask the changed input from the beginning: the same command with --new",
        ),
    )


def _rows(store: Store, run: Run) -> str:
    tally = store.tally(run.id)
    return of_rows(tally.ended)


def _again(run: Run, job: Job, source: Input, renderer: Renderer) -> Launch:
    report = None
    if run.input_digest is not None and not run.ingest_done:
        report = _report(run.job, source, renderer)
    return Launch(run=run, job=job, source=source, report=report, renderer=renderer)


def relaunch(run: Run, job: Job, store: Store, open_: ExitStack, home: Path) -> Launch:
    """Go on with a run that is named. Its input is compared if it is still there, and needed only while rows of it
    have not been staged."""
    renderer = Renderer(replace(run.job, instead=job.instead, prompt_cache=job.prompt_cache, batch=job.batch))
    if run.state is RunState.CANCELING:  # no row of it is asked any more
        return staged_launch(run, job)
    source = _reopened(run, store, home, open_)
    if source is None:
        if not run.ingest_done:
            raise InputInvalid(
                f"the input of run {run.label}, {run.input_uri}, was not read to its end and is not there now.",
                name="input-missing",
                hints=("give the same input to the same `runner run` command again",),
            )
        source = Input.of_nothing(run.input_uri)
    elif can_check_first(source) and not _same_input(run, source):
        raise _changed(run, source, renderer, store)
    return _again(run, job, source, renderer)


def _reopened(run: Run, store: Store, home: Path, open_: ExitStack) -> Input | None:
    """The input of a run, None where it is not there or would be fetched again for nothing."""
    spec = run.job.input
    if spec.path == STDIN or (run.ingest_done and not is_local(spec)):
        return None
    try:
        return open_.enter_context(opened_input(run.job, home, store))[1]
    except InputInvalid:
        return None


def staged_launch(run: Run, job: Job) -> Launch:
    """A run that needs no input any more: all of it is in the store."""
    nothing = Input.of_nothing(run.input_uri)
    return Launch(run=run, job=job, source=nothing, report=None, renderer=Renderer(run.job))


def _report(job: Job, source: Input, renderer: Renderer) -> InputReport:
    """What is to be skipped of an input that has been checked before; nothing, where bad rows are no option."""
    if job.input.on_bad_row is OnBadRow.FAIL:
        return InputReport()
    return check_input(source, renderer, on_bad_row=job.input.on_bad_row, limit=job.input.limit)


def _new(job: Job, wish: Wish, source: Input, renderer: Renderer) -> tuple[NewRun, InputReport | None]:
    """What a run is to be made from, its input checked whole if it can be."""
    report = None
    if can_check_first(source):
        report = accepted_input(source, renderer, job.input, draw=LOOKED_AT_ROWS)
    new = NewRun(
        job=job,
        key=wish.key,
        input_uri=job.input.path or place_of(job),
        input_digest=report.digest if report else None,
        input_bytes=report.size if report else None,
        records=report.records if report else None,
        skipped=report.bad_count if report else 0,
        output=job.output.path,
    )
    return new, report
