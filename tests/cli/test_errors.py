"""From the wire to the screen: what people read of each error of the service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.domain.explanations import ERROR_CODES, ERROR_TYPES, EXPLANATIONS, Fate
from runner.simulator.problems import TYPE_OF_STATUS
from tests.cli.conftest import Cli

JOB = {"name": "errors", "model": "claude-haiku-5-5", "limits": {"max_attempts": 1, "concurrency": 4}}
ENDING_ROWS = [word for word in (*ERROR_TYPES, *ERROR_CODES) if EXPLANATIONS[word].fate in (Fate.ROW, Fate.AGAIN)]
PAUSING = [word for word in (*ERROR_TYPES, *ERROR_CODES) if EXPLANATIONS[word].fate is Fate.PAUSE]
EXITS_OF_PAUSES = (4, 5, 6)


def flat(text: str) -> str:
    return " ".join(text.split())


def directive(word: str) -> str:
    entry = EXPLANATIONS[word]
    error_type = word if word in ERROR_TYPES else TYPE_OF_STATUS[entry.status or 500]
    code = f":{word}" if word in ERROR_CODES else ""
    return f"[[sim:error={entry.status}:{error_type}{code}]]"


def ask(cli: Cli, folder: Path, *prompts: str) -> tuple[int, str]:
    (folder / "job.yaml").write_text(json.dumps(JOB))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    done = cli("run", "job.yaml", "-i", "rows.jsonl", "--simulate", "--progress", "none")
    return done.exit_code, flat(done.stderr)


def test_rows_that_an_error_ends_are_told_with_request_id_and_fix(cli: Cli, folder: Path) -> None:
    # An overloaded scope holds the others back: those that say so go last.
    words = sorted(ENDING_ROWS, key=lambda word: EXPLANATIONS[word].status == 529)
    words = [word for word in words if EXPLANATIONS[word].status not in (413, 529)]
    code, _ = ask(cli, folder, *map(directive, words))
    assert code == 3
    for number, word in enumerate(words):
        shown = flat(cli("failures", "latest", "--row", str(number)).stdout)
        entry = EXPLANATIONS[word]
        assert "request id req_" in shown, shown
        assert word in shown
        if word in ERROR_CODES:
            assert flat(f"{entry.means}: {entry.fix}").split("RUN")[0].split("`")[0] in shown, shown
        else:
            assert "fix" in shown


def test_failures_say_what_became_of_the_rows(cli: Cli, folder: Path) -> None:
    ask(cli, folder, "[[sim:error=400:invalid_request_error:tool_name_conflict]]")
    shown = flat(cli("failures", "latest").stdout)
    assert "rows: the row fails at once and is not billed" in shown
    assert "fix: two tools have the same name: rename one of them" in shown
    assert "request id req_" in shown


@pytest.mark.parametrize("word", PAUSING)
def test_an_error_of_the_account_pauses_the_run_and_says_what_to_do(cli: Cli, folder: Path, word: str) -> None:
    code, told = ask(cli, folder, directive(word))
    entry = EXPLANATIONS[word]
    assert code in EXITS_OF_PAUSES
    assert "req_" in told
    assert "1 wait" in told
    assert "runner" in told
    if word in ERROR_CODES:
        assert word in told
        assert flat(f"{entry.means}: {entry.fix}") in told


def test_a_page_of_the_edge_is_told_as_what_it_is(cli: Cli, folder: Path) -> None:
    code, _ = ask(cli, folder, "[[sim:error=413]]")
    assert code == 3
    shown = flat(cli("failures", "latest").stdout)
    assert "http_413" in shown
    assert "413 Request Entity Too Large" in shown
    assert "the row fails at once" in shown
    assert "shorten the row" in shown


def test_an_error_that_nobody_has_told_of_degrades_well(cli: Cli, folder: Path) -> None:
    code, _ = ask(cli, folder, "[[sim:error=418:teapot_error:short_and_stout]]")
    assert code == 3
    shown = flat(cli("failures", "latest").stdout)
    assert "teapot_error" in shown
    assert "short_and_stout" in shown
    assert "--row" in shown


def test_a_field_that_the_api_does_not_know_is_told_with_both_ways_out(cli: Cli, folder: Path) -> None:
    (folder / "job.yaml").write_text(json.dumps({**JOB, "api_version": "2023-06-01"}))
    row = {
        "prompt": "x",
        "params": {"model": "claude-opus-5", "context_management": {"edits": [{"type": "new_20270101"}]}},
    }
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
    cli("run", "job.yaml", "-i", "rows.jsonl", "--simulate", "--progress", "none")
    shown = flat(cli("failures", "latest").stdout)
    assert "context_management: Extra inputs are not permitted" in shown
    assert "name the beta with betas: in the job or --beta NAME" in shown


# -- explain


@pytest.mark.parametrize("word", EXPLANATIONS)
def test_every_word_is_explained(cli: Cli, word: str) -> None:
    shown = flat(cli("explain", word).stdout)
    entry = EXPLANATIONS[word]
    assert flat(entry.means) in shown
    assert flat(entry.fix) in shown
    assert flat(entry.rows) in shown


def test_explain_lists_all_and_speaks_to_machines(cli: Cli) -> None:
    assert len(cli("explain", "--all").stdout.splitlines()) == len(EXPLANATIONS)
    told = json.loads(cli("explain", "429", "--json").stdout)
    assert (told["status"], told["fate"]) == (429, "wait")


def test_explain_suggests_the_nearest_word(cli: Cli) -> None:
    done = cli("explain", "overloaded_eror")
    assert done.exit_code == 2
    assert "did you mean overloaded_error ?" in done.stderr
    assert cli("explain").exit_code == 2
