"""A store of each kind, its schema up to date."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runner.store.store import Store
from tests.store.building import ready_store


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with ready_store(store_url) as opened:
        yield opened
