"""What people write instead: a semaphore and a gather over a client. Each run is a process of its own.

Nothing is kept but the results file, and each line is written when its answer comes. Every client has as many
connections as slots, no retries, and the same event loop as the runner.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TextIO

from tests.bench.prompts import MAX_TOKENS, MODEL, read_prompts

KEY = "bench"
PATIENCE_S = 600.0  # for connecting too: the SDK's own 5 s run out when its connections queue for the processor
Ask = Callable[[str], Awaitable[str]]


def sdk(url: str, slots: int) -> AbstractAsyncContextManager[Ask]:
    """The official SDK as it comes; its own pool opens up to 1,000 connections."""
    del slots
    from anthropic import AsyncAnthropic

    @asynccontextmanager
    async def opened():
        async with AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0, timeout=PATIENCE_S) as client:

            async def ask(prompt: str) -> str:
                message = await client.messages.create(
                    model=MODEL, max_tokens=MAX_TOKENS, messages=[{"role": "user", "content": prompt}]
                )
                return message.content[0].text

            yield ask

    return opened()


def aiohttp(url: str, slots: int) -> AbstractAsyncContextManager[Ask]:
    """A bare HTTP client: no types, no retries, nothing between the request and the bytes."""
    import aiohttp as library

    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "content-type": "application/json"}

    @asynccontextmanager
    async def opened():
        connector = library.TCPConnector(limit=slots)
        async with library.ClientSession(connector=connector, headers=headers) as session:

            async def ask(prompt: str) -> str:
                messages = [{"role": "user", "content": prompt}]
                body = json.dumps({"model": MODEL, "max_tokens": MAX_TOKENS, "messages": messages}).encode()
                async with session.post(f"{url}/v1/messages", data=body) as response:
                    response.raise_for_status()
                    message = json.loads(await response.read())
                return message["content"][0]["text"]

            yield ask

    return opened()


def litellm(url: str, slots: int) -> AbstractAsyncContextManager[Ask]:
    """`acompletion`, with its price list read from the package instead of the network."""
    del slots
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm as library

    library.suppress_debug_info = True
    library.telemetry = False

    @asynccontextmanager
    async def opened():
        async def ask(prompt: str) -> str:
            response = await library.acompletion(
                model=f"anthropic/{MODEL}",
                max_tokens=MAX_TOKENS,
                messages=[{"role": "user", "content": prompt}],
                api_base=url,
                api_key=KEY,
                num_retries=0,
            )
            return response.choices[0].message.content

        yield ask

    return opened()


CLIENTS = {"sdk": sdk, "aiohttp": aiohttp, "litellm": litellm}


async def work(name: str, url: str, slots: int, prompts: Path, results: Path) -> None:
    """Rows that failed are named on stderr and missing in the results."""
    free = asyncio.Semaphore(slots)

    async def one(ask: Ask, key: str, prompt: str, file: TextIO) -> None:
        async with free:
            try:
                text = await ask(prompt)
            except Exception as error:  # noqa: BLE001 - whatever a client raises is one row less
                print(f"{key}: {error!r}", file=sys.stderr)
                return
        file.write(json.dumps({"key": key, "text": text}) + "\n")

    async with CLIENTS[name](url, slots) as ask:
        with results.open("w", encoding="utf-8") as file:
            await asyncio.gather(*(one(ask, key, prompt, file) for key, prompt in read_prompts(prompts)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.clients")
    parser.add_argument("name", choices=CLIENTS)
    parser.add_argument("url")
    parser.add_argument("slots", type=int)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("results", type=Path)
    told = parser.parse_args()
    runner = asyncio.run
    if sys.platform != "win32":
        import uvloop

        runner = uvloop.run
    runner(work(told.name, told.url, told.slots, told.prompts, told.results))


if __name__ == "__main__":
    main()
