"""Progress in logs: at the start, every minute or 5%, at the end."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from runner.views.progress_lines import ProgressLines, json_line, plain_line
from runner.views.progress_screen import ProgressScreen
from runner.views.progress_view import NoProgress, progress_view
from tests.views.numbers_of_a_run import USD, numbers


def events(*moments: dict[str, object]) -> list[str]:
    told: list[str] = []
    view = ProgressLines(told.append, lambda event, progress: f"{event} {progress.done}")
    view.start()
    for changes in moments:
        view(numbers(failed=0, **changes))
    view.stop()
    return told


def test_a_line_as_it_stands_in_a_log() -> None:
    progress = numbers(done=11_997, failed=3, total=50_000, spent_pico=USD * 12 // 10, cap_pico=None, eta_s=460)
    line = "03:00:04 progress 12000/50000 24.0% failed=3 spent=$1.20 rate_limited=3 overloaded=1 eta=00:07:40"
    assert plain_line("progress", progress, "03:00:04") == line


def test_the_first_line_names_the_run() -> None:
    line = plain_line("start", numbers(simulated=True, done=0, failed=0, spent_pico=0, eta_s=None), "03:00:04")
    assert line == (
        "03:00:04 start run=r_7f3k2a job=branch-labels mode=live model=claude-sonnet-5-5 simulated=yes "
        "0/9600 0.0% failed=0 spent=$0.00"
    )


def test_an_unknown_total_has_no_percentage() -> None:
    assert " 4799/? failed=9 " in plain_line("progress", numbers(total=None), "00:00:00")


def test_a_pause_of_the_service_and_a_stop_are_told() -> None:
    line = plain_line("progress", numbers(held_until_s=12.4, paused_for="stopped by SIGINT"), "00:00:00")
    assert line.endswith("held=12s pausing=stopped by SIGINT")


def test_start_and_end_are_always_told() -> None:
    assert events({"done": 0, "elapsed_s": 0}, {"done": 9, "elapsed_s": 3}) == ["start 0", "end 9"]


def test_nothing_is_told_of_a_run_without_numbers() -> None:
    assert events() == []


def test_the_last_numbers_are_told_once() -> None:
    assert events({"done": 0, "elapsed_s": 0}) == ["start 0"]


def test_each_minute_has_a_line() -> None:
    moments = [{"done": second // 60, "elapsed_s": second} for second in range(0, 180, 30)]
    assert events(*moments) == ["start 0", "progress 1", "progress 2", "end 2"]


def test_each_twentieth_has_a_line_but_not_more_than_one_a_second() -> None:
    moments = [{"done": 480 * n, "elapsed_s": 0.5 * n} for n in range(5)]
    assert events(*moments) == ["start 0", "progress 960", "progress 1920"]


def test_a_beginning_stop_has_a_line() -> None:
    moments = [{"done": 0, "elapsed_s": 0}, {"done": 1, "elapsed_s": 1, "paused_for": "stopped by SIGTERM"}]
    assert events(*moments) == ["start 0", "progress 1"]


def test_json_lines_hold_the_same_numbers() -> None:
    told = json.loads(json_line("progress", numbers()))
    assert (told["event"], told["done"], told["failed"], told["spent_usd"]) == ("progress", 4790, 9, 22.62)


@pytest.mark.parametrize(
    ("kind", "terminal", "expected"),
    [
        (None, False, ProgressLines),
        (None, True, ProgressScreen),
        ("bar", False, ProgressLines),
        ("bar", True, ProgressScreen),
        ("plain", True, ProgressLines),
        ("json", True, ProgressLines),
        ("none", True, NoProgress),
    ],
)
def test_the_view_fits_who_watches(kind: str | None, terminal: bool, expected: type) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, force_interactive=terminal, _environ={})
    assert type(progress_view(kind, console)) is expected


def test_lines_are_not_wrapped() -> None:
    file = io.StringIO()
    view = progress_view("plain", Console(file=file, width=20))
    view(numbers())
    view.stop()
    assert file.getvalue().count("\n") == 1
