"""Batches in words: every state has some, none of them is `failed`, and what runs out is said in time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.domain.batch import DAY_US
from runner.domain.run import Run
from runner.domain.states import BatchState, PauseReason
from runner.domain.submission import Timing
from runner.store.duplicates import BatchMoney
from runner.store.store import Store
from runner.views.batch_page import (
    BatchRow,
    batch_json,
    batch_lines,
    batch_table,
    row_json,
    run_batches_words,
)
from runner.views.batch_words import out_words, retention_words, state_words
from runner.views.run_facts import run_facts
from runner.views.run_page import page_json, page_lines
from runner.views.run_tables import StatusRow
from runner.views.summary import summary_lines
from runner.views.sweep_words import sweep_lines
from tests.store import building
from tests.views import sent_batches

NOW_US = building.NOW_US
TIMING = Timing()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with building.ready_store(f"sqlite:///{tmp_path / 'runner.db'}") as store:
        yield store


@pytest.fixture
def run(store: Store) -> Run:
    """Three batches: one in progress, one of unknown end, one that has been read."""
    run = sent_batches.batch_run(store, 20, 30, 10)
    sent_batches.accepted(store, run, "aaaaaaaaaa", "msgbatch_01a")
    sent_batches.unknown(store, run, "bbbbbbbbbb")
    sent_batches.read(store, run, "cccccccccc", "msgbatch_01c", took_us=5 * sent_batches.MINUTE_US)
    return run


def row(store: Store, run: Run, name: str) -> BatchRow:
    (submission,) = [one for one in store.submissions_of(run.id) if one.id == name]
    money = store.money_by_batch(run.id).get(submission.provider_id or name)
    doubles = [one for one in store.duplicates_of(run.id) if one.submission == name]
    return BatchRow(submission=submission, run=run, money=money, duplicates=doubles)


@pytest.mark.parametrize("state", BatchState)
def test_every_state_has_words_and_none_says_failed(store: Store, run: Run, state: BatchState) -> None:
    from msgspec.structs import replace

    submission = replace(store.submissions_of(run.id)[0], state=state)
    words = state_words(submission)
    assert words
    assert "fail" not in words


def test_what_is_out_is_counted_in_batches_and_rows(store: Store, run: Run) -> None:
    words = out_words(store.submissions_of(run.id))
    assert words == "1 batch with the API (20 rows), 1 of unknown end (30 rows)"


def test_the_table_has_a_line_a_batch(store: Store, run: Run) -> None:
    rows = [row(store, run, name * 10) for name in "abc"]
    lines = batch_table(rows, TIMING, NOW_US + 30 * sent_batches.MINUTE_US, None)
    assert [line.split()[0] for line in lines] == ["ID", "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"]
    assert "in progress 30m" in lines[1]
    assert "<= $0.01" in lines[1]
    assert "unknown, settling until 08:36" in lines[2]
    assert "10 succeeded" in lines[3]


def test_a_batch_in_full_says_what_comes_next(store: Store, run: Run) -> None:
    page = "\n".join(batch_lines(row(store, run, "bbbbbbbbbb"), TIMING, NOW_US))
    assert "state      unknown, settling until 08:36" in page
    assert "settles until  2027-01-15 08:36:01" in page
    assert "finds out by itself" in page
    assert "workspace wrkspc_1" in page
    assert "body       1.23MB   sha256 0123456789ab" in page


def test_a_question_comes_with_the_ways_out(store: Store, run: Run) -> None:
    store.ask_about("bbbbbbbbbb", "the key now belongs to another workspace")
    page = "\n".join(batch_lines(row(store, run, "bbbbbbbbbb"), TIMING, NOW_US))
    assert "question   the key now belongs to another workspace" in page
    for way in ("runner resume", "runner batches adopt bbbbbbbbbb MSGBATCH", "runner batches abandon bbbbbbbbbb"):
        assert way in page


def test_a_read_batch_says_until_when_the_service_keeps_it(store: Store, run: Run) -> None:
    page = "\n".join(batch_lines(row(store, run, "cccccccccc"), TIMING, NOW_US))
    assert "kept at the service until 2027-02-13 08:00" in page
    assert "next" not in page


@pytest.mark.parametrize(
    ("day", "words"), [(19, None), (20, "are deleted"), (28, "are deleted"), (29, "were deleted")]
)
def test_results_that_nobody_has_fetched_are_warned_of_from_day_20(
    store: Store, run: Run, day: int, words: str | None
) -> None:
    told = retention_words(store.submissions_of(run.id)[0], NOW_US + day * DAY_US)
    assert told is None if words is None else words in str(told)
    if words is not None:
        assert told == f"the results of batch msgbatch_01a (20 rows) {words} at the service on 2027-02-13 08:00"


def test_results_that_are_here_may_be_deleted_there(store: Store, run: Run) -> None:
    (read,) = [one for one in store.submissions_of(run.id) if one.state is BatchState.INGESTED]
    assert retention_words(read, NOW_US + 28 * DAY_US) is None


def test_what_was_let_go_keeps_its_worst_price(store: Store, run: Run) -> None:
    store.let_go(run.id, "bbbbbbbbbb", model="m", price_version="p", now_us=NOW_US)
    one = row(store, run, "bbbbbbbbbb")
    assert one.money == BatchMoney(cost_pico=0, bound_pico=sent_batches.WORST_PICO)
    assert (one.state(TIMING, NOW_US), one.cost) == ("let go", "<= $0.01")


def test_what_was_never_made_cost_nothing(store: Store, run: Run) -> None:
    store.absent(run.id, "bbbbbbbbbb")
    one = row(store, run, "bbbbbbbbbb")
    assert (one.state(TIMING, NOW_US), one.cost) == ("never made", "-")


def test_a_duplicate_is_named_with_its_price_wherever_the_run_is_told(store: Store, run: Run) -> None:
    store.absent(run.id, "bbbbbbbbbb")
    sent_batches.duplicate(store, run, "bbbbbbbbbb", "msgbatch_01z", sent_batches.USD * 42 // 100, n=30)
    words = "msgbatch_01z holds 30 rows a second time: $0.42"
    facts = run_facts(store, run)
    assert words in "\n".join(summary_lines(facts))
    assert words in "\n".join(page_lines(facts, worked_on_by=None))
    assert page_json(facts, worked_on_by=None)["duplicates"][0]["cost_usd"] == 0.42
    one = row(store, run, "bbbbbbbbbb")
    assert one.state(TIMING, NOW_US) == "found too late"
    assert one.results == "msgbatch_01z paid twice: $0.42"
    assert words in "\n".join(batch_lines(one, TIMING, NOW_US))


def test_a_run_s_page_names_what_is_open(store: Store, run: Run) -> None:
    words = run_batches_words(store.submissions_of(run.id), TIMING, NOW_US)
    assert words.splitlines() == [
        "1 read, 1 batch with the API (20 rows), 1 of unknown end (30 rows)",
        "bbbbbbbbbb  30 rows  unknown, settling until 08:36",
        "msgbatch_01a  20 rows  in progress 0s",
    ]
    page = page_lines(run_facts(store, run), worked_on_by=None, batches=words)
    assert "rows        60: 50 in batches, 10 waiting" in page


def test_a_live_run_has_no_line_about_batches(store: Store) -> None:
    assert run_batches_words([], TIMING, NOW_US) == ""


def test_the_list_of_runs_says_what_is_out(store: Store, run: Run) -> None:
    paused = store.pause_run(run.id, PauseReason.SUBMITTED, "as it was then")
    one = StatusRow(
        run=paused,
        tally=store.tally(run.id),
        money=store.money(run.id),
        left_alone=False,
        submissions=store.submissions_of(run.id),
    )
    assert one.note == "1 batch with the API (20 rows), 1 of unknown end (30 rows)"
    told = one.as_json()
    assert (told["batches_out"], told["rows_in_batches"], told["batches_unknown"]) == (2, 50, 1)


def test_the_same_for_machines(store: Store, run: Run) -> None:
    told = json.loads(json.dumps(row_json(row(store, run, "bbbbbbbbbb"), TIMING, NOW_US)))
    assert (told["state"], told["state_words"]) == ("unknown", "unknown, settling until 08:36")
    assert told["settles"] == "2027-01-15T08:36:01Z"
    assert batch_json(store.submissions_of(run.id)[0])["results_kept_until"] == "2027-02-13T08:00:00Z"


# --- sweeps


class Found:
    listed = 14
    duplicates: tuple[str, ...] = ()
    claimed: tuple[str, ...] = ()
    foreign = 0
    later: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def test_a_sweep_without_a_find_says_so() -> None:
    (line,) = sweep_lines("r_1", Found(), 0, ())
    assert line == "run r_1: the service lists 14 batches; none of them holds rows of ours a second time."
    (line,) = sweep_lines("r_1", Found(), 2, ())
    assert line == "run r_1: the service lists 14 batches; no duplicate among them beyond the 2 in the books."


def test_a_sweep_tells_what_it_found_and_what_it_cannot_know() -> None:
    found = Found()
    found.duplicates, found.claimed, found.foreign = ("msgbatch_d",), ("msgbatch_c",), 1
    found.later, found.unreadable = tuple(f"msgbatch_{n}" for n in range(7)), ("msgbatch_u",)
    assert sweep_lines("r_1", found, 0, ("r_2",)) == [
        "run r_1: the service lists 14 batches; 1 of them holds rows of ours a second time: msgbatch_d.",
        "  found again: msgbatch_c.",
        "  runner collect r_2   fetches the results",
        "  1 batch of as many rows as ours, but somebody else's.",
        f"  not ended yet, so not known: {', '.join(found.later[:5])} and 2 more. Sweep again when they have.",
        "  without results that could be read, so not known: msgbatch_u.",
    ]
