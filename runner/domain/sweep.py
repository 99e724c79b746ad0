"""Looking for batches of ours that no submission owns: the duplicates that the protocol could not prevent. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set

from msgspec import Struct

from runner.domain.batch import BatchStatus


class SweepTargets(Struct, frozen=True, kw_only=True):
    """Whose first line to read now, whom to look at once they have ended, and whom nobody can read."""

    read: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def sweep_targets(
    batches: Iterable[BatchStatus],
    sizes: Collection[int],
    *,
    owned: Set[str],
    foreign: Set[str],
    exclusive: bool = False,
) -> SweepTargets:
    """Which of the listed batches to check.

    `sizes` are the numbers of rows of all submissions of this store, ended and retired ones included. In an
    exclusive workspace every batch that nobody owns is checked.
    """
    read: list[str] = []
    later: list[str] = []
    unreadable: list[str] = []
    for batch in batches:
        if batch.id in owned or batch.id in foreign or not (exclusive or batch.total in sizes):
            continue
        if batch.archived:
            unreadable.append(batch.id)
        else:
            (read if batch.has_ended else later).append(batch.id)
    return SweepTargets(read=tuple(read), later=tuple(later), unreadable=tuple(unreadable))
