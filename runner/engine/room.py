"""Calls that a budget has no room for, while others hold room that they will not need: they wait for it.

A call reserves the most that it can cost and gives back the rest when it ends, so a budget is rarely used up when
it is first said to be full. It is, once a call is refused and none is left that could give anything back.
"""

from __future__ import annotations

from collections import deque

import anyio


class Room:
    """How many reservations are held or being asked for, and who waits for one to end."""

    def __init__(self) -> None:
        self._open = 0
        self._ends = 0
        self._waiting: deque[anyio.Event] = deque()

    def asked(self) -> int:
        """A reservation is being asked for; what comes back says, for `comes`, since when."""
        self._open += 1
        return self._ends

    def taken(self) -> None:
        """It was granted. Where there was room for one there may be for the next."""
        self._wake()

    def refused(self) -> None:
        """It was not; if nobody else is left, whoever waits has to hear so too."""
        self._open -= 1
        if self._open == 0:
            self._wake()

    def given_back(self) -> None:
        """A call has ended, and what it had reserved is free."""
        self._open -= 1
        self._ends += 1
        self._wake()

    async def comes(self, since: int) -> bool:
        """Whether it is worth asking again, as soon as it is; False when nobody holds anything."""
        if self._ends != since:
            return True
        if self._open == 0:
            return False
        event = anyio.Event()
        self._waiting.append(event)
        await event.wait()
        return True

    def _wake(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()
