"""The tree of errors that stop a command. Each knows its exit code; the command line only prints them.

What the service normally answers (a 429, an overload, a refusal) is not here: that is an outcome, a value.

    RunnerError                  1
    +-- NothingToDo              0   no row is asked for; not an error, and there is no run
    +-- UsageInvalid             2   wrong flags or arguments
    +-- RowsFailed               3   finished with failed rows, or too many of them failed
    +-- BudgetReached            4   our budget, the provider's spend cap or the credit is used up
    +-- CredentialsRefused       5   missing or refused key
    +-- JobInvalid               6   job file, template, model or parameters
    |   +-- MissingColumn        6   no row has a column that the job names
    |   +-- InputInvalid         6   a bad row, an unreadable input
    |   +-- InputChanged         6   the input of an unfinished run is not the one it began with
    +-- RunLocked                7   somebody else holds the run
    +-- SchemaMismatch           8   the database is behind or ahead of this program
    +-- UnknownBatches          10   submissions of unknown outcome are held
    +-- StoreFault              11   disk full, database unreachable or damaged
    +-- DuplicateBatch          12   a duplicate batch was found and priced
    +-- Stalled                 75   saved, safe to run again
    +-- Interrupted        130/143   SIGINT or SIGTERM, saved
"""

from __future__ import annotations

from collections.abc import Sequence


class RunnerError(Exception):
    """One sentence for a person, and what to do next.

    `name` is the stable word in `error[name]: ...`; `hints` are the lines under it (where, why, what to type).
    """

    exit_code = 1
    name = "unexpected"

    def __init__(self, message: str, *, name: str | None = None, hints: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hints = tuple(hints)
        if name is not None:
            self.name = name


class NothingToDo(RunnerError):
    """What chooses rows has chosen none: a night without new tickets is a good night."""

    exit_code = 0
    name = "nothing-to-do"


class UsageInvalid(RunnerError):
    exit_code = 2
    name = "usage"


class RowsFailed(RunnerError):
    exit_code = 3
    name = "rows-failed"


class BudgetReached(RunnerError):
    exit_code = 4
    name = "budget"


class CredentialsRefused(RunnerError):
    exit_code = 5
    name = "credentials"


class JobInvalid(RunnerError):
    exit_code = 6
    name = "job"


class MissingColumn(JobInvalid):
    """`column` is what the job names and no row has."""

    name = "missing-column"

    def __init__(self, message: str, *, column: str, hints: Sequence[str] = ()) -> None:
        super().__init__(message, hints=hints)
        self.column = column


class InputInvalid(JobInvalid):
    name = "input"


class InputChanged(InputInvalid):
    name = "input-changed"


class RunLocked(RunnerError):
    exit_code = 7
    name = "locked"


class SchemaMismatch(RunnerError):
    exit_code = 8
    name = "schema"


class UnknownBatches(RunnerError):
    exit_code = 10
    name = "unknown-batches"


class StoreFault(RunnerError):
    exit_code = 11
    name = "store"


class DuplicateBatch(RunnerError):
    exit_code = 12
    name = "duplicate-batch"


class Stalled(RunnerError):
    exit_code = 75
    name = "stalled"


class Interrupted(RunnerError):
    exit_code = 130
    name = "interrupted"

    def __init__(self, message: str, *, signal_number: int, hints: Sequence[str] = ()) -> None:
        super().__init__(message, hints=hints)
        self.exit_code = 128 + signal_number


def first_of(group: BaseExceptionGroup[RunnerError]) -> RunnerError:
    """What ended a group of tasks; the others were stopped for it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, RunnerError):
        raise TypeError("a group of RunnerError holds nothing else")
    return error
