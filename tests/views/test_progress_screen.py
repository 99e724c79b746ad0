"""The screen of a running job, as text."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from runner.views.progress_screen import ProgressScreen, ending, screen_lines
from tests.views.numbers_of_a_run import numbers

WIDE = """\
branch-labels  run r_7f3k2a  live  claude-sonnet-5-5            elapsed 00:12:40
rows      [#############---------------]  4,799 of 9,600   50.0%   ETA 12m 36s
          done 4,790   failed 9   retrying 13   in flight 48   waiting 4,740
requests  380/min of 1,000 (--rpm)      [####--------]   429 x3   overloaded x1
input     551k/min of 800k (tier)       [########----]   cache reads not counted
output    68k/min of 160k (headers)     [#####-------]
latency   p50 2.1s   p95 5.4s   p99 12s
spend     $22.62 of $60.00              [####--------]   projected $45.25
failures  invalid_output 6 | invalid_request_error 2 | timeout 1"""

NARROW = """\
branch-labels  run r_7f3k2a       elapsed 00:12:40
rows      4,799 of 9,600   50.0%   ETA 12m 36s
          done 4,790   failed 9   retrying 13
requests  380/min of 1,000 (--rpm)   429 x3
input     551k/min of 800k (tier)
output    68k/min of 160k (headers)
latency   p50 2.1s   p95 5.4s   p99 12s
spend     $22.62 of $60.00   projected $45.25
failures  invalid_output 6"""

# A simulated run without limits or a cap, whose input is still being read.
OPEN = """\
branch-labels  run r_7f3k2a  live SIMULATED  claude-sonnet-5-5  elapsed 00:12:40
rows      4,799 of 9,600 read so far   the input is being read
          done 4,790   failed 9   retrying 13   in flight 48
requests  380/min
input     551k/min
output    68k/min
latency   p50 2.1s   p95 5.4s   p99 12s
spend     $22.62"""


def test_the_screen_at_80_columns() -> None:
    assert "\n".join(screen_lines(numbers(), 80)) == WIDE


def test_the_screen_at_50_columns() -> None:
    assert "\n".join(screen_lines(numbers(), 50)) == NARROW


def test_the_screen_while_the_input_is_read() -> None:
    progress = numbers(
        simulated=True, total=None, rpm=None, itpm=None, otpm=None, cap_pico=None, rate_limited=0, overloaded=0,
        failures={},
    )  # fmt: skip
    assert "\n".join(screen_lines(progress, 80)) == OPEN


@pytest.mark.parametrize("width", range(20, 121))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    busy = numbers(
        job="j" * 64, model="m" * 60, failures={f"kind_{n}" * 5: 10**6 for n in range(9)}, simulated=True,
        committed_pico=10**13, held_until_s=12.0, paused_for="stopped by SIGINT " * 9,
    )  # fmt: skip
    assert all(len(line) <= width for line in [*screen_lines(busy, width), ending(busy, width)])


@pytest.mark.parametrize("width", [30, 50, 80, 120])
def test_a_simulated_run_says_so_at_every_width(width: int) -> None:
    assert "SIMULATED" in screen_lines(numbers(simulated=True, job="labels"), max(width, 40))[0]


def test_no_time_is_promised_before_one_is_known() -> None:
    assert "ETA unknown" in screen_lines(numbers(eta_s=None), 80)[1]


def test_a_finished_run_has_no_eta() -> None:
    assert "ETA" not in screen_lines(numbers(done=9591, eta_s=0.0), 80)[1]


def test_few_rows_are_not_projected_from() -> None:
    assert not any("projected" in line for line in screen_lines(numbers(done=5, failed=0), 80))


def test_the_service_s_pause_is_told() -> None:
    assert "waiting   the service asked for a pause of 12s" in screen_lines(numbers(held_until_s=12.3), 80)


def test_a_run_that_stops_says_why_and_what_it_waits_for() -> None:
    assert ending(numbers(), 80) == "Ctrl-C pauses and keeps everything."
    assert (
        ending(numbers(paused_for="stopped by SIGINT"), 80)
        == "stopping  stopped by SIGINT   48 in flight may end   Ctrl-C again ends at once"
    )


def test_reserved_money_is_beside_what_is_spent() -> None:
    lines = screen_lines(numbers(committed_pico=10**12), 80)
    assert any(line.startswith("spend     $22.62 + $1.00 reserved of $60.00") for line in lines)


def test_a_job_s_name_cannot_move_the_cursor() -> None:
    assert "\x1b" not in "".join(screen_lines(numbers(job="a\x1b[2Jb", failures={"\x1b[31m": 1}), 80))


def test_the_live_screen_leaves_stdout_alone() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, force_interactive=True, width=80)
    screen = ProgressScreen(console)
    before = sys.stdout
    screen.start()
    screen(numbers())
    assert sys.stdout is before
    screen.stop()
    assert "branch-labels" in shown.getvalue()
    assert "4,799 of 9,600" in shown.getvalue()
    assert shown.getvalue().count("Ctrl-C") == 1, "the finished screen offers nothing to press"


def test_keys_are_offered_where_somebody_may_press_them() -> None:
    assert ending(numbers(), 80).endswith("keeps everything.")
    assert ending(numbers(), 80, keys=True).endswith("+ and - change how many at once: 48")
