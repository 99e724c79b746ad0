"""Webhooks: signed, repeated while that helps, and never to a place inside. Against a real server."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runner.api.webhook import NotTold, Webhook, post, signature

NOW_S = 1_795_221_000


class Receiver(ThreadingHTTPServer):
    """Answers with `statuses` in turn, then 200, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://hooks.example.com:{self.server_port}/in?team=a"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serving() as server:
        yield server


def told(receiver: Receiver, **changes: Any) -> None:
    hook = Webhook(**{"url": receiver.url, "allow_private": True, **changes})
    post(hook, {"text": "done"}, now_s=NOW_S, lookup=lambda _host, _port: ["127.0.0.1"], wait_s=0.01)


def test_the_document_arrives_as_json_under_the_name_of_the_host(receiver: Receiver) -> None:
    told(receiver)
    ((path, headers, body),) = receiver.got
    assert path == "/in?team=a"
    assert headers["host"] == f"hooks.example.com:{receiver.server_port}"
    assert json.loads(body) == {"text": "done"}
    assert "runner-signature" not in headers


def test_with_a_secret_it_is_signed_over_time_and_body(receiver: Receiver) -> None:
    told(receiver, secret="swordfish")
    ((_path, headers, body),) = receiver.got
    mac = hmac.new(b"swordfish", f"{NOW_S}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["runner-signature"] == f"t={NOW_S},v1={mac}" == signature("swordfish", body, NOW_S)


def test_passing_troubles_are_tried_again(receiver: Receiver) -> None:
    receiver.statuses = [503, 429]
    told(receiver)
    assert len(receiver.got) == 3


@pytest.mark.parametrize("status", [301, 307, 400, 404])
def test_a_refusal_or_a_redirect_is_told_once_and_followed_nowhere(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    with pytest.raises(NotTold, match=str(status)):
        told(receiver)
    assert len(receiver.got) == 1


def test_troubles_that_stay_end_after_a_few_tries(receiver: Receiver) -> None:
    receiver.statuses = [500] * 9
    with pytest.raises(NotTold, match="500"):
        told(receiver)
    assert len(receiver.got) == 4


@pytest.mark.parametrize(
    "inside", ["127.0.0.1", "10.1.2.3", "192.168.0.9", "169.254.169.254", "::1", "fe80::1", "fd00::1", "0.0.0.0"]
)
def test_nothing_is_sent_to_a_private_address(receiver: Receiver, inside: str) -> None:
    hook = Webhook(url=receiver.url)
    with pytest.raises(NotTold, match="private"):
        post(hook, {}, now_s=NOW_S, lookup=lambda _host, _port: ["93.184.215.14", inside])
    assert receiver.got == []


def test_a_host_that_is_not_found_is_said_in_a_sentence() -> None:
    def lookup(_host: str, _port: int) -> list[str]:
        raise OSError("no such host")

    with pytest.raises(NotTold, match="was not found"):
        post(Webhook(url="https://nowhere.example"), {}, now_s=NOW_S, lookup=lookup)
