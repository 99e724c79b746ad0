"""What somebody types in the first hour: a rehearsal, rows without a job, pipes, compressed files."""

from __future__ import annotations

import gzip
import json
import stat
import sys
from pathlib import Path

import pytest

from tests.acceptance.house import MODEL, Desk, prompts
from tests.environment import ROOT

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINE = ["key", "index", "status", "text", "output", "stop_reason", "model", "usage", "cost_usd", "attempts",
        "latency_ms", "error", "meta", "row"]  # fmt: skip
META = ["run", "mode", "variant", "repeat", "batch", "request_id"]


def test_the_quickstart_rehearses_without_a_key(desk: Desk) -> None:
    job = str(ROOT / "jobs/quickstart.yaml")
    for words in (("check", job), ("preview", job), ("estimate", job, "--no-count")):
        desk.type(*words).check(0)
    done = desk.type("run", job, "--simulate", "-n", "25").check(0)
    assert "SIMULATED" in done.stderr
    lines = desk.lines("out/tickets.jsonl")  # beside where it was typed, not beside the job
    assert len(lines) == 25
    assert all(line["status"] == "succeeded" and line["output"]["urgency"] for line in lines)
    assert all(line["meta"]["simulated"] for line in lines)
    assert stat.S_IMODE((desk.folder / "out/tickets.jsonl").stat().st_mode) == 0o600


def test_rows_of_every_shape_need_no_job(live: Desk) -> None:
    live.write("rows.jsonl", (ROOT / "jobs/rows.jsonl").read_bytes().splitlines())
    count = len((live.folder / "rows.jsonl").read_bytes().splitlines())
    live.type("run", "rows.jsonl", "-m", MODEL, "-o", "out.jsonl").check(0)
    lines = live.lines("out.jsonl")
    assert [line["index"] for line in lines] == list(range(count))
    assert {line["status"] for line in lines} == {"succeeded"}


def test_an_output_line_has_this_shape(live: Desk) -> None:
    live.write("rows.jsonl", [('{"custom_id": "a-1",  "params": {"max_tokens": 99, "messages": '
                              '[{"role": "user", "content": "hi"}]}}')])  # fmt: skip
    live.type("run", "rows.jsonl", "-m", MODEL, "-o", "out.jsonl").check(0)
    (line,) = live.lines("out.jsonl")
    assert [name for name in line if name in LINE] == LINE
    assert [name for name in line["meta"] if name in META] == META
    assert (line["key"], line["index"], line["status"], line["attempts"]) == ("a-1", 0, "succeeded", 1)
    assert line["meta"]["mode"] == "live"
    assert line["error"] is None
    assert line["usage"]["output_tokens"] > 0
    assert line["cost_usd"] > 0
    raw = (live.folder / "out.jsonl").read_bytes()
    assert (live.folder / "rows.jsonl").read_bytes().strip() in raw, "the row comes back byte for byte"


def test_rows_come_from_stdin_and_go_to_stdout(live: Desk) -> None:
    rows = "\n".join(prompts(12)).encode()
    done = live.type("run", "-", "-m", MODEL, "-o", "-", stdin=rows).check(0)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["row"] for line in lines] == [json.loads(line) for line in prompts(12)]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_rows_are_read_as_they_are(live: Desk, suffix: str) -> None:
    data = "\n".join(prompts(30)).encode()
    compressed = gzip.compress(data) if suffix == "gz" else zstd.compress(data)
    (live.folder / f"rows.jsonl.{suffix}").write_bytes(compressed)
    live.type("run", f"rows.jsonl.{suffix}", "-m", MODEL, "-o", "out.jsonl").check(0)
    assert [line["row"]["prompt"] for line in live.lines("out.jsonl")] == [f"say {n}" for n in range(30)]


def test_an_output_path_is_relative_to_where_one_is(live: Desk) -> None:
    (live.folder / "jobs").mkdir()
    live.write("jobs/rows.jsonl", prompts(3))
    job = ["version: 1", f"model: {MODEL}", "input: { path: rows.jsonl }", "output: { path: answers/here.jsonl }"]
    live.write("jobs/job.yaml", job)
    live.type("run", "jobs/job.yaml").check(0)
    assert len(live.lines("answers/here.jsonl")) == 3
    assert not Path(live.folder / "jobs/answers").exists()


def test_json_events_are_alone_on_stdout_and_done_is_the_last(live: Desk) -> None:
    live.write("rows.jsonl", prompts(5))
    done = live.type("run", "rows.jsonl", "-m", MODEL, "-o", "out.jsonl", "--json").check(0)
    events = done.events
    assert [event["event"] for event in events] == ["launch", "done"]
    assert events[0]["run"] == events[1]["run"]
    assert (events[1]["done"], events[1]["failed"], events[1]["exit"]) == (5, 0, 0)


def test_plain_progress_is_lines_on_stderr(live: Desk) -> None:
    live.write("rows.jsonl", prompts(5))
    done = live.type("run", "rows.jsonl", "-m", MODEL, "-o", "out.jsonl", "--progress", "plain").check(0)
    assert done.stdout == b""
    assert "\x1b" not in done.stderr
    assert "5" in done.stderr
