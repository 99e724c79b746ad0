"""Other people's servers, started for a test: an object store that speaks S3, a web server, a database."""

from __future__ import annotations

import functools
import http.server
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moto.server import ThreadedMotoServer

S3_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """A store that speaks S3 on a port of this machine; the environment by which it is found."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {**S3_KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}", "NO_PROXY": "*"}
    finally:
        server.stop()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serves a folder; the address of it."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ticket_database(path: Path, rows: int) -> str:
    """Tickets of two days and an empty table for their labels; its URL."""
    with sqlite3.connect(path) as database:
        database.execute("create table tickets (id integer, subject text, body text, created_at text)")
        database.execute("create table ticket_labels (ticket_id integer, label text, urgent integer)")
        day = ("2026-11-19", "2026-11-20")
        database.executemany(
            "insert into tickets values (?, ?, ?, ?)",
            [(n, f"subject {n}", "{{ 7*7 }} ; drop table tickets; --", day[n % 2]) for n in range(rows)],
        )
    database.close()
    return f"sqlite:///{path}"
