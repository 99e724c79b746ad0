"""What is measured inside one process, because a command does it beside other things: reading in, writing out.

`fill` measures nothing. It makes what a long run leaves behind, without the hours.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import anyio

from runner.clock import SystemClock
from runner.domain.booking import Booking, BookingKind
from runner.domain.job import Job
from runner.domain.outcome import Usage
from runner.domain.pricing import Price, shipped_prices
from runner.domain.result import RowResult
from runner.domain.run import NewRun, Run
from runner.domain.states import RowStatus
from runner.engine.export import export
from runner.engine.ingest import Ingest
from runner.engine.stop import Stop
from runner.files.check import InputReport, check_input
from runner.files.render import Renderer
from runner.files.source import Input, open_input
from runner.simulator import SimulatorConfig, expected_message
from runner.store.claims import ClaimedChunk
from runner.store.group import Settlement
from runner.store.store import Store
from tests.bench.prompts import MAX_TOKENS, MODEL, write_prompts

CLOCK = SystemClock()


def prompts(path: Path, rows: int) -> dict[str, float]:
    """Write an input, in a process of its own: children begin with the memory of whoever starts them."""
    write_prompts(path, rows)
    return {"rows": rows}


def ingest(prompts: Path, home: Path) -> dict[str, float]:
    """Seconds to check the input, and to stage it in a new store with nothing else going on."""
    home.mkdir(exist_ok=True)
    job = Job(name="bench", model=MODEL)
    renderer = Renderer(job)
    with open_input(str(prompts)) as source:
        began_s = time.perf_counter()
        report = check_input(source, renderer)
        check_s = time.perf_counter() - began_s
    with Store.open(f"sqlite:///{home}/runner.db") as store, open_input(str(prompts)) as source:
        new = NewRun(
            job=job,
            key=None,
            input_uri=source.place,
            input_digest=report.digest,
            input_bytes=report.size,
            records=report.records,
            skipped=0,
            output=None,
        )
        run = store.create_run(new, CLOCK.now_us())
        began_s = time.perf_counter()
        _stage(store, run, source, renderer, report)
        return {"check_s": check_s, "stage_s": time.perf_counter() - began_s}


def _stage(store: Store, run: Run, source: Input, renderer: Renderer, report: InputReport) -> None:
    async def serve() -> None:
        await Ingest(store, run, source, renderer, report, anyio.CapacityLimiter(1)).serve(Stop())

    anyio.run(serve, backend_options={"use_uvloop": sys.platform != "win32"})


def fill(home: Path, rows: int) -> dict[str, float]:
    """Stage what is left of the latest run's input, and give at least `rows` of its rows a result."""
    with Store.open(f"sqlite:///{home}/runner.db") as store:
        run = store.run("latest")
        renderer = Renderer(run.job)
        with open_input(run.input_uri) as source:
            _stage(store, run, source, renderer, InputReport())
        price_version = shipped_prices().version
        store.release_running(run.id)
        while store.tally(run.id).ended < rows:
            chunk = store.claim_next(run.id, CLOCK.now_us(), price_version)
            assert chunk is not None, "the input has fewer rows than are to be filled"
            store.commit_group(run.id, _settlements(chunk, renderer, price_version))
        return {"rows": store.tally(run.id).ended}


def _settlements(chunk: ClaimedChunk, renderer: Renderer, price_version: str) -> list[Settlement]:
    at_us = CLOCK.now_us()
    usage = Usage(input_tokens=250, output_tokens=25)
    settled = []
    for idx in range(chunk.first_idx, chunk.first_idx + chunk.n):
        if idx in chunk.taken:
            continue
        key = renderer.key(renderer.parse(chunk.lines[idx - chunk.first_record]))
        request_id = f"req_{idx:020}"
        result = RowResult(
            idx=idx,
            record=idx,
            variant=0,
            repeat=0,
            round=1,
            key=key,
            status=RowStatus.SUCCEEDED,
            stop_reason="end_turn",
            model=MODEL,
            usage=usage,
            cost_pico=1_000_000,
            price_version=price_version,
            request_id=request_id,
            attempts=1,
            latency_us=200_000,
            batch=None,
            error_type=None,
            error_message=None,
        )
        booking = Booking(
            kind=BookingKind.SPEND,
            model=MODEL,
            price=Price(cost_pico=1_000_000, unbatched_pico=1_000_000, list_pico=1_000_000),
            bound_pico=None,
            usage=usage,
            price_version=price_version,
            request_id=request_id,
        )
        settled.append(
            Settlement(
                fence=chunk.fence,
                idx=idx,
                try_=1,
                turn=0,
                at_us=at_us,
                booking=booking,
                result=result,
                message=ANSWER,
            )
        )
    return settled


def _answer() -> bytes:
    messages = [{"role": "user", "content": "Review 1: the lamp arrived late"}]
    body = json.dumps({"model": MODEL, "max_tokens": MAX_TOKENS, "messages": messages}).encode()
    return json.dumps(expected_message(SimulatorConfig(), body)).encode()


ANSWER = _answer()


def write_out(home: Path, path: Path) -> dict[str, float]:
    """Seconds to write the results of the latest run."""
    with Store.open(f"sqlite:///{home}/runner.db") as store:
        run = store.run("latest")
        began_s = time.perf_counter()
        rows = export(store, run, str(path)).rows
        return {"export_s": time.perf_counter() - began_s, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.inside")
    parts = parser.add_subparsers(dest="part", required=True)
    for name, arguments in {
        "prompts": ("path", "rows"),
        "ingest": ("prompts", "home"),
        "fill": ("home", "rows"),
        "export": ("home", "path"),
    }.items():
        part = parts.add_parser(name)
        for argument in arguments:
            part.add_argument(argument, type=int if argument == "rows" else Path)
    told = vars(parser.parse_args())
    work = {"prompts": prompts, "ingest": ingest, "fill": fill, "export": write_out}[told.pop("part")]
    print(json.dumps(work(**told)))


if __name__ == "__main__":
    main()
