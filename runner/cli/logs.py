"""Logging: for people on a terminal, JSON elsewhere, on stderr, and never with a key in it.

Rows are data: nothing here or above logs a prompt, an answer or a key of a row.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from runner.cli.redact import redacted
from runner.views.safe_text import safe_line

# They tell each request at INFO and headers at DEBUG.
CHATTY = ("httpx", "httpcore", "asyncio", "alembic", "sqlalchemy")
DEFAULT_LEVEL = "warning"
LEVELS = ("debug", "info", "warning", "error")
OWN_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class Redaction(logging.Filter):
    """Writes every record out and takes secrets from it; what formats it later sees only the clean text.

    A traceback's text may quote a row, so only its place is kept.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        text = redacted(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            from runner.cli.crash import crash_text

            record.exc_text = redacted(crash_text(record.exc_info[1]))
            record.exc_info = None
        record.msg, record.args = text, None
        return True


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the moment: a live screen puts itself in between, to stay below the lines."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class JsonFormatter(logging.Formatter):
    """One object a line: `ts`, `level`, `logger`, `event`, and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        told |= {name: _plain(value) for name, value in record.__dict__.items() if name not in OWN_FIELDS}
        if record.exc_text:
            told["traceback"] = record.exc_text
        return json.dumps(told)


class HumanFormatter(logging.Formatter):
    """`12:04:31 warning  sentence  name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone()
        extra = "".join(f"  {n}={_plain(value)}" for n, value in record.__dict__.items() if n not in OWN_FIELDS)
        line = f"{moment:%H:%M:%S} {record.levelname.lower():7} {safe_line(record.getMessage() + extra)}"
        return f"{line}\n{record.exc_text}" if record.exc_text else line


def _plain(value: object) -> object:
    return value if isinstance(value, (int, float, bool, type(None))) else redacted(str(value))


def start_logging(*, level: str | None, form: str | None) -> None:
    """Set up the root logger anew; a level or a form that is not known counts as not said."""
    told = (level or "").lower()
    handler = StderrHandler()
    handler.addFilter(Redaction())
    handler.setFormatter(JsonFormatter() if _wants_json(form) else HumanFormatter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel((told if told in LEVELS else DEFAULT_LEVEL).upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _wants_json(form: str | None) -> bool:
    told = (form or "").lower()
    return told == "json" or (told != "human" and not sys.stderr.isatty())
