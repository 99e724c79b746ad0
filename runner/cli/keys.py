"""`+` and `-` while a run is shown: more or fewer calls at once. The terminal gives up its line editing meanwhile,
and gets it back however the program ends."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio

from runner.domain.pace import Pace

try:
    import termios
    import tty
except ImportError:  # a system without terminals of this kind
    termios = tty = None  # type: ignore[assignment]

MORE, FEWER = 1.25, 0.8
SHARES = {"+": MORE, "=": MORE, "-": FEWER, "_": FEWER}


def keys_can_be_read() -> bool:
    """Somebody watches the screen and types where we read; a program in the background may not touch the terminal."""
    return termios is not None and sys.stdin.isatty() and sys.stderr.isatty() and _in_foreground(sys.stdin.fileno())


async def obey_keys(place: int, pace: Pace) -> None:
    """Until cancelled."""
    while True:
        await anyio.wait_readable(place)
        if not _in_foreground(place):
            await anyio.sleep(1)  # a read would stop us
            continue
        typed = os.read(place, 64)
        if not typed:
            return  # the terminal is gone
        for key in typed.decode("ascii", errors="ignore"):
            if key in SHARES:
                pace.change_maximum(SHARES[key])


@contextmanager
def single_keys(place: int) -> Iterator[None]:
    """Keys come one by one and are not shown; signals, Ctrl-C among them, stay what they are."""
    before = termios.tcgetattr(place)
    restore = _restorer(place, before)
    atexit.register(restore)
    try:
        tty.setcbreak(place, termios.TCSANOW)
        yield
    finally:
        restore()
        atexit.unregister(restore)


def _restorer(place: int, before: list[Any]) -> Callable[[], None]:
    def restore() -> None:
        # In the background this write would stop the program in its last moment.
        old = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            termios.tcsetattr(place, termios.TCSADRAIN, before)
        except (termios.error, OSError):
            pass  # there is no terminal any more
        finally:
            signal.signal(signal.SIGTTOU, old)

    return restore


def _in_foreground(place: int) -> bool:
    try:
        return os.tcgetpgrp(place) == os.getpgrp()
    except OSError:
        return False
