"""A beta that the service does not take: the trouble of all rows, or of the one that brought it. Pure.

What every row goes with pauses the run, because each would meet it. What a row brought, or what only its own content
needs, ends that row alone and the others go on; until so many have met it, and nobody was answered in between, that
it is no longer a matter of single rows.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from runner.domain.betas import refusal, refused_name
from runner.domain.outcome import AccountTrouble, Failure, FailureKind

# So many in a row, and no answer between them: it is not the rows.
MOST_IN_A_ROW = 20


def is_of_rows(failure: Failure, own: Collection[str]) -> bool:
    """Whether the refused name is among those of the rows themselves."""
    return failure.trouble is AccountTrouble.BETA and refused_name(failure.message) in own


def refusal_of_row(failure: Failure) -> Failure:
    """The same failure as the row's: it ends, with what to do about it."""
    return replace(failure, kind=FailureKind.ROW, trouble=None, message=refusal(failure.message))


def is_of_most(rows: int, of: int | None) -> bool:
    """Whether a create that was refused for so many rows says enough about all of the run."""
    return rows >= MOST_IN_A_ROW and (of is None or rows * 2 > of)
