"""The live screen of a run in batches, as text."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from runner.domain.batch_progress import BatchProgress, OpenBatch
from runner.domain.progress import Progress
from runner.domain.states import BatchState
from runner.engine.batch.events import BatchEvent
from runner.views.batch_screen import eta_words
from runner.views.progress_lines import ProgressLines, json_line, json_news, plain_line, plain_news
from runner.views.progress_screen import ProgressScreen, ending, screen_lines
from tests.views.numbers_of_a_run import USD, numbers

NOW_US = 1_800_000_000_000_000  # 2027-01-15 08:00 UTC
MINUTE_US = 60_000_000


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def one(number: int, **changes: Any) -> OpenBatch:
    plain: dict[str, Any] = {
        "number": number,
        "submission": "kq3xw7abcd",
        "provider_id": f"msgbatch_01Hk{number:020}",
        "rows": 50_000,
        "state": BatchState.ACCEPTED,
        "age_s": 38 * 60,
        "expires_in_s": 23 * 3600 + 22 * 60,
        "settles_us": NOW_US + 41 * MINUTE_US,
    }
    return OpenBatch(**{**plain, **changes})


def batches(**changes: Any) -> BatchProgress:
    plain: dict[str, Any] = {
        "ended": 5,
        "in_progress": 3,
        "ready": 0,
        "unknown": 0,
        "rows_with_api": 150_000,
        "rows_unknown": 0,
        "to_redo": 318,
        "open": 3,
        "first": (one(6), one(7), one(8)),
        "paces_s": (34 * 60, 41 * 60, 36 * 60, 52 * 60, 39 * 60),
        "eta_us": (NOW_US + 30 * MINUTE_US, NOW_US + 70 * MINUTE_US),
        "next_poll_s": 22.0,
        "now_us": NOW_US,
    }
    return BatchProgress(**{**plain, **changes})


def in_batches(told: BatchProgress | None = None, **changes: Any) -> Progress:
    plain: dict[str, Any] = {
        "run": "r_9q2mxa",
        "job": "invoice-extract",
        "mode": "batch",
        "model": "claude-haiku-5-5",
        "elapsed_s": 9_667,
        "total": 412_388,
        "done": 249_611,
        "failed": 71,
        "in_flight": 0,
        "retrying": 0,
        "requests_per_min": 0.0,
        "spent_pico": 29 * USD + 38 * USD // 100,
        "committed_pico": 17 * USD + 63 * USD // 100,
        "failures": {"invalid_output": 70, "expired": 1},
        "eta_s": None,
        "batches": told or batches(),
    }
    return numbers(**{**plain, **changes})


SCREEN = """\
invoice-extract  run r_9q2mxa  batch  claude-haiku-5-5          elapsed 02:41:07
rows      [################===========.]  249,682 ended of 412,388
          done 249,611   to redo 318   failed 71   with the API 150,000
batches   5 ended   3 in progress
            6  msgbatch_01Hk...  50,000  in progress 38m   expires in 23h 22m
            7  msgbatch_01Hk...  50,000  in progress 38m   expires in 23h 22m
            8  msgbatch_01Hk...  50,000  in progress 38m   expires in 23h 22m
pace      last 5 batches: 34m, 41m, 36m, 52m, 39m   ETA 08:30 to 09:10 (est.)
spend     $29.38 + $17.63 reserved of $60.00   projected $48.53
failures  invalid_output 70 | expired 1
next poll 22s   safe to close: `runner resume r_9q2mxa` picks this up again"""


def test_the_screen_at_80_columns() -> None:
    progress = in_batches()
    assert "\n".join([*screen_lines(progress, 80), ending(progress, 80)]) == SCREEN


def test_what_is_not_known_is_called_unknown_and_never_failed() -> None:
    lost = one(9, state=BatchState.UNKNOWN, provider_id=None, expires_in_s=None)
    told = batches(unknown=1, rows_unknown=50_000, rows_with_api=100_000, open=3, first=(lost, one(7), one(8)))
    shown = screen_lines(in_batches(told, failed=0, failures={}), 80)
    assert "batches   5 ended   3 in progress   1 unknown (50,000 rows)" in shown
    assert "            9  no id known       50,000  unknown, settling until 08:41" in shown
    assert shown[1] == "rows      [################=======????.]  249,611 ended of 412,388"
    assert "with the API 100,000" in shown[2]
    assert sum("failed" in line for line in shown) == 1, "only the count of rows says failed: 0"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": BatchState.SENDING, "provider_id": None}, "no id known  50,000  being sent"),
        ({"state": BatchState.ENDED}, "50,000  ended, to be read"),
        ({"canceling": True}, "50,000  canceling 38m"),
        ({"missing_s": 720.0}, "50,000  not found for 12m"),
        ({"age_s": 90_000, "expires_in_s": -3_600.0}, "50,000  in progress 1d 1h, overdue"),
        ({"state": BatchState.UNKNOWN, "candidates": 2}, "50,000  unknown, waiting for 2 candidates"),
        ({"state": BatchState.UNKNOWN, "settles_us": NOW_US - 1}, "50,000  unknown, being looked for"),
        ({"state": BatchState.UNKNOWN, "question": "whose?"}, "50,000  unknown: a person has to decide"),
    ],
)
def test_an_open_batch_says_what_it_waits_for(changes: dict[str, Any], words: str) -> None:
    shown = screen_lines(in_batches(batches(first=(one(6, **changes),), open=1)), 100)
    assert any(line.endswith(words) for line in shown), shown


def test_at_most_a_handful_is_named() -> None:
    shown = screen_lines(in_batches(batches(open=12)), 80)
    assert "            +9 more" in shown


def test_the_service_s_queue_is_shown_where_its_limit_is_known() -> None:
    shown = screen_lines(in_batches(batches(max_queued=500_000)), 80)
    assert "batches   5 ended   3 in progress   queue 150k of 500k" in shown


def test_a_wide_terminal_sees_whole_ids() -> None:
    assert any(one(6).provider_id in line for line in screen_lines(in_batches(), 100))  # type: ignore[operator]


def test_no_time_is_promised_where_none_is_known() -> None:
    assert eta_words(batches(eta_us=None)) == ""
    assert eta_words(batches(eta_us=(NOW_US, NOW_US))) == "ETA 08:00 (est.)"
    later = (NOW_US, NOW_US + 24 * 60 * MINUTE_US)
    assert eta_words(batches(eta_us=later)) == "ETA 08:00 to 2027-01-16 08:00 (est.)"


def test_live_calls_beside_batches_have_their_lines() -> None:
    shown = screen_lines(in_batches(in_flight=3, requests_per_min=60.0, total=260_000), 80)
    assert any(line.startswith("requests  60/min") for line in shown)


def test_batches_of_an_earlier_mode_stand_beside_live_rows() -> None:
    shown = screen_lines(in_batches(mode="live", in_flight=4), 80)
    assert any(line.startswith("requests ") for line in shown)
    assert "batches   5 ended   3 in progress" in shown


def test_a_run_with_nothing_out_is_not_called_safe_to_close() -> None:
    assert ending(in_batches(batches(open=0, first=())), 80) == "Ctrl-C pauses and keeps everything."


def test_a_rehearsal_says_that_its_batches_end_with_it() -> None:
    shown = ending(in_batches(simulated=True), 120)
    assert shown == "Ctrl-C pauses. It ends simulated batches; `runner resume` makes them anew."


@pytest.mark.parametrize("width", range(20, 121))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    busy = batches(
        open=10**6, ready=10**5, unknown=10**5, rows_unknown=10**9, max_queued=10**9,
        first=tuple(one(10**6 + n, rows=10**5, provider_id="m" * 99) for n in range(5)),
    )  # fmt: skip
    progress = in_batches(busy, job="j" * 64, total=10**10)
    assert all(len(line) <= width for line in [*screen_lines(progress, width), ending(progress, width)])


def test_an_id_cannot_move_the_cursor() -> None:
    shown = screen_lines(in_batches(batches(first=(one(1, provider_id="a\x1b[2J"),))), 80)
    assert "\x1b" not in "".join(shown)


def test_a_decision_stands_above_the_screen() -> None:
    shown = io.StringIO()
    screen = ProgressScreen(Console(file=shown, force_terminal=True, force_interactive=True, width=80))
    screen.start()
    screen.batch(BatchEvent(name="mode_chosen", text="batch: half the price", facts={"mode": "batch"}))
    screen.batch(BatchEvent(name="batch_submitted", text="batch submitted: 5 rows as msgbatch_1"))
    screen.stop()
    assert "batch: half the price." in shown.getvalue()
    assert "msgbatch_1" not in shown.getvalue(), "the numbers tell that"


# --- where nobody watches a screen


def test_a_line_of_a_log_tells_what_is_with_the_api() -> None:
    line = plain_line("progress", in_batches(), "03:00:04")
    assert line.startswith("03:00:04 progress 249682/412388 60.5% failed=71 with_api=150000 spent=$29.38 ")
    assert line.endswith(" committed=$17.63 rate_limited=3 overloaded=1 eta=08:30-09:10")


def test_rows_of_unknown_end_are_told_apart_in_a_log() -> None:
    told = batches(rows_unknown=50_000, rows_with_api=100_000, eta_us=None)
    assert " with_api=100000 unknown=50000 spent=" in plain_line("progress", in_batches(told), "03:00:04")
    assert "eta=" not in plain_line("progress", in_batches(told), "03:00:04")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            BatchEvent(
                name="batch_submitted",
                text="batch submitted",
                facts={"batch": "kq", "id": "msgbatch_1", "rows": 50_000},
            ),
            "02:00:31 batch submitted id=msgbatch_1 rows=50000",
        ),
        (
            BatchEvent(name="batch_ingested", text="read", facts={"id": "msgbatch_1", "rows": 50_000, "again": 318}),
            "02:00:31 batch ingested id=msgbatch_1 rows=50000 again=318",
        ),
        (
            BatchEvent(name="mode_chosen", text="live: only 5 rows", facts={"mode": "live"}),
            "02:00:31 mode chosen: live: only 5 rows",
        ),
    ],
)
def test_each_event_of_a_batch_is_a_line(event: BatchEvent, line: str) -> None:
    assert plain_news(event, "02:00:31") == line


def test_a_warning_is_told_as_one_and_not_as_progress() -> None:
    event = BatchEvent(name="batch_overdue", text="late", warning=True)
    assert plain_news(event, "02:00:31") is None
    assert '"warning": true' in json_news(event)


def test_events_come_between_the_numbers() -> None:
    told: list[str] = []
    view = ProgressLines(told.append, lambda event, _: event, lambda news: news.name)
    view(in_batches())
    view.batch(BatchEvent(name="batch_submitted", text=""))
    view.stop()
    assert told == ["start", "batch_submitted"]


def test_json_lines_hold_the_batches() -> None:
    line = json_line("progress", in_batches())
    assert '"rows_with_api": 150000' in line
    assert '"eta": ["2027-01-15T08:30:00Z", "2027-01-15T09:10:00Z"]' in line
