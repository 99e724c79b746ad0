"""PostgreSQL behind a link that is cut after commits: nobody knows whether they happened, and each does once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url
from tenacity import wait_none

import runner.store.database as database_module
from runner.store.store import Store
from tests.cutting_link import SEED, CuttingLink
from tests.store.building import COST_PICO, budget, claim, ended, ready_store, rows_of, send, staged_run

CUTS = 200


@pytest.fixture
def link(pg_url: str) -> Iterator[CuttingLink]:
    folder = make_url(pg_url).query["host"]
    if not isinstance(folder, str) or not folder.startswith("/"):
        pytest.skip("the server is not on a socket")
    link = CuttingLink(str(next(Path(folder).glob(".s.PGSQL.*[0-9]"))), share=0.4)
    yield link
    link.close()


def test_two_hundred_commits_without_an_answer_happen_once_each(
    pg_url: str, link: CuttingLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reconnects in (database_module._RECONNECTS, database_module._WAITS_FOR_RETURN):
        monkeypatch.setattr(reconnects, "wait", wait_none())
    with ready_store(pg_url):
        pass
    through = make_url(pg_url).difference_update_query(["host"]).set(host="127.0.0.1", port=link.port)
    with Store.open(through.render_as_string(hide_password=False)) as store:
        link.cutting = True
        rows = 0
        while link.cuts < CUTS:
            run = staged_run(store, 5, 5, budget_pico=10**9)
            for _chunk in range(2):
                fence = claim(store, run).fence
                mine = range(fence.seq * 5, fence.seq * 5 + 5)
                for idx in mine:
                    store.commit_group(run.id, [send(fence, idx)])
                    store.commit_group(run.id, [ended(fence, idx)])
            store.move_run(run.id, "all rows succeeded")
            rows += 10
            assert budget(store, run) == (10 * COST_PICO, 0), f"seed {SEED}"
        link.cutting = False
        assert len(rows_of(store, "results")) == len(rows_of(store, "ledger")) == rows, f"seed {SEED}"
        assert rows_of(store, "sends") == []
        assert {chunk["epoch"] for chunk in rows_of(store, "chunks")} == {1}
