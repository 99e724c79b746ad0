"""Results that cannot be trusted: right rows, right words, right books, whatever the file looks like."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from runner.api.batches import Batches
from runner.domain.states import BatchState, PauseReason, RunState
from runner.domain.submission import Timing
from runner.engine.parts import Batching
from runner.simulator import Fault
from runner.store import ledger
from runner.store.group import Fence
from tests.engine.batch_house import (
    HOUR_S,
    BatchBooks,
    Office,
    at_results,
    at_status,
    batch_job,
    check_rows,
    office,
)
from tests.engine.house import House, Served, prompts, served
from tests.store import building

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("long_looks")]

ROWS = 7


async def worked(house: House, api: Office, rows: list[bytes] | None = None, **job: Any) -> Any:
    """A run over these rows, worked on, with its books held against the bill."""
    rows = rows or prompts(ROWS)
    run = house.new_run(rows, **(batch_job() | job))
    end = await api.work(run)
    assert end.pause is None
    check_rows(api, run, len(rows))
    api.books(run).check()
    api.books(run).check_budget_row()
    return end.run


def told_of(house: House, run: Any) -> dict[int, tuple[str, str | None]]:
    return {row.result.idx: (str(row.result.status), row.result.error_type) for row in house.rows(run)}


# --- files of every kind


@pytest.mark.parametrize("kind", ["results_duplicated", "results_foreign", "results_crlf", "results_blank"])
async def test_what_a_file_has_too_much_changes_nothing(house: House, kind: str) -> None:
    async with office(house, faults=(at_results(kind, lines=3),)) as api:
        run = await worked(house, api)
        assert house.statuses(run) == Counter(succeeded=ROWS)
        assert api.wire.asked["results"] == 1
        assert api.texts("batch_results_odd") == (
            [f"batch {api.creates[0].batch_id}: 3 lines of nobody's"] if kind == "results_foreign" else []
        )


async def test_a_last_line_without_its_end_is_a_line(house: House) -> None:
    async with office(house, faults=(at_results("results_unfinished"),)) as api:
        run = await worked(house, api)
        assert house.statuses(run) == Counter(succeeded=ROWS)
        assert api.wire.asked["results"] == 1


@pytest.mark.parametrize("heals_after", [1, 2])
async def test_missing_lines_are_fetched_again(house: House, heals_after: int) -> None:
    async with office(house, faults=(at_results("results_missing", lines=2, first=heals_after),)) as api:
        run = await worked(house, api)
        assert house.statuses(run) == Counter(succeeded=ROWS)
        assert api.wire.asked["results"] == heals_after + 1
        assert len(api.creates) == 1


async def test_lines_that_stay_missing_end_their_rows_and_may_have_been_billed(house: House) -> None:
    async with office(house, faults=(at_results("results_missing", lines=2),)) as api:
        run = await worked(house, api, budget_pico=10**13)
        assert api.wire.asked["results"] == 3
        assert Counter(told_of(house, run).values()) == Counter(
            {("succeeded", None): ROWS - 2, ("errored", "missing_result"): 2}
        )
        unknown = [line for line in house.table("ledger") if line.kind == "unknown"]
        assert len(unknown) == 2
        assert all(line.bound_pico > 0 and line.batch == api.creates[0].batch_id for line in unknown)
        assert len(api.creates) == 1, "they do not go again by themselves"
        assert "2 lines missing" in api.texts("batch_results_odd")[0]


async def test_contradicting_lines_end_their_row_and_no_other(house: House) -> None:
    async with office(house, faults=(at_results("results_conflicting", lines=1),)) as api:
        run = await worked(house, api)
        told = Counter(told_of(house, run).values())
        assert told == Counter({("succeeded", None): ROWS - 1, ("errored", "conflicting_results"): 1})
        (row,) = [row for row in house.rows(run) if row.result.status == "errored"]
        assert row.message is None
        assert len(api.creates) == 1
        assert "1 rows with contradicting lines" in api.texts("batch_results_odd")[0]


def first_line(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The file with its first line changed."""

    def mangled(whole: bytes) -> bytes:
        line, _, rest = whole.partition(b"\n")
        return change(line) + b"\n" + rest

    return mangled


def a_result(result: bytes) -> Callable[[bytes], bytes]:
    """The first line with another result."""
    return first_line(lambda line: b'{"custom_id":"%b","result":%b}' % (_id_of(line), result))


def _id_of(line: bytes) -> bytes:
    return str(json.loads(line)["custom_id"]).encode()


STRANGE_LINES = {
    "cut in the middle": (first_line(lambda line: line[:40]), "missing_result"),
    "no JSON": (first_line(lambda _: b"<html>502</html>"), "missing_result"),
    "a list": (first_line(lambda _: b"[1,2]"), "missing_result"),
    "no result": (first_line(lambda line: b'{"custom_id":"%b"}' % _id_of(line)), "missing_result"),
    "a result that is none": (a_result(b"null"), "missing_result"),
    "a number for a name": (first_line(lambda _: b'{"custom_id":7,"result":{"type":"expired"}}'), "missing_result"),
    "bytes that are no text": (a_result(b'{"type":"succeeded","message":{"id":"\xff"}}'), None),
    "an unknown kind of end": (a_result(b'{"type":"vanished"}'), "unknown_result_type"),
    "a success without its message": (a_result(b'{"type":"succeeded"}'), None),
    "an error without a word": (a_result(b'{"type":"errored"}'), None),
    "an error that is bare": (
        a_result(b'{"type":"errored","error":{"type":"invalid_request_error","message":"no"}}'),
        "invalid_request_error",
    ),
    "an error inside an error": (
        a_result(
            b'{"type":"errored","error":{"type":"error","request_id":"req_7",'
            b'"error":{"type":"invalid_request_error","message":"no"}}}'
        ),
        "invalid_request_error",
    ),
    "a character that no database takes": (
        a_result(b'{"type":"errored","error":{"type":"invalid_request_error","message":"\\u0000"}}'),
        "invalid_request_error",
    ),
    "half a surrogate pair": (
        a_result(b'{"type":"errored","error":{"type":"invalid_request_error","message":"\\ud83d"}}'),
        "missing_result",
    ),
}


@pytest.mark.parametrize("name", STRANGE_LINES)
async def test_a_strange_line_is_one_rows_trouble(house: House, name: str) -> None:
    """What says nothing certain of a row that may have been billed ends it or tries it again; the others succeed."""
    mangle, error_type = STRANGE_LINES[name]
    async with office(house) as api:
        told: list[bytes] = []

        def once(whole: bytes) -> bytes:
            told.append(whole)
            return mangle(whole) if whole == told[0] else whole

        api.wire.mangle = once
        run = house.new_run(prompts(ROWS), limits={"max_attempts": 2}, **batch_job())
        end = await api.work(run)
        assert end.pause is None
        statuses = told_of(house, run)
        assert len(statuses) == ROWS
        odd = {told for told in statuses.values() if told != ("succeeded", None)}
        assert odd == (set() if error_type is None else {("errored", error_type)})
        api.books(run).check_budget_row()
        if error_type is not None:
            assert len(api.creates) == 1


@pytest.mark.parametrize("before", [b"", b" ", b"  \t"])
@pytest.mark.parametrize("after", [b"", b"\r", b" \t"])
async def test_blanks_around_a_last_line_without_its_end(house: House, before: bytes, after: bytes) -> None:
    def mangle(whole: bytes) -> bytes:
        *lines, last = whole.removesuffix(b"\n").split(b"\n")
        return b"\n".join([*lines, before + last + after])

    async with office(house) as api:
        api.wire.mangle = mangle
        run = await worked(house, api)
        assert house.statuses(run) == Counter(succeeded=ROWS)


async def test_a_file_with_missing_lines_is_not_the_last_word_while_the_next_download_fails(house: House) -> None:
    faults = (
        at_results("results_missing", lines=2, first=1),
        at_results("error", status=404, error_type="not_found_error", message="no results", first=30),
    )
    async with office(house, faults=faults) as api:
        run = await worked(house, api)
        assert house.statuses(run) == Counter(succeeded=ROWS)


async def test_an_empty_file_is_fetched_again_and_ends_all_rows(house: House) -> None:
    async with office(house) as api:
        api.wire.mangle = lambda _: b""
        run = await worked(house, api)
        assert set(told_of(house, run).values()) == {("errored", "missing_result")}
        assert api.wire.asked["results"] == 3


async def test_a_file_of_somebody_else_ends_nobody_well(house: House) -> None:
    async with office(house) as api:
        api.wire.mangle = lambda whole: whole.replace(b'{"custom_id":"', b'{"custom_id":"zzz')
        run = await worked(house, api)
        assert set(told_of(house, run).values()) == {("errored", "missing_result")}


async def test_results_are_not_asked_for_at_another_host(house: House) -> None:
    faults = (at_status("batch_results_url", location="https://evil.test/"),)
    async with office(house, faults=faults) as api:
        hosts: set[str] = set()

        async def look(request: Any) -> None:
            hosts.add(request.url.host)

        api.wire.before = look
        run = await worked(house, api)
        assert house.statuses(run) == Counter(succeeded=ROWS)
        assert hosts == {"127.0.0.1"}


async def test_results_that_cannot_be_had_for_hours_are_waited_for(house: House) -> None:
    faults = (at_results("error", status=404, error_type="not_found_error", message="no results", until_s=7_200),)
    async with office(house, faults=faults) as api:
        run = await worked(house, api)
        assert house.statuses(run) == Counter(succeeded=ROWS)
        assert api.now_s >= 7_200
        assert len(api.creates) == 1


async def test_words_of_the_lines_themselves(house: House) -> None:
    rows = [
        *prompts(3),
        b'{"prompt":"no [[sim:refusal]]"}',
        b'{"prompt":"bad [[sim:error=400:invalid_request_error]]"}',
        b'{"prompt":"long [[sim:tokens=900]]"}',
    ]
    async with office(house) as api:
        run = await worked(house, api, rows, request={"max_tokens": 300})
        assert house.statuses(run) == Counter(succeeded=3, refused=1, errored=1, truncated=1)
        bad = house.rows(run)[4].result
        assert (bad.error_type, bad.error_message) == ("invalid_request_error", "as the prompt asked")
        assert bad.cost_pico == 0


async def test_passing_failures_ride_again_until_the_attempts_are_used_up(house: House) -> None:
    rows = [
        b'{"prompt":"once [[sim:flaky=1:500:api_error]]"}',
        b'{"prompt":"always [[sim:error=529:overloaded_error]]"}',
        *prompts(2),
    ]
    async with office(house) as api:
        run = await worked(house, api, rows, limits={"max_attempts": 3})
        assert [create.count for create in api.creates] == [4, 2, 1]
        assert house.statuses(run) == Counter(succeeded=3, errored=1)
        told = {row.result.idx: row.result.attempts for row in house.rows(run)}
        assert told == {0: 2, 1: 3, 2: 1, 3: 1}


# --- cut at every byte

PIECE = 5


async def cut_at_every_byte(house: House, framing: str, step: int) -> None:
    """One batch of five rows for each byte of its results: the first download of each ends there."""
    rows = [b'{"prompt":"no %d [[sim:error=400:invalid_request_error]]"}' % number for number in range(PIECE)]
    async with served(house, batch_seconds=1.0, batch_expired_share=0.8) as api:
        parts = {"batches": _batching(house, api), "grace_s": 0.1}
        probe = house.new_run(rows, limits={"max_attempts": 1}, **batch_job())
        await house.work(probe, api, **parts)
        (bill,) = api.simulator.ledger.batch_bills
        size = len(b"".join(bill.outcome.pages))
        cuts = range(0, size, step)
        run = house.new_run(rows * len(cuts), limits={"max_attempts": 1}, **batch_job(max_requests=PIECE))
        await house.work(run, api, batches=replace(parts["batches"], waits=False))
        made = [create.batch_id for create in api.simulator.batches.journal.creates[1:]]
        assert len(made) == len(cuts)
        faults = [
            Fault(
                kind="cut_body",
                path=f"/v1/messages/batches/{batch_id}/results",
                method="GET",
                first=1,
                framing=framing,
                at_byte=at,
            )
            for batch_id, at in zip(made, cuts, strict=True)
        ]
        api.simulator.set_faults(tuple(faults))
        await house.clock.advance(24 * HOUR_S)
        end = await house.work(run, api, **parts)
        assert end.run.state is RunState.DONE_WITH_FAILURES
        told = Counter((str(row.result.status), row.result.error_type) for row in house.rows(run))
        assert told == Counter(
            {("errored", "invalid_request_error"): len(cuts), ("expired", "expired"): 4 * len(cuts)}
        )
        assert api.simulator.ledger.faults["cut_body"] == len(cuts)
        books = BatchBooks(house, api.simulator, run)
        books.check()
        books.check_budget_row()
        assert not house.table("ledger")


def _batching(house: House, api: Served) -> Batching:
    return Batching(service=Batches(api.client), timing=Timing(), spool=house.folder / "spool", fingerprint="key-1")


@pytest.mark.parametrize("framing", ["content-length", "chunked", "close"])
async def test_a_download_cut_anywhere_is_made_again(house: House, framing: str) -> None:
    await cut_at_every_byte(house, framing, step=5)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("framing", ["content-length", "chunked", "close"])
async def test_a_download_cut_at_any_byte_is_made_again(house: House, framing: str) -> None:
    await cut_at_every_byte(house, framing, step=1)


async def test_a_download_that_is_cut_each_time_is_never_taken_for_the_whole(house: House) -> None:
    """Lines that a broken connection keeps back are paid for: nobody ends their rows before they can be had."""
    async with office(house, batch_seconds=60.0) as api:
        api.wire.mangle = lambda whole: whole[: len(whole) - 30] if api.now_s < 7_200 else whole
        run = await worked(house, api)
        assert house.statuses(run) == Counter(succeeded=ROWS)


# --- trouble of the account, told line by line


def fail_lines(api: Office, share: float, type_: str = "", message: str = "") -> None:
    """From now on so many of a batch's requests fail so."""
    for name, value in {
        "batch_errored_share": share,
        "batch_errored_type": type_,
        "batch_errored_message": message,
    }.items():
        object.__setattr__(api.simulator.config, name, value)


@pytest.mark.parametrize("share", [1.0, 0.95])
async def test_most_rows_with_one_message_pause_the_run_and_lose_no_row(house: House, share: float) -> None:
    run = house.new_run(prompts(20), **batch_job())
    async with office(house) as api:
        fail_lines(api, share, "invalid_request_error", "extra: Extra inputs are not permitted")
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.REFUSED
        assert "Extra inputs" in end.pause.message
        assert house.statuses(run) == (Counter() if share == 1.0 else Counter(succeeded=1))
        fail_lines(api, 0.0)
        end = await api.work(run)
        assert end.pause is None
        assert house.statuses(run) == Counter(succeeded=20)
        check_rows(api, run, 20)
        assert api.states(run) == [BatchState.INGESTED] * 2
        assert {row.result.attempts for row in house.rows(run)} == {1}
        api.books(run).check()
        api.books(run).check_budget_row()


async def test_rows_that_fail_for_reasons_of_their_own_end(house: House) -> None:
    rows = [b'{"prompt":"no %d [[sim:error=400:invalid_request_error]]"}' % number for number in range(18)]
    run = house.new_run([*rows, *prompts(2)], **batch_job())
    async with office(house) as api:
        end = await api.work(run)
        assert end.pause is None
        assert house.statuses(run) == Counter(succeeded=2, errored=18)


TROUBLES = [
    ("invalid_request_error", "Your credit balance is too low to access the Claude API.", PauseReason.BILLING),
    ("invalid_request_error", "You have reached your specified API usage limits.", PauseReason.SPEND_CAP),
    ("authentication_error", "invalid x-api-key", PauseReason.CREDENTIALS),
    ("permission_error", "not allowed", PauseReason.CREDENTIALS),
    ("not_found_error", "model: claude-haiku-5-5", PauseReason.MODEL),
]


@pytest.mark.parametrize(("type_", "message", "reason"), TROUBLES)
@pytest.mark.parametrize(("rows", "share"), [(4, 1.0), (4, 0.5), (30, 0.5), (30, 1.0)])
async def test_account_trouble_in_the_lines_pauses_once_and_loses_no_row(
    house: House, type_: str, message: str, reason: PauseReason, rows: int, share: float
) -> None:
    run = house.new_run(prompts(rows), **batch_job())
    async with office(house) as api:
        fail_lines(api, share, type_, message)
        end = await api.work(run)
        assert end.pause is not None
        assert end.pause.reason is reason
        assert house.statuses(run) == Counter(succeeded=rows - int(rows * share)) + Counter()
        fail_lines(api, 0.0)
        end = await api.work(run)
        assert end.pause is None, "what the first batch told is no trouble of today"
        assert house.statuses(run) == Counter(succeeded=rows)
        check_rows(api, run, rows)
        api.books(run).check()
        api.books(run).check_budget_row()


# --- rows that have ended meanwhile


async def test_a_line_of_a_row_that_a_late_answer_has_ended_is_in_the_books(house: House) -> None:
    """A live call of whoever lost its claim comes back while the row rides: both are paid for, one counts."""
    async with office(house) as api:
        run = house.new_run(prompts(ROWS), **batch_job())

        async def answer_late(request: httpx.Request) -> None:
            if request.url.path.endswith("/results") and not house.rows(run):
                late = building.ended(Fence(seq=0, epoch=0), 2, message=LATE)
                house.store.commit_group(run.id, [late])

        api.wire.before = answer_late
        end = await api.work(run)
        assert end.tally.done == ROWS
        line = next(one for one in ledger_lines(house, run) if one.idx == 2 and one.batch)
        assert (line.kind, line.cost_pico) == ("duplicate", charge_of(api, line.key))
        rest = [one for one in ledger_lines(house, run) if one.idx != 2]
        assert {one.kind for one in rest} == {"spend"}
        assert [row.message for row in house.rows(run)][2] == LATE


LATE = b'{"id":"msg_late","content":[{"type":"text","text":"late"}]}'


def ledger_lines(house: House, run: Any) -> list[Any]:
    return house.store.database.read(lambda c: list(ledger.lines_of(c, run.id)))


def charge_of(api: Office, custom_id: str) -> int:
    """What the bill has for a line of a batch, in pico-dollars."""
    (charge,) = [one for one in api.simulator.ledger.all_charges() if one.custom_id == custom_id]
    return int(charge.cost_usd * 10**12)
