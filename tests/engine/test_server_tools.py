"""Jobs that use what the service does by itself: passed through, priced, and their answers kept whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.domain.message_files import output_files
from runner.engine.export import export
from tests.engine.batch_house import batch_job, office
from tests.engine.house import House

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("long_looks")]

SEARCH = {"type": "web_search_20260318", "name": "web_search"}
FETCH = {"type": "web_fetch_20260318", "name": "web_fetch"}
CODE = {"type": "code_execution_20260521", "name": "code_execution"}
MCP = {"mcp_servers": [{"type": "url", "name": "x", "url": "https://mcp.example"}]}
DOCUMENT = {
    "type": "document",
    "title": "t",
    "citations": {"enabled": True},
    "source": {"type": "text", "media_type": "text/plain", "data": "words"},
}
ASK = "go {{ n }} [[sim:server]]"

# What is asked, and which blocks the answer must hold.
JOBS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "search": ({"tools": [SEARCH]}, ["web_search_tool_result"]),
    "fetch": ({"tools": [FETCH]}, ["web_fetch_tool_result"]),
    "code": ({"tools": [CODE]}, ["bash_code_execution_tool_result"]),
    "skills": (
        {"tools": [CODE], "container": {"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}},
        ["bash_code_execution_tool_result"],
    ),
    "mcp": (
        {**MCP, "tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]},
        ["mcp_tool_use", "mcp_tool_result"],
    ),
    "all": (
        {"tools": [SEARCH, FETCH, CODE]},
        ["web_search_tool_result", "web_fetch_tool_result", "bash_code_execution_tool_result"],
    ),
    "thinking": ({"thinking": {"type": "adaptive", "display": "summarized"}}, ["thinking"]),
    "effort": ({"output_config": {"effort": "low"}}, []),
    "geography": ({"inference_geo": "us"}, []),
    "tier": ({"service_tier": "standard_only"}, []),
    "context": ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, []),
    "fallbacks": ({"fallbacks": "default"}, []),
}
NOT_IN_BATCHES = {"fallbacks"}


def job_of(fields: dict[str, Any], prompt: str = ASK, **more: Any) -> dict[str, Any]:
    return {"request": {"max_tokens": 4_000, **fields, **more, "messages": [{"role": "user", "content": prompt}]}}


def lines(house: House, run: Any, path: Path, form: str) -> list[dict[str, Any]]:
    export(house.store, house.store.run_by_id(run.id), str(path), form=form)
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", JOBS)
async def test_a_live_answer_is_kept_whole_and_priced(
    house: House, tmp_path: Path, name: str, streamed: bool
) -> None:
    fields, wanted = JOBS[name]
    async with office(house) as api:
        run = house.new_run([b'{"n":1}', b'{"n":2}'], **job_of(fields, max_tokens=9_000 if streamed else 4_000))
        end = await api.work(run)
        assert end.pause is None
        assert house.statuses(run) == {"succeeded": 2}
        api.books(run).check()
    told = lines(house, run, tmp_path / "out.jsonl", "anthropic")
    for line in told:
        kinds = [block["type"] for block in line["result"]["message"]["content"]]
        assert set(wanted) <= set(kinds)
    for line in lines(house, run, tmp_path / "own.jsonl", "runner"):
        assert line["text"]
        assert "[[" not in line["text"]


@pytest.mark.parametrize("name", [name for name in JOBS if name not in NOT_IN_BATCHES])
async def test_an_answer_of_a_batch_is_kept_whole_and_priced(house: House, tmp_path: Path, name: str) -> None:
    fields, wanted = JOBS[name]
    async with office(house) as api:
        run = house.new_run([b'{"n":1}', b'{"n":2}'], **job_of(fields), **batch_job())
        await api.work(run)
        assert house.statuses(run) == {"succeeded": 2}
        api.books(run).check()
    for line in lines(house, run, tmp_path / "out.jsonl", "anthropic"):
        assert set(wanted) <= {block["type"] for block in line["result"]["message"]["content"]}


async def test_searches_are_billed_each(house: House) -> None:
    async with office(house) as api:
        run = house.new_run([b'{"n":1}'], **job_of({"tools": [SEARCH]}))
        await api.work(run)
        [row] = house.rows(run)
        assert row.result.usage is not None
        assert row.result.usage.web_searches == 1
        assert (row.result.cost_pico or 0) > 10**10
        api.books(run).check()


async def test_fast_mode_is_billed_as_such(house: House) -> None:
    async with office(house) as api:
        run = house.new_run([b'{"n":1}'], model="claude-opus-5-5", **job_of({"speed": "fast"}))
        await api.work(run)
        api.books(run).check()


async def test_citations_stay_in_the_answer(house: House, tmp_path: Path) -> None:
    content = [DOCUMENT, {"type": "text", "text": "x [[sim:cite]]"}]
    request = {"max_tokens": 500, "messages": [{"role": "user", "content": content}]}
    async with office(house) as api:
        run = house.new_run([b"{}"], request=request)
        await api.work(run)
    [line] = lines(house, run, tmp_path / "out.jsonl", "anthropic")
    [block] = line["result"]["message"]["content"]
    assert block["citations"][0]["type"] == "char_location"


async def test_300k_of_output_ride_with_their_beta(house: House) -> None:
    async with office(house) as api:
        job = job_of({}, max_tokens=300_000)
        run = house.new_run([b'{"n":1}'], model="claude-opus-5-5", **job, **batch_job())
        await api.work(run)
        assert house.statuses(run) == {"succeeded": 1}


async def test_a_paused_turn_goes_on_in_its_container_with_its_skills(house: House) -> None:
    skills = {"tools": [CODE], "container": {"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}}
    async with office(house) as api:
        run = house.new_run([b'{"n":1}'], **job_of(skills, "x [[sim:pause_turn=1]]"))
        await api.work(run)
        assert house.statuses(run) == {"succeeded": 1}
        assert json.loads(api.live[1])["container"]["skills"] == skills["container"]["skills"]


async def test_files_that_code_has_written_are_told_by_the_answer(house: House) -> None:
    async with office(house) as api:
        run = house.new_run([b'{"n":1}'], **job_of({"tools": [CODE]}, "x [[sim:file=out.csv]]"))
        await api.work(run)
        [row] = house.rows(run)
        assert row.message is not None
        [file_id] = output_files(json.loads(row.message))
        assert api.simulator.files.files[file_id].filename == "out.csv"
