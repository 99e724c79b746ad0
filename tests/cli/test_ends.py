"""However a command ends, it is one message and one exit code; only bugs leave a traceback, in a file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from runner import errors
from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.crash import crash_text
from runner.cli.root import Root
from tests.cli.conftest import Cli

ROW_TEXT = "the row says: my secret illness"


def ending_with(error: BaseException) -> click.Group:
    @command("fail", examples=("runner fail",))
    def fail(context: Context) -> None:
        """Fail."""
        raise error

    class OnlyFail(Root):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            return fail

        def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str, click.Command, list[str]]:
            return args[0], fail, args[1:]

    return OnlyFail("runner")


@pytest.mark.parametrize(
    ("error", "code", "first"),
    [
        (errors.UsageInvalid("no.", name="odd"), 2, "error[odd]: no."),
        (errors.RowsFailed("no."), 3, "error[rows-failed]: no."),
        (errors.BudgetReached("no."), 4, "paused[budget]: no."),
        (errors.CredentialsRefused("no."), 5, "error[credentials]: no."),
        (errors.InputChanged("no."), 6, "error[input-changed]: no."),
        (errors.RunLocked("no."), 7, "error[locked]: no."),
        (errors.SchemaMismatch("no."), 8, "error[schema]: no."),
        (errors.UnknownBatches("no."), 10, "error[unknown-batches]: no."),
        (errors.StoreFault("no."), 11, "error[store]: no."),
        (errors.DuplicateBatch("no."), 12, "error[duplicate-batch]: no."),
        (errors.Stalled("no."), 75, "paused[stalled]: no."),
        (errors.Interrupted("no.", signal_number=15), 143, "paused[interrupted]: no."),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, "interrupted."),
    ],
)
def test_an_error_is_a_line_and_a_code(error: BaseException, code: int, first: str) -> None:
    done = CliRunner().invoke(ending_with(error), ["fail"])
    assert done.exit_code == code
    assert done.stderr.splitlines()[0] == first
    assert "Traceback" not in done.output


def test_hints_are_indented_and_everything_is_inert() -> None:
    error = errors.JobInvalid("bad \x1b[31m name.", hints=("line one\nline two", "\u202eevil"))
    done = CliRunner().invoke(ending_with(error), ["fail"])
    assert done.stderr == "error[job]: bad \\x1b[31m name.\n  line one\n  line two\n  \\u202eevil\n  exit 6\n"


def test_a_bug_leaves_its_traceback_in_a_private_file(folder: Path) -> None:
    done = CliRunner().invoke(ending_with(ValueError(ROW_TEXT)), ["fail"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error[unexpected]: ValueError.\n  the traceback is in ")
    (path,) = (folder / "state" / "crashes").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert "in fail" in text
    assert ROW_TEXT not in text
    assert ROW_TEXT not in done.output


def test_a_bug_where_nothing_can_be_written_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_HOME", "/proc/nowhere")
    done = CliRunner().invoke(ending_with(TypeError("no such thing")), ["fail"])
    assert done.exit_code == 1
    assert "error[unexpected]: TypeError: no such thing." in done.stderr
    assert "could not be written" in done.stderr


def test_a_crash_text_holds_causes_and_groups_but_no_values() -> None:
    def fail() -> None:
        try:
            int(ROW_TEXT)
        except ValueError as error:
            raise ExceptionGroup("together " + ROW_TEXT, [KeyError(ROW_TEXT), RuntimeError("loop")]) from error

    with pytest.raises(ExceptionGroup) as caught:
        fail()
    text = crash_text(caught.value)
    assert [
        word for word in ("ValueError", "KeyError", "RuntimeError: loop", "ExceptionGroup") if word not in text
    ] == []
    assert ROW_TEXT not in text


def run(*arguments: str, **told: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **told}
    return subprocess.run([sys.executable, "-m", "runner", *arguments], capture_output=True, text=True, env=env)


def test_exit_codes_from_outside() -> None:
    assert run("status").returncode == 0
    assert run("nonsense").returncode == 2
    assert run("show", "latest").returncode == 2
    assert run("doctor").returncode == 5
    assert run("check", "missing.yaml").returncode == 6
    assert run("status", RUNNER_DATABASE_URL="sqlite:////dev/null/x").returncode in (0, 11)
    assert run("db", "upgrade", RUNNER_DATABASE_URL="sqlite:////dev/null/x").returncode == 11


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    """As in `runner preview job.yaml | head -1`."""
    (folder / "rows.jsonl").write_text('{"prompt": "hello"}\n' * 20_000)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    line = [sys.executable, "-m", "runner", "preview", "rows.jsonl", "-m", "claude-haiku-5-5", "-n", "20000", "-q"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


def test_colours_only_on_a_terminal(cli: Cli) -> None:
    assert not re.search("\x1b", cli("nonsense").stderr)
