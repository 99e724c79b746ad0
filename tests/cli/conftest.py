"""A command line in a folder of its own, with an environment in which nothing of this machine counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runner.cli.root import root
from runner.store.store import Store
from tests.environment import foreign_names
from tests.store import building

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder whose state lies in `state/`."""
    for name in foreign_names():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNNER_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Commands set up the root logger; the test session wants its own back."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def cli() -> Cli:
    """`cli("status", "--json")`: what that prints, and its exit code."""

    def call(*arguments: str, input: str | None = None) -> Result:  # noqa: A002 - click's own name
        return CliRunner().invoke(root, list(arguments), input=input)

    return call


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """The store that commands will open, with its schema made."""
    (folder / "state").mkdir()
    with building.ready_store(f"sqlite:///{folder / 'state' / 'runner.db'}") as store:
        yield store


@pytest.fixture
def simulated_store(folder: Path) -> Iterator[Store]:
    (folder / "state").mkdir(exist_ok=True)
    with building.ready_store(f"sqlite:///{folder / 'state' / 'runner-simulated.db'}") as store:
        yield store
