"""PostgreSQL behind a link that is cut after commits: nobody knows whether they happened, and each does once."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import make_url
from tenacity import wait_none

import runner.store.database as database_module
from runner.store.store import Store
from tests.store.building import COST_PICO, budget, claim, ended, ready_store, rows_of, send, staged_run

CUTS = 200
SEED = 20_261_121
COMMIT = b"COMMIT\0"


class CuttingLink:
    """A TCP link to a server on a socket. Of the commits that pass, every so manieth is carried to the server, and
    its answer is kept back and the link cut."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._chance = random.Random(SEED)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cutting = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        cut = threading.Event()
        back = threading.Thread(target=self._carry_back, args=(server, client, cut), daemon=True)
        back.start()
        with closing(client), closing(server), suppress(OSError):
            while data := client.recv(65_536):
                if self.cutting and COMMIT in data and self._chance.random() < 0.4:
                    cut.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            back.join(5)

    def _carry_back(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if cut.is_set():  # the server has answered, so it has committed
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)
                    server.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)


@pytest.fixture
def link(pg_url: str) -> Iterator[CuttingLink]:
    folder = make_url(pg_url).query["host"]
    if not isinstance(folder, str) or not folder.startswith("/"):
        pytest.skip("the server is not on a socket")
    link = CuttingLink(str(next(Path(folder).glob(".s.PGSQL.*[0-9]"))))
    yield link
    link.close()


def test_two_hundred_commits_without_an_answer_happen_once_each(
    pg_url: str, link: CuttingLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module._RECONNECTS, "wait", wait_none())
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
