"""Times and spans of time for people."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def duration(seconds: float | None) -> str:
    """The two largest units: `0.4s`, `45s`, `12m 36s`, `2h 05m`, `3d 4h`."""
    if seconds is None:
        return "unknown"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m {whole % MINUTE:02d}s"
    if whole < DAY:
        return f"{whole // HOUR}h {whole % HOUR // MINUTE:02d}m"
    return f"{whole // DAY}d {whole % DAY // HOUR}h"


def stopwatch(seconds: float) -> str:
    """`02:41:07`; the hours grow past two digits."""
    whole = max(int(seconds), 0)
    return f"{whole // HOUR:02d}:{whole % HOUR // MINUTE:02d}:{whole % MINUTE:02d}"


def moment(at_us: int, zone: tzinfo | None = None) -> str:
    """`2026-11-21 14:03:09`, in the zone of whoever looks unless another is named."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def moment_told(text: str) -> str:
    """A moment as the service tells it, for people: `2026-11-21 14:03:09`. What is no moment stays as it is."""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def utc(at_us: int | None) -> str | None:
    """The same moment for machines: `2026-11-21T13:03:09Z`."""
    return None if at_us is None else datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(at_us: int, now_us: int) -> str:
    """`5m 02s ago`."""
    return f"{duration((now_us - at_us) / 1e6)} ago"


def span(seconds: float) -> str:
    """Roughly how long: `45s`, `38m`, `2h 05m`, `3d 4h`."""
    whole = max(int(seconds), 0)
    if MINUTE <= whole < HOUR:
        return f"{whole // MINUTE}m"
    return f"{whole}s" if whole < MINUTE else duration(whole)


def time_of_day(at_us: int, now_us: int, zone: tzinfo | None = None) -> str:
    """`08:41`; with the date, `2026-11-22 08:41`, where that is not today's."""
    at, now = (datetime.fromtimestamp(one / 1e6, UTC).astimezone(zone) for one in (at_us, now_us))
    return at.strftime("%H:%M" if at.date() == now.date() else "%Y-%m-%d %H:%M")
