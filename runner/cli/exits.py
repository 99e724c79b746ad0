"""From whatever ended a command to a message and an exit code. Only bugs have tracebacks, and those go to a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from runner.cli.messages import message, print_error, say
from runner.domain.nearest import suggest
from runner.errors import RunnerError

USAGE = 2
INTERRUPTED = 130
# What a shell shows for a program whose reader has gone away (128 + SIGPIPE).
READER_GONE = 141


def exit_code_of(work: Callable[[], Any]) -> int:
    """Run a command to its end; whatever that is, say it and give back the exit code."""
    try:
        told = work()
    except RunnerError as error:
        print_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("interrupted.")
        return INTERRUPTED
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return USAGE
    except click.ClickException as error:
        _print_usage_error(error)
        return USAGE
    except Exception as error:  # noqa: BLE001 - the one place where a bug is told instead of shown
        _print_bug(error)
        return 1
    return told if isinstance(told, int) and not isinstance(told, bool) else 0


def drop_stdout() -> None:
    """The interpreter flushes stdout once more when it ends, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_usage_error(error: click.ClickException) -> None:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "runner"
    sentence, near = _usage_sentence(error, context)
    hints = [f"did you mean {near} ?"] if near else []
    message("error", "usage", sentence, [*hints, f"{path} --help"], exit_code=USAGE)


def _usage_sentence(error: click.ClickException, context: click.Context | None) -> tuple[str, str | None]:
    if isinstance(error, click.NoSuchOption):
        names = _option_names(context)
        return f"there is no option {error.option_name}.", suggest(error.option_name, names)
    said = error.format_message()
    return (said if said.endswith((".", "?")) else f"{said}."), None


def _option_names(context: click.Context | None) -> list[str]:
    """Options of this command that were not given yet."""
    if context is None:
        return []
    options = [
        parameter for parameter in context.command.get_params(context) if parameter.param_type_name == "option"
    ]
    return [name for option in options for name in (*option.opts, *option.secondary_opts) if name.startswith("--")]


def _print_bug(error: Exception) -> None:
    from runner.cli.crash import described, write_crash

    path = write_crash(error, state_folder() / "crashes")
    where = f"the traceback is in {path}" if path else "the traceback could not be written anywhere"
    hints = (where, "what was paid for is stored; this is a bug worth reporting")
    message("error", "unexpected", f"{described(error)}.", hints, exit_code=1)


def state_folder() -> Path:
    """Where state is kept, even if the settings are what broke."""
    import tempfile

    from runner.settings import load_settings

    try:
        return load_settings(os.environ, Path.cwd()).home
    except (RunnerError, OSError):
        return Path(tempfile.gettempdir()) / f"runner-{os.getuid()}"
