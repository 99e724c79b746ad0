"""The command group: names and one-line helps as data, everything else imported when its command is called."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import click

from runner import __version__
from runner.cli.exits import READER_GONE, drop_stdout, exit_code_of
from runner.domain.nearest import suggest


class Entry(NamedTuple):
    """Where a command is found, and its line in the help."""

    place: str
    text: str


SECTIONS: Mapping[str, Mapping[str, Entry]] = {
    "Work": {
        "ask": Entry("runner.cli.ask:ask", "One question over a table, without a job file"),
        "run": Entry("runner.cli.run:run", "Ask Claude for every row, or go on where that stopped"),
        "resume": Entry("runner.cli.run:resume", "Go on with a run that paused or was killed"),
        "retry": Entry("runner.cli.run:retry", "Ask the failed rows of a finished run again"),
        "collect": Entry("runner.cli.collect:collect", "Fetch the results of batches that have ended, and leave"),
        "pause": Entry("runner.cli.pause:pause", "Let a run stop where it can go on later"),
        "cancel": Entry("runner.cli.pause:cancel", "End a run; its answers stay"),
    },
    "By themselves": {
        "schedule": Entry("runner.cli.schedule:schedule", "Jobs that run at their times: add, ls, history, backfill"),
        "scheduler": Entry("runner.cli.scheduler:scheduler", "Runs the jobs of all schedules until it is stopped"),
        "worker": Entry("runner.cli.fleet:worker", "One member of a fleet on PostgreSQL"),
        "workers": Entry("runner.cli.fleet:workers", "Who works in the fleet, and on what"),
        "attach": Entry("runner.cli.fleet:attach", "Watch a run that others work on, until it ends"),
        "cron": Entry("runner.cli.cron_lines:cron", "A line of crontab for a job"),
        "k8s": Entry("runner.cli.cron_lines:k8s", "A Kubernetes CronJob for a job"),
    },
    "Look": {
        "status": Entry("runner.cli.status:status", "Recent runs"),
        "show": Entry("runner.cli.show:show", "One run: rows, tokens, cost, what to do"),
        "batches": Entry("runner.cli.batches:batches", "Message Batches: list, show, adopt, abandon, sweep"),
        "cost": Entry("runner.cli.cost:cost", "What was spent, by job, model, day or tag; the books and the bill"),
        "failures": Entry("runner.cli.failures:failures", "What failed and how to mend it; one row in full"),
        "explain": Entry("runner.cli.explain:explain", "What an error means, what becomes of the rows, what to do"),
        "export": Entry("runner.cli.export:export", "Write a run's results to a file"),
        "tokens": Entry("runner.cli.tokens:tokens", "Have the service count the input tokens of rows; free"),
        "preview": Entry("runner.cli.preview:preview", "The exact requests of the first rows; nothing is sent"),
        "estimate": Entry("runner.cli.estimate:estimate", "What a job will cost and how long it will take"),
        "check": Entry("runner.cli.check:check", "A job file and its whole input; nothing is sent"),
    },
    "Set up": {
        "import": Entry("runner.cli.import_:import_", "Rows and a job from another program's batch file"),
        "schema": Entry("runner.cli.schema:schema", "The JSON Schema of a job file, for editors"),
        "init": Entry("runner.cli.init:init", "Write a first job to start from"),
        "models": Entry("runner.cli.models:models", "Models: prices, context, retirement; what the service says"),
        "doctor": Entry("runner.cli.doctor:doctor", "What is set, what is missing, what is wrong"),
        "files": Entry("runner.cli.files:files", "Files at the service: list, upload, show, download, delete"),
        "skills": Entry("runner.cli.skills:skills", "Skills of the workspace: list, create, show, versions, delete"),
        "db": Entry("runner.cli.db:db", "The database: its state, its upgrade"),
        "purge": Entry("runner.cli.purge:purge", "Take the contents of old runs out of the database"),
        "simulator": Entry("runner.cli.simulator:simulator", "The Claude API offline, on a port of this machine"),
    },
}
COMMANDS: Mapping[str, Entry] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}

EXAMPLES = (
    ("runner init", "a job to start from"),
    ("runner run job.yaml --simulate", "rehearse it: no key, no cost"),
    ("runner run job.yaml -o out.jsonl --max-usd 5", "ask; the same line goes on after a stop"),
    ("runner failures latest", "what failed, and what to do"),
)


@contextmanager
def _importing() -> Iterator[None]:
    """What an import makes stays: to look through it for garbage takes a tenth of a start, and time in every later
    collection. Nothing has been done yet, so Ctrl-C simply ends the process: raised in the middle of somebody's class
    it would come out as an error of that class."""
    obeyed = signal.getsignal(signal.SIGINT)
    ends = obeyed is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if ends:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        if ends:
            signal.signal(signal.SIGINT, obeyed)


class Root(click.Group):
    """`runner`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.place.partition(":")
        if module not in sys.modules:
            with _importing():
                importlib.import_module(module)
        found: click.Command = getattr(sys.modules[module], attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = suggest(name, COMMANDS)
            question = f" (did you mean {near}?)" if near else ""
            raise click.UsageError(f"there is no command {name!r}{question}.", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("Prompts in bulk through the Claude API: resumable, within limits, cost-tracked.\n\n")
        width = max(len(line) for line, _ in EXAMPLES)
        for line, remark in EXAMPLES:
            formatter.write(f"  {line:{width}}  {remark}\n")
        formatter.write("\n")
        self.format_usage(ctx, formatter)
        self.format_options(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", entry.text) for name, entry in entries.items()])
        click.Command.format_options(self, ctx, formatter)

    def main(  # type: ignore[override]  # of its two forms only the one that ends the process is offered
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **told: Any
    ) -> NoReturn:
        """Run a command line and exit with its code."""
        told["standalone_mode"] = False
        base = super().main
        sys.exit(exit_code_of(lambda: base(args, prog_name or "runner", **told)))

    def invoke(self, ctx: click.Context) -> Any:
        """The command's own result; a reader who has gone away is no error to talk about."""
        try:
            told = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            drop_stdout()
            raise click.exceptions.Exit(READER_GONE) from None
        return told


@click.group("runner", cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="runner", message="%(prog)s %(version)s")
def root() -> None:
    """All commands."""
