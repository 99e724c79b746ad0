"""Help is quick, begins with examples, and knows what was meant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from runner import __version__
from runner.cli.root import COMMANDS, SECTIONS, Root, root
from tests.cli.conftest import Cli

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = (
    "sqlalchemy",
    "alembic",
    "rich",
    "pydantic",
    "httpx",
    "anyio",
    "jinja2",
    "ruamel",
    "msgspec",
    "sqlite3",
    "asyncio",
)


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "sys.argv = ['runner', '--help']\n"
        "from runner.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules], len(sys.modules))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("LOADED [] ")
    assert int(last.split()[-1]) < 250


# What a run loads only where its job asks for it.
NOT_OF_EVERY_RUN = (
    "runner.engine.batch.lane",
    "procrastinate",
    "pyarrow",
    "fsspec",
    "jsonschema",
    "runner.simulator",
)


def test_a_run_loads_only_what_every_run_needs() -> None:
    program = f"import sys, runner.cli.run\nprint([name for name in {NOT_OF_EVERY_RUN!r} if name in sys.modules])\n"
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "[]\n"


def test_help_lists_every_command_in_its_section(cli: Cli) -> None:
    shown = cli("--help").stdout
    for section, entries in SECTIONS.items():
        assert f"\n{section}:\n" in shown
        for name, entry in entries.items():
            assert name in shown
            assert entry.text in shown


def test_help_shows_examples_before_usage(cli: Cli) -> None:
    shown = cli("--help").stdout
    assert shown.index("runner init") < shown.index("Usage:")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(cli: Cli, name: str) -> None:
    done = cli(name, "--help")
    assert done.exit_code == 0, done.stderr
    assert f"Usage: runner {name}" in done.stdout
    if name != "db":
        assert done.stdout.startswith(f"Examples:\n  runner {name}")


def test_every_option_of_every_command_says_what_it_does() -> None:
    context = click.Context(root)
    assert isinstance(root, Root)
    for name in COMMANDS:
        found = root.get_command(context, name)
        assert found is not None
        bare = [p.name for p in found.params if isinstance(p, click.Option) and not p.help and p.name != "host"]
        assert bare == [], name


def test_the_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"runner {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["staus"], "did you mean status?"),
        (["RUN", "x.yaml"], "did you mean run?"),
        (["--versoin"], "did you mean --version ?"),
        (["status", "--jsno"], "did you mean --json ?"),
        (["export", "latest", "--ouput", "x"], "did you mean --output ?"),
        (["db", "upgrad"], "upgrade"),
    ],
)
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(cli: Cli, arguments: list[str], meant: str) -> None:
    done = cli(*arguments)
    assert done.exit_code == 2
    assert meant in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["show"], ["status", "-n", "0"], ["check", "x.yaml", "-p", "novalue"]]
)
def test_wrong_usage_is_exit_2_and_names_the_help(cli: Cli, arguments: list[str]) -> None:
    done = cli(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("error[usage]: ")
    assert "--help" in done.stderr
    assert done.stderr.endswith("  exit 2\n")


def test_without_a_command_there_is_help(cli: Cli) -> None:
    done = cli()
    assert done.exit_code == 2
    assert "Usage: runner" in done.stderr + done.stdout
