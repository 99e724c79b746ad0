"""Rows that break readers and databases, through both stores: what comes out is what went in, byte for byte."""

from __future__ import annotations

import re
from pathlib import Path

from runner.store.database import Database
from tests.acceptance.house import MODEL, Desk

NASTY = [
    rb'{"prompt":"nul \u0000 inside","n":"\u0000"}',
    '{"prompt":"line\u2028 and paragraph\u2029 and next\u0085 breaks"}'.encode(),
    b'{"prompt":"big","n":123456789012345678901234567890,"f":0.1000000000000000055511}',
    '{"prompt":"emoji \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea"}'.encode(),
    rb'{"prompt":"escaped pair \ud83d\ude00"}',
    b'{ "prompt" :\t"blanks between"  , "e": -0.0e+1 }',
    '{"prompt":"rtl \u202e and bidi \u2066"}'.encode(),
    b'{"prompt":"=cmd|A1","html":"</script><img onerror=x>"}',
    b'{"prompt":"' + b"long " * 200_000 + b'"}',
    b'{"prompt":"{{ 7*7 }} {% raw %}"}',
]


def _export(desk: Desk) -> list[bytes]:
    desk.type("run", "rows.jsonl", "-m", MODEL, "-o", "out.jsonl").check(0)
    lines = (desk.folder / "out.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    return lines


def _row_of(line: bytes) -> bytes:
    return line[line.index(b',"row":') + len(b',"row":') : -1]


def _steady(line: bytes) -> bytes:
    """The line without what differs from run to run."""
    return re.sub(rb'"(?:run|request_id)":"[^"]*"|"latency_ms":\d+', b"", line)


def test_nasty_rows_come_out_of_both_stores_as_they_went_in(live: Desk, pg_url: str) -> None:
    data = b"\xef\xbb\xbf" + b"\r\n".join([*NASTY[:5], b"", *NASTY[5:]])  # BOM, CRLF, a blank line, no last newline
    (live.folder / "rows.jsonl").write_bytes(data)
    from_sqlite = _export(live)
    assert [_row_of(line) for line in from_sqlite] == NASTY
    database = Database(pg_url)
    database.upgrade()
    database.close()
    Path(live.folder / "out.jsonl").unlink()
    live.env["RUNNER_DATABASE_URL"] = pg_url
    from_postgres = _export(live)
    assert [_row_of(line) for line in from_postgres] == NASTY
    assert [_steady(line) for line in from_postgres] == [_steady(line) for line in from_sqlite]
