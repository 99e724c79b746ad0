"""The official client calls every endpoint that there is, and its own types take every answer, strictly."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from runner.clock import SystemClock
from runner.simulator import Simulator, SimulatorConfig, serve

pytestmark = pytest.mark.anyio

API = tomllib.loads((Path(__file__).parents[2] / "docs" / "reference" / "api.toml").read_text(encoding="utf-8"))
ENDPOINTS = {entry["name"] for entry in API["entry"] if entry["section"] == "Endpoints"}
# Nothing of ours calls them, or the client has no call for them: the Admin API is asked by `runner` alone.
NOT_THE_CLIENTS = {
    "/v1/agents, /v1/sessions and the rest of Managed Agents",
    "POST /v1/complete",
    "GET /v1/organizations/rate_limits",
    "GET /v1/organizations/usage_report/messages",
    "GET /v1/organizations/cost_report",
    "/v1/organizations/... (other)",
}
ASK: Any = [{"role": "user", "content": "hello"}]
ASKED: Any = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": ASK}
SKILL = b"---\nname: letters\ndescription: Writes letters.\n---\nWrite.\n"
PDF = ("a.pdf", b"%PDF-1.7", "application/pdf")
Sdk = anthropic.AsyncAnthropic


async def new_batch(sdk: Sdk) -> str:
    return (await sdk.messages.batches.create(requests=[{"custom_id": "a", "params": ASKED}])).id


async def ended_batch(sdk: Sdk) -> str:
    batch = await new_batch(sdk)
    while (await sdk.messages.batches.retrieve(batch)).processing_status != "ended":
        pass
    return batch


async def new_skill(sdk: Sdk) -> tuple[str, str]:
    skill = await sdk.skills.create(files=[("letters/SKILL.md", SKILL, "text/markdown")])
    assert skill.latest_version_id is not None
    return skill.id, skill.latest_version_id


async def new_file(sdk: Sdk) -> str:
    return (await sdk.files.upload(file=PDF)).id


async def streamed(sdk: Sdk) -> object:
    async with sdk.messages.stream(**ASKED) as stream:
        return await stream.get_final_message()


async def results(sdk: Sdk) -> object:
    told = [line async for line in await sdk.messages.batches.results(await ended_batch(sdk))]
    assert [line.result.type for line in told] == ["succeeded"]
    return told


async def content_of_version(sdk: Sdk) -> object:
    skill, version = await new_skill(sdk)
    told = await sdk.beta.skills.versions.download(version, skill_id=skill, betas=["skills-2025-10-02"])
    return await told.read()


async def with_skill(sdk: Sdk, call: Callable[[str, str], Awaitable[object]]) -> object:
    return await call(*await new_skill(sdk))


async def without_its_first_version(sdk: Sdk) -> object:
    skill, version = await new_skill(sdk)
    await sdk.skills.versions.create(skill, files=[("letters/SKILL.md", SKILL, "text/markdown")])
    return await sdk.skills.versions.delete(version, skill_id=skill)


async def written_file(sdk: Sdk) -> object:
    with pytest.raises(anthropic.BadRequestError):
        await sdk.files.download(await new_file(sdk))
    return "only what code execution wrote can be fetched"


CALLS: dict[str, Callable[[Sdk], Awaitable[object]]] = {
    "POST /v1/messages": lambda sdk: sdk.messages.create(**ASKED),
    "POST /v1/messages, streamed": streamed,
    "POST /v1/messages/count_tokens": lambda sdk: sdk.messages.count_tokens(model=ASKED["model"], messages=ASK),
    "POST /v1/messages/batches": new_batch,
    "GET /v1/messages/batches": lambda sdk: listed(sdk.messages.batches.list(limit=5), new_batch(sdk)),
    "GET /v1/messages/batches/{id}": ended_batch,
    "POST /v1/messages/batches/{id}/cancel": lambda sdk: after(new_batch(sdk), sdk.messages.batches.cancel),
    "DELETE /v1/messages/batches/{id}": lambda sdk: after(ended_batch(sdk), sdk.messages.batches.delete),
    "GET /v1/messages/batches/{id}/results": results,
    "GET /v1/models": lambda sdk: listed(sdk.models.list()),
    "GET /v1/models/{id}": lambda sdk: sdk.models.retrieve("claude-haiku-5-5"),
    "POST /v1/files": new_file,
    "GET /v1/files": lambda sdk: listed(sdk.files.list(), new_file(sdk)),
    "GET /v1/files/{id}": lambda sdk: after(new_file(sdk), sdk.files.retrieve_metadata),
    "GET /v1/files/{id}/content": written_file,
    "DELETE /v1/files/{id}": lambda sdk: after(new_file(sdk), sdk.files.delete),
    "POST /v1/skills": new_skill,
    "GET /v1/skills": lambda sdk: listed(sdk.skills.list(), new_skill(sdk)),
    "GET /v1/skills/{id}": lambda sdk: with_skill(sdk, lambda skill, _: sdk.skills.retrieve(skill)),
    "DELETE /v1/skills/{id}": lambda sdk: with_skill(sdk, lambda skill, _: sdk.skills.delete(skill)),
    "POST /v1/skills/{id}/versions": lambda sdk: with_skill(
        sdk, lambda skill, _: sdk.skills.versions.create(skill, files=[("letters/SKILL.md", SKILL, "text/markdown")])
    ),
    "GET /v1/skills/{id}/versions": lambda sdk: with_skill(
        sdk, lambda skill, _: listed(sdk.skills.versions.list(skill))
    ),
    "GET /v1/skills/{id}/versions/{version}": lambda sdk: with_skill(
        sdk, lambda skill, version: sdk.skills.versions.retrieve(version, skill_id=skill)
    ),
    "DELETE /v1/skills/{id}/versions/{version}": without_its_first_version,
    "GET /v1/skills/{id}/versions/{version}/content": content_of_version,
}


async def listed(pages: Any, *before: Awaitable[object]) -> object:
    for one in before:
        await one
    found = [one async for one in pages]
    assert found
    return found


async def after(made: Awaitable[str], call: Callable[[str], Awaitable[object]]) -> object:
    return await call(await made)


@pytest.fixture
async def sdk() -> AsyncIterator[Sdk]:
    server = await serve(Simulator(SimulatorConfig(batch_seconds=0.05), SystemClock()))
    client = Sdk(api_key="sk-ant-test", base_url=server.url, max_retries=0, _strict_response_validation=True)
    async with client:
        yield client
    await server.close()


def test_every_endpoint_is_called() -> None:
    assert CALLS.keys() - {"POST /v1/messages, streamed"} == ENDPOINTS - NOT_THE_CLIENTS


@pytest.mark.parametrize("endpoint", CALLS)
async def test_its_answer_is_of_the_clients_own_type(sdk: Sdk, endpoint: str) -> None:
    assert await CALLS[endpoint](sdk)
