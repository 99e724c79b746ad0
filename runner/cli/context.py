"""What a command finds ready: settings, stores, clock and consoles. Made once a command, everything at first use."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from runner.clock import SystemClock
from runner.domain.run import Run
from runner.errors import JobInvalid, UsageInvalid
from runner.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.console import Console

    from runner.domain.pricing import PriceBook
    from runner.store.store import Store

PROGRESS_KINDS = ("none", "plain", "bar", "json")
SCHEMA = 1
KNOWN_LABELS = 200


@dataclass(kw_only=True)
class Context:
    """The wishes of the command line, and what follows from them.

    `flags` are settings that were given as options, by setting name.
    """

    flags: dict[str, object] = field(default_factory=dict)
    json: bool = False
    plain: bool = False
    quiet: bool = False
    verbosity: int = 0
    no_color: bool = False
    no_env: bool = False
    simulate: bool = False
    progress: str | None = None

    @cached_property
    def settings(self) -> Settings:
        """Read once, after all options are known."""
        settings = load_settings(os.environ, Path.cwd(), self.flags, use_dotenv=not self.no_env)
        if settings.origin.keys() & {"log_level", "log_format"}:
            self._start_logging(settings.log_level if "log_level" in settings.origin else None, settings.log_format)
        return settings

    @cached_property
    def clock(self) -> SystemClock:
        return SystemClock()

    @cached_property
    def prices(self) -> PriceBook:
        """Raises UsageInvalid where a table of one's own cannot be used."""
        from runner.cli.prices import price_book_of

        return price_book_of(self.settings)

    def start_logging(self) -> None:
        """Before anything else, by what the environment says; files of settings are heard when they are read."""
        self._start_logging(os.environ.get("RUNNER_LOG_LEVEL"), os.environ.get("RUNNER_LOG_FORMAT"))

    def _start_logging(self, level: str | None, form: str | None) -> None:
        from runner.cli.logs import start_logging

        of_flags = "error" if self.quiet else {0: None, 1: "info"}.get(self.verbosity, "debug")
        start_logging(level=of_flags or level, form=form)

    # --- stores

    def store(self, *, simulated: bool | None = None) -> Store:
        """Open the store of real or of simulated runs; which of them, `--simulate` says. To be used in a `with`."""
        from runner.store.store import Store

        store = Store.open(self.store_url(simulated=self.simulate if simulated is None else simulated))
        if not store.database.is_sqlite:  # all machines that share a store go by its clock
            self.clock.offset_us += store.fleet.offset_us(self.clock.now_us())
        return store

    def store_url(self, *, simulated: bool) -> str:
        return self.settings.simulated_database_url if simulated else self.settings.database_url

    def existing_stores(self) -> list[bool]:
        """Which stores there are, as `simulated`: the real one first. Looking makes none."""
        wanted = [True] if self.simulate else [False, True]
        return [simulated for simulated in wanted if self._store_exists(simulated)]

    def _store_exists(self, simulated: bool) -> bool:
        try:
            url = self.store_url(simulated=simulated)
        except JobInvalid:
            return False  # no simulated store is named, so no run was ever simulated
        return sqlite_file_exists(url)

    @contextmanager
    def found_run(self, label: str) -> Iterator[tuple[Store, Run]]:
        """The run that `label` names and its open store: the real one is looked at first."""
        known: list[str] = []
        for simulated in self.existing_stores():
            with self.store(simulated=simulated) as store:
                run = _run_or_none(store, label)
                if run is not None:
                    yield store, run
                    return
                known += [known_run.label for known_run in store.recent_runs(KNOWN_LABELS)]
        raise no_such_run(label, known)

    # --- output

    def stdout_console(self) -> Console:
        """For results. Nothing that is printed there is read as markup."""
        return self._console(sys.stdout)

    def stderr_console(self) -> Console:
        """For progress; animated only on a terminal where somebody looks."""
        return self._console(sys.stderr)

    def _console(self, file: IO[str]) -> Console:
        from rich.console import Console

        plain_terminal = os.environ.get("TERM") == "dumb" or self.no_color or bool(os.environ.get("NO_COLOR"))
        terminal = file.isatty()
        return Console(
            file=file,
            markup=False,
            highlight=False,
            emoji=False,
            soft_wrap=False,
            force_terminal=terminal,
            # With FORCE_COLOR in a pipe rich would animate; it is never asked.
            force_interactive=terminal and is_watched(os.environ),
            no_color=plain_terminal or None,
        )

    def print_json(self, document: Mapping[str, Any]) -> None:
        """One document on stdout. Everything beyond ASCII is escaped, so that it is inert on any terminal."""
        text = json.dumps({"schema": SCHEMA, **document}, indent=2).replace("\x7f", "\\u007f")
        click.echo(text)

    def note(self, text: str) -> None:
        """A remark on stderr, left out with -q."""
        if not self.quiet:
            from runner.cli.messages import say

            say(text)


def is_watched(env: Mapping[str, str]) -> bool:
    """Neither a build server nor a terminal that cannot move its cursor."""
    return not env.get("CI") and env.get("TERM") != "dumb"


def sqlite_file_exists(url: str) -> bool:
    """Is there a database at the URL? Of a server that is taken for granted."""
    scheme, _, place = url.partition("://")
    if not scheme.startswith("sqlite"):
        return True
    path = Path(place.partition("?")[0].removeprefix("/"))
    return path.is_file() and path.stat().st_size > 0


def _run_or_none(store: Store, label: str) -> Run | None:
    try:
        return store.run(label)
    except UsageInvalid as error:
        if error.name == "no-run":
            return None
        raise


def no_such_run(label: str, known: list[str]) -> UsageInvalid:
    from runner.domain.nearest import suggest

    if label == "latest" or not known:
        return UsageInvalid("there are no runs yet.", name="no-run", hints=("runner run JOB.yaml   starts one",))
    near = suggest(label if label.startswith("r_") else f"r_{label}", known)
    hints = [f"did you mean {near} ?"] if near else []
    return UsageInvalid(f"there is no run {label!r}.", name="no-run", hints=(*hints, "runner status   lists them"))
