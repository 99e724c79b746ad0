"""`${NAME}` in connection strings and webhooks: read from the environment when it is needed, and never stored."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from runner.domain.environment import VARIABLE, expanded
from runner.domain.nearest import did_you_mean
from runner.errors import JobInvalid


def filled_in(text: str, env: Mapping[str, str], what: str) -> str:
    """`text` with the environment's values. Raises JobInvalid for one that is not set; no value is ever shown."""
    try:
        return expanded(text, env)
    except KeyError as missing:
        name = str(missing.args[0])
    near = did_you_mean(name, [known for known in env if known.endswith(("_URL", "_URI", "_DSN"))])
    raise JobInvalid(
        f"{what} needs ${{{name}}}, which is not set{near}.",
        name="missing-variable",
        hints=(f"fix: export {name}=...",),
    )


def holds_password(url: str) -> bool:
    """Does an address carry a password in the open? It would end up in every place where a job is kept."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return False
    return bool(password) and not VARIABLE.fullmatch(str(password))
