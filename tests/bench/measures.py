"""The measurements, each of which prints a table. They assert that the work was done, never how fast."""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.books import read_batches
from tests.bench.processes import Cores, Measured, Server, server
from tests.bench.prompts import MODEL, answered_rows, check_answers, write_prompts
from tests.bench.tables import number, table
from tests.environment import clean_environment

LATENCY_S = 0.2
JITTER_S = 0.05
MEMORY_SLOTS = 256
ZERO_LATENCY_SLOTS = 64
GATE_SLOTS = 256
NEVER_BINDING = 10**12  # a limit that asks the gate for everything and holds nobody up
STOPPED = 128 + 15
FEW_ROWS = 10_000  # beside which larger inputs show whether memory grows
# With these lines a full batch comes near the 200 MB that a create may have.
BATCH_LINE_BYTES = 1_750

# Name in the table, module that must be there, name in `clients`.
OTHERS = (
    ("anthropic SDK, semaphore + gather", "anthropic", "sdk"),
    ("aiohttp, bare", "aiohttp", "aiohttp"),
    ("LiteLLM acompletion, semaphore + gather", "litellm", "litellm"),
)
RUNNER = "runner run"
SDK = OTHERS[0][0]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the command line asked for."""

    cores: Cores
    rows: int
    slots: Sequence[int]
    rounds: int
    sizes: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One client's way through all prompts."""

    wall_s: float
    start_s: float  # until its first request reached the server
    cpu_s: float
    peak_mb: float
    server_share: float
    answered: float

    @property
    def rate(self) -> float:
        """Answers a second, from the first request to the end of the process."""
        return self.answered / (self.wall_s - self.start_s)


# -- live calls ---------------------------------------------------------------------------------------------------


def live(wish: Wish) -> Iterator[str]:
    """The same prompts through each client, one after another, for each number of slots."""
    with folder_for_one() as folder:
        prompts = folder / "prompts.jsonl"
        write_prompts(prompts, wish.rows)
        for slots in wish.slots:
            with server(wish.cores.server, latency_s=LATENCY_S, jitter_s=JITTER_S) as service:
                ceiling = slots / LATENCY_S
                title = f"{wish.rows:,} prompts, 200 ± 50 ms, {slots:,} slots (at most {ceiling:,.0f} requests/s)"
                yield _live_table(title, wish, service, slots, prompts)
        with server(wish.cores.server) as service:
            title = f"{wish.rows:,} prompts, no latency, {ZERO_LATENCY_SLOTS} slots"
            yield _live_table(title, wish, service, ZERO_LATENCY_SLOTS, prompts)


def _live_table(title: str, wish: Wish, service: Server, slots: int, prompts: Path) -> str:
    present = [other for other in OTHERS if importlib.util.find_spec(other[1])]
    passes: dict[str, list[Pass]] = {RUNNER: [], **{name: [] for name, _, _ in present}}
    for _ in range(wish.rounds):
        passes[RUNNER].append(_pass(wish, service, slots, prompts, None))
        for name, _, client in present:
            passes[name].append(_pass(wish, service, slots, prompts, client))
    found = {name: _median(of_client) for name, of_client in passes.items()}
    lines = [_live_line(name, told, found.get(SDK), wish.rows) for name, told in found.items()]
    missing = [[other[0], "not installed", *[""] * 8] for other in OTHERS if other not in present]
    head = (
        "client", "requests/s", "wall s", "start-up s", "CPU s per 1,000", "peak MB", "server CPU", "not answered",
        "requests/s ÷ SDK", "CPU ÷ SDK",
    )  # fmt: skip
    return table(title, head, [*lines, *missing])


def _live_line(name: str, told: Pass, sdk: Pass | None, rows: int) -> list[str]:
    ratios = ["", ""] if sdk is None else [
        f"{told.rate / sdk.rate:.2f}",
        f"{told.cpu_s / sdk.cpu_s:.2f}",
    ]  # fmt: skip
    return [
        name,
        number(told.rate),
        number(told.wall_s, 1),
        number(told.start_s, 2),
        number(told.cpu_s / rows * 1000, 2),
        number(told.peak_mb),
        f"{told.server_share:.0%}",
        number(rows - told.answered),
        *ratios,
    ]


def _pass(wish: Wish, service: Server, slots: int, prompts: Path, client: str | None) -> Pass:
    """`client` is one of the others, or None for the real command with a store of its own."""
    service.reset()
    before_s = service.notes()["cpu_s"]
    with folder_for_one() as folder:
        results = folder / "results.jsonl"
        if client is None:
            process = _runner_run(wish, service, slots, prompts, folder, results)
        else:
            line = ("-m", "tests.bench.clients", client, service.url, str(slots), str(prompts), str(results))
            process = Measured((sys.executable, *line), wish.cores.client, folder)
        spent = process.wait()
        notes = service.notes()
        answered = answered_rows(results)
    if client is None:
        assert answered == notes["accepted"] == wish.rows, f"{answered:,} of {wish.rows:,} rows, {notes}"
    start_s = notes["first_s"] - spent.started_s
    return Pass(
        wall_s=spent.wall_s,
        start_s=start_s,
        cpu_s=spent.cpu_s,
        peak_mb=spent.peak_mb,
        server_share=(notes["cpu_s"] - before_s) / (spent.wall_s - start_s),
        answered=answered,
    )


def _median(passes: Sequence[Pass]) -> Pass:
    return Pass(**{name: statistics.median(getattr(told, name) for told in passes) for name in Pass.__annotations__})


def _runner_run(
    wish: Wish,
    service: Server,
    slots: int,
    prompts: Path,
    home: Path,
    results: Path | None = None,
    flags: Sequence[str] = (),
) -> Measured:
    """The real command, with every setting as it comes but the number of slots and `flags`."""
    line = [
        sys.executable,
        "-m",
        "runner",
        "run",
        str(prompts),
        "-m",
        MODEL,
        "-y",
        "--concurrency",
        str(slots),
        *flags,
    ]
    line += [] if results is None else ["-o", str(results)]
    env = clean_environment(
        RUNNER_HOME=str(home), RUNNER_BATCH_POLL_S="0.5", ANTHROPIC_API_KEY="bench", ANTHROPIC_BASE_URL=service.url
    )
    return Measured(line, wish.cores.client, home, env)


# -- beside the calls ---------------------------------------------------------------------------------------------


def ingest(wish: Wish) -> Iterator[str]:
    """How fast an input is checked and staged, and what that does to the first request."""
    lines = []
    for rows in wish.sizes:
        with folder_for_one() as folder, server(wish.cores.server, latency_s=LATENCY_S) as service:
            prompts = folder / "prompts.jsonl"
            write_prompts(prompts, rows)
            told, spent_mb = _inside(wish, folder, "ingest", str(prompts), str(folder / "staged"))
            first_s = _first_request(wish, service, prompts, folder)
            check, stage = rows / told["check_s"], rows / told["stage_s"]
            lines.append([f"{rows:,}", number(check), number(stage), number(first_s, 2), number(spent_mb)])
    head = (
        "rows of 1 KB",
        "checked rows/s",
        "staged rows/s",
        "first request after s",
        "peak MB of check and staging",
    )
    yield table(
        "Reading in: the check before the first call, staging, and the real command's first request", head, lines
    )


def batch(wish: Wish) -> Iterator[str]:
    """Whole batches as large as they may be: how fast their results are read in, and what that takes."""
    lines = []
    for rows in wish.sizes:
        with folder_for_one() as folder, server(wish.cores.server) as service:
            prompts, results = folder / "prompts.jsonl", folder / "results.jsonl"
            write_prompts(prompts, rows, BATCH_LINE_BYTES)
            flags = ("--mode", "batch")
            spent = _runner_run(wish, service, ZERO_LATENCY_SLOTS, prompts, folder, results, flags).wait()
            check_answers(results, rows)
            told = read_batches(folder / "runner.db")
            lines.append(
                [
                    f"{told.batches}",
                    f"{told.rows:,}",
                    number(told.body_bytes / 1e6, 1),
                    number(told.rows_per_s),
                    number(spent.peak_mb),
                    number(spent.cpu_s / rows * 1000, 2),
                ]
            )
    head = (
        "batches",
        "results",
        "MB of the largest create",
        "results/s read in",
        "peak MB",
        "CPU s per 1,000, all in all",
    )
    yield table("Batches: the whole command, from its input to its output", head, lines)


def gate(wish: Wish) -> Iterator[str]:
    """What it costs to ask the gate: the same run without limits, and with three that never bind, by turns."""
    limits = [f"--{name}={NEVER_BINDING}" for name in ("rpm", "itpm", "otpm")]
    spent: dict[str, list[float]] = {"no limits": [], "three limits that never bind": []}
    with folder_for_one() as folder, server(wish.cores.server) as service:
        prompts = folder / "prompts.jsonl"
        write_prompts(prompts, wish.rows)
        for _ in range(max(3, wish.rounds)):
            for cpu_s, flags in zip(spent.values(), ([], limits), strict=True):
                with folder_for_one() as home:
                    results = home / "results.jsonl"
                    process = _runner_run(wish, service, GATE_SLOTS, prompts, home, results, flags)
                    cpu_s.append(process.wait().cpu_s)
                    check_answers(results, wish.rows)
    mean = {name: statistics.median(cpu_s) / wish.rows for name, cpu_s in spent.items()}
    free = mean["no limits"]
    lines = [[name, number(s * 1000, 3), number((s - free) * 1e6)] for name, s in mean.items()]
    head = ("limits", "CPU s per 1,000", "more µs per call")
    yield table(f"The gate: {wish.rows:,} prompts, no latency, {GATE_SLOTS} slots, the median of passes", head, lines)


def export(wish: Wish) -> Iterator[str]:
    """How fast results are written."""
    lines = []
    for rows in wish.sizes:
        with folder_for_one() as folder, server(wish.cores.server, latency_s=LATENCY_S) as service:
            _half_done(wish, service, folder, rows, ended=rows)
            told, peak_mb = _inside(wish, folder, "export", str(folder), str(folder / "results.jsonl"))
            check_answers(folder / "results.jsonl", rows)
            lines.append([f"{rows:,}", number(rows / told["export_s"]), number(peak_mb)])
    yield table("Writing out: results to a file", ("rows", "rows/s", "peak MB"), lines)


def formats(wish: Wish) -> Iterator[str]:
    """Does memory grow with rows, of tables too: read in, staged, and written out again."""
    lines = []
    for suffix in ("jsonl", "csv", "parquet"):
        for rows in (FEW_ROWS, *wish.sizes):
            with folder_for_one() as folder:
                prompts, home = folder / f"prompts.{suffix}", folder / "home"
                _inside(wish, folder, "prompts", str(prompts), str(rows))
                read, read_mb = _inside(wish, folder, "ingest", str(prompts), str(home))
                _inside(wish, folder, "fill", str(home), str(rows))
                wrote, wrote_mb = _inside(wish, folder, "export", str(home), str(folder / f"results.{suffix}"))
            each = (read["check_s"], read["stage_s"], wrote["export_s"])
            rates = [number(rows / seconds) for seconds in each]
            lines.append([suffix, f"{rows:,}", *rates[:2], number(read_mb), rates[2], number(wrote_mb)])
    head = ("format", "rows of 1 KB", "checked rows/s", "staged rows/s", "peak MB", "written rows/s", "peak MB of it")
    yield table("Formats: check and staging of a file, and results written as one", head, lines)


def resume(wish: Wish) -> Iterator[str]:
    """The same command once more, when half of the rows have ended."""
    lines = []
    for rows in wish.sizes:
        with folder_for_one() as folder, server(wish.cores.server, latency_s=LATENCY_S) as service:
            prompts = _half_done(wish, service, folder, rows, ended=rows // 2)
            service.reset()
            lines.append([f"{rows:,}", number(_first_request(wish, service, prompts, folder), 2)])
    yield table("Going on with a run of which half is done", ("rows", "first request after s"), lines)


def memory(wish: Wish) -> Iterator[str]:
    """The most memory that the real command takes, for short and long runs."""
    lines = []
    for rows in (wish.rows, *wish.sizes):
        with folder_for_one() as folder, server(wish.cores.server, latency_s=LATENCY_S, jitter_s=JITTER_S) as service:
            prompts, results = folder / "prompts.jsonl", folder / "results.jsonl"
            write_prompts(prompts, rows)
            spent = _runner_run(wish, service, MEMORY_SLOTS, prompts, folder, results).wait()
            check_answers(results, rows)
            size = sum(file.stat().st_size for file in folder.glob("runner.db*"))
            mean = spent.cpu_s / rows * 1000
            lines.append(
                [f"{rows:,}", number(spent.peak_mb), number(spent.wall_s, 1), number(mean, 2), number(size / rows)]
            )
    head = ("rows", "peak MB", "wall s", "CPU s per 1,000", "bytes of store per row")
    yield table(f"Whole runs at {MEMORY_SLOTS} slots, 200 ± 50 ms", head, lines)


def _first_request(wish: Wish, service: Server, prompts: Path, home: Path) -> float:
    """Start the real command, stop it at its first request; how long that took."""
    process = _runner_run(wish, service, ZERO_LATENCY_SLOTS, prompts, home)
    first_s = service.wait_for_call(lambda: process.runs)
    process.stop()
    process.wait(codes=(STOPPED,))
    return first_s - process.started_s


def _half_done(wish: Wish, service: Server, folder: Path, rows: int, *, ended: int) -> Path:
    """A run in `folder` as the real command began it, whole input staged, `ended` of its rows with a result."""
    prompts = folder / "prompts.jsonl"
    write_prompts(prompts, rows)
    _first_request(wish, service, prompts, folder)
    _inside(wish, folder, "fill", str(folder), str(ended))
    return prompts


def _inside(wish: Wish, folder: Path, *arguments: str) -> tuple[dict[str, float], float]:
    """What a part of `inside` says, and the most memory that it took."""
    spent = Measured((sys.executable, "-m", "tests.bench.inside", *arguments), wish.cores.client, folder).wait()
    return json.loads(spent.said), spent.peak_mb


@contextmanager
def folder_for_one() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder:
        yield Path(folder)


MEASURES = {
    "live": live,
    "gate": gate,
    "ingest": ingest,
    "batch": batch,
    "export": export,
    "formats": formats,
    "resume": resume,
    "memory": memory,
}
