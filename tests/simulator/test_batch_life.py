"""A batch by the clock: in progress, canceling, ended, archived; and who sees it in which list."""

from __future__ import annotations

import json

import pytest

from runner.simulator import Fault
from runner.simulator.batch import RESULTS_KEPT_S
from tests.simulator.batch_calls import (
    ask,
    create,
    finished,
    kinds,
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
ALL_PROCESSING = {"processing": 10, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}


async def test_everything_counts_as_processing_until_the_whole_batch_ends(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_seconds=100)
    batch = create(simulator, requests(10))
    await clock.advance(99.9)
    assert retrieve(simulator, batch["id"]) == batch
    assert batch["request_counts"] == ALL_PROCESSING
    assert ask(simulator, "GET", f"/{batch['id']}/results").status == 404
    await clock.advance(0.1)
    ended = retrieve(simulator, batch["id"])
    assert ended["processing_status"] == "ended"
    assert ended["ended_at"] == "2026-11-21T10:01:40.000000Z"
    assert ended["request_counts"] == ALL_PROCESSING | {"processing": 0, "succeeded": 10}
    assert ended["results_url"].endswith(f"/v1/messages/batches/{batch['id']}/results")


async def test_results_are_shuffled_the_same_way_for_the_same_seed(clock: TurnedClock) -> None:
    files = []
    for seed in (1, 1, 2):
        simulator = simulator_on(clock, seed=seed)
        batch = await finished(simulator, clock, requests(50))
        files.append([line["custom_id"] for line in results(simulator, batch["id"])])
    first, again, other = files
    assert first == again != other
    assert sorted(first) == sorted(other) == sorted(f"row-{n}" for n in range(50))
    assert first != [f"row-{n}" for n in range(50)]


async def test_work_done_ahead_of_time_changes_nothing(clock: TurnedClock) -> None:
    files = []
    for ahead in (True, False):
        simulator = simulator_on(clock, batch_seconds=10)
        batch = create(simulator, requests(700))
        while ahead and simulator.work_ahead():
            pass
        await clock.advance(4)
        ask(simulator, "POST", f"/{batch['id']}/cancel")
        await clock.advance(1)
        files.append((raw_results(simulator, batch["id"]), list(simulator.ledger.lines()), simulator.ledger.cost_usd))
    assert files[0][0] == files[1][0]
    assert files[0][2] == files[1][2]
    assert len(files[0][1]) == len(files[1][1]) == 280


async def test_a_batch_that_is_not_done_in_a_day_expires_with_the_rest(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_seconds=2 * DAY_S)
    batch = create(simulator, requests(10))
    await clock.advance(DAY_S - 1)
    assert retrieve(simulator, batch["id"])["processing_status"] == "in_progress"
    await clock.advance(1)
    ended = retrieve(simulator, batch["id"])
    assert ended["ended_at"] == ended["expires_at"]
    assert ended["request_counts"] == ALL_PROCESSING | {"processing": 0, "succeeded": 5, "expired": 5}
    assert kinds(results(simulator, batch["id"])) == {"succeeded": 5, "expired": 5}


async def test_a_share_can_be_made_to_expire_or_to_fail(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_expired_share=0.3, batch_errored_share=0.1)
    batch = await finished(simulator, clock, requests(1000), seconds=DAY_S)
    assert kinds(results(simulator, batch["id"])) == {"succeeded": 630, "errored": 70, "expired": 300}
    assert simulator.ledger.counts["billed"] == 630


async def test_results_are_gone_after_29_days_and_the_batch_is_still_listed(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    batch = await finished(simulator, clock, requests(2), seconds=RESULTS_KEPT_S - 1)
    assert batch["archived_at"] is None
    assert len(results(simulator, batch["id"])) == 2
    await clock.advance(1)
    assert retrieve(simulator, batch["id"])["archived_at"] == "2026-12-20T10:00:00.000000Z"
    assert retrieve(simulator, batch["id"])["results_url"] is None
    assert ask(simulator, "GET", f"/{batch['id']}/results").status == 404
    assert listed(simulator) == [batch["id"]]


# -- cancel and delete


async def test_a_cancelled_batch_keeps_what_was_done(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_seconds=100, batch_cancel_seconds=5)
    batch = create(simulator, requests(10))
    await clock.advance(40)
    told = json.loads(ask(simulator, "POST", f"/{batch['id']}/cancel").body)
    assert told["processing_status"] == "canceling"
    assert told["cancel_initiated_at"] == "2026-11-21T10:00:40.000000Z"
    assert told["request_counts"] == ALL_PROCESSING
    await clock.advance(4)
    assert json.loads(ask(simulator, "POST", f"/{batch['id']}/cancel").body) == told
    await clock.advance(1)
    ended = retrieve(simulator, batch["id"])
    assert (ended["processing_status"], ended["ended_at"]) == ("ended", "2026-11-21T10:00:45.000000Z")
    assert ended["request_counts"] == ALL_PROCESSING | {"processing": 0, "succeeded": 4, "canceled": 6}
    assert kinds(results(simulator, batch["id"])) == {"succeeded": 4, "canceled": 6}
    assert len(list(simulator.ledger.lines())) == 4


async def test_the_cancelled_share_can_be_told(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_canceled_share=0.25)
    batch = create(simulator, requests(8))
    ask(simulator, "POST", f"/{batch['id']}/cancel")
    await clock.advance(1)
    assert kinds(results(simulator, batch["id"])) == {"succeeded": 6, "canceled": 2}


async def test_an_ended_batch_cannot_be_cancelled_and_a_living_one_not_deleted(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    batch = create(simulator, requests(1))
    refused = ask(simulator, "DELETE", f"/{batch['id']}")
    assert (refused.status, error_of(refused)["type"]) == (400, "invalid_request_error")
    await clock.advance(2)
    assert ask(simulator, "POST", f"/{batch['id']}/cancel").status == 400
    gone = json.loads(ask(simulator, "DELETE", f"/{batch['id']}").body)
    assert gone == {"id": batch["id"], "type": "message_batch_deleted"}
    assert ask(simulator, "GET", f"/{batch['id']}").status == 404
    assert listed(simulator) == []


# -- lists


async def test_a_list_is_newest_first_and_comes_in_pages(clock: TurnedClock) -> None:
    simulator = simulator_on(clock)
    made = []
    for _ in range(5):
        made.append(create(simulator, requests(1))["id"])
        await clock.advance(1)
    newest = made[::-1]
    page = json.loads(ask(simulator, "GET", "?limit=2").body)
    assert ([batch["id"] for batch in page["data"]], page["has_more"]) == (newest[:2], True)
    assert (page["first_id"], page["last_id"]) == (newest[0], newest[1])
    assert listed(simulator, f"?limit=2&after_id={newest[1]}") == newest[2:4]
    last = json.loads(ask(simulator, "GET", f"?limit=2&after_id={newest[3]}").body)
    assert (last["first_id"], last["has_more"]) == (newest[4], False)
    assert listed(simulator, f"?limit=2&before_id={newest[3]}") == newest[1:3]
    assert ask(simulator, "GET", "?limit=1001").status == 400


async def test_a_batch_is_seen_only_in_its_own_workspace(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, workspaces={"other-key": "wrkspc_other"})
    mine = create(simulator, requests(1))["id"]
    theirs = create(simulator, requests(1), x_api_key="other-key")["id"]
    assert (listed(simulator), listed(simulator, x_api_key="other-key")) == ([mine], [theirs])
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")):
        reply = ask(simulator, method, f"/{mine}{path}", x_api_key="other-key")
        assert (reply.status, header(reply, "anthropic-workspace-id")) == (404, "wrkspc_other")


async def test_a_key_can_be_moved_to_another_workspace_while_it_runs(start: Start) -> None:
    _, client = await start()
    body = {"requests": requests(1)}
    made = (await client.post("/v1/messages/batches", json=body)).json()
    await client.post("/_simulator/workspaces", json={"sk-ant-test": "wrkspc_moved"})
    page = await client.get("/v1/messages/batches")
    assert page.json()["data"] == []
    assert page.headers["anthropic-workspace-id"] == "wrkspc_moved"
    assert (await client.get(f"/v1/messages/batches/{made['id']}")).status_code == 404


async def test_somebody_elses_batch_is_listed_but_not_billed(start: Start) -> None:
    _, client = await start(batch_seconds=0.0)
    told = {"n": 3, "custom_id_prefix": "strange-"}
    made = (await client.post("/_simulator/foreign_batch", json=told)).json()
    page = (await client.get("/v1/messages/batches")).json()
    assert [batch["id"] for batch in page["data"]] == [made["id"]]
    assert sum(page["data"][0]["request_counts"].values()) == 3
    lines = (await client.get(f"/v1/messages/batches/{made['id']}/results")).text.splitlines()
    assert sorted(json.loads(line)["custom_id"] for line in lines) == ["strange-0", "strange-1", "strange-2"]
    assert (await client.get("/_simulator/tallies")).json()["cost_usd"] == "0"
    assert (await client.get("/_simulator/batches")).json() == []
    assert (await client.post("/_simulator/foreign_batch", json={"n": 0})).status_code == 400


async def test_a_new_batch_can_be_slow_to_be_listed_and_to_be_found(clock: TurnedClock) -> None:
    simulator = simulator_on(clock, batch_list_delay_s=60, batch_404_s=30)
    batch = create(simulator, requests(1))
    assert ask(simulator, "GET", f"/{batch['id']}").status == 404
    await clock.advance(30)
    assert retrieve(simulator, batch["id"])["id"] == batch["id"]
    assert listed(simulator) == []
    await clock.advance(30)
    assert listed(simulator) == [batch["id"]]


async def test_a_404_in_the_middle_is_a_fault_with_a_window(clock: TurnedClock) -> None:
    fault = Fault(kind="error", status=404, path="/v1/messages/batches/*", method="GET", after_s=10, until_s=310)
    simulator = simulator_on(clock, faults=(fault,))
    batch = create(simulator, requests(1))
    seen = []
    for _ in range(3):
        seen.append(ask(simulator, "GET", f"/{batch['id']}").status)
        await clock.advance(160)
    assert seen == [200, 404, 200]
