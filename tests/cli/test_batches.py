"""Batches from the command line, over a store with some in it: nothing here asks the service."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from runner.cli.batch_news import teller, warning_words
from runner.cli.context import Context
from runner.cli.outcome import EXIT_OF_PAUSE, exit_code
from runner.domain.batch import DAY_US
from runner.domain.job import Mode
from runner.domain.run import Run, Tally
from runner.domain.states import BatchState, PauseReason, RunState
from runner.engine.batch.events import BatchEvent
from runner.engine.parts import RunEnd
from runner.engine.stop import Pause
from runner.store.store import Store
from runner.views.progress_view import NoProgress
from tests.cli.conftest import Cli
from tests.store import building
from tests.views import sent_batches

NOW_US = building.NOW_US


@pytest.fixture
def run(store: Store) -> Run:
    """One batch in progress, one of unknown end."""
    run = sent_batches.batch_run(store, 20, 30)
    sent_batches.accepted(store, run, "aaaaaaaaaa", "msgbatch_01a")
    sent_batches.unknown(store, run, "bbbbbbbbbb")
    store.pause_run(run.id, PauseReason.SUBMITTED, "20 rows are with the API in 1 batch")
    return store.run_by_id(run.id)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-x")


# --- looking


def test_the_list_shows_batches_of_all_runs_or_of_one(cli: Cli, store: Store, run: Run) -> None:
    other = sent_batches.batch_run(store, 5)
    sent_batches.accepted(store, other, "cccccccccc", "msgbatch_01c", at_us=NOW_US + 1)
    ids = [line.split("\t")[0] for line in cli("batches", "list", "--plain").stdout.splitlines()]
    assert ids[:2] == ["ID", "cccccccccc"]
    assert set(ids[2:]) == {"aaaaaaaaaa", "bbbbbbbbbb"}
    told = json.loads(cli("batches", "list", run.label, "--json").stdout)
    assert {one["id"]: one["state"] for one in told["batches"]} == {"aaaaaaaaaa": "accepted", "bbbbbbbbbb": "unknown"}
    assert len(cli("batches", "list", "-n", "1", "--plain").stdout.splitlines()) == 2


def test_without_batches_there_is_nothing_to_list(cli: Cli) -> None:
    done = cli("batches", "list")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no batches were sent yet" in done.stderr
    assert json.loads(cli("batches", "list", "--json").stdout)["batches"] == []


@pytest.mark.parametrize("name", ["aaaaaaaaaa", "aaa", "msgbatch_01a"])
def test_a_batch_is_found_by_its_beginning_or_by_the_service_s_id(cli: Cli, run: Run, name: str) -> None:
    assert "service    msgbatch_01a" in cli("batches", "show", name).stdout
    assert json.loads(cli("batches", "show", name, "--json").stdout)["run"] == run.label


def test_a_batch_that_is_not_there(cli: Cli, run: Run) -> None:
    done = cli("batches", "show", "zzz")
    assert done.exit_code == 2
    assert "error[no-batch]: there is no batch 'zzz' here." in done.stderr
    assert "runner batches list" in done.stderr


def test_status_and_show_mention_what_is_out(cli: Cli, run: Run) -> None:
    words = "1 batch with the API (20 rows), 1 of unknown end (30 rows)"
    assert words in cli("status").stdout
    shown = cli("show", run.label).stdout
    assert f"batches     0 read, {words}" in shown
    assert "rows        50: 50 in batches" in shown
    assert "reserved for batches whose results are not here" in shown
    told = json.loads(cli("show", run.label, "--json").stdout)
    assert [one["id"] for one in told["batches"]] == ["aaaaaaaaaa", "bbbbbbbbbb"]


@pytest.mark.parametrize("command", [("status",), ("show", "latest"), ("batches", "list")])
def test_results_that_run_out_are_warned_of(
    cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    run = sent_batches.batch_run(store, 20)
    sent_batches.accepted(store, run, "aaaaaaaaaa", "msgbatch_01a")
    monkeypatch.setattr("runner.clock.SystemClock.now_us", lambda _: NOW_US + 21 * DAY_US)
    done = cli(*command)
    assert "warning[batch-results-expire]: the results of batch msgbatch_01a (20 rows) are deleted" in done.stderr
    assert f"runner collect {run.label}" in done.stderr
    monkeypatch.setattr("runner.clock.SystemClock.now_us", lambda _: NOW_US + 2 * DAY_US)
    assert "warning" not in cli(*command).stderr


# --- deciding


def test_letting_go_says_the_worst_price_and_asks_for_a_yes(cli: Cli, store: Store, run: Run) -> None:
    done = cli("batches", "abandon", "bbbb")
    assert done.exit_code == 2
    assert (
        "error[not-confirmed]: nothing was changed: if a batch of submission bbbbbbbbbb exists, "
        "its 30 rows are paid twice: at most $0.01." in done.stderr
    )
    assert "runner batches abandon bbbbbbbbbb --yes" in done.stderr
    assert store.submission("bbbb").state is BatchState.UNKNOWN


def test_what_was_let_go_goes_again_and_keeps_its_worst_price(cli: Cli, store: Store, run: Run) -> None:
    before = store.money(run.id).committed_pico
    done = cli("batches", "abandon", "bbbb", "--yes", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "schema": 1, "id": "bbbbbbbbbb", "run": run.label, "abandoned": True, "rows": 30,
    }  # fmt: skip
    assert store.submission("bbbb").state is BatchState.ABSENT
    money = store.money(run.id)
    assert (money.committed_pico, money.unknown_bound_pico) == (before, sent_batches.WORST_PICO)
    assert "let go" in cli("batches", "list").stdout
    again = cli("batches", "abandon", "bbbb", "--yes")
    assert again.exit_code == 2
    assert "what became of batch bbbbbbbbbb is known" in again.stderr


@pytest.mark.parametrize("words", [("abandon", "aaaa", "--yes"), ("adopt", "aaaa", "msgbatch_01x")])
def test_of_a_known_batch_there_is_nothing_to_decide(cli: Cli, run: Run, words: tuple[str, ...]) -> None:
    done = cli("batches", *words)
    assert done.exit_code == 2
    assert f"error[batch-state]: there is nothing to {words[0]}: " in done.stderr


def test_a_run_that_is_worked_on_is_left_to_its_process(cli: Cli, store: Store, run: Run, key: None) -> None:
    hold = store.hold(run, lambda: NOW_US)
    try:
        assert cli("batches", "abandon", "bbbb", "--yes").exit_code == 7
        assert cli("batches", "sweep", run.label).exit_code == 7
    finally:
        hold.release()
    assert store.submission("bbbb").state is BatchState.UNKNOWN


@pytest.mark.parametrize("words", [("abandon", "aaaa", "--yes"), ("adopt", "aaaa", "msgbatch_01x")])
def test_a_rehearsal_s_batches_are_gone(cli: Cli, simulated_store: Store, words: tuple[str, ...]) -> None:
    run = sent_batches.batch_run(simulated_store, 5, simulated=True)
    sent_batches.unknown(simulated_store, run, "aaaaaaaaaa")
    done = cli("batches", *words)
    assert done.exit_code == 2
    assert "it ended with the command that sent it" in done.stderr
    assert ", simulated" in cli("batches", "list").stdout


def test_without_batches_there_is_nothing_to_sweep(cli: Cli, folder: Path) -> None:
    done = cli("batches", "sweep")
    assert done.exit_code == 0
    assert "there is nothing to sweep" in done.stderr
    assert not (folder / "state").exists()


# --- submit and collect


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "--submit-only is for batches, and this job is sent live."),
        (("--mode", "auto"), "--submit-only is for batches, and this job may be sent live."),
        (("--mode", "batch", "--simulate"), "--submit-only and --simulate contradict each other"),
    ],
)
def test_only_what_goes_on_without_us_is_submitted_only(
    cli: Cli, folder: Path, words: tuple[str, ...], sentence: str
) -> None:
    (folder / "rows.jsonl").write_text('{"prompt": "hi"}\n')
    done = cli("run", "rows.jsonl", "-m", building.MODEL, "--submit-only", *words)
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_a_live_run_has_nothing_to_collect(cli: Cli, store: Store, key: None) -> None:
    run = building.staged_run(store, 2)
    done = cli("collect", run.label)
    assert done.exit_code == 2
    assert f"run {run.label} is sent live and has no batches to collect" in done.stderr


def test_a_rehearsal_has_nothing_to_collect(cli: Cli, simulated_store: Store) -> None:
    run = sent_batches.batch_run(simulated_store, 2, simulated=True)
    done = cli("collect", run.label)
    assert done.exit_code == 2
    assert "its batches ended with the command that sent them" in done.stderr


def test_collecting_a_finished_run_gives_its_own_code(cli: Cli, store: Store, key: None) -> None:
    run = sent_batches.batch_run(store, 2)
    building.settle_all(store, run)
    store.move_run(run.id, "all rows succeeded")
    assert cli("collect", run.label).exit_code == 0
    sent = sent_batches.batch_run(store, 1)
    sent_batches.unknown(store, sent, "aaaaaaaaaa")
    store.absent(sent.id, "aaaaaaaaaa")
    building.settle_all(store, sent)
    sent_batches.duplicate(store, sent, "aaaaaaaaaa", "msgbatch_01z", 7)
    store.move_run(sent.id, "all rows succeeded")
    done = cli("collect", sent.label, "--json")
    assert done.exit_code == 12
    assert json.loads(done.stdout.splitlines()[-1])["duplicates"] == [
        {"id": "msgbatch_01z", "rows": 1, "cost_usd": 7e-12}
    ]
    quiet = cli("collect", sent.label, "-q")
    assert "warning[duplicate-batch]: batch msgbatch_01z holds 1 row a second time" in quiet.stderr


# --- exit codes


def end(store: Store, state: RunState = RunState.PAUSED, pause: Pause | None = None) -> RunEnd:
    run = replace(building.staged_run(store, 1, mode=Mode.BATCH), state=state)
    return RunEnd(run=run, tally=Tally(staged=1, done=0, failed=0), pause=pause)


@pytest.mark.parametrize(
    ("reason", "code", "with_duplicates"),
    [
        (PauseReason.SUBMITTED, 75, 75),
        (PauseReason.STALLED, 75, 75),
        (PauseReason.REQUESTED, 75, 75),
        (PauseReason.UNKNOWN_BATCH, 10, 12),
        (PauseReason.MAX_FAILURES, 3, 12),
        (PauseReason.BUDGET, 4, 4),
        (PauseReason.SPEND_CAP, 4, 4),
        (PauseReason.CREDENTIALS, 5, 5),
        (PauseReason.ADDRESS, 6, 6),
        (PauseReason.REFUSED, 6, 6),
    ],
)
def test_a_duplicate_goes_before_rows_and_held_ones_and_after_money_and_keys(
    store: Store, reason: PauseReason, code: int, with_duplicates: int
) -> None:
    paused = end(store, pause=Pause(reason=reason, message=""))
    assert exit_code(paused) == code
    assert exit_code(paused, duplicates=True) == with_duplicates


@pytest.mark.parametrize(
    ("state", "code", "with_duplicates"),
    [
        (RunState.DONE, 0, 12),
        (RunState.DONE_WITH_FAILURES, 3, 12),
        (RunState.CANCELED, 3, 12),
        (RunState.CANCELING, 75, 75),
    ],
)
def test_a_duplicate_goes_before_what_rows_say(
    store: Store, state: RunState, code: int, with_duplicates: int
) -> None:
    assert exit_code(end(store, state)) == code
    assert exit_code(end(store, state), duplicates=True) == with_duplicates


def test_a_signal_keeps_its_code(store: Store) -> None:
    stopped = Pause(reason=PauseReason.REQUESTED, message="", signal_number=2)
    assert exit_code(end(store, pause=stopped), duplicates=True) == 130


@pytest.mark.parametrize("reason", PauseReason)
def test_every_pause_has_a_code(reason: PauseReason) -> None:
    assert EXIT_OF_PAUSE[reason] in {3, 4, 5, 6, 10, 75}


# --- warnings while a run is worked on


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


UNTIL_US = NOW_US + 41 * 60_000_000


@pytest.mark.parametrize(
    ("event", "sentence", "hint"),
    [
        (
            BatchEvent(
                name="batch_unknown",
                text="a batch of 30 rows: unknown, settling",
                facts={"batch": "kq3xw7", "until_us": UNTIL_US},
            ),
            "a batch of 30 rows: unknown, settling until 08:41.",
            "not sent again before that is known.   runner batches show kq3xw7",
        ),
        (
            BatchEvent(name="batch_unknown", text="a person has to decide", facts={"batch": "kq3xw7"}),
            "a person has to decide.",
            "runner batches show kq3xw7   says what can be done",
        ),
        (
            BatchEvent(name="batch_overdue", text="it is late", facts={"batch": "kq3xw7"}),
            "it is late.",
            "nothing is sent again before it has ended.   runner batches show kq3xw7",
        ),
        (
            BatchEvent(name="batch_duplicate", text="twice", facts={"batch": "kq3xw7"}),
            "twice.",
            "the run ends with exit 12.   runner show r_1   names what was paid twice",
        ),
        (BatchEvent(name="batch_results_expire", text="soon gone"), "soon gone.", None),
    ],
)
def test_a_warning_says_what_is_and_what_to_do(utc: None, event: BatchEvent, sentence: str, hint: str | None) -> None:
    assert warning_words(event, "r_1", NOW_US) == (sentence, hint)


@pytest.mark.parametrize(
    ("context", "name", "said"),
    [
        (Context(), "batch_overdue", True),
        (Context(quiet=True), "batch_overdue", False),
        (Context(quiet=True), "batch_duplicate", True),
        (Context(progress="json"), "batch_overdue", False),
    ],
)
def test_quiet_commands_say_only_what_has_cost_money_twice(
    capsys: pytest.CaptureFixture[str], store: Store, context: Context, name: str, said: bool
) -> None:
    run = building.staged_run(store, 1)
    teller(context, run, NoProgress())(BatchEvent(name=name, text="a batch", warning=True))
    assert (f"warning[{name.replace('_', '-')}]: a batch." in capsys.readouterr().err) is said
