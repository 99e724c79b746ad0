"""The life of a batch as the official SDK sees it: values, pages, streams of results, and errors."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import anthropic
import pytest

from runner.simulator import Fault, RunningServer, Simulator, SimulatorConfig, prompt_digest, serve
from tests.turned_clock import TurnedClock

pytestmark = pytest.mark.anyio

PATH = "/v1/messages/batches"
ASK: dict[str, Any] = {"model": "claude-haiku-5-5", "max_tokens": 100}
DAY_S = 24 * 3600

Pair = tuple[RunningServer, anthropic.AsyncAnthropic]
Connect = Callable[..., Awaitable[Pair]]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def connect(clock: TurnedClock) -> AsyncIterator[Connect]:
    """`server, sdk = await connect(seed=1)`, on the turned clock."""
    async with AsyncExitStack() as stack:

        async def connector(api_key: str = "sk-ant-test", **settings: Any) -> Pair:
            server = await serve(Simulator(SimulatorConfig(**settings), clock))
            stack.push_async_callback(server.close)
            sdk = anthropic.AsyncAnthropic(api_key=api_key, base_url=server.url, max_retries=0)
            return server, await stack.enter_async_context(sdk)

        yield connector


def asking(text: str, **more: Any) -> dict[str, Any]:
    return ASK | {"messages": [{"role": "user", "content": text}]} | more


def rows(*texts: str) -> list[Any]:
    return [{"custom_id": f"row-{number}", "params": asking(text)} for number, text in enumerate(texts)]


async def results_of(sdk: anthropic.AsyncAnthropic, batch_id: str) -> dict[str, Any]:
    return {line.custom_id: line.result async for line in await sdk.messages.batches.results(batch_id)}


async def test_a_batch_is_created_polled_and_read(connect: Connect, clock: TurnedClock) -> None:
    server, sdk = await connect()
    batch = await sdk.messages.batches.create(requests=rows("A", "B", "C"))
    assert (batch.processing_status, batch.request_counts.processing) == ("in_progress", 3)
    assert batch.expires_at - batch.created_at == timedelta(days=1)
    assert (batch.ended_at, batch.results_url) == (None, None)
    await clock.advance(2)
    ended = await sdk.messages.batches.retrieve(batch.id)
    assert (ended.processing_status, ended.request_counts.succeeded) == ("ended", 3)
    results = await results_of(sdk, batch.id)
    for row in rows("A", "B", "C"):
        message = results[row["custom_id"]].message
        assert prompt_digest(row["params"]) in message.content[0].text
        assert message.usage.service_tier == "batch"
    assert server.simulator.ledger.counts["billed"] == 3


async def test_every_kind_of_result_is_told_apart(connect: Connect, clock: TurnedClock) -> None:
    _, sdk = await connect(batch_canceled_share=0.5)
    texts = ["[[sim:error=529:overloaded_error]]", "[[sim:refusal]]", "[[sim:pause_turn=1]]", "[[sim:max_tokens]]"]
    batch = await sdk.messages.batches.create(requests=rows(*texts))
    await clock.advance(2)
    results = await results_of(sdk, batch.id)
    assert results["row-0"].type == "errored"
    assert results["row-0"].error.error.type == "overloaded_error"
    reasons = [results[f"row-{number}"].message.stop_reason for number in (1, 2, 3)]
    assert reasons == ["refusal", "pause_turn", "max_tokens"]


async def test_a_cancelled_batch_is_canceling_first(connect: Connect, clock: TurnedClock) -> None:
    _, sdk = await connect(batch_seconds=100)
    batch = await sdk.messages.batches.create(requests=rows(*"ABCDEFGHIJ"))
    await clock.advance(40)
    told = await sdk.messages.batches.cancel(batch.id)
    assert told.processing_status == "canceling"
    assert told.cancel_initiated_at == told.created_at + timedelta(seconds=40)
    with pytest.raises(anthropic.AnthropicError, match="No `results_url`"):
        await sdk.messages.batches.results(batch.id)
    await clock.advance(1)
    types = sorted(result.type for result in (await results_of(sdk, batch.id)).values())
    assert types == ["canceled"] * 6 + ["succeeded"] * 4


async def test_a_batch_expires_after_24_hours_with_what_it_has_done(connect: Connect, clock: TurnedClock) -> None:
    server, sdk = await connect(batch_expired_share=0.3)
    batch = await sdk.messages.batches.create(requests=rows(*"ABCDEFGHIJ"))
    await clock.advance(DAY_S - 1)
    assert (await sdk.messages.batches.retrieve(batch.id)).processing_status == "in_progress"
    await clock.advance(1)
    ended = await sdk.messages.batches.retrieve(batch.id)
    assert (ended.ended_at, ended.request_counts.expired) == (ended.expires_at, 3)
    types = sorted(result.type for result in (await results_of(sdk, batch.id)).values())
    assert types == ["expired"] * 3 + ["succeeded"] * 7
    assert server.simulator.ledger.counts["billed"] == 7


async def test_results_can_be_read_for_29_days(connect: Connect, clock: TurnedClock) -> None:
    _, sdk = await connect()
    batch = await sdk.messages.batches.create(requests=rows("A"))
    await clock.advance(29 * DAY_S - 1)
    assert len(await results_of(sdk, batch.id)) == 1
    await clock.advance(1)
    archived = await sdk.messages.batches.retrieve(batch.id)
    assert archived.archived_at == archived.created_at + timedelta(days=29)
    with pytest.raises(anthropic.NotFoundError):
        await sdk.get(f"{PATH}/{batch.id}/results", cast_to=object)


async def test_lists_are_walked_page_by_page_newest_first(connect: Connect, clock: TurnedClock) -> None:
    _, sdk = await connect()
    made = []
    for _ in range(5):
        made.append((await sdk.messages.batches.create(requests=rows("A"))).id)
        await clock.advance(1)
    assert [batch.id async for batch in sdk.messages.batches.list(limit=2)] == made[::-1]
    page = await sdk.messages.batches.list(limit=2)
    assert (page.has_more, page.first_id, page.last_id) == (True, made[4], made[3])
    newer = await sdk.messages.batches.list(limit=2, before_id=made[2])
    assert [batch.id for batch in newer.data] == [made[4], made[3]]


async def test_an_ended_batch_is_deleted_and_a_living_one_is_not(connect: Connect, clock: TurnedClock) -> None:
    _, sdk = await connect()
    batch = await sdk.messages.batches.create(requests=rows("A"))
    with pytest.raises(anthropic.BadRequestError):
        await sdk.messages.batches.delete(batch.id)
    await clock.advance(2)
    with pytest.raises(anthropic.BadRequestError):
        await sdk.messages.batches.cancel(batch.id)
    gone = await sdk.messages.batches.delete(batch.id)
    assert (gone.id, gone.type) == (batch.id, "message_batch_deleted")
    with pytest.raises(anthropic.NotFoundError):
        await sdk.messages.batches.retrieve(batch.id)


async def test_a_bad_envelope_is_a_bad_request_that_names_the_row(connect: Connect) -> None:
    _, sdk = await connect()
    bad = rows("A", "B")
    bad[1]["custom_id"] = "x" * 65
    with pytest.raises(anthropic.BadRequestError) as caught:
        await sdk.messages.batches.create(requests=bad)
    assert caught.value.type == "invalid_request_error"
    assert "requests.1.custom_id: String should have at most 64 characters" in str(caught.value)


async def test_bad_params_are_found_only_in_the_results(connect: Connect, clock: TurnedClock) -> None:
    _, sdk = await connect()
    batch = await sdk.messages.batches.create(requests=[{"custom_id": "bad", "params": asking("A", speed="fast")}])
    await clock.advance(2)
    result = (await results_of(sdk, batch.id))["bad"]
    assert (result.type, result.error.type, result.error.error.type) == ("errored", "error", "invalid_request_error")


async def test_a_full_queue_and_a_wrong_key_are_refused(connect: Connect) -> None:
    _, sdk = await connect(batch_queue=1, keys=("sk-ant-test",))
    await sdk.messages.batches.create(requests=rows("A"))
    with pytest.raises(anthropic.RateLimitError):
        await sdk.messages.batches.create(requests=rows("B"))
    with pytest.raises(anthropic.AuthenticationError):
        await sdk.with_options(api_key="wrong").messages.batches.create(requests=rows("B"))


async def test_another_workspace_sees_nothing_of_it(connect: Connect) -> None:
    _, sdk = await connect(workspaces={"other": "wrkspc_other"})
    batch = await sdk.messages.batches.create(requests=rows("A"))
    other = sdk.with_options(api_key="other")
    assert [found async for found in other.messages.batches.list()] == []
    with pytest.raises(anthropic.NotFoundError) as caught:
        await other.messages.batches.retrieve(batch.id)
    assert caught.value.response.headers["anthropic-workspace-id"] == "wrkspc_other"


async def test_the_sdk_posts_again_after_a_500_and_so_makes_three_batches(connect: Connect) -> None:
    server, sdk = await connect(faults=(Fault(kind="executed_error", path=PATH, method="POST"),))
    with pytest.raises(anthropic.InternalServerError):
        await sdk.with_options(max_retries=2).messages.batches.create(requests=rows("A"))
    creates = server.simulator.batches.journal.creates
    assert len({create.batch_id for create in creates}) == len(creates) == 3
    assert len({create.body_sha256 for create in creates}) == 1
