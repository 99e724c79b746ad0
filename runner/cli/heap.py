"""Memory of long runs: one heap for all threads, and fewer searches for garbage."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

# glibc's number for the greatest number of heaps (malloc.h).
M_ARENA_MAX = -8
# How many more objects there may be before the youngest are searched for cycles. With Python's 700 that is done all
# the time while hundreds of calls are out, and looks at what is in use: next to nothing of ours is a cycle.
YOUNG_OBJECTS = 20_000


def prepare_heap() -> None:
    """Called before the first thread of whoever makes many calls."""
    gc.set_threshold(YOUNG_OBJECTS)
    _share_one_heap()


def _share_one_heap() -> None:
    """glibc gives threads heaps of their own; rows that one thread reads, another sends and a third stores leave
    holes in each, and a run of a million rows takes a tenth more than one of ten thousand. Our threads take turns
    anyway. On other C libraries this does nothing."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
