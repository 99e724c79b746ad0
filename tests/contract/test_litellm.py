"""The real command against a server that nobody here has written: LiteLLM's proxy, with mocked answers, and as a
gateway before the simulator. What it does otherwise than the API stands in docs/gateways.md."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.house import Api, Desk, api_process
from tests.contract.litellm_proxy import Gateway, litellm_proxy

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(900)]

MOCKED, BUSY, BROKEN = "claude-haiku-5-5", "claude-haiku-4-5", "claude-opus-5"
FORWARDED, UNKNOWN = "claude-sonnet-5-5", "claude-opus-5-5"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Api]:
    with api_process() as api:
        yield api


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: Api) -> Iterator[Gateway]:
    def model(name: str, **told: Any) -> dict[str, Any]:
        return {"model": f"anthropic/{name}", "api_key": "sk-ant-nobody", **told}

    models = {
        MOCKED: model(MOCKED, mock_response="a mocked answer"),
        BUSY: model(BUSY, mock_response="litellm.RateLimitError"),
        BROKEN: model(BROKEN, mock_response="litellm.InternalServerError"),
        FORWARDED: model(FORWARDED, api_base=upstream.url),
    }
    with litellm_proxy(tmp_path_factory.mktemp("litellm"), models) as gateway:
        yield gateway


@pytest.fixture
def desk(tmp_path: Path, gateway: Gateway) -> Desk:
    return Desk(tmp_path, env=gateway.env)


def job(desk: Desk, model: str, *prompts: str, **fields: Any) -> None:
    told = {"name": "gateway", "model": model, "prompt": "{{ text }}", "request": {"max_tokens": 500}, **fields}
    (desk.folder / "job.yaml").write_text(json.dumps(told))
    desk.write("rows.jsonl", [json.dumps({"text": text}) for text in prompts])


def run(desk: Desk, code: int, *words: str) -> str:
    return desk.type("run", "job.yaml", "-i", "rows.jsonl", "-o", "out.jsonl", "-y", *words).check(code).stderr


def failure(desk: Desk) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(desk.type("failures", "latest", "--json").check(0).stdout)
    return told


# -- mocked answers


def test_every_row_has_its_mocked_answer_usage_and_price(desk: Desk) -> None:
    job(desk, MOCKED, *(f"say {n}" for n in range(200)))
    run(desk, 0)
    lines = desk.lines("out.jsonl")
    assert [line["row"]["text"] for line in lines] == [f"say {n}" for n in range(200)]
    assert {line["text"] for line in lines} == {"a mocked answer"}
    assert {(line["usage"]["input_tokens"], line["usage"]["output_tokens"]) for line in lines} == {(2_095, 503)}
    # It names no request: nothing is made up.
    assert {line["meta"]["request_id"] for line in lines} == {None}
    assert all(line["cost_usd"] > 0 for line in lines)


def test_a_stream_that_is_answered_whole_is_taken(desk: Desk) -> None:
    """Mocked answers come as JSON where a stream was asked for."""
    job(desk, MOCKED, "one", request={"max_tokens": 60_000})
    run(desk, 0)
    assert [line["text"] for line in desk.lines("out.jsonl")] == ["a mocked answer"]


def test_its_limits_are_waited_for_and_use_up_no_try(desk: Desk) -> None:
    job(desk, BUSY, "one")
    process = desk.start("run", "job.yaml", "-i", "rows.jsonl", "-y", "--progress", "none")
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=12)
    process.terminate()
    process.communicate(timeout=60)
    told = json.loads(desk.type("show", "latest", "--json").check(0).stdout)
    assert told["rows"]["waiting"] == 1, told["rows"]


def test_its_failures_are_tried_again_and_told(desk: Desk) -> None:
    job(desk, BROKEN, "one", limits={"max_attempts": 2})
    run(desk, 3)
    [line] = desk.lines("out.jsonl")
    assert line["error"]["type"] == "api_error"
    assert line["attempts"] == 2


def test_a_model_that_it_does_not_have_pauses_the_run(desk: Desk) -> None:
    job(desk, UNKNOWN, *(f"say {n}" for n in range(50)))
    told = run(desk, 6)
    assert f"Invalid model name passed in model={UNKNOWN}" in told
    assert "50 wait" in told


def test_a_key_that_it_does_not_know_pauses_the_run(desk: Desk) -> None:
    job(desk, MOCKED, *(f"say {n}" for n in range(50)))
    desk.env["ANTHROPIC_API_KEY"] = "sk-not-the-one"
    told = run(desk, 5)
    assert "No connected db." in told
    assert "50 wait" in told


def test_it_has_no_batches_and_the_same_run_goes_on_live(desk: Desk) -> None:
    job(desk, MOCKED, *(f"say {n}" for n in range(20)))
    told = run(desk, 6, "--mode", "batch")
    assert "there are no Message Batches at this address; --mode live asks it row by row" in told
    assert "20 wait" in told
    run(desk, 0, "--mode", "live")
    assert len(desk.lines("out.jsonl")) == 20
    assert desk.type("status").stdout.count(b"gateway") == 1, "one run, not two"


def test_the_other_commands_say_what_it_has_and_what_not(desk: Desk) -> None:
    job(desk, MOCKED, "one")
    counted = json.loads(desk.type("tokens", "job.yaml", "-i", "rows.jsonl", "--json").check(0).stdout)
    assert counted["rows"] == 1
    assert MOCKED.encode() in desk.type("models", "--refresh").check(0).stdout
    desk.type("doctor", "--online").check(0)
    for command in ("files", "skills"):
        told = desk.type(command, "ls").check(75).stderr
        assert "without an error of the API" in told
        assert "{" not in told, "words, not a body"


# -- before a service of its own


def test_a_stream_comes_through_whole(desk: Desk) -> None:
    job(desk, FORWARDED, *(f"say {n}" for n in range(20)), request={"max_tokens": 60_000})
    run(desk, 0)
    lines = desk.lines("out.jsonl")
    assert {line["status"] for line in lines} == {"succeeded"}
    assert all(line["meta"]["request_id"].startswith("req_") for line in lines), "streams keep their headers"


def test_betas_and_thinking_come_through(desk: Desk) -> None:
    request = {"max_tokens": 4_000, "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}
    job(desk, FORWARDED, "one", request=request)
    run(desk, 0)
    assert desk.lines("out.jsonl")[0]["status"] == "succeeded"


def test_an_error_of_the_service_behind_it_is_told_with_its_code_and_request_id(desk: Desk) -> None:
    job(desk, FORWARDED, "[[sim:error=400:invalid_request_error:tool_name_conflict]]")
    run(desk, 3)
    [line] = desk.lines("out.jsonl")
    assert line["error"]["type"] == "invalid_request_error"
    assert "tool_name_conflict" in line["error"]["message"]
    assert line["meta"]["request_id"].startswith("req_")
    assert "rename one of them" in json.dumps(failure(desk))


def test_a_spend_cap_behind_it_pauses_the_run_instead_of_being_waited_for(desk: Desk) -> None:
    job(desk, FORWARDED, "[[sim:error=429:rate_limit_error:enforced_spend_limit_reached]]")
    told = run(desk, 4)
    assert "enforced_spend_limit_reached" in told


def test_an_unsupported_beta_behind_it_is_told_by_name(desk: Desk) -> None:
    job(desk, FORWARDED, "one", betas=["contxt-management-2025-06-27"])
    told = run(desk, 6)
    assert "did you mean context-management-2025-06-27 ?" in told
