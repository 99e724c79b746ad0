"""Simulators and stores that the fault tests share; each case begins with an empty bill and an empty store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.faults.harness import Case, Row, SimulatorProcess, mixed_rows, simulator_process

Simulators = Callable[..., SimulatorProcess]
Cases = Callable[..., Case]


@pytest.fixture(scope="session")
def simulators() -> Iterator[Simulators]:
    """`simulators(latency_s=0.02)`: one process for each config, kept for the next test; `number` asks for another
    one, for a case that runs beside others."""
    running: dict[str, SimulatorProcess] = {}
    with ExitStack() as open_:

        def simulator(number: int = 0, **config: Any) -> SimulatorProcess:
            name = repr((number, sorted(config.items())))
            if name not in running:
                running[name] = open_.enter_context(simulator_process(**config))
            running[name].reset()
            return running[name]

        yield simulator


@pytest.fixture
def cases(tmp_path: Path, simulators: Simulators, request: pytest.FixtureRequest) -> Iterator[Cases]:
    """`cases("sqlite")`: a run that has not begun, with a folder and a store of its own. `service` is more of the
    simulator's config; cases that run at once need simulators of different numbers."""
    made: list[str] = []

    def case(
        kind: str,
        rows: Sequence[Row] | None = None,
        *,
        latency_s: float = 0.005,
        service: Mapping[str, Any] | None = None,
        simulator_number: int = 0,
        **more: Any,
    ) -> Case:
        folder = tmp_path / f"case-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        if kind == "sqlite":
            url = f"sqlite:///{shutil.copy(request.getfixturevalue('ready_file'), folder)}"
        else:
            server = request.getfixturevalue("pg_server")
            url = postgres.copy_database(server, request.getfixturevalue("ready_database"))
            made.append(url)
        simulator = simulators(simulator_number, latency_s=latency_s, **(service or {}))
        return Case(folder, url, simulator, mixed_rows(24) if rows is None else rows, **more)

    yield case
    for url in made:
        postgres.drop_database(request.getfixturevalue("pg_server"), url)
