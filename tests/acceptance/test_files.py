"""Files of rows under the real command: a kill in the middle, and what the next one uploads again."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

from runner.engine.file_desk import MOST_AT_ONCE
from tests.acceptance.house import KEY, MODEL, Api, Desk, ended

FILES = 300
ROWS = 600


def listed(api: Api) -> list[dict[str, Any]]:
    """Every file that was ever uploaded: nothing here deletes one."""
    headers = {"x-api-key": KEY, "anthropic-version": "2026-10-21"}
    asked = urllib.request.Request(f"{api.url}/v1/files?limit=1000", headers=headers)
    with urllib.request.urlopen(asked, timeout=10) as reply:
        found: list[dict[str, Any]] = json.loads(reply.read())["data"]
        return found


def job_in(folder: Path) -> None:
    (folder / "scans").mkdir()
    for number in range(FILES):
        (folder / "scans" / f"{number}.pdf").write_bytes(b"%%PDF-1.7 %d " % number + b"x" * 70_000)
    source = {"$file": "scans/{{ pdf }}.pdf"}
    content = [{"type": "document", "source": source}, {"type": "text", "text": "row {{ n }}"}]
    request = {"max_tokens": 2_000, "messages": [{"role": "user", "content": content}]}
    (folder / "job.yaml").write_text(json.dumps({"name": "scans", "model": MODEL, "request": request}))


def test_a_kill_in_the_middle_uploads_at_most_those_in_flight_again(desk: Desk, api: Api) -> None:
    desk.env |= api.env
    job_in(desk.folder)
    desk.write("rows.jsonl", (json.dumps({"n": n, "pdf": n % FILES}) for n in range(ROWS)))
    words = ("run", "job.yaml", "-i", "rows.jsonl", "-o", "out.jsonl", "--progress", "none")
    process = desk.start(*words)
    until = time.monotonic() + 60
    while len(listed(api)) < 20 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    ended(process)
    there = len(listed(api))
    assert 20 <= there < FILES, "the kill came too late to show anything"
    desk.type(*words).check(0)
    assert FILES <= len(listed(api)) <= FILES + MOST_AT_ONCE
    assert len(desk.lines("out.jsonl")) == ROWS
    assert {line["status"] for line in desk.lines("out.jsonl")} == {"succeeded"}
