"""A house for each test: a store in its own folder, and turned time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.store.store import Store
from tests.engine.house import House
from tests.turned_clock import TurnedClock


@pytest.fixture
def house(tmp_path: Path, clock: TurnedClock, ready_file: Path) -> Iterator[House]:
    with Store.open(f"sqlite:///{shutil.copy(ready_file, tmp_path)}") as store:
        yield House(folder=tmp_path, clock=clock, store=store)


@pytest.fixture
def long_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for others looks up by himself only each quarter of an hour: what happens has to wake him."""
    monkeypatch.setattr("runner.engine.batch.making.LOOK_S", 900.0)
    monkeypatch.setattr("runner.engine.batch.lane.LOOK_S", 900.0)


@pytest.fixture
def rare_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, four times a day: for tests of weeks."""
    monkeypatch.setattr("runner.engine.batch.making.LOOK_S", 21_600.0)
    monkeypatch.setattr("runner.engine.batch.lane.LOOK_S", 21_600.0)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three records a chunk, so that a few rows make many."""
    monkeypatch.setattr("runner.engine.ingest.CHUNK_RECORDS", 3)
