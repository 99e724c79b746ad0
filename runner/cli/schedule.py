"""`schedule`: jobs that run by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from runner.cli.command import ExampleGroup, command
from runner.cli.context import Context
from runner.cli.firing import work_on_fire
from runner.cli.job_argument import absolute_output, job_of
from runner.cli.launch import settled
from runner.cli.messages import say
from runner.cli.options import (
    duration,
    input_option,
    json_option,
    limit_option,
    limited_to,
    mode_option,
    output_option,
    param_option,
    plain_option,
    progress_option,
    simulate_option,
)
from runner.domain.cron import fires_after, next_fire
from runner.domain.schedule import (
    CatchUp,
    FireKind,
    Overlap,
    ScheduleSpec,
    backfill,
    clock_words,
)
from runner.errors import UsageInvalid
from runner.store.schedules import Schedule, ScheduledJob
from runner.views.schedule_tables import (
    history_json,
    history_table,
    schedule_facts,
    schedule_json,
    schedule_table,
)

SHOWN_FIRES = 20
SHOWN_NEXT = 5
# More is more likely a slip in a date than a wish.
MOST_BACKFILLED = 1_000


@click.group(
    "schedule",
    cls=ExampleGroup,
    examples=(
        'runner schedule add jobs/triage.yaml --cron "30 2 * * *" --timezone Europe/Berlin',
        "runner schedule ls",
        "* * * * *  runner schedule tick -q      (a line of crontab; or let `runner scheduler` run)",
    ),
)
def schedule() -> None:
    """Jobs that run by themselves: each time that their schedule names, once, whoever looks and however often."""


@command(
    "add",
    examples=(
        "runner schedule add job.yaml",
        'runner schedule add job.yaml --cron "30 2 * * mon-fri" --timezone Europe/Berlin -p date=yesterday',
    ),
)
@click.argument("job_file", metavar="JOB.yaml")
@click.option("--name", metavar="TEXT", help="What the schedule is called; without it as the job is.")
@click.option("--cron", metavar="TEXT", help='When, as in crontab: "30 2 * * *"; without it as the job says.')
@click.option("--timezone", metavar="ZONE", help="Whose wall clock, as Europe/Berlin; without it UTC.")
@click.option("--overlap", type=click.Choice(list(Overlap)), help="When the one before is still at work.")
@click.option("--catch-up", type=click.Choice(list(CatchUp)), help="Which of the missed ones run later.")
@click.option("--deadline", metavar="TIME", callback=duration, help="Do not begin later than this after the time.")
@click.option("--jitter", metavar="TIME", callback=duration, help="Begin up to this later, always equally late.")
@input_option
@output_option
@mode_option
@limit_option
@param_option
@simulate_option
@json_option
def add(
    context: Context,
    job_file: str,
    name: str | None,
    input_path: str | None,
    output_path: str | None,
    mode: str | None,
    limit: int | None,
    params: Mapping[str, str],
    **timing: Any,
) -> None:
    """Let a job run by itself. The same name again changes its schedule.

    The job file is read anew each time, so what it says then is what is asked. Parameters that are `today`,
    `yesterday`, `tomorrow` or `fire_time` mean the day and the time of the fire.
    """
    overrides = {
        "input.path": _absolute_input(input_path),
        "output.path": absolute_output(output_path),
        "mode": mode,
        "input.limit": limit,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    job = job_of(job_file, params, given)
    if job.input.path in (None, "-"):
        raise UsageInvalid("a scheduled job needs an input that is there each time.", hints=("-i FILE",))
    spec = _spec(job.schedule, timing, job_file)
    settled(job, context.settings, simulated=context.simulate)
    now_us = context.clock.now_us()
    told = ScheduledJob(
        file=str(Path(job_file).absolute()), folder=str(Path.cwd()), params=dict(params), overrides=given
    )
    with context.store() as store:
        cron, zone = spec.parsed()
        made = store.schedules.put(
            name or job.name, spec, told, next_fire_us=next_fire(cron, zone, now_us), now_us=now_us
        )
        if context.json:
            context.print_json({"schedule": schedule_json(made, None)})
            return
        say(f"schedule {made.name}: next {clock_words(made.next_fire_us, zone)} {spec.timezone}.")
        context.note("  it runs while `runner scheduler` does, or with this line of crontab:")
        context.note("  * * * * *  runner schedule tick -q")


def _absolute_input(path: str | None) -> str | None:
    return path if path is None or path == "-" or "://" in path else str(Path(path).absolute())


def _spec(of_job: ScheduleSpec | None, timing: Mapping[str, Any], job_file: str) -> ScheduleSpec:
    names = {"deadline": "deadline_s", "jitter": "jitter_s"}
    given = {names.get(name, name): value for name, value in timing.items() if value is not None}
    if of_job is None and "cron" not in given:
        raise UsageInvalid(
            f"{job_file} does not say when it is to run.",
            hints=('--cron "30 2 * * *", or in the job: schedule: { cron: "30 2 * * *" }',),
        )
    base = {} if of_job is None else {name: getattr(of_job, name) for name in ScheduleSpec.__struct_fields__}
    told = {**base, **given}
    told |= {"overlap": Overlap(told.get("overlap", "skip")), "catch_up": CatchUp(told.get("catch_up", "latest"))}
    spec = ScheduleSpec(**told)
    try:
        spec.parsed()
    except ValueError as problem:
        raise UsageInvalid(f"the schedule {problem}.") from None
    return spec


@command("ls", examples=("runner schedule ls", "runner schedule ls --json"))
@simulate_option
@json_option
@plain_option
def ls(context: Context) -> None:
    """All schedules: when they run next, and how the last time went."""
    with context.store() as store:
        found = [(one, store.schedules.history(one, 1)) for one in store.schedules.all()]
        if context.json:
            told = [schedule_json(one, past[0] if past else None) for one, past in found]
            context.print_json({"schedules": told})
            return
        if not found:
            context.note("there are no schedules yet.   runner schedule add JOB.yaml   makes one")
            return
        console = context.stdout_console()
        width = console.width if console.is_terminal else None
        for line in schedule_table(found, width, plain=context.plain):
            click.echo(line)


@command("show", examples=("runner schedule show nightly",))
@click.argument("name")
@simulate_option
@json_option
def show(context: Context, name: str) -> None:
    """One schedule: what it runs, its rules, and the next times."""
    with context.store() as store:
        one = store.schedules.named(name)
        cron, zone = one.spec.parsed()
        nexts = list(islice(fires_after(cron, zone, context.clock.now_us()), SHOWN_NEXT)) if one.enabled else []
        past = store.schedules.history(one, 1)
        if context.json:
            told = schedule_json(one, past[0] if past else None)
            context.print_json({"schedule": {**told, "next": [clock_words(at, zone) for at in nexts]}})
            return
        for line in schedule_facts(one, nexts, past[0] if past else None):
            click.echo(line)


@command("history", examples=("runner schedule history nightly", "runner schedule history nightly -n 100 --json"))
@click.argument("name")
@limited_to("How many fires.", default=SHOWN_FIRES, show_default=True)
@simulate_option
@json_option
@plain_option
def history(context: Context, name: str, limit: int) -> None:
    """What became of each time: done, failed, missed, skipped, and why."""
    with context.store() as store:
        one = store.schedules.named(name)
        past = store.schedules.history(one, limit)
        if context.json:
            context.print_json({"schedule": one.name, "fires": [history_json(one, fire) for fire in past]})
            return
        console = context.stdout_console()
        for line in history_table(one, past, console.width if console.is_terminal else None, plain=context.plain):
            click.echo(line)


def _enabling(word: str, text: str, *, enabled: bool) -> Any:
    @command(word, examples=(f"runner schedule {word} nightly",))
    @click.argument("name")
    @simulate_option
    def change(context: Context, name: str) -> None:
        with context.store() as store:
            one = store.schedules.named(name)
            store.schedules.enable(one, enabled=enabled, now_us=context.clock.now_us())
            say(f"schedule {one.name} {'goes on' if enabled else 'is paused'}.")

    change.help = text
    return change


@command("rm", examples=("runner schedule rm nightly",))
@click.argument("name")
@simulate_option
def rm(context: Context, name: str) -> None:
    """Forget a schedule and the history of its fires. Its runs stay, and what is at work goes on."""
    with context.store() as store:
        one = store.schedules.named(name)
        store.schedules.drop(one)
        say(f"schedule {one.name} is gone; its runs are not.")


@command("run", examples=("runner schedule run nightly",))
@click.argument("name")
@simulate_option
@json_option
@progress_option
def run(context: Context, name: str) -> int:
    """Run a schedule's job now, in this terminal, as a fire of this moment."""
    with context.store() as store:
        one = store.schedules.named(name)
        now_us = context.clock.now_us() // 1_000_000 * 1_000_000
        store.schedules.ask_for(one, [now_us], FireKind.MANUAL, now_us)
        if not store.schedules.begin(one, now_us, now_us):
            raise UsageInvalid(f"schedule {one.name} has just been started.", name="just-started")
        return work_on_fire(context, store, one, now_us)


def _moment(_context: click.Context, _parameter: click.Parameter, told: str) -> datetime:
    try:
        return datetime.fromisoformat(told)
    except ValueError:
        raise click.BadParameter(f"{told!r} is no date or time such as 2026-11-01 or 2026-11-01T08:00.") from None


@command("backfill", examples=("runner schedule backfill nightly --from 2026-11-01 --to 2026-11-07T23:59",))
@click.argument("name")
@click.option("--from", "begin", required=True, metavar="TIME", callback=_moment, help="From this date or time on.")
@click.option("--to", "end", required=True, metavar="TIME", callback=_moment, help="Up to this date or time.")
@simulate_option
@json_option
def backfill_command(context: Context, name: str, begin: datetime, end: datetime) -> None:
    """Have times of the past run after all, one after the other, each with the parameters of its day.

    What went well already is not asked again. They wait for the next look of `runner scheduler` or `schedule tick`.
    """
    with context.store() as store:
        one = store.schedules.named(name)
        times = _times(context, one, begin, end)
        waiting = store.schedules.ask_for(one, times, FireKind.BACKFILL, context.clock.now_us())
        if context.json:
            context.print_json({"schedule": one.name, "times": len(times), "waiting": waiting})
            return
        say(f"{waiting} of {len(times)} times wait for their turn.   runner schedule history {one.name}")


def _times(context: Context, one: Schedule, begin: datetime, end: datetime) -> list[int]:
    _cron, zone = one.spec.parsed()
    from_us, until_us = (
        round((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1e6) for moment in (begin, end)
    )
    if until_us >= context.clock.now_us():
        raise UsageInvalid("--to lies in the future; the schedule itself sees to that.")
    times = backfill(one.spec, from_us, until_us, MOST_BACKFILLED)
    if len(times) > MOST_BACKFILLED:
        raise UsageInvalid(f"these are more than {MOST_BACKFILLED:,} times; take a shorter span.")
    if not times:
        raise UsageInvalid(f"schedule {one.name} names no time between these two.")
    return times


@command("tick", examples=("* * * * *  runner schedule tick -q",))
@simulate_option
def tick(context: Context) -> int:
    """Look once what is due, run it, and wait for that: a line of crontab, once a minute.

    Any number of them may look at the same time; each fire runs once. Exit 0 when all that was started went well.
    """
    from runner.cli.scheduler import look_once

    return look_once(context)


@command("work", examples=("runner schedule work nightly 1795221000000000",))
@click.argument("name")
@click.argument("fire_us", type=int)
@click.option("--detach", is_flag=True, help="Leave the work to the fleet's workers, and wait for them.")
@simulate_option
def work(context: Context, name: str, fire_us: int, detach: bool) -> int:
    """Work on a fire that is started; the scheduler calls this."""
    with context.store() as store:
        return work_on_fire(context, store, store.schedules.named(name), fire_us, detach=detach)


work.hidden = True
pause = _enabling("pause", "Start nothing until it is resumed; what falls due meanwhile is left out.", enabled=False)
resume = _enabling("resume", "Let a paused schedule go on with the next time.", enabled=True)
for each in (add, ls, show, history, pause, resume, run, backfill_command, rm, tick, work):
    schedule.add_command(each)
