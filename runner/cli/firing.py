"""One fire of a schedule: its job, as its file is now, run under the fire's own key; and the fire's end."""

from __future__ import annotations

import signal
from contextlib import ExitStack

from msgspec.structs import replace

from runner.cli.context import Context
from runner.cli.fleet import attached
from runner.cli.job_argument import job_of
from runner.cli.launch import Wish, check_model, check_output, launch, opened_input, settled
from runner.cli.notices import tell_of_fire
from runner.cli.sending import check_credential
from runner.cli.working import detached, work
from runner.domain.cron import local_time, zone_of
from runner.domain.job import Job
from runner.domain.notify import Occasion
from runner.domain.pricing import shipped_prices
from runner.domain.run import Run
from runner.domain.schedule import fire_key, params_at
from runner.domain.states import PauseReason, RunState
from runner.errors import Interrupted, NothingToDo, RunLocked, RunnerError, Stalled, StoreFault
from runner.store.schedules import Schedule
from runner.store.store import Store

# After these the fire is still to be worked on, by us or by whoever holds its run.
_GOES_ON = (RunLocked, StoreFault, Stalled, Interrupted)
_SIGNALED = frozenset({128 + signal.SIGINT, 128 + signal.SIGTERM})


def work_on_fire(context: Context, store: Store, schedule: Schedule, fire_us: int, *, detach: bool = False) -> int:
    """Run the job of a fire that is started, and record how it ended; the run's exit code.

    What was stopped in between is left open, and taken up again by whoever looks next.
    """
    try:
        code = _worked(context, store, schedule, fire_us, detach=detach)
    except _GOES_ON:
        raise
    except NothingToDo as nothing:
        _end(context, store, schedule, fire_us, nothing.exit_code, nothing.message)
        raise
    except RunnerError as error:
        _end(context, store, schedule, fire_us, error.exit_code, error.message)
        tell_of_fire(context, schedule, fire_us, frozenset({Occasion.FAILED}), error.message)
        raise
    run = _run_of(store, schedule, fire_us)
    if not _is_left_open(code, run):
        reason = None if run is None or run.state is not RunState.PAUSED else run.pause_message
        _end(context, store, schedule, fire_us, code, reason)
    return code


def _worked(context: Context, store: Store, schedule: Schedule, fire_us: int, *, detach: bool) -> int:
    job = settled(job_at(schedule, fire_us), context.settings, simulated=context.simulate)
    check_model(job, shipped_prices(), any_model=True)
    check_output(job.output)
    check_credential(job, context.settings)
    wish = Wish(key=fire_key(schedule.name, fire_us, zone_of(schedule.spec.timezone)))
    with ExitStack() as open_:
        job, source = open_.enter_context(opened_input(job, context.settings.home, store))
        launched = launch(job, wish, source, store, context.clock)
        store.schedules.bind_run(schedule, fire_us, launched.run.id)
        if not detach:
            return work(context, store, launched)
        code = 0 if launched.run.detached else detached(context, store, launched, priority=0)
        return code or attached(context, store, store.run_by_id(launched.run.id), launched.job.output.path)


def job_at(schedule: Schedule, fire_us: int) -> Job:
    """The job of a schedule as its file is now, with its parameters as they are at a fire's time."""
    told = schedule.job
    declared = job_of(told.file, told.params, told.overrides)
    moment = local_time(fire_us, zone_of(schedule.spec.timezone))
    of_moment = params_at(declared.params, moment)
    if not of_moment:
        return declared
    job = job_of(told.file, {**told.params, **of_moment}, told.overrides)
    return replace(job, params={**job.params, **of_moment})


def _run_of(store: Store, schedule: Schedule, fire_us: int) -> Run | None:
    run = store.schedules.run_of(schedule, fire_us)
    return None if run is None else store.run_by_id(run)


def _is_left_open(code: int, run: Run | None) -> bool:
    """Stopped by a signal or by the service's silence: it goes on. Stopped by `runner pause`: that was meant."""
    if code in _SIGNALED:
        return True
    return code == Stalled.exit_code and (run is None or run.pause_reason is not PauseReason.REQUESTED)


def _end(context: Context, store: Store, schedule: Schedule, fire_us: int, code: int, reason: str | None) -> None:
    store.schedules.end(
        schedule, fire_us, exit_code=code, well=code == 0, reason=reason, now_us=context.clock.now_us()
    )
