"""A create that is refused: the row that is meant is found and the others are sent, or the run pauses."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from runner.domain.run import Run
from runner.domain.states import BatchState, PauseReason
from runner.simulator.batches import PATH
from runner.simulator.exchange import Reply, Request
from runner.simulator.problems import Problem, problem_reply
from tests.engine.batch_house import Office, at_create, at_list, batch_job, check_rows, chunk_sums, office
from tests.engine.house import House, prompts

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("long_looks", "small_chunks")]

Words = Callable[[int], str]


def with_poison(count: int, *places: int) -> list[bytes]:
    rows = prompts(count)
    for place in places:
        rows[place] = b'{"prompt":"poison %d"}' % place
    return rows


def refuses_poison(words: Words, status: int = 400, type_: str = "invalid_request_error") -> Any:
    """Every create with such a row in it is refused; `words` gets the place of the first in the body."""

    def refuse(request: Request) -> Reply | None:
        if (request.method, request.path) != ("POST", PATH) or b"poison" not in request.body:
            return None
        told = [b"poison" in json.dumps(one).encode() for one in json.loads(request.body)["requests"]]
        return problem_reply(Problem(status=status, type=type_, message=words(told.index(True))), "req_1")

    return refuse


def named(place: int) -> str:
    return f"requests.{place}.params.messages: Input should be better than this"


def unnamed(_place: int) -> str:
    return "one of the requests is not to our liking"


async def worked(api: Office, run: Run, rows: int) -> None:
    end = await api.work(run)
    assert end.pause is None
    check_rows(api, run, rows)
    api.books(run).check()
    api.books(run).check_budget_row()
    assert set(chunk_sums(api.house)) == {("done", 0)}
    assert api.spool_left() == []


@pytest.mark.parametrize("places", [(0,), (5,), (11,), (2, 9), (0, 1, 2, 3)])
async def test_a_row_that_is_named_ends_alone_and_the_rest_is_sent(house: House, places: tuple[int, ...]) -> None:
    run = house.new_run(with_poison(12, *places), budget_pico=10**13, **batch_job())
    async with office(house) as api:
        api.wire.refuse = refuses_poison(named)
        await worked(api, run, 12)
        assert api.wire.asked["create"] == len(places) + 1
        for row in house.rows(run):
            if row.result.idx in places:
                assert (row.result.status, row.result.error_type) == ("errored", "invalid_request_error")
                assert "better than this" in (row.result.error_message or "")
                assert row.result.cost_pico == 0
            else:
                assert row.result.status == "succeeded"
        assert Counter(api.states(run)) == {BatchState.REFUSED: len(places), BatchState.INGESTED: 1}


@pytest.mark.parametrize("place", [0, 1, 30, 62, 63])
async def test_a_row_that_is_not_named_is_found_by_halving(house: House, place: int) -> None:
    run = house.new_run(with_poison(64, place), **batch_job())
    async with office(house) as api:
        api.wire.refuse = refuses_poison(unnamed)
        await worked(api, run, 64)
        assert house.statuses(run) == Counter(succeeded=63, errored=1)
        assert house.rows(run)[place].result.error_type == "invalid_request_error"
        refused = api.states(run).count(BatchState.REFUSED)
        assert refused <= math.log2(64) + 1
        assert api.wire.asked["create"] <= 2 * math.log2(64) + 2


async def test_a_name_that_fits_no_row_is_none(house: House) -> None:
    run = house.new_run(with_poison(16, 9), **batch_job())
    async with office(house) as api:
        api.wire.refuse = refuses_poison(lambda _: "requests.9999: what is this?")
        await worked(api, run, 16)
        assert house.statuses(run) == Counter(succeeded=15, errored=1)


async def test_two_rows_that_are_not_named_are_both_found(house: House) -> None:
    run = house.new_run(with_poison(32, 7, 8), **batch_job())
    async with office(house) as api:
        api.wire.refuse = refuses_poison(unnamed)
        await worked(api, run, 32)
        assert [row.result.idx for row in house.rows(run) if row.result.status == "errored"] == [7, 8]
        assert api.wire.asked["create"] <= 2 * (2 * math.log2(32) + 2)


async def test_a_service_that_refuses_whatever_it_gets_pauses_the_run(house: House) -> None:
    """Three rows refused alone, one after the other: it is not the rows."""
    run = house.new_run(with_poison(64, *range(64)), **batch_job())
    async with office(house) as api:
        api.wire.refuse = refuses_poison(unnamed)
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.REFUSED
        assert "not to our liking" in end.pause.message
        assert api.wire.asked["create"] <= 3 * (math.log2(64) + 1)
        assert end.tally.failed == 0, "what all rows have in common is no row's end"
        api.wire.refuse = lambda _: None
        end = await api.work(run)
        assert end.pause is None
        assert house.statuses(run) == Counter(succeeded=64)
        check_rows(api, run, 64)


@pytest.mark.parametrize("rows", [1, 2])
async def test_where_no_other_row_is_left_a_row_that_is_refused_alone_ends(house: House, rows: int) -> None:
    run = house.new_run(with_poison(rows, *range(rows)), **batch_job())
    async with office(house) as api:
        api.wire.refuse = refuses_poison(unnamed)
        end = await api.work(run)
        assert end.pause is None
        assert house.statuses(run) == Counter(errored=rows)
        assert api.wire.asked["create"] <= rows + 1


async def test_a_body_that_is_too_large_for_the_service_goes_in_smaller_ones(house: House) -> None:
    def refuse(request: Request) -> Reply | None:
        if request.method == "POST" and request.path == PATH and len(request.body) > 1_000:
            return problem_reply(Problem(status=413, type="request_too_large", message="too large"), "req_1")
        return None

    run = house.new_run(prompts(40), **batch_job())
    async with office(house) as api:
        api.wire.refuse = refuse
        await worked(api, run, 40)
        assert house.statuses(run) == Counter(succeeded=40)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("credit_low", PauseReason.BILLING),
        ("customer_spend_limit", PauseReason.SPEND_CAP),
        ("spend_limit", PauseReason.SPEND_CAP),
        ("authentication", PauseReason.CREDENTIALS),
        ("permission", PauseReason.CREDENTIALS),
    ],
)
@pytest.mark.parametrize("where", ["create", "list"])
async def test_account_trouble_pauses_the_run_and_frees_the_rows(
    house: House, kind: str, reason: PauseReason, where: str
) -> None:
    fault = at_create(kind, first=None) if where == "create" else at_list(kind)
    run = house.new_run(prompts(8), budget_pico=10**13, **batch_job())
    async with office(house, faults=(fault,)) as api:
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is reason
        assert api.wire.asked["create"] == (where == "create")
        assert {riding for _, riding in chunk_sums(house)} == {0}
        api.books(run).check_budget_row()
        assert house.store.money(run.id).committed_pico == 0
        assert api.spool_left() == []
        api.simulator.set_faults(())
        await worked(api, run, 8)
