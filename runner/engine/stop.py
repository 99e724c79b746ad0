"""One place that says whether a run goes on, and why it does not."""

from __future__ import annotations

import signal

import anyio
from msgspec import Struct

from runner.clock import Clock
from runner.domain.states import PauseReason


class Pause(Struct, frozen=True, kw_only=True):
    """Why the run stops before its end. `signal_number` is set when a person or a supervisor asked by signal."""

    reason: PauseReason
    message: str
    signal_number: int | None = None


class Stop:
    """The first reason given stands; `asked` is set from then on: nothing new is sent, what is in flight may end.

    `hurried` is set when a second signal says that not even that is waited for.
    """

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.hurried = anyio.Event()
        self._signaled = False
        self.pause: Pause | None = None
        self.canceled = False

    def pause_for(self, reason: PauseReason, message: str) -> None:
        self._set(Pause(reason=reason, message=message))

    def by_signal(self, number: int) -> None:
        if self._signaled:
            self.hurried.set()
            return
        self._signaled = True
        name = signal.Signals(number).name
        self._set(Pause(reason=PauseReason.REQUESTED, message=f"stopped by {name}", signal_number=number))

    def cancel(self) -> None:
        """The whole run is to be canceled."""
        self.canceled = True
        self.asked.set()

    def _set(self, pause: Pause) -> None:
        if self.pause is None and not self.canceled:
            self.pause = pause
        self.asked.set()

    async def sleep(self, clock: Clock, seconds: float, *unless: anyio.Event) -> None:
        """Sleep, but not beyond the moment at which the run is to stop or one of these events comes."""
        async with anyio.create_task_group() as either:

            async def until(event: anyio.Event) -> None:
                await event.wait()
                either.cancel_scope.cancel()

            for event in (self.asked, *unless):
                either.start_soon(until, event)
            await clock.sleep(seconds)
            either.cancel_scope.cancel()

    @property
    def why(self) -> str | None:
        """In words, None while the run goes on."""
        return "canceled" if self.canceled else self.pause.message if self.pause else None

    @property
    def was_requested(self) -> bool:
        """Somebody wished it; nothing about the run was wrong."""
        return self.pause is not None and self.pause.reason is PauseReason.REQUESTED

    def is_asked(self) -> bool:
        return self.asked.is_set()
