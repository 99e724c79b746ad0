"""The batch endpoints: one POST whose end is told exactly, results as bytes on the disk, one origin and no other."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from runner.api import results_file
from runner.api.batches import Batches, Page, ResultsSpool, result_lines
from runner.api.client import Client
from runner.api.transport import PooledTransport
from runner.domain.batch import BatchStatus
from runner.domain.outcome import Failure, FailureKind
from runner.domain.states import BatchState
from runner.domain.submission import CreateReply, classify_create
from runner.errors import StoreFault, UsageInvalid
from tests.api.scripted import KEY, Script, Served, Wire, always, client_of, connection, once, reply, served

pytestmark = pytest.mark.anyio

MADE = {
    "id": "msgbatch_01X",
    "type": "message_batch",
    "processing_status": "in_progress",
    "request_counts": {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
    "created_at": "2026-11-21T08:00:00.000123Z",
    "expires_at": "2026-11-22T08:00:00.000123+00:00",
    "ended_at": None,
    "cancel_initiated_at": None,
    "archived_at": None,
    "results_url": None,
}
CREATED_US = 1_795_248_000_000_123
HEADERS = {
    "request-id": "req_1",
    "date": "Sat, 21 Nov 2026 08:00:01 GMT",
    "anthropic-organization-id": "org_1",
    "anthropic-workspace-id": "wrkspc_1",
}
LINES = [b'{"custom_id":"abcdefghij-%d","result":{"type":"expired"}}' % idx for idx in range(3)]


def error(kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": "told"}, "request_id": "req_9"}


@asynccontextmanager
async def batches_of(script: Script, **changes: Any) -> AsyncIterator[tuple[Batches, Served]]:
    async with client_of(script, **changes) as (client, server):
        yield Batches(client), server


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "body.json"
    path.write_bytes(b'{"requests":[' + b"x" * 1_000_000 + b"]}")
    return path


async def created(script: Script, body: Path, **told: Any) -> tuple[CreateReply, Served]:
    limit_s = told.pop("limit_s", 10.0)
    may_send = told.pop("may_send", None)
    async with batches_of(script, **told) as (batches, server):
        return await batches.create(body, body.stat().st_size, limit_s=limit_s, may_send=may_send), server


# --- create


async def test_a_create_is_one_post_of_the_file_with_its_length(body: Path) -> None:
    async with batches_of(always(reply(MADE, headers=HEADERS)), betas=("a",)) as (batches, server):
        told = await batches.create(body, body.stat().st_size, ("b",), limit_s=10)
    (seen,) = server.requests
    assert (seen.method, seen.target) == ("POST", "/v1/messages/batches")
    assert seen.body == body.read_bytes()
    assert seen.headers["content-length"] == str(body.stat().st_size)
    assert "transfer-encoding" not in seen.headers
    assert seen.headers["anthropic-beta"] == "a,b"
    assert told.batch == BatchStatus(
        id="msgbatch_01X",
        status="in_progress",
        counts=MADE["request_counts"],
        created_us=CREATED_US,
        expires_us=CREATED_US + 86_400_000_000,
    )
    assert told.origin.workspace == "wrkspc_1"
    assert classify_create(told) is BatchState.ACCEPTED


def answers(status: int, told: object, **headers: str) -> Script:
    return always(reply(told, status=status, headers={"request-id": "req_1", **headers}))


async def reading_nothing(wire: Wire) -> None:
    await wire.head()


async def reset_in_the_middle(wire: Wire) -> None:
    await wire.head()
    await wire.reader.readexactly(1000)
    wire.reset()


async def reset_at_the_end(wire: Wire) -> None:
    await wire.request()
    wire.reset()


def early(told: bytes) -> Script:
    """An edge that refuses before the body is out."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.send(told)
        await asyncio.sleep(0.05)
        wire.reset()

    return script


@pytest.mark.parametrize(
    ("script", "state"),
    [
        (answers(200, {"id": "msgbatch_1"}), BatchState.ACCEPTED),
        (answers(200, {"type": "message_batch"}), BatchState.UNKNOWN),
        (answers(200, {"id": "../../evil"}), BatchState.UNKNOWN),
        (answers(200, b"<html>fine</html>"), BatchState.UNKNOWN),
        (answers(400, error("invalid_request_error")), BatchState.REFUSED),
        (answers(413, error("request_too_large")), BatchState.REFUSED),
        (answers(429, error("rate_limit_error")), BatchState.REFUSED),
        (answers(529, error("overloaded_error")), BatchState.REFUSED),
        (answers(500, error("api_error")), BatchState.UNKNOWN),
        (answers(413, b"<html>too large</html>"), BatchState.UNKNOWN),
        (answers(429, b"slow down"), BatchState.UNKNOWN),
        (answers(502, b""), BatchState.UNKNOWN),
        (early(reply(error("request_too_large"), status=413)), BatchState.REFUSED),
        (early(reply(b"<html></html>", status=413)), BatchState.UNKNOWN),
        (once(reply(MADE)[:-20]), BatchState.UNKNOWN),
        (once(b""), BatchState.UNKNOWN),
        (reading_nothing, BatchState.UNKNOWN),
        (reset_in_the_middle, BatchState.UNKNOWN),
        (reset_at_the_end, BatchState.UNKNOWN),
    ],
)
async def test_each_end_of_a_create_is_told_exactly_and_nothing_is_sent_twice(
    script: Script, state: BatchState, body: Path
) -> None:
    told, server = await created(script, body)
    assert classify_create(told) is state
    assert len(server.requests) == 1
    assert (told.batch is None) == (told.failure is not None)


async def test_a_redirect_is_not_followed_and_its_end_is_unknown(body: Path) -> None:
    async with served(always(reply(MADE))) as elsewhere:
        told, server = await created(always(reply(b"", status=307, headers={"location": elsewhere.url})), body)
    assert classify_create(told) is BatchState.UNKNOWN
    assert len(server.requests) == 1
    assert elsewhere.connections == 0


async def test_no_answer_within_the_limit_is_unknown(body: Path) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await asyncio.sleep(30)

    told, _ = await created(script, body, limit_s=0.2)
    assert classify_create(told) is BatchState.UNKNOWN
    assert told.failure is not None
    assert told.failure.type == "timeout"


async def test_nobody_there_means_that_nothing_was_sent(body: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with Client(connection(url), PooledTransport(env={})) as client:
            told = await Batches(client).create(body, body.stat().st_size, limit_s=5)
    assert classify_create(told) is BatchState.NOT_SENT


async def test_who_may_not_send_any_more_sends_no_byte_of_the_body(body: Path) -> None:
    received = bytearray()

    async def script(wire: Wire) -> None:
        await wire.head()
        received.extend(await wire.reader.read())

    async def no() -> bool:
        return False

    async def yes() -> bool:
        return True

    told, _ = await created(script, body, may_send=no)
    assert classify_create(told) is BatchState.NOT_SENT
    assert not received
    told, _ = await created(always(reply(MADE)), body, may_send=yes)
    assert classify_create(told) is BatchState.ACCEPTED


async def test_a_limit_that_ends_while_the_permission_is_awaited_is_unknown(body: Path) -> None:
    async def never() -> bool:
        await anyio.sleep(30)
        return True

    told, _ = await created(reading_nothing, body, may_send=never, limit_s=0.2)
    assert classify_create(told) is BatchState.UNKNOWN


async def test_behind_a_proxy_the_ends_of_a_create_are_the_same(body: Path) -> None:
    """There httpx's own transport is at work, which does not tell how far a request came."""

    async def no() -> bool:
        return False

    async def posted(url: str, **told: Any) -> CreateReply:
        async with Client(connection(url), httpx.AsyncHTTPTransport(trust_env=False)) as client:
            return await Batches(client).create(body, body.stat().st_size, limit_s=5, **told)

    async with served(always(reply(MADE))) as server:
        assert classify_create(await posted(server.url)) is BatchState.ACCEPTED
        assert server.requests[0].body == body.read_bytes()
    async with served(reading_nothing) as server:
        assert classify_create(await posted(server.url, may_send=no)) is BatchState.NOT_SENT
        assert classify_create(await posted(server.url)) is BatchState.UNKNOWN
    assert classify_create(await posted(server.url)) is BatchState.NOT_SENT


async def test_a_spool_that_changed_is_noticed_before_anything_is_sent(body: Path, tmp_path: Path) -> None:
    async with batches_of(always(reply(MADE))) as (batches, server):
        with pytest.raises(StoreFault, match="bytes instead of"):
            await batches.create(body, 5, limit_s=5)
        with pytest.raises(StoreFault, match="cannot read"):
            await batches.create(tmp_path / "gone", 5, limit_s=5)
    assert server.connections == 0


async def test_the_key_is_not_in_what_is_kept_of_a_failure(body: Path) -> None:
    told, _ = await created(always(reply(f"bad gateway: {KEY}".encode(), status=502)), body)
    assert told.failure is not None
    assert KEY not in repr(told)


# --- retrieve, cancel, delete, list


async def test_unknown_words_of_a_batch_are_tolerated_and_all_buckets_counted() -> None:
    told = {
        **MADE,
        "processing_status": "pondering",
        "request_counts": {"processing": 1, "resting": 4, "note": "x", "none": None},
        "created_at": "yesterday",
        "archived_at": "2026-12-21T08:00:00Z",
        "new_field": {"a": [1]},
    }
    async with batches_of(always(reply(told))) as (batches, server):
        found = await batches.retrieve("msgbatch_01X")
    assert isinstance(found, BatchStatus)
    assert (found.status, found.has_ended, found.total) == ("pondering", False, 5)
    assert (found.created_us, found.archived) == (None, True)
    assert server.requests[0].target == "/v1/messages/batches/msgbatch_01X"


async def test_a_batch_that_is_not_found_is_a_failure_with_its_status() -> None:
    async with batches_of(always(reply(error("not_found_error"), status=404))) as (batches, _):
        for found in (await batches.retrieve("msgbatch_1"), await batches.first_line("msgbatch_1")):
            assert isinstance(found, Failure)
            assert (found.status, found.perhaps_billed) == (404, False)


async def test_cancel_and_delete_are_one_call_each() -> None:
    canceling = {**MADE, "processing_status": "canceling", "cancel_initiated_at": "2026-11-21T09:00:00Z"}
    async with batches_of(always(reply(canceling))) as (batches, server):
        found = await batches.cancel("msgbatch_01X")
        assert isinstance(found, BatchStatus)
        assert found.cancel_us == CREATED_US - 123 + 3_600_000_000
        assert await batches.delete("msgbatch_01X") is None
    assert [(seen.method, seen.target) for seen in server.requests] == [
        ("POST", "/v1/messages/batches/msgbatch_01X/cancel"),
        ("DELETE", "/v1/messages/batches/msgbatch_01X"),
    ]


async def test_a_page_of_the_list_says_who_answered_and_what_follows() -> None:
    page = {"data": [MADE, {**MADE, "id": "msgbatch_02"}], "has_more": True, "last_id": "msgbatch_02"}
    async with batches_of(always(reply(page, headers=HEADERS))) as (batches, server):
        found = await batches.list_page("msgbatch_00", limit=2)
    assert isinstance(found, Page)
    assert [one.id for one in found.batches] == ["msgbatch_01X", "msgbatch_02"]
    assert found.next_after == "msgbatch_02"
    assert (found.origin.organization, found.origin.workspace) == ("org_1", "wrkspc_1")
    assert found.origin.server_time_us == CREATED_US - 123 + 1_000_000
    assert server.requests[0].target == "/v1/messages/batches?limit=2&after_id=msgbatch_00"


async def test_the_lists_end_is_an_end() -> None:
    page = {"data": [], "has_more": False, "first_id": None, "last_id": None}
    async with batches_of(always(reply(page))) as (batches, server):
        found = await batches.list_page()
    assert found == Page(batches=(), next_after=None, origin=found.origin)
    assert server.requests[0].target == "/v1/messages/batches?limit=1000"


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"data": None},
        {"data": [MADE, {"type": "x"}]},
        {"data": [], "has_more": True},
        [],
        {"data": [{"id": "a/b"}]},
    ],
)
async def test_half_a_list_does_not_pass_for_a_list(page: object) -> None:
    async with batches_of(always(reply(page))) as (batches, _):
        assert isinstance(await batches.list_page(), Failure)


@pytest.mark.parametrize("batch_id", ["", "..", "a/b", "a?b", "a%2Fb", "http://evil", "a\n"])
async def test_an_id_that_could_lead_elsewhere_is_refused(batch_id: str, tmp_path: Path) -> None:
    async with batches_of(always(reply(MADE))) as (batches, server):
        for call in (batches.retrieve, batches.cancel, batches.delete, batches.first_line):
            with pytest.raises(UsageInvalid, match="no id of a batch"):
                await call(batch_id)
        with pytest.raises(UsageInvalid):
            await batches.results(batch_id, tmp_path / "r")
        assert not server.connections


# --- results

RESULTS = b"".join(line + b"\n" for line in LINES)


def framed(data: bytes, framing: str, *, whole: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-jsonl\r\n"
    if framing == "length":
        return head + b"content-length: %d\r\n\r\n" % (len(data) if whole else len(data) + 9) + data
    if framing == "chunked":
        pieces = [data[start : start + 7] for start in range(0, len(data), 7)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return head + b"transfer-encoding: chunked\r\n\r\n" + chunks + (b"0\r\n\r\n" if whole else b"")
    return head + b"connection: close\r\n\r\n" + data


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_results_come_to_the_disk_as_they_are(framing: str, tmp_path: Path) -> None:
    to = tmp_path / "results.jsonl"
    to.write_bytes(b"of an earlier try")
    async with batches_of(once(framed(RESULTS, framing))) as (batches, server):
        told = await batches.results("msgbatch_1", to)
    assert isinstance(told, ResultsSpool)
    assert (told.path, told.size, told.ends_with_newline) == (to, len(RESULTS), True)
    assert to.read_bytes() == RESULTS
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    assert server.requests[0].target == "/v1/messages/batches/msgbatch_1/results"
    assert server.requests[0].headers["accept"] == "application/binary"
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("at", [0, 1, len(LINES[0]), len(LINES[0]) + 1, len(RESULTS) - 1])
async def test_a_cut_download_leaves_no_file(framing: str, at: int, reset: bool, tmp_path: Path) -> None:
    async with batches_of(once(framed(RESULTS[:at], framing, whole=False), reset=reset)) as (batches, _):
        told = await batches.results("msgbatch_1", tmp_path / "results.jsonl")
    assert isinstance(told, Failure)
    assert told.kind is FailureKind.TRANSIENT
    assert list(tmp_path.iterdir()) == []


async def test_a_cut_that_no_framing_shows_is_seen_in_the_last_line(tmp_path: Path) -> None:
    to = tmp_path / "results.jsonl"
    async with batches_of(once(framed(RESULTS[:-10], "close"))) as (batches, _):
        told = await batches.results("msgbatch_1", to)
    assert isinstance(told, ResultsSpool)
    assert not told.ends_with_newline
    lines = result_lines(to)
    assert list(lines) == LINES[:2]
    assert lines.unfinished == LINES[2][:-9]


async def test_an_address_in_the_batch_is_never_asked(tmp_path: Path, body: Path) -> None:
    async with served(always(reply(b"stolen"))) as evil:
        told = {**MADE, "processing_status": "ended", "results_url": f"{evil.url}/v1/messages/batches/x/results"}

        async def script(wire: Wire) -> None:
            while (seen := await wire.request()) is not None:
                await wire.send(reply(RESULTS) if seen.target.endswith("/results") else reply(told))

        async with batches_of(script) as (batches, server):
            await batches.create(body, body.stat().st_size, limit_s=5)
            await batches.retrieve("msgbatch_01X")
            await batches.results("msgbatch_01X", tmp_path / "results.jsonl")
            assert await batches.first_line("msgbatch_01X") == LINES[0]
        assert len(server.requests) == 4
        assert evil.connections == 0


async def test_results_behind_a_redirect_are_a_failure(tmp_path: Path) -> None:
    async with served(always(reply(b"stolen"))) as evil:
        redirect = reply(b"", status=302, headers={"location": evil.url})
        async with batches_of(always(redirect)) as (batches, _):
            told = await batches.results("msgbatch_1", tmp_path / "results.jsonl")
        assert isinstance(told, Failure)
        assert evil.connections == 0


async def test_a_disk_that_takes_no_more_is_a_fault_of_the_store(tmp_path: Path) -> None:
    async with batches_of(once(framed(RESULTS, "length"))) as (batches, _):
        with pytest.raises(StoreFault, match="cannot write"):
            await batches.results("msgbatch_1", tmp_path / "no such folder" / "results.jsonl")


async def test_a_download_that_takes_too_long_leaves_no_file(tmp_path: Path) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(framed(RESULTS, "length", whole=False))
        await asyncio.sleep(30)

    async with batches_of(script) as (batches, _):
        told = await batches.results("msgbatch_1", tmp_path / "results.jsonl", limit_s=0.2)
    assert isinstance(told, Failure)
    assert told.type == "timeout"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (RESULTS, LINES[0]),
        (b"\n\r\n  \n" + RESULTS, LINES[0]),
        (LINES[1] + b"\r\n" + LINES[0], LINES[1]),
        (LINES[2], LINES[2]),
        (b"", None),
        (b"\n\n", None),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_the_first_line_is_had_alone(data: bytes, line: bytes | None, framing: str) -> None:
    async with batches_of(once(framed(data, framing))) as (batches, _):
        assert await batches.first_line("msgbatch_1") == line


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_first_line_that_was_cut_is_no_line(framing: str) -> None:
    async with batches_of(once(framed(LINES[0][:-5], framing, whole=False))) as (batches, _):
        assert isinstance(await batches.first_line("msgbatch_1"), Failure)


async def test_of_a_large_file_only_the_beginning_is_read_for_the_first_line() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(framed(RESULTS, "length", whole=False))
        await asyncio.sleep(30)

    async with batches_of(script) as (batches, _):
        with anyio.fail_after(5):
            assert await batches.first_line("msgbatch_1") == LINES[0]


# --- lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\r\n \r\n"])
def test_lines_end_at_newlines_only(end: bytes, tmp_path: Path) -> None:
    odd = json.dumps({"custom_id": "a\u2028b\x85c\x0bd"}, ensure_ascii=False).encode()
    told = [*LINES, odd]
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"".join(line + end for line in told))
    lines = result_lines(path)
    assert list(lines) == told == list(lines)
    assert lines.unfinished == b""


def test_cut_at_any_byte_no_line_is_damaged(tmp_path: Path) -> None:
    data = RESULTS.replace(b"\n", b"\r\n")
    path = tmp_path / "results.jsonl"
    for at in range(len(data)):
        path.write_bytes(data[:at])
        lines = result_lines(path)
        whole = list(lines)
        assert whole == LINES[: len(whole)]
        assert len(whole) == data[:at].count(b"\n")
        assert b"".join([*whole, lines.unfinished]).startswith(b"".join(whole))
        assert lines.unfinished == data[:at].rpartition(b"\n")[2].strip(b"\r")


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_file, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"x" * 5000)
    with pytest.raises(results_file.LineTooLong):
        list(result_lines(path))
