"""A store of each kind, its schema up to date."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runner.store.store import Store


@pytest.fixture
def store(ready_url: str) -> Iterator[Store]:
    with Store.open(ready_url) as opened:
        yield opened
