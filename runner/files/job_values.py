"""The kinds of values that a job file has, read from what people write: times, sizes, shares, money, names."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from runner.domain.deadline import FORMS, check_deadline
from runner.domain.durations import seconds_of
from runner.domain.job import API_VERSIONS
from runner.domain.nearest import did_you_mean
from runner.domain.packing import API_MAX_BYTES
from runner.domain.pricing import PICO_PER_USD
from runner.domain.traps import TRAP_NAMES

MAX_REPEAT = 1_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BETA = re.compile(r"[A-Za-z0-9._-]+")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(kb|mb|gb)", re.IGNORECASE)
# Powers of ten, as the API's limits are read.
_BYTES = {"kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000}
# Less holds no request; it is more likely that somebody meant megabytes.
MIN_BATCH_BYTES = 1_000

# Headers that the program sets itself, and where to say instead what they would say.
SECRET_HEADERS = frozenset({"x-api-key", "authorization", "proxy-authorization", "cookie"})
OWN_HEADERS = {
    "anthropic-version": "use api_version",
    "anthropic-beta": "use betas",
    "host": "the program sets it",
    "content-length": "the program sets it",
    "content-type": "the program sets it",
    "transfer-encoding": "the program sets it",
    "connection": "the program sets it",
}


def name_of_thing(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "must be 1 to 64 letters, digits, dots, dashes or underscores, beginning with one of the first two"
        )
    return name


def header_name(name: str) -> str:
    if name.lower() in SECRET_HEADERS:
        raise ValueError(
            "is a secret; keys do not belong in a job file: use ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN"
        )
    if name.lower() in OWN_HEADERS:
        raise ValueError(f"may not be set here: {OWN_HEADERS[name.lower()]}")
    if not _HEADER.fullmatch(name):
        raise ValueError("is not a header name")
    return name


def header_value(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError("must be printable ASCII text on one line")
    return value


def beta_name(name: str) -> str:
    if not _BETA.fullmatch(name):
        raise ValueError("must be a beta's name, such as context-management-2025-06-27")
    return name


def trap_name(name: str) -> str:
    if name not in TRAP_NAMES:
        raise ValueError(f"knows no rule {name}{did_you_mean(name, TRAP_NAMES)}; they are {', '.join(TRAP_NAMES)}")
    return name


PYTHON_NAME = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"


def module_and_name(text: str) -> str:
    if not re.match(PYTHON_NAME, text):
        raise ValueError("must be module:function, such as jobs.tools:lookup")
    return text


def known_api_version(version: str) -> str:
    if version not in API_VERSIONS:
        raise ValueError(f"must be one of {', '.join(API_VERSIONS)}")
    return version


def seconds(value: Any) -> float:
    """`90`, `90s`, `10m`, `2h`."""
    found_s = seconds_of(value)
    if found_s is None:
        raise ValueError("must be a time such as 90s, 10m or a number of seconds")
    if not 1 <= found_s <= 86_400:
        raise ValueError("must be between 1s and 24h")
    return found_s


def cache_age(value: Any) -> bool | float:
    """`true`, `false`, or how old an answer may be: `12h`, `30d`, in seconds."""
    if isinstance(value, bool):
        return value
    found_s = seconds_of(value)
    if found_s is None or found_s <= 0:
        raise ValueError("must be true, false or how old an answer may be, such as 12h or 30d")
    return found_s


def size_in_bytes(value: Any) -> int:
    """`150MB`, `1.5 GB`, or a number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        return int(Decimal(found[1]) * _BYTES[found[2].lower()])
    raise ValueError("must be a size such as 150MB or a number of bytes")


def batch_bytes(value: Any) -> int:
    """`150MB`, `1.5 MB`, `500KB`, or a number of bytes."""
    size = size_in_bytes(value)
    if not MIN_BATCH_BYTES <= size <= API_MAX_BYTES:
        raise ValueError(f"must be between 1KB and {API_MAX_BYTES // _BYTES['mb']}MB")
    return size


def when_to_finish(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"must be {FORMS}")
    check_deadline(value)
    return value.strip()


def failures(value: Any) -> int | float:
    """A number of rows, or a share of them as a float."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            share = float(value.strip()[:-1]) / 100
        except ValueError:
            share = -1.0
        if 0 <= share <= 1:
            return share
    raise ValueError("must be a number of rows or a percentage such as 0.5%")


def pico(value: Any) -> int:
    """Dollars as written, to exact pico-dollars."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise ValueError("must be an amount in dollars")
    try:
        amount = Decimal(str(value)) * PICO_PER_USD
    except InvalidOperation:
        raise ValueError("must be an amount in dollars") from None
    if not amount.is_finite() or amount < 0 or amount > 10**9 * PICO_PER_USD:
        raise ValueError("must be an amount in dollars")
    if amount != amount.to_integral_value():
        raise ValueError("has more than 12 decimals")
    return int(amount)


def share(value: Any) -> float:
    """`80%`, or 0.8."""
    found = value
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            found = float(value.strip()[:-1]) / 100
        except ValueError:
            found = None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 < found <= 1:
        raise ValueError("must be a percentage such as 80%")
    return float(found)


def amount_alone(value: Any) -> Any:
    """`budget: 5` is short for `budget: { usd: 5 }`."""
    return value if value is None or isinstance(value, dict) else {"usd": value}


Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A map whose unknown keys are errors and whose values are not bent into shape."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


NUMBER_OR_TEXT = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}
Duration = Annotated[float, BeforeValidator(seconds), WithJsonSchema(NUMBER_OR_TEXT)]
Size = Annotated[int, BeforeValidator(size_in_bytes), WithJsonSchema(NUMBER_OR_TEXT)]
BatchSize = Annotated[int, BeforeValidator(batch_bytes), WithJsonSchema(NUMBER_OR_TEXT)]
# Held in pico-dollars.
Usd = Annotated[int, BeforeValidator(pico), WithJsonSchema(NUMBER_OR_TEXT)]
Share = Annotated[float, BeforeValidator(share), WithJsonSchema(NUMBER_OR_TEXT)]
