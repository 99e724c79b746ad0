"""The same rows, results and exports as live, at half the price; and which rows ride together."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from runner.domain.budget import Reserve
from runner.domain.job import BudgetSpec, Mode
from runner.domain.outcome import AccountTrouble, FailureKind, Outcome
from runner.domain.packing import DEFAULT_MAX_BYTES
from runner.domain.pricing import shipped_prices
from runner.domain.request import MessagesRequest
from runner.domain.run import Run
from runner.domain.states import BatchState, PauseReason, RunState
from runner.engine.export import export
from tests.engine.batch_house import (
    HOUR_S,
    Office,
    at_create,
    batch_job,
    check_rows,
    chunk_sums,
    office,
    succeeded_in_batches,
)
from tests.engine.house import MODEL, House, Scripted, answered, failed, prompts

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("long_looks")]

KINDS_OF_ROWS = [
    *prompts(6),
    b'{"prompt":"no [[sim:refusal]]"}',
    b'{"prompt":"long [[sim:tokens=900]]"}',
    b'{"prompt":"bad [[sim:error=400:invalid_request_error]]"}',
    b'{"prompt":"Gr\\u00fc\\u00dfe \\ud83d\\udc4b","custom_id":"hello"}',
]


def exported(house: House, run: Run, path: Path, form: str = "runner") -> list[dict[str, Any]]:
    export(house.store, house.store.run_by_id(run.id), str(path), form=form)
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def done(office_: Office, run: Run, **more: Any) -> None:
    """Work on it to its end, and hold the books against the bill."""
    end = await office_.work(run, **more)
    assert end.pause is None
    office_.books(run).check()
    office_.books(run).check_budget_row()
    assert office_.spool_left() == []
    assert set(chunk_sums(office_.house)) == {("done", 0)}


# --- live and batch


async def test_rows_of_a_batch_end_as_live_ones_do_at_half_the_price(house: House, tmp_path: Path) -> None:
    request = {"max_tokens": 500}
    async with office(house, batch_seconds=2 * HOUR_S) as api:
        live = house.new_run(KINDS_OF_ROWS, request=request)
        await done(api, live)
        spent_live = house.store.money(live.id).spent_pico
        batch = house.new_run(KINDS_OF_ROWS, request=request, **batch_job(max_requests=4))
        end = await api.work(batch)
        assert end.run.state is RunState.DONE_WITH_FAILURES
        api.books(batch).check_budget_row()
        assert len(api.creates) == 3
        assert len(api.live) == len(KINDS_OF_ROWS), "all of them of the first run"
        check_rows(api, batch, len(KINDS_OF_ROWS))
        assert house.store.money(batch.id).spent_pico * 2 == spent_live
        for form in ("runner", "anthropic", "openai"):
            alone = exported(house, live, tmp_path / "live.jsonl", form)
            ridden = exported(house, batch, tmp_path / "batch.jsonl", form)
            assert [_told(line) for line in ridden] == [_told(line) for line in alone]
        batches = [line["meta"]["batch"] for line in exported(house, batch, tmp_path / "batch.jsonl")]
        ids = [create.batch_id for create in api.creates]
        assert batches == [*[ids[0]] * 4, *[ids[1]] * 4, *[ids[2]] * 2]
        lines = exported(house, batch, tmp_path / "batch.jsonl")
        alone = exported(house, live, tmp_path / "live.jsonl")
        for mine, theirs in zip(lines, alone, strict=True):
            assert (mine["meta"]["mode"], theirs["meta"]["mode"]) == ("batch", "live")
            assert float(mine["cost_usd"] or 0) * 2 == pytest.approx(float(theirs["cost_usd"] or 0))


def _told(line: dict[str, Any]) -> dict[str, Any]:
    """An exported line without what tells how it travelled."""
    text = json.dumps(line).replace('"service_tier": "batch"', '"service_tier": "standard"')
    line = json.loads(text)
    line.pop("meta", None), line.pop("cost_usd", None), line.pop("latency_ms", None)
    if line.get("id", "").startswith("batch_req_"):
        line["id"] = line["id"].rpartition("_")[2]
    for holder in (line.get("response") or {}, line.get("error") or {}):
        holder.pop("request_id", None)
    if isinstance(line.get("result"), dict) and "error" in line["result"]:
        line["result"]["error"].pop("request_id", None)
    return line


async def test_repeats_and_keys_are_told_apart(house: House) -> None:
    rows = [b'{"custom_id":"k%d","prompt":"p%d"}' % (number, number) for number in range(5)]
    run = house.new_run(rows, repeat=3, **batch_job(max_requests=7))
    async with office(house) as api:
        await done(api, run)
        check_rows(api, run, 15)
        told = [(row.result.record, row.result.repeat, row.result.key) for row in house.rows(run)]
        assert told == [(record, repeat, f"k{record}") for record in range(5) for repeat in range(3)]
        assert [create.count for create in api.creates] == [7, 7, 1]


async def test_a_streamed_input_is_packed_as_it_comes(house: House) -> None:
    house.streamed = True
    run = house.new_run(prompts(20), **batch_job(max_requests=8))
    async with office(house) as api:
        await done(api, run)
        check_rows(api, run, 20)
        assert [create.count for create in api.creates] == [8, 8, 4]


async def test_rows_that_failed_ride_again_in_a_new_round(house: House) -> None:
    rows = [*prompts(5), b'{"prompt":"bad [[sim:flaky=1:400:invalid_request_error]]"}']
    run = house.new_run(rows, **batch_job())
    async with office(house) as api:
        await api.work(run)
        assert house.statuses(run) == Counter(succeeded=5, errored=1)
        await done(api, run, retry=True)
        assert [create.count for create in api.creates] == [6, 1]
        assert {row.result.idx: row.result.round for row in house.rows(run)}[5] == 2
        check_rows(api, run, 6)


# --- packing


@pytest.mark.parametrize(("most", "counts"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (None, [7])])
@pytest.mark.usefixtures("small_chunks")
async def test_packed_by_number(house: House, most: int | None, counts: list[int]) -> None:
    run = house.new_run(prompts(7), **batch_job(max_requests=most))
    async with office(house, batch_seconds=60) as api:
        await done(api, run)
        assert [create.count for create in api.creates] == counts
        check_rows(api, run, 7)


@pytest.mark.usefixtures("small_chunks")
async def test_packed_by_bytes_and_a_row_that_is_too_large_fails_alone(house: House) -> None:
    rows = [b'{"prompt":"%d %b"}' % (number, b"x" * (5_000 if number == 4 else 500)) for number in range(10)]
    run = house.new_run(rows, **batch_job(max_bytes=2_500))
    async with office(house) as api:
        end = await api.work(run)
        assert end.run.state is RunState.DONE_WITH_FAILURES
        assert all(create.bytes <= 2_500 for create in api.creates)
        assert max(create.bytes for create in api.creates) > 1_800, "as many as fit"
        assert house.statuses(run) == Counter(succeeded=9, errored=1)
        row = house.rows(run)[4].result
        assert row.error_type == "bad_row"
        assert "holds at most 2500" in (row.error_message or "")
        assert row.cost_pico == 0
        check_rows(api, run, 10)
        api.books(run).check()


async def test_a_budget_lets_a_few_ride_at_a_time_and_is_never_passed(house: House) -> None:
    """The worst that three rows can cost is what the cap leaves: they ride one batch after the other."""
    request = {"max_tokens": 1_000}
    run = house.new_run(prompts(12), request=request, **batch_job())
    async with office(house, batch_seconds=HOUR_S) as api:
        worst = _worst_of_a_row(house, run)
        cap = 3 * worst + worst // 2
        seen: list[int] = []
        most_out: list[int] = []

        async def look(_request: object) -> None:
            (row,) = [row for row in house.table("budgets") if row.scope == f"run:{run.id}"]
            seen.append(row.spent_pico + row.committed_pico)
            most_out.append(sum(not batch.has_ended(house.clock.now_us()) for batch in api.batches))

        api.wire.after = look
        await done(api, run, job=replace(run.job, budget_pico=cap))
        assert max(seen) <= cap
        assert max(most_out) == 1
        assert [create.count for create in api.creates] == [3, 3, 3, 3]
        check_rows(api, run, 12)
        assert api.simulator.ledger.cost_usd * 10**12 <= cap


async def test_a_likely_reserve_lets_the_rest_ride_together_once_enough_rows_are_known(house: House) -> None:
    run = house.new_run(
        prompts(1_500),
        request={"max_tokens": 4_000},
        budget=BudgetSpec(reserve=Reserve.LIKELY),
        **batch_job(),
    )
    async with office(house, batch_seconds=HOUR_S) as api:
        cap = 400 * _worst_of_a_row(house, run)
        await done(api, run, job=replace(run.job, budget_pico=cap))
        counts = [create.count for create in api.creates]
        assert counts[0] <= 401, "nothing is known yet"
        assert len(counts) <= 3
        check_rows(api, run, 1_500)
        assert api.simulator.ledger.cost_usd * 10**12 <= cap
        assert any("(likely, 99.9%) of" in text for text in api.texts("batch_submitted"))
        told = house.store.cost_shares(run.id)
        assert [shares.rows for shares in told.values()] == [1_500]


def _worst_of_a_row(house: House, run: Run) -> int:
    from runner.files.render import Renderer

    renderer = Renderer(run.job)
    bounds = [
        shipped_prices().worst_pico(renderer.request(renderer.parse(line), batch=True), batch=True)
        for line in house.path.read_bytes().splitlines()
    ]
    return max(bound or 0 for bound in bounds)


async def test_a_budget_without_room_for_one_row_pauses_and_a_higher_one_ends_the_run(house: House) -> None:
    run = house.new_run(prompts(6), budget_pico=1, **batch_job())
    async with office(house) as api:
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.BUDGET
        assert api.creates == []
        await done(api, run, job=replace(run.job, budget_pico=10**12))
        check_rows(api, run, 6)


async def test_rows_without_a_bound_pause_a_run_that_has_a_cap(house: House) -> None:
    tools = [{"type": "web_search_20260318", "name": "web_search"}]
    run = house.new_run(prompts(5), request={"tools": tools}, budget_pico=10**12, **batch_job())
    async with office(house) as api:
        end = await api.work(run)
    assert end.pause is not None
    assert end.pause.reason is PauseReason.BUDGET
    assert api.creates == []


async def test_rows_with_different_betas_ride_apart(house: House) -> None:
    def row(number: int, betas: list[str]) -> bytes:
        params = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": f"row {number}"}]}
        return json.dumps({"custom_id": f"r{number}", "params": {**params, "betas": betas}}).encode()

    known = ["context-1m-2025-08-07", "interleaved-thinking-2025-05-14"]
    betas = [[], [], known[:1], known[:1], [], known[1:], known[1:]]
    seen: list[str | None] = []

    async with office(house) as api:
        run = house.new_run([row(n, told) for n, told in enumerate(betas)], model=None, **batch_job())

        async def look(request: Any) -> None:
            if request.method == "POST":
                seen.append(request.headers.get("anthropic-beta"))

        api.wire.before = look
        await done(api, run)
        assert [create.count for create in api.creates] == [3, 2, 2]
        assert seen == [None, known[0], known[1]]
        check_rows(api, run, 7)


async def test_no_more_requests_are_queued_than_the_job_says(house: House) -> None:
    run = house.new_run(prompts(10), **batch_job(max_requests=2, max_queued=5))
    async with office(house, batch_seconds=HOUR_S) as api:
        most: list[int] = []

        async def look(_request: object) -> None:
            now_us = house.clock.now_us()
            most.append(sum(batch.count for batch in api.batches if not batch.has_ended(now_us)))

        api.wire.after = look
        await done(api, run)
        assert max(most) == 5
        assert all(create.count <= 2 for create in api.creates)
        check_rows(api, run, 10)


async def test_a_full_queue_at_the_service_is_waited_for(house: House) -> None:
    """Until a batch of ours has ended there is no room for the next one, for longer than a service may be down."""
    run = house.new_run(prompts(9), **batch_job(max_requests=3))
    async with office(house, batch_seconds=2_000, batch_queue=4) as api:
        await done(api, run)
        check_rows(api, run, 9)
        made = [create for create in api.creates if create.batch_id is not None]
        assert [create.count for create in made] == [3, 3, 3]
        refused = [create for create in api.creates if create.answered == "429"]
        assert refused
        times = [api.made_at_s(create) for create in api.creates if create.answered == "429"]
        assert min(late - early for early, late in pairwise(times)) >= 59.9


async def test_overloads_at_the_create_are_tried_again_with_patience(house: House) -> None:
    run = house.new_run(prompts(4), **batch_job())
    async with office(house, faults=(at_create("overloaded", first=4),)) as api:
        await done(api, run)
        assert [create.answered for create in api.creates] == ["529"] * 4 + ["200"]
        times = [api.made_at_s(create) for create in api.creates]
        assert times == sorted(set(times)), "never at once"
        check_rows(api, run, 4)
        assert api.states(run) == [BatchState.REFUSED] * 4 + [BatchState.INGESTED]


async def test_a_service_that_takes_no_batch_for_long_pauses_the_run(house: House) -> None:
    run = house.new_run(prompts(4), **batch_job())
    async with office(house, faults=(at_create("overloaded", first=None),)) as api:
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.STALLED
        assert 900 < api.now_s < 3 * 900
        api.simulator.set_faults(())
        await done(api, run)
        check_rows(api, run, 4)


# --- on the way


@pytest.mark.usefixtures("small_chunks")
async def test_a_paused_turn_is_continued_live_and_ends_as_one_row(house: House) -> None:
    rows = prompts(8)
    rows[2] = b'{"prompt":"two turns [[sim:pause_turn=1]]"}'
    rows[7] = b'{"prompt":"three turns [[sim:pause_turn=2]]"}'
    run = house.new_run(rows, **batch_job(max_requests=5))
    async with office(house, batch_seconds=HOUR_S) as api:
        await done(api, run)
        check_rows(api, run, 8)
        told = house.rows(run)
        assert {row.result.status for row in told} == {"succeeded"}
        assert len(api.live) == 3
        assert all(len(json.loads(body)["messages"]) > 1 for body in api.live)
        lines = [line for line in house.table("ledger") if line.idx == 7]
        assert len(lines) == 3
        assert told[7].result.cost_pico == sum(line.cost_pico for line in lines)
        message = json.loads(told[7].message or b"")
        texts = [block for block in message["content"] if block["type"] == "text"]
        assert len(texts) == len({json.dumps(text) for text in texts}), "nothing is said twice"


async def test_who_only_submits_leaves_and_who_collects_finds_all(house: House) -> None:
    run = house.new_run(prompts(10), **batch_job(max_requests=4))
    async with office(house, batch_seconds=5 * HOUR_S) as api:
        end = await api.work(run, waits=False)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.SUBMITTED
        assert "10 rows" in end.pause.message
        assert api.now_s < 60
        end = await api.work(run, waits=False)
        assert end.pause is not None, "nothing has ended yet"
        assert len(api.creates) == 3
        await house.clock.advance(5 * HOUR_S)
        end = await api.work(run, waits=False)
        assert end.run.state is RunState.DONE
        assert api.live == []
        check_rows(api, run, 10)
        api.books(run).check()


async def test_who_only_submits_never_sends_live_what_found_no_room(house: House) -> None:
    run = house.new_run(prompts(10), **batch_job(max_requests=2, max_queued=4))
    async with office(house, batch_seconds=5 * HOUR_S) as api:
        for _ in range(6):
            end = await api.work(run, waits=False)
            assert api.live == []
            if end.pause is None:
                break
            assert end.pause.reason is PauseReason.SUBMITTED
            await house.clock.advance(5 * HOUR_S)
        assert end.run.state is RunState.DONE
        assert [create.count for create in api.creates] == [2] * 5
        check_rows(api, run, 10)


@pytest.mark.parametrize("fault", ["overloaded", "rate_limit", "api_error", "reset"])
async def test_who_only_submits_never_sends_live_what_the_service_did_not_take(house: House, fault: str) -> None:
    run = house.new_run(prompts(6), **batch_job(max_requests=3))
    async with office(house, faults=(at_create(fault, first=1),)) as api:
        end = await api.work(run, waits=False)
        assert end.pause is not None
        assert api.live == []
        await house.clock.advance(2 * HOUR_S)
        for _ in range(3):
            await api.work(run, waits=False)
            await house.clock.advance(2 * HOUR_S)
        assert api.live == []
        check_rows(api, run, 6)


async def test_a_run_that_turns_live_asks_only_what_does_not_ride(house: House) -> None:
    run = house.new_run(prompts(9), **batch_job(max_requests=3, max_queued=6))
    async with office(house, batch_seconds=5 * HOUR_S) as api:
        await api.work(run, waits=False)
        assert [create.count for create in api.creates] == [3, 3]
        await done(api, run, job=replace(run.job, mode=Mode.LIVE))
        assert len(api.live) == 3
        assert Counter(succeeded_in_batches(api)) == Counter(range(6))
        check_rows(api, run, 9)


async def test_a_live_run_that_turns_to_batches_sends_what_is_left(house: House) -> None:
    rows = prompts(8)
    run = house.new_run(rows, limits={"concurrency": 1})

    def answer(request: MessagesRequest, number: int) -> Outcome:
        trouble = AccountTrouble.BILLING
        return answered(request, number) if number < 3 else failed(FailureKind.ACCOUNT, trouble=trouble)

    async with office(house) as api:
        await house.work(run, Scripted(house.clock, answer))
        before = house.store.tally(run.id).done
        assert before == 3
        job = replace(run.job, **batch_job())
        end = await api.work(run, job=job)
        assert end.run.state is RunState.DONE
        assert sum(create.count or 0 for create in api.creates) == 8 - before


async def test_a_canceled_run_keeps_what_its_batches_have_finished(house: House) -> None:
    run = house.new_run(prompts(10), **batch_job(max_requests=5))
    async with office(house, batch_seconds=10 * HOUR_S) as api:
        await api.work(run, waits=False)
        await house.clock.advance(4 * HOUR_S)
        house.store.move_run(run.id, "cancel asked")
        end = await house.work(run, api, batches=api.batching())
        assert end.run.state is RunState.CANCELED
        assert Counter(succeeded_in_batches(api)) == Counter(row.result.idx for row in house.rows(run))
        assert end.tally.done == 4, "four of ten hours: two rows of each five"
        assert len(api.creates) == 2
        api.books(run).check()
        api.books(run).check_budget_row()


async def test_a_run_asked_to_cancel_while_it_waits_cancels_its_batches_and_returns(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.engine.run.LOOK_S", 0.01)
    run = house.new_run(prompts(10), **batch_job(max_requests=5))
    async with office(house, batch_seconds=10 * HOUR_S) as api:

        async def ask(request: Any) -> None:
            if api.now_s > 5 * HOUR_S:
                house.store.ask(run.id, "cancel")

        api.wire.after = ask
        end = await api.work(run)
        assert end.run.state in (RunState.CANCELING, RunState.CANCELED)
        assert all(batch.cancel_us is not None for batch in api.batches)
        api.wire.after = _nothing
        end = await house.work(run, api, batches=api.batching())
        assert end.run.state is RunState.CANCELED
        assert end.tally.done > 0
        assert Counter(succeeded_in_batches(api)) == Counter(row.result.idx for row in house.rows(run))
        api.books(run).check()


async def _nothing(_request: object) -> None:
    pass


async def test_the_numbers_of_a_run_are_those_of_its_rows(house: House) -> None:
    told: list[Any] = []
    run = house.new_run(prompts(6), budget_pico=10**13, **batch_job(max_requests=3))
    async with office(house, batch_seconds=HOUR_S) as api:
        await done(api, run, on_progress=told.append)
    last = told[-1]
    assert (last.done, last.failed, last.committed_pico) == (6, 0, 0)
    assert last.spent_pico == house.store.money(run.id).spent_pico


def test_the_default_leaves_room_below_the_services_limit() -> None:
    assert DEFAULT_MAX_BYTES < 256_000_000
