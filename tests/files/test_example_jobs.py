"""The jobs that come with the program are jobs, and their data holds what real data holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.domain.job import Job
from runner.files.check import check_input
from runner.files.job_file import load_job
from runner.files.render import Renderer
from runner.files.source import open_input, records

JOBS = Path(__file__).parents[2] / "jobs"


def test_the_quickstart_checks_clean() -> None:
    job = load_job(str(JOBS / "quickstart.yaml"))
    assert job.input.path == str(JOBS / "data" / "tickets.jsonl")
    report = check_input(open_input(job.input.path), Renderer(job))
    assert (report.records, report.bad_count, report.has_keys) == (300, 0, True)


def test_every_ticket_goes_out_as_it_was_typed() -> None:
    job = load_job(str(JOBS / "quickstart.yaml"))
    renderer = Renderer(job)
    for block in open_input(str(job.input.path)).blocks():
        for _, payload in records(block):
            row = renderer.parse(payload)
            prompt = json.loads(renderer.request(row).body)["messages"][0]["content"]
            assert f"Subject: {row['subject']}\n\n{row['body']}\n" in prompt


@pytest.mark.parametrize(
    "odd", ["\u2028", "\x85", "\\u0000", "\u202e", "\u200d", "e\u0301", "{{7*7}}", "=cmd|", '\\"', "\\\\", "𠮷"]
)
def test_the_tickets_hold_what_breaks_programs(odd: str) -> None:
    assert odd in (JOBS / "data" / "tickets.jsonl").read_bytes().decode()


def test_no_two_tickets_are_the_same() -> None:
    lines = (JOBS / "data" / "tickets.jsonl").read_bytes().split(b"\n")[:-1]
    rows = [json.loads(line) for line in lines]
    assert len({row["body"] for row in rows}) == len(rows) == 300
    assert len({row["lang"] for row in rows}) >= 10


def test_the_rows_show_every_shape() -> None:
    renderer = Renderer(Job(name="rows", model="claude-haiku-5-5"))
    report = check_input(open_input(str(JOBS / "rows.jsonl")), renderer)
    assert (report.records, report.bad_count) == (8, 0)
    assert report.dropped_fields == ("body.temperature",)
