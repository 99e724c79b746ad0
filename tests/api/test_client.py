"""The client: one POST and one outcome, whatever the other side does; the key goes nowhere else."""

from __future__ import annotations

import gzip
import json
import logging
import time
import traceback
from typing import Any

import anyio
import httpx
import pytest

from runner.api.client import Client, Connection
from runner.api.credentials import Credential
from runner.api.transport import PooledTransport
from runner.domain.outcome import AccountTrouble, Answer, Failure, FailureKind
from runner.errors import BudgetReached, CredentialsRefused, JobInvalid, Stalled
from tests.api.scripted import (
    KEY,
    MESSAGE,
    Script,
    Wire,
    always,
    asked,
    client_of,
    connection,
    once,
    open_connections,
    reply,
    served,
)
from tests.api.test_sse import WHOLE, told

pytestmark = pytest.mark.anyio

UNREACHABLE, TRANSIENT = FailureKind.UNREACHABLE, FailureKind.TRANSIENT


def error(kind: str, message: str = "told") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_9"}


def events(data: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = [data[start : start + 100] for start in range(0, len(data), 100)]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


async def test_a_plain_call_is_one_post() -> None:
    async with client_of(always(reply(MESSAGE, headers={"request-id": "req_1"}))) as (client, server):
        outcome = await client.messages(asked(b'{"model":"m"}'))
        assert isinstance(outcome, Answer)
        assert json.loads(outcome.message) == MESSAGE
        (seen,) = server.requests
        assert (seen.method, seen.target, seen.body) == ("POST", "/v1/messages", b'{"model":"m"}')
        assert seen.headers["anthropic-version"] == "2026-10-21"
        assert seen.headers["content-type"] == "application/json"
        assert seen.headers["user-agent"].startswith("claude-job-runner/")
        assert "anthropic-beta" not in seen.headers
        assert "cookie" not in seen.headers


@pytest.mark.parametrize(
    ("kind", "name", "value"), [("api_key", "x-api-key", KEY), ("bearer", "authorization", f"Bearer {KEY}")]
)
async def test_both_styles_of_keys(kind: Any, name: str, value: str) -> None:
    credential = Credential(kind=kind, secret=KEY, source="test")
    async with client_of(always(reply(MESSAGE)), credential=credential) as (client, server):
        await client.messages(asked())
        headers = server.requests[0].headers
        assert headers[name] == value
        assert len({"x-api-key", "authorization"} & headers.keys()) == 1


async def test_betas_are_merged_in_order_and_once() -> None:
    custom = {"Anthropic-Beta": "c-1, a-1", "X-Team": "blue"}
    async with client_of(always(reply(MESSAGE)), betas=("a-1", "b-1"), headers=custom) as (client, server):
        await client.messages(asked(betas=("d-1", "b-1")))
        await client.messages(asked())
        assert [seen.headers["anthropic-beta"] for seen in server.requests] == ["a-1,b-1,d-1,c-1", "a-1,b-1,c-1"]
        assert server.requests[0].headers["x-team"] == "blue"


@pytest.mark.parametrize(
    "name", ["X-Api-Key", "authorization", "Anthropic-Version", "Content-Type", "Host", "Content-Length", "Cookie"]
)
def test_headers_of_the_protocol_cannot_be_replaced(name: str) -> None:
    with pytest.raises(JobInvalid, match=name) as raised:
        connection("https://api.anthropic.com", headers={name: "secret-value"})
    assert "secret-value" not in str(raised.value)


@pytest.mark.parametrize(
    "headers", [{"X-A": "b\r\nx-api-key: y"}, {"X A": "b"}, {"X-A": "é"}, {"": "b"}, {"X-A": "1", "x-a": "2"}]
)
def test_headers_that_cannot_be_sent_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(JobInvalid):
        connection("https://api.anthropic.com", headers=headers)


async def test_a_stream_gives_the_message() -> None:
    async with client_of(always(events(told(WHOLE)))) as (client, server):
        for _ in range(2):
            outcome = await client.messages(asked(stream=True))
            assert isinstance(outcome, Answer)
            assert outcome.usage.output_tokens == 7
        assert server.connections == 1


async def test_a_stream_that_stays_open_after_its_end_is_not_waited_for() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(events(told(WHOLE)).removesuffix(b"0\r\n\r\n"))
        await anyio.sleep(30)

    async with client_of(script) as (client, _):
        began = time.monotonic()
        assert isinstance(await client.messages(asked(stream=True)), Answer)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("count", [0, 1, 5, len(WHOLE) - 1])
async def test_a_stream_that_breaks_may_have_been_billed(reset: bool, count: int) -> None:
    data = events(told(WHOLE[:count])).removesuffix(b"0\r\n\r\n")
    async with client_of(once(data, reset=reset)) as (client, _):
        outcome = await client.messages(asked(stream=True))
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.type, outcome.perhaps_billed) == (TRANSIENT, "cut_reply", True)


async def test_a_stream_of_nonsense_is_a_failure() -> None:
    async with client_of(always(events(b"data: {nonsense\n\n"))) as (client, _):
        outcome = await client.messages(asked(stream=True))
        assert isinstance(outcome, Failure)
        assert outcome.perhaps_billed


async def test_a_refused_stream_is_read_as_a_plain_error() -> None:
    refusal = reply(error("rate_limit_error"), status=429, headers={"retry-after": "3"})
    async with client_of(always(refusal)) as (client, _):
        outcome = await client.messages(asked(stream=True))
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.retry_after_s, outcome.perhaps_billed) == (FailureKind.RATE_LIMITED, 3.0, False)


async def test_a_compressed_reply_is_understood() -> None:
    body = gzip.compress(json.dumps(MESSAGE).encode())
    async with client_of(always(reply(body, headers={"content-encoding": "gzip"}))) as (client, _):
        assert isinstance(await client.messages(asked()), Answer)
    async with client_of(always(reply(b"junk", headers={"content-encoding": "gzip"}))) as (client, _):
        outcome = await client.messages(asked())
        assert isinstance(outcome, Failure)
        assert (outcome.type, outcome.perhaps_billed) == ("decoding_error", True)


async def silent(wire: Wire) -> None:
    await wire.reader.read()


async def dripping(wire: Wire) -> None:
    await wire.request()
    await wire.send(reply(b"", headers={"content-length": "1000"}))
    while True:
        await wire.send(b" ")
        await anyio.sleep(0.05)


async def pinging(wire: Wire) -> None:
    await wire.request()
    await wire.send(events(told(WHOLE[:1])).removesuffix(b"0\r\n\r\n"))
    while True:
        ping = told([{"type": "ping"}])
        await wire.send(b"%x\r\n%s\r\n" % (len(ping), ping))
        await anyio.sleep(0.05)


@pytest.mark.parametrize("script", [silent, dripping, pinging])
async def test_the_wall_clock_ends_a_call_that_never_ends(script: Script) -> None:
    async with client_of(script, row_timeout_s=0.4) as (client, _):
        began = time.monotonic()
        outcome = await client.messages(asked(stream=script is pinging))
        assert time.monotonic() - began < 5  # with room for a busy machine
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.type, outcome.perhaps_billed) == (TRANSIENT, "timeout", True)
        assert open_connections(client._http) == 0  # type: ignore[arg-type]


async def test_a_call_that_never_got_through_was_not_sent() -> None:
    async with served(silent) as server:
        url = server.url.replace("http:", "https:")  # the handshake hangs
        async with Client(connection(url, row_timeout_s=0.3), PooledTransport(env={})) as client:
            outcome = await client.messages(asked())
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.perhaps_billed) == (UNREACHABLE, False)


async def test_nobody_listening_is_unreachable() -> None:
    async with served(silent) as server:
        url = server.url
    async with Client(connection(url)) as client:
        outcome = await client.messages(asked())
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.perhaps_billed) == (UNREACHABLE, False)
        with pytest.raises(Stalled, match="does not answer"):
            await client.identify()


@pytest.mark.parametrize(
    ("script", "name"), [(once(b""), "remote_protocol_error"), (once(b"", reset=True), "read_error")]
)
async def test_a_connection_lost_after_sending_may_have_been_billed(script: Script, name: str) -> None:
    async with client_of(script) as (client, server):
        outcome = await client.messages(asked())
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.type, outcome.perhaps_billed) == (TRANSIENT, name, True)
        assert len(server.requests) == 1


async def test_a_reply_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.api.replies.MAX_REPLY_BYTES", 1_000_000)
    async with client_of(always(reply(b" " * 2_000_000))) as (client, _):
        outcome = await client.messages(asked())
        assert isinstance(outcome, Failure)
        assert (outcome.type, outcome.perhaps_billed) == ("unreadable_reply", True)
    async with client_of(always(events(b":" * 2_000_000))) as (client, _):
        outcome = await client.messages(asked(stream=True))
        assert isinstance(outcome, Failure)
        assert outcome.perhaps_billed


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_never_followed(status: int) -> None:
    async with served(always(reply(MESSAGE))) as thief:
        away = reply(b"", status=status, headers={"location": f"http://127.0.0.1:{thief.port}/v1/messages"})
        async with client_of(always(away)) as (client, _):
            outcome = await client.messages(asked())
            assert isinstance(outcome, Failure)
            assert (outcome.kind, outcome.trouble) == (FailureKind.ACCOUNT, AccountTrouble.ADDRESS)
            assert f"127.0.0.1:{thief.port}" in outcome.message
            with pytest.raises(JobInvalid):
                await client.identify()
        assert (thief.connections, thief.requests) == (0, [])


async def test_cookies_are_neither_kept_nor_sent() -> None:
    async with client_of(always(reply(MESSAGE, headers={"set-cookie": "a=b; Path=/"}))) as (client, server):
        for _ in range(2):
            await client.messages(asked())
        assert "cookie" not in server.requests[1].headers


async def test_counting_tokens() -> None:
    async with client_of(always(reply({"input_tokens": 2095}))) as (client, server):
        assert await client.count_tokens(b"{}") == 2095
        assert server.requests[0].target == "/v1/messages/count_tokens"
    async with client_of(always(reply(error("rate_limit_error"), status=429))) as (client, _):
        failed = await client.count_tokens(b"{}")
        assert isinstance(failed, Failure)
        assert failed.kind is FailureKind.RATE_LIMITED
    for odd in (reply({"tokens": 1}), reply(b"<html>"), reply([1])):
        async with client_of(always(odd)) as (client, _):
            failed = await client.count_tokens(b"{}")
            assert isinstance(failed, Failure)
            assert not failed.perhaps_billed


async def test_small_calls_end_too() -> None:
    async with client_of(silent, row_timeout_s=0.2) as (client, _):
        failed = await client.count_tokens(b"{}")
        assert isinstance(failed, Failure)
        assert (failed.type, failed.perhaps_billed) == ("timeout", False)


async def test_models_are_read_page_by_page() -> None:
    async def script(wire: Wire) -> None:
        while seen := await wire.request():
            last = "after_id=m2" in seen.target
            data = [{"id": "m3"}] if last else [{"id": "m1"}, {"id": "m2"}]
            await wire.send(reply({"data": data, "has_more": not last, "last_id": data[-1]["id"]}))

    async with client_of(script) as (client, server):
        assert [entry["id"] for entry in await client.models()] == ["m1", "m2", "m3"]
        assert server.requests[0].headers["x-api-key"] == KEY


async def test_identify_tells_whose_key_it_is() -> None:
    headers = {"anthropic-organization-id": "org_1", "anthropic-workspace-id": "wrkspc_1", "request-id": "req_1"}
    async with client_of(always(reply({"data": []}, headers=headers))) as (client, server):
        origin = await client.identify()
        assert (origin.organization, origin.workspace) == ("org_1", "wrkspc_1")
        assert server.requests[0].target == "/v1/models?limit=1"


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (401, "authentication_error", CredentialsRefused),
        (403, "permission_error", CredentialsRefused),
        (402, "billing_error", BudgetReached),
        (400, "invalid_request_error", JobInvalid),
        (500, "api_error", Stalled),
        (429, "rate_limit_error", Stalled),
    ],
)
async def test_identify_raises_what_people_should_see(status: int, kind: str, raised: type[Exception]) -> None:
    async with client_of(always(reply(error(kind), status=status))) as (client, _):
        with pytest.raises(raised) as found:
            await client.identify()
        assert kind in str(found.value)
        assert "req_9" in str(found.value)


async def test_a_refused_key_says_where_it_came_from() -> None:
    async with client_of(always(reply(error("authentication_error"), status=401))) as (client, _):
        with pytest.raises(CredentialsRefused) as found:
            await client.identify()
    assert found.value.hints == ("key ...x4Qd comes from ANTHROPIC_API_KEY",)


async def test_the_key_is_in_no_message_log_repr_or_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []

    async def mirror(wire: Wire) -> None:
        while seen := await wire.request():
            await wire.send(reply(f"<pre>{seen.headers}</pre>".encode(), status=502))

    scripts = [mirror, once(b""), always(reply(error("authentication_error", f"bad {KEY}"), status=401))]
    for script in scripts:
        async with client_of(script) as (client, _):
            shown += [repr(client), repr(client.connection), str(client.connection.credential)]
            shown.append(repr(await client.messages(asked())))
            shown.append(repr(await client.count_tokens(b"{}")))
            try:
                await client.identify()
            except (CredentialsRefused, Stalled) as raised:
                shown += ["".join(traceback.format_exception(raised)), repr(raised.hints)]
    assert KEY not in "\n".join([*shown, caplog.text])
    assert not [record for record in caplog.records if record.name.startswith("http")]


async def test_cancellation_is_the_one_thing_that_comes_out() -> None:
    async with client_of(silent) as (client, _):
        with anyio.move_on_after(0.1) as scope:
            await client.messages(asked())
        assert scope.cancelled_caught
        assert open_connections(client._http) == 0  # type: ignore[arg-type]


async def test_any_httpx_transport_fits() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=MESSAGE))
    async with Client(connection("https://api.anthropic.com"), transport) as client:
        assert isinstance(await client.messages(asked()), Answer)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.anthropic.com",
        "ftp://x",
        "https://u:p@x",
        "https://x/?a=b",
        "api.anthropic.com",
        "https://x:99999",
    ],
)
def test_unsafe_base_urls_are_refused(url: str) -> None:
    with pytest.raises(CredentialsRefused) as raised:
        connection(url)
    assert "u:p" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["https://gw.example/anthropic/", "http://localhost:1", "http://[::1]:1", "http://127.0.0.2"]
)
def test_safe_base_urls_are_taken(url: str) -> None:
    told: Connection = connection(url)
    assert told.base_url == url.rstrip("/")
