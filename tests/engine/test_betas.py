"""What a job asks for goes out with the betas it needs, live and in batches; the service turns away what does not."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from runner.domain.betas import beta_facts
from runner.domain.job import Job, Mode
from runner.domain.own_betas import MOST_IN_A_ROW
from runner.domain.states import PauseReason
from runner.errors import JobInvalid
from runner.files.job_file import load_job
from tests.beta_examples import ASK, EXAMPLES, NOT_IN_A_BODY
from tests.engine.batch_house import Office, batch_job, office
from tests.engine.house import MODEL, House, prompts
from tests.engine.test_files import work as work_with_files

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("long_looks")]
RULES = {rule.id: rule for rule in beta_facts().rules}
NOTHING: tuple[dict[str, Any], list[str], None] = ({}, [], None)
NOT_IN_BATCHES = {rule.id for rule in beta_facts().rules if rule.in_batches is False}


def noted(api: Office) -> list[set[str]]:
    """The betas of each POST from now on."""
    seen: list[set[str]] = []

    async def look(request: httpx.Request) -> None:
        if request.method == "POST":
            told = request.headers.get("anthropic-beta", "")
            seen.append({name for name in told.split(",") if name})

    api.wire.before = look
    return seen


def job_of(house: House, rule: str, mode: str) -> Job:
    """A job file of this rule's request, as a person would write it."""
    fields, _, model = EXAMPLES.get(rule, NOTHING)
    told = {"max_tokens": 4_000, **fields}
    if "messages" not in told:
        told["messages"] = ASK
    job = {"name": rule.replace("_", "-"), "model": model or MODEL, "mode": mode, "request": told}
    if rule in NOT_IN_A_BODY:
        job |= {"betas": list(RULES[rule].betas), "headers": {"anthropic-user-profile-id": "profile_1"}}
    (house.folder / "a.txt").write_text("a text")
    if mode == "batch":
        job["batch"] = {"probe": False, "warm_cache": "never"}
    path = house.folder / "job.yaml"
    path.write_text(json.dumps(job))
    return load_job(str(path))


async def sent_with(house: House, rule: str, mode: str) -> set[str]:
    house.write([b"{}"])
    told = job_of(house, rule, mode)
    async with office(house, betas=told.betas) as api:
        seen = noted(api)
        changes = {name: getattr(told, name) for name in ("model", "request", "mode", "batch", "betas", "headers")}
        run = house.new_run([b"{}"], **changes)
        end = await (work_with_files(api, run) if rule == "files_in_messages" else api.work(run))
        [row] = house.rows(run)
        assert end.pause is None
        assert row.result.status == "succeeded", row.result.error_message
    uploads = rule == "files_in_messages"
    assert len(seen) == 1 + uploads
    assert not uploads or seen[0] == set(), "nor does the upload need a name"
    return seen[-1]


@pytest.mark.parametrize("rule", [rule for rule in EXAMPLES if rule != "output_300k"])
async def test_a_live_call_goes_with_what_its_job_needs(house: House, rule: str) -> None:
    assert await sent_with(house, rule, "live") == set(EXAMPLES[rule][1])


@pytest.mark.parametrize("rule", [rule for rule in EXAMPLES if rule not in NOT_IN_BATCHES])
async def test_a_batch_goes_with_what_its_job_needs(house: House, rule: str) -> None:
    assert await sent_with(house, rule, "batch") == set(EXAMPLES[rule][1])


@pytest.mark.parametrize("mode", ["live", "batch"])
@pytest.mark.parametrize("rule", sorted(NOT_IN_A_BODY))
async def test_what_nothing_shows_goes_out_as_it_is_written(house: House, rule: str, mode: str) -> None:
    assert await sent_with(house, rule, mode) == set(RULES[rule].betas)


def test_every_rule_is_tested_live_and_in_batches() -> None:
    assert RULES.keys() == EXAMPLES.keys() | NOT_IN_A_BODY
    assert EXAMPLES.keys() >= NOT_IN_BATCHES
    assert RULES["output_300k"].when["all"][0] == {"context": "batch"}, "the one rule that is of batches alone"


@pytest.mark.parametrize("rule", sorted(NOT_IN_BATCHES))
def test_a_job_that_no_batch_takes_is_refused_before_it_runs(house: House, rule: str) -> None:
    with pytest.raises(JobInvalid, match="a batch refuses"):
        house.new_run([b"{}"], **{n: getattr(job_of(house, rule, "batch"), n) for n in ("model", "request", "mode")})


# -- rows that need different ones


def row(number: int, **fields: Any) -> bytes:
    params = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": f"row {number}"}], **fields}
    return json.dumps({"custom_id": f"r{number}", "params": params}).encode()


async def test_rows_ride_with_those_that_need_the_same_however_they_are_mixed(house: House) -> None:
    compact, thread = EXAMPLES["compaction_on_demand"], EXAMPLES["task_budget"]
    shapes = [{}, compact[0], thread[0]]
    async with office(house) as api:
        seen = noted(api)
        run = house.new_run([row(n, **shapes[n % 3]) for n in range(12)], model=None, **batch_job())
        await api.work(run)
        assert [create.count for create in api.creates] == [4, 4, 4]
        assert seen == [set(), set(compact[1]), set(thread[1])]
        assert house.statuses(run) == {"succeeded": 12}


async def test_a_row_keeps_its_own_names_beside_those_that_are_added(house: House) -> None:
    async with office(house) as api:
        seen = noted(api)
        fields = {**EXAMPLES["task_budget"][0], "betas": ["interleaved-thinking-2025-05-14"]}
        run = house.new_run([row(0, **fields)], model=None)
        await api.work(run)
        assert seen == [{"interleaved-thinking-2025-05-14", "task-budgets-2026-03-13"}]


# -- when the service does not take a name


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.BATCH])
async def test_a_beta_that_the_service_does_not_take_pauses_the_run(house: House, mode: Mode) -> None:
    job = batch_job() if mode is Mode.BATCH else {}
    run = house.new_run(prompts(20), betas=("contxt-management-2025-06-27",), **job)
    async with office(house, betas=run.job.betas) as api:
        end = await api.work(run)
    assert end.pause is not None
    assert end.pause.reason is PauseReason.REFUSED
    assert end.pause.message.startswith(
        'the API does not take the beta "contxt-management-2025-06-27": did you mean context-management-2025-06-27 ? '
        "Correct it where it is set (betas: in the job, --beta, headers)"
    )
    assert house.rows(run) == []


WRONG = "contxt-management-2025-06-27"


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.BATCH])
async def test_a_beta_of_single_rows_that_is_not_taken_ends_those_rows_alone(house: House, mode: Mode) -> None:
    rows = [row(n, betas=[WRONG]) if n in (0, 3, 9) else row(n) for n in range(12)]
    run = house.new_run(rows, model=None, budget_pico=10**13, **(batch_job() if mode is Mode.BATCH else {}))
    async with office(house) as api:
        end = await api.work(run)
        assert end.pause is None
        assert house.statuses(run) == {"succeeded": 9, "errored": 3}
        for one in house.rows(run):
            if one.result.idx in (0, 3, 9):
                told = one.result.error_message or ""
                assert told.startswith(f'the API does not take the beta "{WRONG}": did you mean')
                assert one.result.error_type == "invalid_request_error"
                assert one.result.cost_pico == 0
        api.books(run).check()
        api.books(run).check_budget_row()


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.BATCH])
async def test_what_the_content_of_single_rows_needs_and_is_not_taken_ends_them_alone(
    house: House, mode: Mode
) -> None:
    fields, [name], _ = EXAMPLES["task_budget"]
    rows = [row(n, **fields) if n == 5 else row(n) for n in range(12)]
    run = house.new_run(rows, model=None, **(batch_job() if mode is Mode.BATCH else {}))
    async with office(house, refused_betas=(name,)) as api:
        end = await api.work(run)
        assert end.pause is None
        assert house.statuses(run) == {"succeeded": 11, "errored": 1}
        assert "which task budgets needs" in (house.rows(run)[5].result.error_message or "")


async def test_rows_that_all_bring_a_beta_that_is_not_taken_pause_the_run_live(house: House) -> None:
    run = house.new_run([row(n, betas=[WRONG]) for n in range(200)], model=None, limits={"concurrency": 4})
    async with office(house) as api:
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.REFUSED
        assert house.statuses(run) == {"errored": MOST_IN_A_ROW}
        assert len(api.live) <= MOST_IN_A_ROW + 4


async def test_rows_that_mostly_bring_a_beta_that_is_not_taken_pause_the_run_before_any_ends(house: House) -> None:
    rows = [row(n, betas=[WRONG]) if n % 4 else row(n) for n in range(80)]
    run = house.new_run(rows, model=None, **batch_job())
    async with office(house) as api:
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.REFUSED
        assert house.statuses(run).get("errored", 0) == 0


async def test_a_beta_that_every_row_needs_is_the_runs_though_rows_go_with_it(house: House) -> None:
    fields, [name], _ = EXAMPLES["task_budget"]
    run = house.new_run(prompts(20), request={"max_tokens": 400, **fields})
    async with office(house, refused_betas=(name,)) as api:
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.REFUSED
        assert "which task budgets needs" in end.pause.message
        assert house.rows(run) == []
