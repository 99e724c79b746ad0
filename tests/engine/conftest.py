"""A house for each test: a store in its own folder, and turned time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.store.store import Store
from tests.engine.house import House
from tests.turned_clock import TurnedClock


@pytest.fixture
def house(tmp_path: Path, clock: TurnedClock) -> Iterator[House]:
    with Store.open(f"sqlite:///{tmp_path / 'runner.db'}") as store:
        yield House(folder=tmp_path, clock=clock, store=store)
