"""The same command again: gone on with, found done, or told apart."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.acceptance.house import MODEL, Api, Desk, ended, prompts

RUN = ("run", "rows.jsonl", "-m", MODEL, "-o", "out.jsonl")


def unfinished(desk: Desk, *more: str, rows: int = 60) -> None:
    """A run that has stopped in its middle, for want of money."""
    desk.write("rows.jsonl", prompts(rows))
    desk.type(*RUN, "--max-usd", "0.003", "--concurrency", "1", *more).check(4)


def test_a_rehearsal_never_answers_for_the_real_thing(live: Desk, api: Api) -> None:
    live.write("rows.jsonl", prompts(8))
    live.type(*RUN, "--simulate").check(0)
    assert api.billed == 0
    live.type(*RUN).check(0)
    assert api.billed == 8
    assert not any(line["meta"].get("simulated") for line in live.lines("out.jsonl"))


def test_a_finished_run_is_found_done(live: Desk, api: Api) -> None:
    live.write("rows.jsonl", [*prompts(4), json.dumps({"prompt": "[[sim:refusal]]"})])
    live.type(*RUN).check(3)
    first = (live.folder / "out.jsonl").read_bytes()
    billed = api.billed
    live.type(*RUN).check(3)
    (live.folder / "out.jsonl").unlink()
    live.type(*RUN).check(3)
    assert (live.folder / "out.jsonl").read_bytes() == first
    assert api.billed == billed
    live.type(*RUN, "--new").check(3)
    assert api.billed == 2 * billed


def test_a_key_names_a_run(live: Desk, api: Api) -> None:
    live.write("rows.jsonl", prompts(4))
    live.type(*RUN, "--key", "monday").check(0)
    live.type(*RUN, "--key", "monday").check(0)
    assert api.billed == 4
    live.type(*RUN, "--key", "tuesday").check(0)
    assert api.billed == 8
    done = live.type("run", "rows.jsonl", "-m", "claude-sonnet-5-5", "--key", "monday").check(6)
    assert "monday" in done.stderr
    live.type(*RUN, "--key", "monday", "--new").check(2)


def test_another_model_is_another_run(live: Desk, api: Api) -> None:
    live.write("rows.jsonl", prompts(4))
    live.type(*RUN).check(0)
    live.type("run", "rows.jsonl", "-m", "claude-sonnet-5-5", "-o", "out.jsonl").check(0)
    assert api.billed == 8


def test_an_interrupted_run_goes_on_with_more_slots(live: Desk, api: Api) -> None:
    live.write("rows.jsonl", prompts(40))
    api.hold(after=6)
    process = live.start(*RUN, "--concurrency", "2")
    while api.billed < 8:
        time.sleep(0.05)
    api.stop_in_mid_call(process, signal.SIGINT)
    done = ended(process).check(130)
    assert "resume" in done.stderr
    live.type(*RUN, "--concurrency", "16").check(0)
    assert api.billed == 40
    assert len(live.lines("out.jsonl")) == 40


def _edited(rows: list[str]) -> list[str]:
    return [*rows[:16], json.dumps({"prompt": "say something else"}), *rows[17:]]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_edited, "line 17"),
        (lambda rows: [*rows, *prompts(2, first=900)], "line 61"),
        (lambda rows: rows[:50], "line 51"),
        (lambda rows: [rows[1], rows[0], *rows[2:]], "line 1"),
    ],
    ids=["edited", "appended", "truncated", "reordered"],
)
def test_a_changed_input_of_an_unfinished_run_stops_before_any_send(
    live: Desk,
    api: Api,
    change,
    line: str,
) -> None:
    unfinished(live)
    billed = api.billed
    assert 0 < billed < 60
    live.write("rows.jsonl", change(prompts(60)))
    done = live.type(*RUN).check(6)
    assert line + "." in done.stderr
    assert "restore" in done.stderr
    assert "--new" in done.stderr
    assert api.billed == billed
    live.write("rows.jsonl", prompts(60))
    live.type(*RUN, "--max-usd", "5").check(0)
    assert api.billed == 60


def test_a_changed_input_of_a_finished_run_is_a_new_question(live: Desk, api: Api) -> None:
    live.write("rows.jsonl", prompts(4))
    live.type(*RUN).check(0)
    live.write("rows.jsonl", prompts(5))
    live.type(*RUN).check(0)
    assert len(live.lines("out.jsonl")) == 5
