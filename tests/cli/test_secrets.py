"""Keys and passwords do not get into logs, whoever writes them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from runner.cli.logs import start_logging
from runner.cli.redact import redacted
from tests.cli.conftest import Cli

CANARY = "sk-ant-api03-CANARY_abc-123"


@pytest.mark.parametrize(
    "text",
    [
        f"key {CANARY} was refused",
        f"x-api-key: {CANARY}",
        "x-api-key: CANARY-of-another-shape",
        "headers [(b'x-api-key', b'CANARY-of-bytes')]",
        '{"api_key": "CANARY-in-json"}',
        "Authorization: Bearer CANARY.of.a.token",
        "authorization: Basic Q0FOQVJZQ0FOQVJZ",
        "ANTHROPIC_AUTH_TOKEN=CANARY-token",
        "postgresql://user:CANARY@db.example/runner",
        "http://me:CANARY%40@proxy:8080 refused",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    shown = redacted(text)
    assert "CANARY" not in shown
    assert "Q0FOQVJZ" not in shown
    assert "[hidden]" in shown


@pytest.mark.parametrize("text", ["12 tokens in", "https://api.anthropic.com/v1/messages", "the key comes from .env"])
def test_ordinary_text_stays(text: str) -> None:
    assert redacted(text) == text


def test_json_lines_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(level="info", form=None)
    logging.getLogger("runner.x").info("sent %s", CANARY, extra={"run": "r_1", "header": f"Bearer {CANARY}"})
    told = json.loads(capsys.readouterr().err)
    assert (told["level"], told["logger"], told["event"], told["run"]) == ("info", "runner.x", "sent [hidden]", "r_1")
    assert "CANARY" not in json.dumps(told)


def test_a_logged_exception_keeps_its_place_and_not_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(level=None, form="human")
    words = "row " + "text"
    try:
        raise ValueError(words + CANARY)
    except ValueError:
        logging.getLogger("runner.x").exception("it broke")
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "test_secrets.py" in shown
    assert "row text" not in shown


@pytest.mark.parametrize(
    ("arguments", "said", "expected"),
    [
        ([], "", "WARNING"),
        ([], "debug", "DEBUG"),
        ([], "nonsense", "WARNING"),
        (["-v"], "error", "INFO"),
        (["-vv"], "error", "DEBUG"),
        (["-q"], "debug", "ERROR"),
    ],
)
def test_the_level(cli: Cli, arguments: list[str], said: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_LOG_LEVEL", said)
    cli("init", *arguments)
    assert logging.getLevelName(logging.root.level) == expected


def test_a_settings_file_may_say_the_level(cli: Cli, folder: Path) -> None:
    (folder / "runner.toml").write_text('log_level = "debug"\n')
    cli("status")
    assert logging.getLevelName(logging.root.level) == "DEBUG"


def test_http_libraries_tell_only_troubles() -> None:
    start_logging(level="debug", form=None)
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
    assert not logging.getLogger("httpcore.http11").isEnabledFor(logging.DEBUG)
