"""A TCP link to a PostgreSQL server on a socket, which can be cut right after commits."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import closing, suppress

SEED = 20_261_121
COMMIT = b"COMMIT\0"


class CuttingLink:
    """While `cutting`, of the commits that pass a `share` is carried to the server, its answer is kept back and the
    link cut: whoever sent it cannot know that it happened."""

    def __init__(self, server: str, *, share: float) -> None:
        self._server = server
        self._share = share
        self._chance = random.Random(SEED)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
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
        cut = threading.Event()
        with closing(client), closing(server), suppress(OSError):
            server.connect(self._server)
            back = threading.Thread(target=self._carry_back, args=(server, client, cut), daemon=True)
            back.start()
            while data := client.recv(65_536):
                if self.cutting and COMMIT in data and self._chance.random() < self._share:
                    cut.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            back.join(5)

    def _carry_back(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if cut.is_set():  # the server has answered, so it has committed
                    self.cuts += 1
                    break
                client.sendall(data)
        for end in (server, client):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
