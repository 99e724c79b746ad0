"""What every transaction of a run begins with: is it still ours, and who pays for it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from runner.domain.budget import Payer
from runner.domain.run import Run
from runner.store import holder, runs
from runner.store.database import Database


class Transactions:
    """The base of the store: its database, the runs that this process holds, and their payers."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._holds: dict[int, holder.Hold] = {}
        self._payers: dict[int, Payer] = {}

    def hold(self, run: Run, now_us: Any) -> holder.Hold:
        """Raises RunLocked when another process holds the run.

        From then on nothing is staged or claimed for it by this store once the hold is lost: a chunk in the hands
        of a process that is no longer the holder would be done by nobody.
        """
        hold = self._holds[run.id] = holder.take(self.database, run, now_us)
        return hold

    def _check_hold(self, connection: Connection, run: int) -> None:
        """Raises RunLocked when the run is held by somebody else by now."""
        if (hold := self._holds.get(run)) is not None:
            hold.check(connection)

    def _payer(self, run: int) -> Payer:
        """Whose budgets pay for the run. A run's job never changes its name."""
        if run not in self._payers:
            self._payers[run] = self.database.read(lambda c: runs.payer_of(c, run))
        return self._payers[run]
