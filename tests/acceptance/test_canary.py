"""The key is nowhere, and what a row says is only where rows and answers are kept."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

from tests.acceptance.house import MODEL, Api, Desk, Done

KEY = "sk-ant-api03-CANARY-7f3k2m9x-do-not-print-me"
PROMPT = "PROMPTCANARY41"
FAULTS = (
    {"kind": "authentication", "message": f"invalid x-api-key {KEY}"},
    {"kind": "permission"},
    {"kind": "spend_limit"},
    {"kind": "credit_low"},
    {"kind": "api_error", "first": 2},
    {"kind": "html_200", "first": 2},
    {"kind": "executed_reset", "first": 2},
    {"kind": "wrong_content_type", "first": 2},
    {"kind": "redirect"},
    {"kind": "error", "status": 400, "message": f"the key {KEY} sent nonsense"},
)
ROWS_AND_ANSWERS = {"payloads", "answers", "turns"}


def test_the_key_is_nowhere_and_prompts_only_where_rows_are_kept(live: Desk, api: Api) -> None:
    live.env |= {"ANTHROPIC_API_KEY": KEY, "RUNNER_LOG_LEVEL": "debug"}
    live.write("rows.jsonl", [f'{{"prompt": "{PROMPT} number {n}"}}' for n in range(3)])
    said: list[Done] = []
    for fault in FAULTS:
        api.faults(fault)
        said.append(live.type("run", "rows.jsonl", "-m", MODEL, "-o", "out.jsonl", "--new", "-vv"))
    assert {done.code for done in said} >= {0, 3, 4, 5}
    live.write("bad.jsonl", ['{"prompt": 1}'])
    said.append(live.type("run", "bad.jsonl", "-m", MODEL).check(6))
    said += [live.type("failures", "latest"), live.type("show", "latest"), live.type("status", "--json")]
    for done in said:
        assert KEY.encode() not in done.stdout
        assert KEY not in done.stderr
        assert "CANARY-7f3k" not in done.stderr
        assert PROMPT not in done.stderr
        assert "Traceback" not in done.stderr
    _look_into_files(live.home)
    assert KEY.encode() not in (live.folder / "out.jsonl").read_bytes()


def _look_into_files(home: Path) -> None:
    databases = list(home.rglob("*.db"))
    assert databases
    for path in home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert KEY.encode() not in data, path
            assert PROMPT.encode() not in data or ".db" in path.name or "spool" in path.parts, path
    for path in databases:
        _look_into_tables(path)


def _look_into_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                text = b" ".join(_unpacked(value) for value in row)
                assert KEY.encode() not in text, table
                assert PROMPT.encode() not in text or table in ROWS_AND_ANSWERS, table
    connection.close()


def _unpacked(value: object) -> bytes:
    if not isinstance(value, bytes):
        return str(value).encode()
    try:
        return zlib.decompress(value)
    except zlib.error:
        return value
