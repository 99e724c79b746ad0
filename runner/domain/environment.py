"""`${NAME}` in texts of a job: a place that is filled from the environment when it is needed. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expanded(text: str, env: Mapping[str, str]) -> str:
    """With the environment's values put in. Raises KeyError with the name of a variable that is not set."""
    return VARIABLE.sub(lambda found: env[found[1]], text)
