"""How each setting is read from its text. A value that cannot be used says why; the caller adds which one it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

LOG_LEVELS = ("debug", "info", "warning", "error")
TIERS = ("start", "build", "scale")
LOG_FORMATS = ("auto", "human", "json")


class Unusable(ValueError):
    """Why a value cannot be used, as the end of a sentence."""


class Setting(NamedTuple):
    """`own` ones may also be given as a file, by `<variable>_FILE`."""

    variable: str
    read: Callable[[str], Any]
    own: bool = True


def _text(told: str) -> str:
    if not told.strip():
        raise Unusable("is empty")
    return told.strip()


def _positive(told: str) -> int:
    try:
        number = int(told.strip().replace("_", ""))
    except ValueError:
        raise Unusable(f"must be a whole number, not {told!r}") from None
    if number < 1:
        raise Unusable(f"must be at least 1, not {number}")
    return number


def _seconds(told: str) -> float:
    try:
        seconds = float(told.strip())
    except ValueError:
        raise Unusable(f"must be a number of seconds, not {told!r}") from None
    if not 0 < seconds < float("inf"):
        raise Unusable(f"must be a number of seconds above 0, not {told!r}")
    return seconds


def amount(told: str) -> Decimal:
    """Dollars as they are typed. Raises Unusable."""
    try:
        read = Decimal(told.strip().removeprefix("$"))
    except InvalidOperation:
        raise Unusable(f"must be an amount in US dollars such as 25 or 0.50, not {told!r}") from None
    if not read.is_finite() or read < 0:
        raise Unusable(f"must be an amount of at least 0, not {told!r}")
    return read


def _cap(told: str) -> Decimal:
    """An amount, or `none`, which takes away a cap that was set before: infinitely much."""
    return Decimal("Infinity") if told.strip().lower() == "none" else amount(told)


def _truth(told: str) -> bool:
    word = told.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise Unusable(f"must be 1 or 0, not {told!r}")


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def read(told: str) -> str:
        word = told.strip().lower()
        if word not in words:
            raise Unusable(f"must be one of {', '.join(words)}, not {told!r}")
        return word

    return read


def _database_url(told: str) -> str:
    """`postgres://`, as hosting providers write it, is understood. No error repeats it: it may hold a password."""
    scheme, separator, rest = _text(told).partition("://")
    if not separator or scheme.partition("+")[0] not in ("sqlite", "postgresql", "postgres"):
        raise Unusable("must begin with sqlite:/// or postgresql://")
    return f"{'postgresql' if scheme == 'postgres' else scheme}://{rest}"


def _headers(told: str) -> Mapping[str, str]:
    """Lines of `Name: value`, as the official clients read them."""
    headers: dict[str, str] = {}
    for line in filter(None, map(str.strip, told.splitlines())):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise Unusable("must hold lines of the form Name: value")
        headers[name.strip()] = value.strip()
    return MappingProxyType(headers)


def _tables(told: str) -> Mapping[str, Any]:
    """A table of tables, as JSON; files of settings write it in their own way."""
    try:
        table = json.loads(told, parse_float=str)
    except ValueError:
        table = None
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise Unusable('must be a table of tables by model, such as {"claude-haiku-5-5": {"multiplier": 0.9}}')
    return MappingProxyType(table)


SETTINGS: Mapping[str, Setting] = {
    "database_url": Setting("RUNNER_DATABASE_URL", _database_url),
    "simulated_database_url": Setting("RUNNER_SIMULATED_DATABASE_URL", _database_url),
    "rpm": Setting("RUNNER_RPM", _positive),
    "itpm": Setting("RUNNER_ITPM", _positive),
    "otpm": Setting("RUNNER_OTPM", _positive),
    "tier": Setting("RUNNER_TIER", _one_of(TIERS)),
    "concurrency": Setting("RUNNER_CONCURRENCY", _positive),
    "max_usd": Setting("RUNNER_MAX_USD", amount),
    "max_usd_day": Setting("RUNNER_MAX_USD_DAY", _cap),
    "max_usd_month": Setting("RUNNER_MAX_USD_MONTH", _cap),
    "confirm_usd": Setting("RUNNER_CONFIRM_USD", _cap),
    "prices": Setting("RUNNER_PRICES", _text),
    "model_prices": Setting("RUNNER_MODEL_PRICES", _tables),
    "batch_poll_s": Setting("RUNNER_BATCH_POLL_S", _seconds),
    "batch_window_s": Setting("RUNNER_BATCH_WINDOW_S", _seconds),
    "batch_settle_s": Setting("RUNNER_BATCH_SETTLE_S", _seconds),
    "batch_max_requests": Setting("RUNNER_BATCH_MAX_REQUESTS", _positive),
    "log_level": Setting("RUNNER_LOG_LEVEL", _one_of(LOG_LEVELS)),
    "log_format": Setting("RUNNER_LOG_FORMAT", _one_of(LOG_FORMATS)),
    "no_input": Setting("RUNNER_NO_INPUT", _truth),
    "api_key": Setting("ANTHROPIC_API_KEY", str, own=False),
    "auth_token": Setting("ANTHROPIC_AUTH_TOKEN", str, own=False),
    "admin_key": Setting("ANTHROPIC_ADMIN_KEY", str, own=False),
    "base_url": Setting("ANTHROPIC_BASE_URL", _text, own=False),
    "custom_headers": Setting("ANTHROPIC_CUSTOM_HEADERS", _headers, own=False),
}


def without_password(url: str) -> str:
    """A database URL that may be shown. Options are left out, because drivers take passwords there too."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "..."
    user, at, place = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{':***' if colon else ''}{at}{place}"
    return f"{parts.scheme}://{netloc}{parts.path}"


def simulated_beside(url: str) -> str:
    """The SQLite store of simulated runs: `runner.db` to `runner-simulated.db`, same folder, same options."""
    place, mark, options = url.partition("?")
    if place.endswith(":memory:") or not place.partition("://")[2].strip("/"):
        return url  # a store in memory is nobody else's
    folder, slash, name = place.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    simulated = f"{stem}-simulated.{suffix}" if dot and stem else f"{name}-simulated"
    return f"{folder}{slash}{simulated}{mark}{options}"
