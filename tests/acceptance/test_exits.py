"""Each end has its exit code, and says where, why and what to do."""

from __future__ import annotations

import pytest

from tests.acceptance.house import MODEL, Api, Desk, prompts

RUN = ("run", "rows.jsonl", "-m", MODEL, "-o", "out.jsonl", "--concurrency", "1")


def test_wrong_usage_is_2(desk: Desk) -> None:
    done = desk.type("run", "rows.jsonl", "--modle", "x").check(2)
    assert "--model" in done.stderr


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ({"kind": "spend_limit"}, 4, ["spend", "resume"]),
        ({"kind": "credit_low"}, 4, ["credit", "resume"]),
        ({"kind": "billing"}, 4, ["payment", "resume"]),
        ({"kind": "authentication"}, 5, ["key", "doctor"]),
        ({"kind": "permission"}, 5, ["key", "doctor"]),
        ({"kind": "error", "status": 404, "error_type": "not_found_error", "message": f"model: {MODEL}"}, 6,
         ["model", "--new"]),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)  # fmt: skip
def test_the_accounts_troubles_pause_and_the_same_command_ends_the_run(
    live: Desk, api: Api, fault: dict[str, object], code: int, words: list[str]
) -> None:
    live.write("rows.jsonl", prompts(6))
    api.faults({**fault, "after": 2})
    done = live.type(*RUN).check(code)
    assert "paused[" in done.stderr
    assert f"exit {code}" in done.stderr
    assert all(word in done.stderr.lower() for word in words), done.stderr
    assert not (live.folder / "out.jsonl").exists()
    api.faults()
    live.type(*RUN).check(0)
    assert api.billed == 6


def test_failed_rows_are_3_and_a_retry_asks_only_them(live: Desk, api: Api) -> None:
    live.write("rows.jsonl", prompts(6))
    api.faults({"kind": "error", "status": 400, "first": 2})
    done = live.type(*RUN).check(3)
    assert "retry" in done.stderr
    assert len(live.lines("out.jsonl")) == 6
    live.type("retry", "latest").check(0)
    assert api.billed == 6
    assert {line["status"] for line in live.lines("out.jsonl")} == {"succeeded"}


def test_a_budget_is_4(live: Desk, api: Api) -> None:
    live.write("rows.jsonl", prompts(6))
    done = live.type(*RUN, "--max-usd", "0.0000001").check(4)
    assert "--max-usd" in done.stderr
    assert api.billed == 0


def test_no_key_is_5_before_anything_is_read(desk: Desk) -> None:
    done = desk.type("run", "rows.jsonl", "-m", MODEL).check(5)
    assert "ANTHROPIC_API_KEY" in done.stderr
    assert not list(desk.folder.rglob("*.db"))


def test_a_bad_row_a_bad_job_and_a_bad_model_are_6(live: Desk, api: Api) -> None:
    live.write("rows.jsonl", [*prompts(3), "{no json", *prompts(2)])
    done = live.type(*RUN).check(6)
    assert "line 4" in done.stderr
    assert "skip" in done.stderr
    live.write("job.yaml", ["version: 1", "model: x", "promt: hello", "limits: { rpm: -1 }"])
    done = live.type("run", "job.yaml").check(6)
    assert "job.yaml:3:" in done.stderr
    assert "job.yaml:4:" in done.stderr
    live.write("rows.jsonl", prompts(3))
    done = live.type("run", "rows.jsonl", "-m", "claude-haiku-5-55", "--simulate").check(6)
    assert MODEL in done.stderr
    assert api.billed == 0
