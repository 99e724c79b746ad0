"""What can go wrong around a create, a listing and a results file, each on demand."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from runner.simulator import Fault, Simulator
from runner.simulator.faults import RESULTS_KINDS
from tests.simulator.batch_calls import (
    PATH,
    ask,
    batch_body,
    create,
    finished,
    listed,
    raw_results,
    requests,
    results,
    retrieve,
    simulator_on,
)
from tests.simulator.calls import error_of, header
from tests.simulator.conftest import Start
from tests.turned_clock import TurnedClock

pytestmark = pytest.mark.anyio

DAY_S = 24 * 3600


def at_create(clock: TurnedClock, **fault: Any) -> Simulator:
    return simulator_on(clock, faults=(Fault(path=PATH, method="POST", first=1, **fault),))


CREATED = [
    ({"kind": "stall"}, 1),
    ({"kind": "stall", "executed": False}, 0),
    ({"kind": "executed_reset"}, 1),
    ({"kind": "reset"}, 0),
    ({"kind": "reset_half"}, 1),
    ({"kind": "executed_error"}, 1),
    ({"kind": "executed_html_502"}, 1),
    ({"kind": "api_error"}, 0),
    ({"kind": "html_502"}, 0),
]


@pytest.mark.parametrize(("fault", "batches"), CREATED, ids=str)
async def test_a_fault_at_a_create_says_whether_the_batch_exists(
    fault: dict[str, Any], batches: int, clock: TurnedClock
) -> None:
    simulator = at_create(clock, **fault)
    reply = ask(simulator, "POST", "", batch_body(requests(2)))
    assert reply.status != 200 or reply.wire is not None
    assert len(listed(simulator)) == batches


async def test_a_500_after_the_create_looks_like_any_other(clock: TurnedClock) -> None:
    reply = ask(at_create(clock, kind="executed_error"), "POST", "", batch_body(requests(2)))
    assert (reply.status, error_of(reply)["type"]) == (500, "api_error")
    assert json.loads(reply.body)["request_id"] == header(reply, "request-id")


async def test_a_create_that_was_never_answered_is_in_the_journal(start: Start) -> None:
    _, client = await start(faults=(Fault(kind="stall", path=PATH, method="POST"),))
    with pytest.raises(httpx.ReadTimeout):
        await client.post(PATH, content=batch_body(requests(2)), timeout=0.1)
    (create_seen,) = (await client.get("/_simulator/batches")).json()
    (batch,) = (await client.get(PATH)).json()["data"]
    assert (create_seen["answered"], create_seen["wire"], create_seen["count"]) == ("stall", "stalled", 2)
    assert create_seen["batch_id"] == batch["id"]
    assert create_seen["at"] <= batch["created_at"]


async def test_a_slow_answer_is_a_good_one_that_comes_later(clock: TurnedClock) -> None:
    simulator = at_create(clock, kind="slow", lasts_s=700)
    reply = ask(simulator, "POST", "", batch_body(requests(2)))
    assert (reply.status, reply.wire, reply.delay_s) == (200, None, 700)
    assert listed(simulator) == [json.loads(reply.body)["id"]]


async def test_a_hidden_batch_is_found_by_id_and_listed_later(clock: TurnedClock) -> None:
    simulator = at_create(clock, kind="batch_hidden", lasts_s=900)
    batch = create(simulator, requests(1))
    assert listed(simulator) == []
    assert retrieve(simulator, batch["id"])["id"] == batch["id"]
    await clock.advance(900)
    assert listed(simulator) == [batch["id"]]


async def test_a_late_create_takes_effect_long_after_it_was_sent(clock: TurnedClock) -> None:
    simulator = at_create(clock, kind="batch_late", lasts_s=600)
    reply = ask(simulator, "POST", "", batch_body(requests(1)))
    assert reply.wire is not None
    assert reply.wire.kind == "stall"
    await clock.advance(599)
    assert listed(simulator) == []
    await clock.advance(1)
    (batch_id,) = listed(simulator)
    assert retrieve(simulator, batch_id)["created_at"] == "2026-11-21T10:10:00.000000Z"


async def test_a_stuck_batch_outlives_its_day_until_it_is_cancelled(clock: TurnedClock) -> None:
    simulator = at_create(clock, kind="batch_stuck")
    batch = create(simulator, requests(1))
    await clock.advance(3 * DAY_S)
    assert retrieve(simulator, batch["id"])["processing_status"] == "in_progress"
    ask(simulator, "POST", f"/{batch['id']}/cancel")
    await clock.advance(1)
    assert retrieve(simulator, batch["id"])["processing_status"] == "ended"


async def test_a_batch_can_be_stuck_in_canceling_for_a_time(clock: TurnedClock) -> None:
    fault = Fault(kind="batch_stuck", path=PATH + "/*/cancel", lasts_s=DAY_S)
    simulator = simulator_on(clock, faults=(fault,))
    batch = create(simulator, requests(1))
    ask(simulator, "POST", f"/{batch['id']}/cancel")
    await clock.advance(DAY_S - 1)
    assert retrieve(simulator, batch["id"])["processing_status"] == "canceling"
    await clock.advance(1)
    assert retrieve(simulator, batch["id"])["processing_status"] == "ended"


async def test_a_status_nobody_knows(clock: TurnedClock) -> None:
    fault = Fault(kind="batch_status", path=PATH + "*", method="GET", message="pondering")
    simulator = simulator_on(clock, faults=(fault,))
    batch = create(simulator, requests(1))
    assert retrieve(simulator, batch["id"])["processing_status"] == "pondering"
    (one,) = json.loads(ask(simulator, "GET").body)["data"]
    assert one["processing_status"] == "pondering"


async def test_a_results_url_on_an_evil_host(clock: TurnedClock) -> None:
    fault = Fault(kind="batch_results_url", path=PATH + "/*", location="https://evil.test/")
    simulator = simulator_on(clock, faults=(fault,))
    batch = create(simulator, requests(1))
    assert retrieve(simulator, batch["id"])["results_url"] is None
    await clock.advance(2)
    url = retrieve(simulator, batch["id"])["results_url"]
    assert url == f"https://evil.test/v1/messages/batches/{batch['id']}/results"


# -- results that cannot be trusted


async def mangled(clock: TurnedClock, kind: str, **more: Any) -> tuple[bytes, bytes]:
    """The results as they should be, and as the fault lets them out."""
    simulator = simulator_on(clock)
    batch = await finished(simulator, clock, requests(1200))
    whole = raw_results(simulator, batch["id"])
    simulator.set_faults((Fault(kind=kind, path=PATH + "/*/results", **more),))
    return whole, raw_results(simulator, batch["id"])


async def test_lines_can_come_twice(clock: TurnedClock) -> None:
    whole, told = await mangled(clock, "results_duplicated", lines=3)
    assert told.splitlines() == whole.splitlines() + whole.splitlines()[:3]


async def test_lines_can_be_missing_across_pages(clock: TurnedClock) -> None:
    whole, told = await mangled(clock, "results_missing", lines=700)
    assert told.splitlines() == whole.splitlines()[700:]


async def test_lines_can_be_somebody_elses(clock: TurnedClock) -> None:
    whole, told = await mangled(clock, "results_foreign", lines=2)
    assert told.startswith(whole)
    ids = [json.loads(line)["custom_id"] for line in told[len(whole) :].splitlines()]
    assert ids == ["someone-else-0", "someone-else-1"]


async def test_lines_can_contradict_each_other(clock: TurnedClock) -> None:
    whole, told = await mangled(clock, "results_conflicting")
    first, again = json.loads(told.splitlines()[0]), json.loads(told.splitlines()[-1])
    assert len(told.splitlines()) == len(whole.splitlines()) + 1
    assert first["custom_id"] == again["custom_id"]
    assert first["result"] != again["result"]


async def test_lines_can_end_in_other_ways(clock: TurnedClock) -> None:
    whole, told = await mangled(clock, "results_crlf")
    assert told == whole.replace(b"\n", b"\r\n")
    whole, told = await mangled(clock, "results_blank", lines=2)
    assert told == whole.replace(b"\n", b"\n\n\n")
    whole, told = await mangled(clock, "results_unfinished")
    assert told + b"\n" == whole


@pytest.mark.parametrize("kind", sorted(RESULTS_KINDS))
async def test_other_replies_are_left_alone(kind: str, clock: TurnedClock) -> None:
    simulator = simulator_on(clock, faults=(Fault(kind=kind, path=PATH + "*"),))
    batch = create(simulator, requests(1))
    assert retrieve(simulator, batch["id"]) == batch


@pytest.mark.parametrize("framing", ["content-length", "chunked", "close"])
@pytest.mark.parametrize("at_byte", [0, 1, 5000])
async def test_results_can_be_cut_at_any_byte_in_three_framings(framing: Any, at_byte: int, start: Start) -> None:
    _, client = await start(batch_seconds=0.0)
    batch = (await client.post(PATH, content=batch_body(requests(20)))).json()
    url = f"{PATH}/{batch['id']}/results"
    whole = (await client.get(url)).content
    cut = [{"kind": "cut_body", "path": PATH + "/*/results", "framing": framing, "at_byte": at_byte}]
    await client.post("/_simulator/faults", json=cut)
    got = b""
    try:
        async with client.stream("GET", url) as reply:
            async for piece in reply.aiter_raw():
                got += piece
    except httpx.RemoteProtocolError:
        assert framing != "close"
    else:
        assert framing == "close"
    assert got == whole[:at_byte]


async def test_a_long_file_arrives_whole(start: Start) -> None:
    server, client = await start(batch_seconds=0.0)
    batch = (await client.post(PATH, content=batch_body(requests(3000)))).json()
    lines = (await client.get(f"{PATH}/{batch['id']}/results")).text.splitlines()
    assert {json.loads(line)["custom_id"] for line in lines} == {f"row-{n}" for n in range(3000)}
    assert server.simulator.ledger.counts["billed"] == 3000


async def test_mangled_results_are_mangled_alike_each_time(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, faults=(Fault(kind="results_conflicting", path=PATH + "/*/results"),))
    batch = await finished(simulator, clock, requests(5))
    assert results(simulator, batch["id"]) == results(simulator, batch["id"])
