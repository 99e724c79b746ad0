"""The keys of a job file and the kinds of their values. What they mean together stands in `job_file`."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from runner.domain.budget import DEFAULT_WARN_SHARE
from runner.domain.deadline import FORMS, check_deadline
from runner.domain.job import API_VERSIONS, DEFAULT_AUTO_THRESHOLD, DEFAULT_CONCURRENCY, BatchSpec, Limits
from runner.domain.pace import MOST_CALLS
from runner.domain.packing import API_MAX_BYTES, API_MAX_REQUESTS
from runner.domain.pricing import PICO_PER_USD

MAX_REPEAT = 1_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BETA = re.compile(r"[A-Za-z0-9._-]+")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(kb|mb)", re.IGNORECASE)
# Powers of ten, as the API's limits are read.
_BYTES = {"kb": 1_000, "mb": 1_000_000}
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


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "must be 1 to 64 letters, digits, dots, dashes or underscores, beginning with one of the first two"
        )
    return name


def _header(name: str) -> str:
    if name.lower() in SECRET_HEADERS:
        raise ValueError(
            "is a secret; keys do not belong in a job file: use ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN"
        )
    if name.lower() in OWN_HEADERS:
        raise ValueError(f"may not be set here: {OWN_HEADERS[name.lower()]}")
    if not _HEADER.fullmatch(name):
        raise ValueError("is not a header name")
    return name


def _header_value(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError("must be printable ASCII text on one line")
    return value


def _beta(name: str) -> str:
    if not _BETA.fullmatch(name):
        raise ValueError("must be a beta's name, such as context-management-2025-06-27")
    return name


def _api_version(version: str) -> str:
    if version not in API_VERSIONS:
        raise ValueError(f"must be one of {', '.join(API_VERSIONS)}")
    return version


def _seconds(value: Any) -> float:
    """`90`, `90s`, `10m`, `2h`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        seconds = float(found[1]) * _SECONDS[found[2]]
    else:
        raise ValueError("must be a time such as 90s, 10m or a number of seconds")
    if not 1 <= seconds <= 86_400:
        raise ValueError("must be between 1s and 24h")
    return seconds


def _bytes(value: Any) -> int:
    """`150MB`, `1.5 MB`, `500KB`, or a number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        size = int(Decimal(found[1]) * _BYTES[found[2].lower()])
    else:
        raise ValueError("must be a size such as 150MB or a number of bytes")
    if not MIN_BATCH_BYTES <= size <= API_MAX_BYTES:
        raise ValueError(f"must be between 1KB and {API_MAX_BYTES // _BYTES['mb']}MB")
    return size


def _finish_by(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"must be {FORMS}")
    check_deadline(value)
    return value.strip()


def _failures(value: Any) -> int | float:
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


def _pico_or_none(value: Any) -> int | None:
    return None if value is None else pico(value)


def _share(value: Any) -> float:
    """`80%`, or a share such as 0.8."""
    share = value
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            share = float(value.strip()[:-1]) / 100
        except ValueError:
            share = None
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ValueError("must be a percentage such as 80%")
    return float(share)


def _amount_alone(value: Any) -> Any:
    """`budget: 5` is short for `budget: { usd: 5 }`."""
    return value if value is None or isinstance(value, dict) else {"usd": value}


def _plain_params(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError("must be a plain value or a list; typed parameters are not supported by this version")
    return value


Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A map whose unknown keys are errors and whose values are not bent into shape."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class InputSection(Section):
    path: str | None = None
    id: str | None = None
    on_bad_row: Literal["fail", "skip"] = "fail"
    limit: Count | None = None


class OutputSection(Section):
    path: str | None = None


class PerSection(Section):
    """Caps of all runs of the job together."""

    day: Annotated[int | None, BeforeValidator(_pico_or_none)] = None
    month: Annotated[int | None, BeforeValidator(_pico_or_none)] = None


class BudgetSection(Section):
    """Amounts are held in pico-dollars, `warn_at` as a share."""

    usd: Annotated[int | None, BeforeValidator(_pico_or_none)] = None
    per: PerSection = PerSection()
    warn_at: Annotated[float, BeforeValidator(_share)] = DEFAULT_WARN_SHARE
    reserve: Literal["worst", "likely"] = "worst"
    on_reach: Literal["pause"] = "pause"


class LimitsSection(Section):
    concurrency: Annotated[int, Field(ge=1, le=MOST_CALLS)] = DEFAULT_CONCURRENCY
    rpm: Count | None = None
    itpm: Count | None = None
    otpm: Count | None = None
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Limits().max_attempts
    max_turns: Annotated[int, Field(ge=1, le=100)] = Limits().max_turns
    row_timeout: Annotated[float, BeforeValidator(_seconds)] = Limits().row_timeout_s
    max_failures: Annotated[int | float | None, BeforeValidator(_failures)] = None
    row_usd: Annotated[int | None, BeforeValidator(_pico_or_none)] = None


class BatchSection(Section):
    max_requests: Annotated[int, Field(ge=1, le=API_MAX_REQUESTS)] | None = None
    max_bytes: Annotated[int, BeforeValidator(_bytes)] = BatchSpec().max_bytes
    max_queued: Count | None = None
    on_unknown: Literal["wait", "cancel", "resubmit"] = "wait"
    workspace_exclusive: bool = False
    delete_after: Literal["never", "ingest"] = "never"
    probe: bool = True
    warm_cache: Literal["auto", "never"] = "auto"


class AutoSection(Section):
    threshold: Count = DEFAULT_AUTO_THRESHOLD
    finish_by: Annotated[str | None, BeforeValidator(_finish_by)] = None


class JobSection(Section):
    """A whole job file."""

    version: Literal[1] = 1
    name: Annotated[str, AfterValidator(_name)] | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    prompt: Annotated[str, Field(min_length=1)] | None = None
    system: str | None = None
    request: dict[str, Any] = {}
    input: InputSection = InputSection()
    output: OutputSection = OutputSection()
    mode: Literal["live", "batch", "auto"] = "live"
    batch: BatchSection = BatchSection()
    auto: AutoSection = AutoSection()
    limits: LimitsSection = LimitsSection()
    budget: Annotated[BudgetSection | None, BeforeValidator(_amount_alone)] = None
    api_version: Annotated[str, AfterValidator(_api_version)] = API_VERSIONS[0]
    betas: list[Annotated[str, AfterValidator(_beta)]] = []
    headers: dict[Annotated[str, AfterValidator(_header)], Annotated[str, AfterValidator(_header_value)]] = {}
    params: dict[str, Annotated[Any, AfterValidator(_plain_params)]] = {}
    repeat: Annotated[int, Field(ge=1, le=MAX_REPEAT)] = 1
    tags: dict[str, str] = {}


# Keys that mean something elsewhere or later, with what to do now.
REFUSED_KEYS = {
    "base_url": "base_url may not stand in a job file: whoever wrote the file would receive your key. "
    "Use --base-url or ANTHROPIC_BASE_URL",
    "api_key": "keys do not belong in a job file: use ANTHROPIC_API_KEY",
    **{
        name: f"{name}: is not supported by this version"
        for name in (
            "schedule",
            "variants",
            "match",
            "eval",
            "tools",
            "files",
            "notify",
            "extends",
            "seed",
        )
    },
}
