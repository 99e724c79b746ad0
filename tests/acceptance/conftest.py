"""A desk for each test, and one simulator process for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.house import Api, Desk, api_process


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="module")
def service() -> Iterator[Api]:
    with api_process() as api:
        yield api


@pytest.fixture
def api(service: Api) -> Api:
    """The simulator with an empty ledger and without faults."""
    service.reset()
    service.faults()
    return service


@pytest.fixture
def live(desk: Desk, api: Api) -> Desk:
    """A desk whose key and address lead to `api`."""
    desk.env |= api.env
    return desk
