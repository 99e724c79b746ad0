"""However a model stops, its row ends in one state; what the service pauses goes on with what was said so far."""

from __future__ import annotations

import json

import msgspec
import pytest

from runner.domain.outcome import AccountTrouble, FailureKind, Outcome
from runner.domain.request import MessagesRequest
from runner.domain.states import PauseReason
from tests.engine.house import Books, House, Scripted, answered, failed, prompts, served

pytestmark = pytest.mark.anyio

TOOL = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    ("wish", "request_fields", "status", "stop"),
    [
        ("", {}, "succeeded", "end_turn"),
        ("[[sim:refusal]]", {}, "refused", "refusal"),
        ("[[sim:refusal=mid]]", {}, "refused", "refusal"),
        ("[[sim:tool_use]]", {"tools": [TOOL]}, "succeeded", "tool_use"),
        ("[[sim:unknown_fields]]", {}, "succeeded", "end_turn"),
    ],
)
async def test_how_a_model_stops_is_how_the_row_ends(
    house: House, wish: str, request_fields: dict[str, object], status: str, stop: str, stream: bool
) -> None:
    fields = {**request_fields, "max_tokens": 10_000 if stream else 1_000}
    run = house.new_run(prompts(4, wish), request=fields)
    async with served(house) as api:
        await house.work(run, api)
        assert {(row.result.status, row.result.stop_reason) for row in house.rows(run)} == {(status, stop)}
        assert all(charge.stream is stream for charge in api.simulator.ledger.charges)
        if "unknown_fields" not in wish:
            Books(house, api.simulator, run).check()


async def test_an_answer_that_was_cut_off_is_truncated(house: House) -> None:
    run = house.new_run(prompts(4, "[[sim:tokens=900]]"), request={"max_tokens": 50})
    async with served(house) as api:
        end = await house.work(run, api)
    assert end.run.state == "done_with_failures"
    assert house.statuses(run) == {"truncated": 4}
    assert all(row.message for row in house.rows(run)), "what there is of it is kept"


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        ("model_context_window_exceeded", "truncated"),
        ("stop_sequence", "succeeded"),
        ("max_tokens", "truncated"),
        ("something_new", "succeeded"),
    ],
)
async def test_stop_reasons_that_the_simulator_never_gives(house: House, stop: str, status: str) -> None:
    run = house.new_run(prompts(3))
    service = Scripted(house.clock, lambda request, number: answered(request, number, stop=stop))
    await house.work(run, service)
    assert {(row.result.status, row.result.stop_reason) for row in house.rows(run)} == {(status, stop)}


async def test_a_paused_turn_goes_on_with_what_was_said_and_all_turns_make_one_message(house: House) -> None:
    run = house.new_run(prompts(5, "[[sim:pause_turn=2]]"))
    async with served(house) as api:
        end = await house.work(run, api)
        assert end.run.state == "done"
        assert api.calls == 5 * 3
        assert len(house.table("turns")) == 5 * 2
        charged = {charge.body_sha256: charge for charge in api.simulator.ledger.charges}
        for row in house.rows(run):
            assert row.result.attempts == 1
            message = msgspec.json.decode(row.message or b"")
            assert [block["type"] for block in message["content"]] == ["text", "server_tool_use"] * 2 + ["text"]
            assert row.result.usage is not None
        total = sum(row.result.cost_pico or 0 for row in house.rows(run))
        assert total == sum(charge.cost_usd for charge in charged.values()) * 10**12
        Books(house, api.simulator, run).check()


async def test_a_run_that_stops_between_turns_goes_on_after_the_last_one(house: House) -> None:
    run = house.new_run(prompts(1))
    bodies: list[bytes] = []

    def answer(request: MessagesRequest, number: int) -> Outcome:
        bodies.append(request.body)
        if len(bodies) <= 2:
            return answered(request, len(bodies), stop="pause_turn")
        if len(bodies) == 3:
            return failed(FailureKind.ACCOUNT, trouble=AccountTrouble.BILLING)
        return answered(request, len(bodies))

    end = await house.work(run, Scripted(house.clock, answer))
    assert end.pause is not None
    assert len(house.table("turns")) == 2
    end = await house.work(run, Scripted(house.clock, answer))
    assert end.run.state == "done"
    assert [_turns_in(body) for body in bodies] == [1, 2, 3, 3]
    (row,) = house.rows(run)
    texts = [block["text"] for block in msgspec.json.decode(row.message or b"")["content"]]
    assert texts == ["answer 1", "answer 2", "answer 4"]
    assert row.result.usage is not None
    assert row.result.usage.output_tokens == 30


async def test_a_drain_between_turns_stores_the_turn_and_sends_no_further(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.engine.run.LOOK_S", 0.005)
    run = house.new_run(prompts(4))
    asked: list[int] = []

    def answer(request: MessagesRequest, number: int) -> Outcome:
        if _turns_in(request.body) == 1 and not asked:
            asked.append(number)
            house.store.ask(run.id, "pause")
        return answered(request, number, stop="pause_turn" if _turns_in(request.body) < 40 else "end_turn")

    end = await house.work(run, _Slow(house, answer), job=_with_turns(run.job, 50))
    assert end.pause is not None
    assert end.pause.reason is PauseReason.REQUESTED
    assert house.sends_left() == 0
    stored = len(house.table("turns"))
    assert 0 < stored < 4 * 39
    again = Scripted(house.clock, answer)
    end = await house.work(run, again)
    assert end.run.state == "done"
    assert len(again.sent) == 4 * 40 - stored, "no turn is bought twice"


class _Slow(Scripted):
    """Takes a moment of real time, in which the engine may look around."""

    def __init__(self, house: House, answer) -> None:
        super().__init__(house.clock, answer)

    async def messages(self, request: MessagesRequest) -> Outcome:
        import anyio

        await anyio.sleep(0.01)
        return await super().messages(request)


def _with_turns(job, most: int):
    from msgspec.structs import replace

    return replace(job, limits=replace(job.limits, max_turns=most))


async def test_a_turn_that_never_ends_is_bounded(house: House) -> None:
    run = house.new_run(prompts(2, "[[sim:pause_turn=50]]"), limits={"max_turns": 4})
    async with served(house) as api:
        await house.work(run, api)
        assert api.calls == 2 * 4
        assert house.statuses(run) == {"truncated": 2}
        assert {row.result.error_type for row in house.rows(run)} == {"max_turns"}
        Books(house, api.simulator, run).check()


def _turns_in(body: bytes) -> int:
    return len(json.loads(body)["messages"])
