"""Memory of long runs: one heap for all threads."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

# glibc's number for the greatest number of heaps (malloc.h).
M_ARENA_MAX = -8


def share_one_heap() -> None:
    """Called before the first thread. glibc gives threads heaps of their own; rows that one thread reads, another
    sends and a third stores leave holes in each, and a run of a million rows takes a tenth more than one of ten
    thousand. Our threads take turns anyway. On other C libraries this does nothing.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
