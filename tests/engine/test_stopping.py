"""Asked to stop, a run lets calls in flight end; broken off, it keeps what has arrived; either way it goes on."""

from __future__ import annotations

import signal

import anyio
import pytest

from runner.domain.outcome import Outcome
from runner.domain.request import MessagesRequest
from runner.domain.states import PauseReason
from runner.engine.interrupts import Interrupts
from runner.engine.writer import Writer
from runner.errors import StoreFault
from runner.store.store import Store
from tests.engine.house import Books, House, Scripted, answered, prompts, served

pytestmark = pytest.mark.anyio


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.run.LOOK_S", 0.02)


class Slow:
    """Answers after real time, so that a stop finds calls in flight."""

    def __init__(self, house: House, run: int, ask_at: int, latency_s: float = 0.05) -> None:
        self._house, self._run, self._ask_at, self._latency_s = house, run, ask_at, latency_s
        self.sent = self.ended = 0
        self.wanted = "pause"

    async def messages(self, request: MessagesRequest) -> Outcome:
        self.sent += 1
        if self.sent == self._ask_at:
            self._house.store.ask(self._run, self.wanted)
        await anyio.sleep(self._latency_s)
        self.ended += 1
        return answered(request, self.sent)


@pytest.mark.usefixtures("quick_looks")
async def test_a_drain_ends_what_is_in_flight_and_stores_it(house: House) -> None:
    run = house.new_run(prompts(300))
    service = Slow(house, run.id, ask_at=20)
    end = await house.work(run, service)
    assert end.pause is not None
    assert end.pause.reason is PauseReason.REQUESTED
    assert service.sent == service.ended == end.tally.done < 300
    assert house.sends_left() == 0
    end = await house.work(run, service)
    assert end.run.state == "done"
    assert service.sent == 300, "nothing is asked twice"


async def test_a_signal_that_comes_with_the_last_answer_ends_a_run_that_has_nothing_left_to_do(house: House) -> None:
    run = house.new_run(prompts(10))
    interrupts = Interrupts(pytest.fail)

    def answer(request: MessagesRequest, number: int) -> Outcome:
        if b"row 9" in request.body:
            interrupts.obey(signal.SIGTERM)
        return answered(request, number)

    end = await house.work(run, Scripted(house.clock, answer, latency_s=1.0), signals=interrupts)
    assert (end.run.state, end.pause) == ("done", None)


@pytest.mark.parametrize("step", ["hold", "release_running", "tally"])
async def test_a_signal_before_the_first_call_is_not_lost(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """While the run is taken up, and nobody works on it yet."""
    run = house.new_run(prompts(10))
    interrupts = Interrupts(pytest.fail)
    step_of_store = getattr(Store, step)

    def signaled(*arguments: object) -> object:
        interrupts.obey(signal.SIGTERM)
        return step_of_store(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Store, step, signaled)
        end = await house.work(run, Slow(house, run.id, ask_at=1), signals=interrupts, grace_s=0.1)
    assert end.pause is not None
    assert end.pause.signal_number == signal.SIGTERM
    assert end.tally.done == 0
    service = Slow(house, run.id, ask_at=0)
    assert (await house.work(run, service)).run.state == "done"
    assert service.sent == 10


@pytest.mark.usefixtures("quick_looks")
async def test_the_grace_is_bounded_and_what_is_cut_off_is_booked_as_unknown(house: House) -> None:
    run = house.new_run(prompts(40))
    service = Slow(house, run.id, ask_at=8, latency_s=5.0)
    with anyio.fail_after(3):
        end = await house.work(run, service, grace_s=0.1)
    assert end.pause is not None
    assert (service.ended, house.sends_left()) == (0, 8)
    end = await house.work(run, Scripted(house.clock, answered))
    assert end.run.state == "done"
    unknown = [line for line in house.table("ledger") if line.kind == "unknown"]
    assert sorted(line.idx for line in unknown) == list(range(8))
    assert all(line.bound_pico > 0 for line in unknown)
    assert {row.result.attempts for row in house.rows(run)} == {1}


@pytest.mark.usefixtures("quick_looks")
async def test_a_cancel_ends_the_run_and_keeps_its_answers(house: House) -> None:
    run = house.new_run(prompts(200))
    service = Slow(house, run.id, ask_at=20)
    service.wanted = "cancel"
    end = await house.work(run, service)
    assert end.run.state == "canceled"
    assert service.sent == service.ended == end.tally.done < 200
    assert house.sends_left() == 0


async def test_cancelled_from_outside_what_has_arrived_is_stored(house: House) -> None:
    run = house.new_run(prompts(300))
    service = Slow(house, run.id, ask_at=10_000, latency_s=0.02)
    with anyio.move_on_after(0.3):
        await house.work(run, service)
    stored = house.store.tally(run.id).done
    assert service.ended - 8 <= stored <= service.ended
    assert house.store.run_by_id(run.id).state == "running"
    end = await house.work(run, Scripted(house.clock, answered))
    assert end.run.state == "done"


async def test_cancelled_while_the_writer_begins_a_run_does_not_wait_for_it_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = house.new_run(prompts(10))
    serve = Writer.serve
    with anyio.CancelScope() as outside:

        async def broken_off(writer: Writer, **told: object) -> None:
            outside.cancel()
            await serve(writer, **told)

        with monkeypatch.context() as patched:
            patched.setattr(Writer, "serve", broken_off)
            await house.work(run, Scripted(house.clock, answered))
    assert outside.cancelled_caught
    assert (await house.work(run, Scripted(house.clock, answered))).run.state == "done"


@pytest.mark.parametrize("after", [1, 2, 5])
async def test_a_store_that_fails_stops_the_sends_and_the_run_goes_on_later(
    house: House, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    run = house.new_run(prompts(60))
    commits = 0
    commit_group = house.store.commit_group

    def failing(*told):
        nonlocal commits
        commits += 1
        if commits > after:
            raise StoreFault("the disk is full.")
        return commit_group(*told)

    async with served(house) as api:
        monkeypatch.setattr(house.store, "commit_group", failing)
        with pytest.raises(StoreFault, match="disk is full"):
            await house.work(run, api)
        sent = api.calls
        assert sent <= (after + 1) * 8
        monkeypatch.setattr(house.store, "commit_group", commit_group)
        end = await house.work(run, api)
        assert end.run.state == "done"
        assert house.statuses(run) == {"succeeded": 60}
        Books(house, api.simulator, run).check()


async def test_a_run_that_was_taken_over_is_left_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is lost: the run is somebody else's, its chunks are not given back and its state is not moved."""
    from runner.errors import RunLocked

    class Lost:
        def extend(self, _now_us: int) -> bool:
            return not service.sent  # before the first call there may be no chunk to leave alone

        def release(self) -> None:
            pass

    monkeypatch.setattr("runner.engine.holding.HEARTBEAT_S", 0.05)
    monkeypatch.setattr(house.store, "hold", lambda _run, _now: Lost())
    run = house.new_run(prompts(300))
    service = Slow(house, run.id, ask_at=10_000, latency_s=0.05)
    with pytest.raises(RunLocked):
        await house.work(run, service)
    assert house.store.run_by_id(run.id).state == "running"
    assert {chunk.state for chunk in house.table("chunks")} == {"running"}
