"""Records in: streams are checked as they are staged, a killed ingest goes on, a changed input is noticed."""

from __future__ import annotations

import itertools
import json
import zlib

import anyio
import pytest
from msgspec.structs import replace

from runner.domain.job import InputSpec, OnBadRow
from runner.domain.run import Run
from runner.engine.ingest import Ingest
from runner.engine.run import work_on
from runner.engine.stop import Stop
from runner.errors import InputChanged, InputInvalid
from runner.files.render import Renderer
from tests.engine.house import House, Scripted, answered, prompts

pytestmark = pytest.mark.anyio


def keyed(count: int, first: int = 0, size: int = 0) -> list[bytes]:
    return [json.dumps({"id": n, "prompt": f"row {n} " + "x" * size}).encode() for n in range(first, first + count)]


def ingest_of(house: House, run: Run) -> Ingest:
    run = house.store.run_by_id(run.id)
    report = None if house.streamed else house.report(run.job)
    return Ingest(house.store, run, house.source(), Renderer(run.job), report, anyio.CapacityLimiter(1))


async def test_a_bad_row_in_a_stream_pauses_the_run_and_says_how_many_rows_are_staged(house: House) -> None:
    house.streamed = True
    lines = [*keyed(900, size=6_000), b'{"prompt": 5}', *keyed(10, first=900)]
    run = house.new_run(lines)
    service = Scripted(house.clock, answered, latency_s=0.1)
    with pytest.raises(InputInvalid) as caught:
        await house.work(run, service)
    now = house.store.run_by_id(run.id)
    assert (now.state, now.pause_reason) == ("paused", "bad_row")
    assert "line 901" in caught.value.message
    staged = house.store.tally(run.id).staged
    assert 0 < staged < 900
    assert any(f"{staged:,} records" in hint for hint in caught.value.hints)
    assert not any("nothing was sent" in hint for hint in caught.value.hints)
    assert house.sends_left() == 0, "calls in flight were let end"


async def test_a_stream_is_mended_and_goes_on(house: House) -> None:
    house.streamed = True
    lines = [*keyed(900, size=6_000), b"no json"]
    run = house.new_run(lines)
    with pytest.raises(InputInvalid):
        await house.work(run, Scripted(house.clock, answered))
    house.write([*lines[:-1], b'{"prompt": "mended"}'])
    end = await house.work(run, Scripted(house.clock, answered))
    assert (end.run.state, end.tally.done) == ("done", 901)


@pytest.mark.parametrize("streamed", [False, True])
async def test_bad_rows_are_skipped_where_the_job_says_so(house: House, streamed: bool) -> None:
    house.streamed = streamed
    lines = [b"no json", *keyed(3), b"[]", b'{"prompt": ""}', *keyed(2, first=3), b'{"id": 1, "prompt": "again"}']
    spec = InputSpec(id="id", on_bad_row=OnBadRow.SKIP)
    run = house.new_run(lines, input=spec)
    end = await house.work(run, Scripted(house.clock, answered))
    assert [row.result.key for row in house.rows(run)] == ["0", "1", "2", "3", "4"]
    assert (end.run.skipped, end.run.records) == (4, 5)


async def test_a_key_that_comes_again_is_found_across_commits(house: House) -> None:
    house.streamed = True
    lines = [*keyed(1_200, size=6_000), *keyed(1, first=3)]
    run = house.new_run(lines, input=InputSpec(id="id"))
    with pytest.raises(InputInvalid, match="line 1201 has a key"):
        await ingest_of(house, run).serve(Stop())


async def test_an_input_that_is_changed_between_check_and_staging_is_noticed(house: House) -> None:
    run = house.new_run(keyed(50))
    parts = house.parts(run, Scripted(house.clock, answered))
    house.write([*keyed(49), b'{"id": 50, "prompt": "another"}'])
    async with house.clock.autojump():
        with pytest.raises(InputChanged):
            await work_on(run, parts)
    assert house.store.run_by_id(run.id).state == "paused"
    assert house.store.tally(run.id).staged == 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_ingest_that_was_broken_off_goes_on_where_it_was(house: House, streamed: bool) -> None:
    house.streamed = streamed
    lines = keyed(1_500, size=6_000)
    run = house.new_run(lines, input=InputSpec(id="id"))
    await _first_part(house, run)
    staged = house.store.run_by_id(run.id).ingested_upto
    assert 0 < staged < 1_500
    again = ingest_of(house, run)
    await again.serve(Stop())
    assert (again.done, again.records) == (True, 1_500)
    assert list(house.store.staged_lines(run.id)) == lines


async def _first_part(house: House, run: Run) -> None:
    """Stage one commit's worth, as a process that is killed then leaves it."""
    ingest, stop = ingest_of(house, run), Stop()
    commit = ingest._commit

    def once(*told):
        commit(*told)
        stop.asked.set()

    ingest._commit = once  # type: ignore[method-assign]
    await ingest.serve(stop)


async def test_what_was_staged_before_must_still_be_what_the_input_begins_with(house: House) -> None:
    house.streamed = True
    lines = keyed(1_500, size=6_000)
    run = house.new_run(lines)
    await _first_part(house, run)
    house.write([lines[0].replace(b"row", b"ROW"), *lines[1:]])
    with pytest.raises(InputChanged, match="is not what run"):
        await ingest_of(house, run).serve(Stop())
    house.write(lines[:100])
    with pytest.raises(InputInvalid, match="has become shorter"):
        await ingest_of(house, run).serve(Stop())


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_limit_takes_the_first_good_rows(house: House, streamed: bool) -> None:
    house.streamed = streamed
    lines = [*keyed(3), b"bad", *keyed(5, first=3)]
    run = house.new_run(lines, input=InputSpec(limit=5, on_bad_row=OnBadRow.SKIP))
    end = await house.work(run, Scripted(house.clock, answered))
    assert end.tally.done == 5
    assert list(house.store.staged_lines(run.id)) == [line for line in lines[:6] if line != b"bad"]


async def test_rows_behind_the_limit_are_not_let_in_where_double_keys_are_skipped(house: House) -> None:
    """Nobody has looked at them."""
    lines = [*keyed(4), *keyed(1, first=2), b"no json at all", *keyed(5, first=10)]
    run = house.new_run(lines, input=InputSpec(id="id", limit=5, on_bad_row=OnBadRow.SKIP))
    end = await house.work(run, Scripted(house.clock, answered))
    assert (end.run.state, end.tally.done, end.run.records) == ("done", 4, 4)


async def test_chunks_hold_500_rows_or_4_mb(house: House) -> None:
    lines = [*prompts(1_200), *(b'{"prompt":"%b"}' % (b"y" * 1_500_000) for _ in range(5)), *prompts(3)]
    run = house.new_run(lines)
    await ingest_of(house, run).serve(Stop())
    sizes = []
    for payload in house.table("payloads"):
        held = zlib.decompress(payload.lines).split(b"\n")
        sizes.append(len(held))
        assert len(held) <= 500
        assert len(held) == 1 or sum(map(len, held)) <= 4 << 20
    assert sum(sizes) == 1_208
    assert sizes[:2] == [500, 500]
    chunks = sorted((chunk.first_idx, chunk.n) for chunk in house.table("chunks"))
    assert all(a + n == b for (a, n), (b, _) in itertools.pairwise(chunks))
    assert replace(house.store.run_by_id(run.id)).records == 1_208


async def test_the_first_rows_are_asked_as_soon_as_they_are_staged(house: House) -> None:
    run = house.new_run(prompts(5))
    service = Scripted(house.clock, answered, latency_s=1.0)
    began_us = house.clock.now_us()
    await house.work(run, service)
    assert {at_us for at_us, _ in service.sent} == {began_us}
