"""A proxy before the simulator that answers below a path of its own, and notes what else it was asked for."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

PASSED_ON = ("content-type", "retry-after", "request-id", "date", "location")


@dataclass
class Front:
    """`url` is the base URL to give to a client; `astray` are paths that were asked for outside of it."""

    url: str
    astray: list[str] = field(default_factory=list)
    passed: int = 0


@contextmanager
def front_of(simulator_url: str, prefix: str) -> Iterator[Front]:
    front = Front(url="")
    address = urlsplit(simulator_url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if not self.path.startswith(prefix + "/v1/"):
                front.astray.append(self.path)
                self.send_error(404)
                return
            front.passed += 1
            behind = http.client.HTTPConnection(address, timeout=20)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            behind.request(self.command, self.path.removeprefix(prefix), body, {**headers, "host": address})
            told = behind.getresponse()
            answer = told.read()
            behind.close()
            self.send_response_only(told.status)
            for name, value in told.getheaders():
                if name.lower() in PASSED_ON or name.lower().startswith("anthropic-"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = _pass  # noqa: N815 - names of the library

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's signature
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    front.url = f"http://127.0.0.1:{server.server_port}{prefix}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
