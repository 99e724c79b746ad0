"""How long a process may be silent before the others go on without it: the lease of a run on PostgreSQL, and the
longest that a transaction of ours may stand idle. A process that was stopped in mid-transaction would else keep its
locks for ever.

`RUNNER_LEASE_S` makes it longer or shorter; all processes that share a store must be told the same.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

DEFAULT_LEASE_S = 30.0


def lease_from(env: Mapping[str, str]) -> float:
    """The lease in seconds; what cannot be one is as good as not said."""
    try:
        told_s = float(env.get("RUNNER_LEASE_S", ""))
    except ValueError:
        return DEFAULT_LEASE_S
    return told_s if 0 < told_s < math.inf else DEFAULT_LEASE_S


LEASE_US = round(lease_from(os.environ) * 1e6)
