"""`+` and `-` on a terminal: they change the pace, and the terminal is as it was however the program ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from runner.cli import keys
from runner.domain.pace import Pace

ROOT = Path(__file__).parents[2]
ROWS = "".join(f'{{"prompt":"say {number}"}}\n' for number in range(600))


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    above, below = pty.openpty()
    yield above, below
    os.close(above)
    os.close(below)


def modes(place: int) -> list[int]:
    return [part for part in termios.tcgetattr(place)[:4] if isinstance(part, int)]


def test_the_terminal_gives_keys_one_by_one_and_then_lines_again(terminal: tuple[int, int]) -> None:
    _, below = terminal
    before = modes(below)
    with keys.single_keys(below):
        assert not modes(below)[3] & (termios.ICANON | termios.ECHO)
        assert modes(below)[3] & termios.ISIG
    assert modes(below) == before
    with pytest.raises(RuntimeError), keys.single_keys(below):
        raise RuntimeError
    assert modes(below) == before


@pytest.mark.anyio
async def test_each_key_is_obeyed(terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    above, below = terminal
    monkeypatch.setattr(keys, "_in_foreground", lambda place: True)
    pace = Pace(32)
    seen: list[int] = []
    with keys.single_keys(below):
        async with anyio.create_task_group() as reading:
            reading.start_soon(keys.obey_keys, below, pace)
            for typed, expected in ((b"+", 40), (b"x", 40), (b"--", 26)):
                os.write(above, typed)
                with anyio.move_on_after(5):
                    while pace.maximum != expected:
                        await anyio.sleep(0.01)
                seen.append(pace.maximum)
            reading.cancel_scope.cancel()
    assert seen == [40, 40, 26]


def test_without_a_terminal_no_keys_are_read() -> None:
    assert not keys.keys_can_be_read()


class OnATerminal:
    """The command in a session of its own, whose terminal we hold the other end of."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.above, self.below = pty.openpty()
        self.before = modes(self.below)
        (folder / "rows.jsonl").write_text(ROWS)
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "RUNNER_HOME": str(folder / "state")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runner", "run", "rows.jsonl", "-m", "claude-haiku-5-5", "--simulate", *words],
            cwd=folder,
            env={**env, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
            stdin=self.below,
            stdout=subprocess.DEVNULL,
            stderr=self.below,
            preexec_fn=self._own_the_terminal,  # noqa: PLW1509 - nothing else makes a terminal the child's own
        )
        os.set_blocking(self.above, False)
        self.shown = b""

    def _own_the_terminal(self) -> None:
        import fcntl

        os.setsid()
        fcntl.ioctl(self.below, termios.TIOCSCTTY, 0)

    def until(self, text: bytes, limit_s: float = 20) -> None:
        until = time.monotonic() + limit_s
        while text not in self.shown:
            assert time.monotonic() < until, self.shown[-2000:]
            self.read()
            time.sleep(0.02)

    def read(self) -> None:
        with suppress(OSError):  # nothing to read now, or nothing any more
            self.shown += os.read(self.above, 1 << 16)

    def ended(self) -> int:
        until = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < until:
            self.read()
            time.sleep(0.02)
        after = modes(self.below)
        os.close(self.above)
        os.close(self.below)
        assert after == self.before
        return self.process.returncode


def test_the_screen_says_what_the_keys_do_and_they_do_it(tmp_path: Path) -> None:
    run = OnATerminal(tmp_path, "--concurrency", "4", "--rpm", "600")
    run.until(b"change how many at once: 4")
    run.until(b"(--rpm)")
    os.write(run.above, b"+")
    run.until(b"change how many at once: 5")
    os.write(run.above, b"\x03")  # Ctrl-C goes on being a signal
    assert run.ended() == 130


def test_a_killed_command_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    run = OnATerminal(tmp_path, "--concurrency", "4", "--rpm", "600")
    run.until(b"at once: 4")
    run.process.send_signal(signal.SIGTERM)
    assert run.ended() == 143
