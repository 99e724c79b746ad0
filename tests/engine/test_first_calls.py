"""Live calls that share a cached prefix."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.batch_house import office
from tests.engine.house import House, prompts

pytestmark = pytest.mark.anyio

SYSTEM = "You weigh each word. " * 2_000

# As many as are out at once from the beginning, whatever the pace.
AT_ONCE = 8


def cached_job(text: str = SYSTEM) -> dict[str, Any]:
    system = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
    return {"request": {"max_tokens": 200, "system": system}}


async def test_the_first_call_of_a_prefix_goes_ahead_and_the_others_read_what_it_wrote(house: House) -> None:
    run = house.new_run(prompts(40), **cached_job())
    async with office(house, latency_s=3.0) as office_:
        end = await office_.work(run)
        assert end.run.state == "done"
    usages = [row.result.usage for row in house.rows(run) if row.result.usage is not None]
    assert sum(usage.cache_write_5m > 0 for usage in usages) == 1
    assert sum(usage.cache_read > 0 for usage in usages) == 39


async def test_where_nothing_is_marked_nobody_waits(house: House) -> None:
    run = house.new_run(prompts(AT_ONCE))
    async with office(house, latency_s=3.0) as office_:
        await office_.work(run)
        assert office_.now_s < 6.0


async def test_a_prefix_that_is_too_short_to_be_kept_is_not_waited_for(house: House) -> None:
    run = house.new_run(prompts(AT_ONCE), **cached_job("Be brief."))
    async with office(house, latency_s=3.0) as office_:
        await office_.work(run)
        assert office_.now_s < 6.0


async def test_after_a_first_call_that_failed_another_goes_first(house: House) -> None:
    rows = [*prompts(1, "[[sim:error=400:invalid_request_error]]"), *prompts(20)]
    run = house.new_run(rows, **cached_job())
    async with office(house, latency_s=3.0) as office_:
        end = await office_.work(run)
        assert end.run.state == "done_with_failures"
    usages = [row.result.usage for row in house.rows(run) if row.result.usage is not None]
    assert sum(usage.cache_write_5m > 0 for usage in usages) == 1
    assert sum(usage.cache_read > 0 for usage in usages) == 19
