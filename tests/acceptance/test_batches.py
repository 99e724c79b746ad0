"""Batches as somebody types them: submitted and collected, interrupted, cancelled, settled, swept."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance.house import MODEL, Api, Desk, api_process, ended, prompts

JOB = [
    "version: 1",
    "name: reviews",
    "input: { path: rows.jsonl }",
    f"model: {MODEL}",
    "mode: batch",
    "prompt: '{{ prompt }}'",
    "output: { path: out.jsonl }",
    "budget: { usd: 1 }",
    "limits: { max_attempts: 20 }",
    "batch: { max_requests: 5, probe: false, warm_cache: never }",
]
RUN = ("run", "job.yaml", "--progress", "plain")
CREATE = {"method": "POST", "path": "/v1/messages/batches"}
# While this lasts, no batch is seen to have ended.
UNDER_WAY = {"kind": "batch_status", "method": "GET", "path": "/v1/messages/batches/*"}
# The last of three creates: after one that is unknown the next ones are not hurried.
LOST = {"kind": "executed_reset", "after": 2, "first": 1, **CREATE}
# Nothing that is unknown settles while a test lasts.
SLOW = {"RUNNER_BATCH_POLL_S": "0.2", "RUNNER_BATCH_WINDOW_S": "600", "RUNNER_BATCH_SETTLE_S": "900"}
# It does, in 7 s; shorter times would leave a busy machine too little between the intent and the first byte.
QUICK = {"RUNNER_BATCH_POLL_S": "0.2", "RUNNER_BATCH_WINDOW_S": "3", "RUNNER_BATCH_SETTLE_S": "0.6"}


@contextmanager
def service(desk: Desk, *, rows: int = 15, timing: dict[str, str] = SLOW, **config: Any) -> Iterator[Api]:
    """A desk with a job for batches of five rows, and a service of its own."""
    desk.write("job.yaml", JOB)
    desk.write("rows.jsonl", prompts(rows))
    with api_process(**config) as api:
        desk.env |= api.env | timing
        yield api


def batches_of(api: Api) -> dict[str, int]:
    """All batches that the service has, and how many requests each holds."""
    request = urllib.request.Request(f"{api.url}/v1/messages/batches?limit=1000")
    request.add_header("x-api-key", api.env["ANTHROPIC_API_KEY"])
    request.add_header("anthropic-version", "2023-06-01")
    with urllib.request.urlopen(request, timeout=10) as reply:
        return {one["id"]: sum(one["request_counts"].values()) for one in json.loads(reply.read())["data"]}


def shown(desk: Desk, *words: str) -> list[dict[str, Any]]:
    return json.loads(desk.type("batches", "list", *words, "--json").check(0).stdout)["batches"]


def eventually(desk: Desk, *words: str, code: int, at_most_s: float = 60.0) -> None:
    """Like a crontab: the same command again and again, until it ends so."""
    end_s = time.monotonic() + at_most_s
    while desk.type(*words).code != code:
        assert time.monotonic() < end_s
        time.sleep(0.2)


def test_submitted_in_one_command_and_collected_in_another(desk: Desk) -> None:
    with service(desk, batch_seconds=0.3) as api:
        api.faults(UNDER_WAY)
        done = desk.type(*RUN, "--submit-only").check(0)
        assert done.stderr.count("batch submitted id=msgbatch_") == 3
        assert "15 in batches" in done.stderr
        assert "runner collect r_" in done.stderr
        again = desk.type(*RUN, "--submit-only").check(0)
        assert "batch submitted" not in again.stderr, "the same command sends nothing twice"
        out = desk.type("collect", "latest").check(75)
        assert "paused[submitted]: 15 rows are with the API in 3 batches." in out.stderr
        assert not (desk.folder / "out.jsonl").exists()
        assert desk.type("collect", "latest", "-q").check(75).stderr == "", "a crontab is not told each time"
        api.faults()
        eventually(desk, "collect", "latest", code=0)
        assert [line["row"]["prompt"] for line in desk.lines("out.jsonl")] == [f"say {n}" for n in range(15)]
        assert len(batches_of(api)) == 3
        assert api.billed == 15
        desk.type("collect", "latest").check(0)
        assert api.billed == 15


def test_collecting_sends_again_what_must_go_again(desk: Desk) -> None:
    with service(desk, rows=10, batch_seconds=0.3, batch_errored_share=0.5) as api:
        desk.type(*RUN, "--submit-only").check(0)
        time.sleep(0.5)
        done = desk.type("collect", "latest", "--progress", "plain")
        assert " again=" in done.stderr
        assert len(batches_of(api)) > 2
        eventually(desk, "collect", "latest", code=0)
        assert len(desk.lines("out.jsonl")) == 10


def test_events_of_submitting_and_collecting_are_two_lines_each(desk: Desk) -> None:
    with service(desk, batch_seconds=0.3):
        submitted = desk.type(*RUN, "--submit-only", "--json").check(0).events
        assert [event["event"] for event in submitted] == ["launch", "done"]
        told = submitted[1]
        assert (told["state"], told["reason"], told["exit"]) == ("paused", "submitted", 0)
        assert (told["batches_out"], told["rows_in_batches"], told["batches_unknown"]) == (3, 15, 0)
        time.sleep(0.5)
        collected = desk.type("collect", "latest", "--json").check(0).events
        assert [event["event"] for event in collected] == ["launch", "done"]
        assert (collected[1]["state"], collected[1]["batches_out"]) == ("done", 0)


def test_what_the_service_has_no_room_for_is_left_for_later(desk: Desk) -> None:
    with service(desk, batch_seconds=60, batch_queue=5):
        done = desk.type(*RUN, "--submit-only").check(75)
        assert "5 rows are with the API in 1 batch" in done.stderr
        assert "10 wait" in done.stderr


def test_interrupted_batches_go_on_and_the_message_says_how_to_end_them(desk: Desk) -> None:
    with service(desk, batch_seconds=60) as api:
        process = desk.start(*RUN)
        while len(batches_of(api)) < 3:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        done = ended(process).check(130)
        assert "3 batches with the API (15 rows): they go on without this command." in done.stderr
        assert "only finished rows are billed and kept" in done.stderr
        assert "runner cancel r_" in done.stderr
        assert "runner resume r_" in done.stderr


def test_a_cancel_returns_at_once_and_what_was_finished_is_fetched_later(desk: Desk) -> None:
    with service(desk, batch_seconds=60, batch_cancel_seconds=1.5, batch_canceled_share=0.6) as api:
        desk.type(*RUN, "--submit-only").check(0)
        began_s = time.monotonic()
        done = desk.type("cancel", "latest").check(0)
        assert time.monotonic() - began_s < 10
        assert "is being canceled: 0 rows are kept; 3 batches with the API (15 rows)." in done.stderr
        assert "billed and kept, the others are neither" in done.stderr
        assert "canceling" in desk.type("status").stdout.decode()
        eventually(desk, "collect", "latest", code=3)  # it has ended, and not every row succeeded
        told = json.loads(desk.type("show", "latest", "--json").stdout)
        assert told["state"] == "canceled"
        assert 0 < told["rows"]["done"] < 15
        assert told["rows"]["done"] == api.billed
        assert len(desk.lines("out.jsonl")) == told["rows"]["done"]
        assert "already canceled" in desk.type("cancel", "latest").check(0).stderr


def test_a_cancel_of_a_run_that_is_worked_on_ends_its_process_too(desk: Desk) -> None:
    with service(desk, batch_seconds=60, batch_cancel_seconds=1) as api:
        process = desk.start(*RUN)
        while len(batches_of(api)) < 3:
            time.sleep(0.05)
        time.sleep(0.5)
        done = desk.type("cancel", "latest", "--wait", "20").check(0)
        assert "is being canceled" in done.stderr
        worked = ended(process).check(75)
        assert "paused[canceling]" in worked.stderr
        assert "runner collect r_" in worked.stderr
        eventually(desk, "resume", "latest", code=3)


def test_a_paused_run_s_batches_go_on(desk: Desk) -> None:
    with service(desk, batch_seconds=0.3) as api:
        api.faults(UNDER_WAY)
        process = desk.start(*RUN)
        while len(batches_of(api)) < 3:
            time.sleep(0.05)
        time.sleep(0.5)
        done = desk.type("pause", "latest", "--wait", "20").check(0)
        assert "they go on; runner collect r_" in done.stderr
        assert "they go on without this command" in ended(process).check(75).stderr
        api.faults()
        eventually(desk, "collect", "latest", code=0)
        assert api.billed == 15


# --- unknown ends


def lost(desk: Desk, api: Api) -> tuple[str, str]:
    """Submit with one create whose answer never comes; the submission and the batch that it has made."""
    api.faults(LOST)
    done = desk.type(*RUN, "--submit-only").check(10)
    assert "warning[batch-unknown]: a batch of 5 rows: unknown, settling until " in done.stderr
    assert "1 of unknown end (5 rows)" in done.stderr
    told = shown(desk)
    owned = {one["batch"] for one in told}
    (submission,) = [one["id"] for one in told if one["state"] == "unknown"]
    (batch,) = [id_ for id_ in batches_of(api) if id_ not in owned]
    return submission, batch


def test_an_unknown_one_is_settled_by_itself_and_sent_once(desk: Desk) -> None:
    with service(desk, batch_seconds=0.3, timing=QUICK) as api:
        api.faults(LOST)
        done = desk.type(*RUN).check(0)
        assert "unknown, settling until " in done.stderr
        assert "failed=0" in done.stderr
        assert "15 succeeded" in done.stderr
        assert len(batches_of(api)) == 3
        assert api.billed == 15


def test_an_unknown_one_is_held_and_nothing_of_it_goes_again_meanwhile(desk: Desk) -> None:
    with service(desk, batch_seconds=0.3) as api:
        lost(desk, api)
        time.sleep(0.5)
        done = desk.type("collect", "latest").check(10)
        assert "paused[unknown-batch]: what became of 1 batch is not known yet: 5 rows are held." in done.stderr
        assert "runner batches list" in done.stderr
        assert len(batches_of(api)) == 3
        assert "1 of unknown end (5 rows)" in desk.type("status").stdout.decode()


def test_a_batch_that_is_named_proves_itself_and_is_collected(desk: Desk) -> None:
    with service(desk, batch_seconds=0.3) as api:
        submission, batch = lost(desk, api)
        time.sleep(0.5)
        done = desk.type("batches", "adopt", submission[:5], batch).check(0)
        assert f"{batch} is the batch of submission {submission}: its first result proves it." in done.stderr
        desk.type("collect", "latest").check(0)
        assert len(desk.lines("out.jsonl")) == 15
        assert api.billed == 15


def test_a_batch_in_progress_is_adopted_for_the_time_being(desk: Desk) -> None:
    with service(desk, batch_seconds=0.3) as api:
        submission, batch = lost(desk, api)
        api.faults(UNDER_WAY)
        told = json.loads(desk.type("batches", "adopt", submission, batch, "--json").check(0).stdout)
        assert told["adopted"] == "provisional"
        (one,) = [one for one in shown(desk) if one["id"] == submission]
        assert one["state_words"] == "unknown, waiting for 1 candidate"
        assert one["candidates"] == [batch]


def test_somebody_else_s_batch_is_never_adopted(desk: Desk) -> None:
    with service(desk, batch_seconds=0.3) as api:
        submission, _batch = lost(desk, api)
        foreign = somebody_else_s(api, rows=5)
        smaller = somebody_else_s(api, rows=2)
        time.sleep(0.5)
        done = desk.type("batches", "adopt", submission, foreign).check(2)
        assert f"error[not-this-batch]: {foreign} is somebody else's" in done.stderr
        assert (
            "holds 2 rows, and 5 rows were sent" in desk.type("batches", "adopt", submission, smaller).check(2).stderr
        )
        (owned, *_) = [one["batch"] for one in shown(desk) if one["batch"] is not None]
        assert "belongs to batch" in desk.type("batches", "adopt", submission, owned).check(2).stderr
        nowhere = desk.type("batches", "adopt", submission, "msgbatch_01" + "a" * 22).check(2)
        assert "the service does not show" in nowhere.stderr
        (one,) = [one for one in shown(desk) if one["id"] == submission]
        assert one["state"] == "unknown"


def test_one_in_progress_that_was_made_too_late_is_not_waited_for(desk: Desk) -> None:
    with service(desk, batch_seconds=60, timing=QUICK) as api:
        submission, _batch = lost(desk, api)
        time.sleep(7)  # longer than from the intent until everything has settled
        late = somebody_else_s(api, rows=5)
        done = desk.type("batches", "adopt", submission, late).check(2)
        assert "when this submission can no longer have made it" in done.stderr
        assert "when it has ended, adopt it again" in done.stderr


def somebody_else_s(api: Api, rows: int) -> str:
    """A batch that another program has made in the same workspace."""
    params = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    body = {"requests": [{"custom_id": f"theirs-{number}", "params": params} for number in range(rows)]}
    request = urllib.request.Request(f"{api.url}/v1/messages/batches", data=json.dumps(body).encode())
    for name, value in (
        ("x-api-key", api.env["ANTHROPIC_API_KEY"]),
        ("anthropic-version", "2023-06-01"),
        ("content-type", "application/json"),
    ):
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return str(json.loads(reply.read())["id"])


def test_what_is_let_go_and_turns_up_is_found_priced_and_told_for_ever(desk: Desk) -> None:
    with service(desk, batch_seconds=0.3) as api:
        submission, batch = lost(desk, api)
        asked = desk.type("batches", "abandon", submission).check(2)
        assert "its 5 rows are paid twice: at most $" in asked.stderr
        done = desk.type("batches", "abandon", submission, "--yes").check(0)
        assert "5 rows wait to be sent again" in done.stderr
        time.sleep(0.5)
        worked = desk.type(*RUN).check(12)
        assert f"warning[batch-duplicate]: batch {batch} holds 5 rows a second time: $" in worked.stderr
        assert f"paid twice  {batch} holds 5 rows a second time: $" in worked.stderr
        assert api.billed == 20
        assert len(desk.lines("out.jsonl")) == 15
        desk.type(*RUN).check(12)
        assert batch in desk.type("show", "latest").stdout.decode()
        assert "beyond the 1 in the books" in desk.type("batches", "sweep").check(0).stdout.decode()


def test_a_sweep_finds_a_duplicate_that_ended_after_the_run_and_ends_with_12(desk: Desk) -> None:
    with service(desk, batch_seconds=0.3) as api:
        submission, batch = lost(desk, api)
        desk.type("batches", "abandon", submission, "--yes").check(0)
        api.faults({**UNDER_WAY, "path": "/v1/messages/batches"})  # in the list, nothing has ended
        desk.type(*RUN).check(0)
        later = desk.type("batches", "sweep", "latest").check(0).stdout.decode()
        assert f"not ended yet, so not known: {batch}" in later
        api.faults()
        done = desk.type("batches", "sweep", "--json").check(12)
        (swept,) = json.loads(done.stdout)["runs"]
        assert swept["duplicates"] == [batch]
        desk.type("batches", "sweep").check(0)
        desk.type(*RUN).check(12)


def test_a_sweep_gives_a_dead_process_s_batch_back_to_its_submission(desk: Desk) -> None:
    """Another run's sweep may be the first to see it: it is no duplicate."""
    with service(desk, rows=5, batch_seconds=0.3) as api:
        desk.type(*RUN).check(0)
        desk.write("others.jsonl", prompts(5, first=100))
        other = (*RUN, "-i", "others.jsonl", "-o", "others_out.jsonl")
        desk.env["RUNNER_FAILPOINTS"] = "batch.post.after=kill"
        assert desk.type(*other).code == -signal.SIGKILL
        del desk.env["RUNNER_FAILPOINTS"]
        time.sleep(0.5)
        (first,) = [one["run"] for one in shown(desk) if one["state"] == "ingested"]
        (dead,) = [one["run"] for one in shown(desk) if one["run"] != first]
        done = desk.type("batches", "sweep", first).check(0)
        assert f"runner collect {dead}   fetches the results" in done.stdout.decode()
        desk.type("collect", dead).check(0)
        assert api.billed == 10
        assert len(batches_of(api)) == 2


@pytest.mark.parametrize("words", [("collect", "latest"), ("cancel", "latest"), ("batches", "sweep")])
def test_without_a_key_the_service_is_not_asked_and_the_run_is_whole(desk: Desk, words: tuple[str, ...]) -> None:
    with service(desk, batch_seconds=60):
        desk.type(*RUN, "--submit-only").check(0)
        del desk.env["ANTHROPIC_API_KEY"]
        done = desk.type(*words).check(5)
        assert "error[no-credentials]" in done.stderr
        assert len(shown(desk)) == 3
