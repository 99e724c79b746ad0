"""`ask_once` on the command line: the answers, the price, and that it is said."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli

JOB = """
version: 1
name: notes
input: { path: rows.jsonl, id: id }
model: claude-haiku-5-5
prompt: "Say {{ text }}"
output: { path: out.jsonl }
"""


def test_rows_that_ask_the_same_cost_once_and_it_is_said(cli: Cli, folder: Path) -> None:
    rows = "".join(json.dumps({"id": f"a{number}", "text": f"note {number % 4}"}) + "\n" for number in range(10))
    (folder / "rows.jsonl").write_text(rows)
    (folder / "job.yaml").write_text(JOB + "ask_once: true\n")
    done = cli("run", "job.yaml", "--simulate")
    assert done.exit_code == 0
    assert "6 rows have the answer of another that asked the same, and cost nothing" in done.stderr
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [line["meta"].get("same_as") for line in lines] == [None] * 4 + [0, 1, 2, 3, 0, 1]
    assert [line["text"] for line in lines][4:8] == [line["text"] for line in lines][:4]
    assert json.loads(cli("show", "latest", "--json").stdout)["rows"]["copied"] == 6
    assert json.loads(cli("cost", "--simulate", "--json").stdout)["total"]["calls"] == 4


def test_of_jobs_that_do_not_ask_for_it_nothing_is_said(cli: Cli, folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "b", "text": "x"}\n')
    (folder / "job.yaml").write_text(JOB)
    assert "asked the same" not in cli("run", "job.yaml", "--simulate").stderr
    assert json.loads(cli("cost", "--simulate", "--json").stdout)["total"]["calls"] == 2
