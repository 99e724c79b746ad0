"""SIGINT and SIGTERM, heard from the first moment of a loop to its last.

Left to itself, asyncio answers the first SIGINT by cancelling its main task wherever that happens to be, and a task
group that is just being opened may then wait for ever.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Obey = Callable[[int], None]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def heard(obey: Obey) -> Iterator[None]:
    """`obey` is called with each signal's number, in the running loop of the main thread."""
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, obey, number)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


class Interrupts:
    """What a signal does changes on the way: at first it ends everything at once, later the run is asked to stop."""

    def __init__(self, obey: Obey) -> None:
        self._obey = obey

    def obey(self, number: int) -> None:
        self._obey(number)

    @contextmanager
    def obeyed_by(self, obey: Obey) -> Iterator[None]:
        """Inside, signals are this one's."""
        before, self._obey = self._obey, obey
        try:
            yield
        finally:
            self._obey = before
