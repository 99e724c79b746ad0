"""From the wire to the screen: what people read of each error of the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.domain.explanations import ERROR_CODES, ERROR_TYPES, EXPLANATIONS, STATUSES, Fate
from runner.domain.traps import TRAP_NAMES
from runner.simulator import Fault, RunningServer
from runner.simulator.problems import TYPE_OF_STATUS
from tests.cli.conftest import Cli
from tests.cli.served import served

JOB = {"name": "errors", "model": "claude-haiku-5-5", "limits": {"max_attempts": 1, "concurrency": 4}}
WORDS = (*ERROR_TYPES, *ERROR_CODES, *map(str, STATUSES))
EXITS_OF_PAUSES = (4, 5, 6)


def fate(word: str) -> Fate:
    """A bare 404 is no API's: it says that the address is wrong."""
    return Fate.PAUSE if word == "404" else EXPLANATIONS[word].fate


@contextmanager
def addressed(monkeypatch: pytest.MonkeyPatch, **config: object) -> Iterator[RunningServer]:
    """A service at an address, as commands that are not simulated see it."""
    with served(**config) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        yield server


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    with addressed(monkeypatch) as server:
        yield server


# Each word is in exactly one of these, and each of these is a test: from the wire to what is read on the screen.
OVERLOAD = [word for word in WORDS if EXPLANATIONS[word].status == 529]
ENDING_ROWS = [word for word in WORDS if fate(word) in (Fate.ROW, Fate.AGAIN) and word not in OVERLOAD]
WAITING = [word for word in WORDS if fate(word) is Fate.WAIT]
PAUSING = [word for word in WORDS if fate(word) is Fate.PAUSE]
OF_COMMANDS = {"file_not_downloadable", "skill_name_taken"}


def flat(text: str) -> str:
    return " ".join(text.split())


def told_by_the_wire(word: str) -> str:
    """`STATUS:TYPE[:CODE]`: a bare status comes as a page of the edge, everything else as an error of the API."""
    if word.isdigit():
        return f"{word}:edge"
    entry = EXPLANATIONS[word]
    error_type = word if word in ERROR_TYPES else TYPE_OF_STATUS[entry.status or 500]
    code = f":{word}" if word in ERROR_CODES else ""
    return f"{entry.status}:{error_type}{code}"


def directive(word: str) -> str:
    return f"[[sim:error={told_by_the_wire(word)}]]"


def ask(cli: Cli, folder: Path, *prompts: str, **limits: int) -> tuple[int, str]:
    (folder / "job.yaml").write_text(json.dumps({**JOB, "limits": JOB["limits"] | limits}))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    done = cli("run", "job.yaml", "-i", "rows.jsonl", "--simulate", "--progress", "plain")
    return done.exit_code, flat(done.stderr)


def shown_of(cli: Cli, row: int) -> str:
    return flat(cli("failures", "latest", "--row", str(row)).stdout)


def check_shown(word: str, shown: str) -> None:
    """What the service said, which request it was, and what to do about it."""
    entry = EXPLANATIONS[word]
    if word.isdigit():
        assert f"http_{word}" in shown, shown
        assert f"HTTP {word} without an error of the API" in shown
    else:
        assert word in shown, shown
        assert "request id req_" in shown
    if word in ERROR_CODES or word.isdigit():
        assert flat(f"{entry.means}: {entry.fix}").split("RUN")[0].split("`")[0] in shown, shown
    else:
        assert "fix" in shown


def test_every_word_has_its_way_to_the_screen() -> None:
    ways = [*OVERLOAD, *ENDING_ROWS, *WAITING, *PAUSING, *OF_COMMANDS]
    assert sorted(ways) == sorted(WORDS)


def test_rows_that_an_error_ends_are_told_with_request_id_and_fix(cli: Cli, folder: Path) -> None:
    code, _ = ask(cli, folder, *map(directive, ENDING_ROWS))
    assert code == 3
    for number, word in enumerate(ENDING_ROWS):
        check_shown(word, shown_of(cli, number))


OTHERS = [f"fine {number}" for number in range(40)]  # each is asked: equal ones would be answered by one call


@pytest.mark.parametrize("word", OVERLOAD)
def test_an_overload_that_stays_while_others_are_answered_ends_its_row(cli: Cli, folder: Path, word: str) -> None:
    code, told = ask(cli, folder, directive(word), *OTHERS, concurrency=8)
    assert code == 3
    assert "overloaded=" in told
    assert "40 succeeded" in told
    check_shown(word, shown_of(cli, 0))


def test_a_row_that_is_always_told_of_an_overload_does_not_keep_others_from_being_asked(
    cli: Cli, folder: Path
) -> None:
    """With a single slot, whoever returns first after the wait has it."""
    code, told = ask(cli, folder, directive("529"), *OTHERS[:10], concurrency=1)
    assert code == 3
    assert "10 succeeded" in told


@pytest.mark.parametrize("word", WAITING)
def test_a_limit_is_waited_for_and_uses_up_no_try(cli: Cli, folder: Path, word: str) -> None:
    """The first calls are told so; there is one try, and the row has its answer all the same."""
    code, told = ask(cli, folder, f"[[sim:flaky=2:{told_by_the_wire(word)}]]")
    assert code == 0
    assert "rate_limited=2" in told
    assert json.loads(cli("export", "latest", "-o", "-").stdout)["attempts"] == 1


@pytest.mark.parametrize("mode", ["live", "batch"])
def test_the_finer_word_is_kept_with_the_row_and_with_each_try(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("RUNNER_BATCH_POLL_S", "0.2")
    monkeypatch.setenv("RUNNER_BATCH_WINDOW_S", "4")
    monkeypatch.setenv("RUNNER_BATCH_SETTLE_S", "0.5")
    prompts = [directive("tool_name_conflict"), directive("cmek_key_unreachable")]
    (folder / "job.yaml").write_text(json.dumps({**JOB, "mode": mode, "limits": {"max_attempts": 2}}))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    done = cli("run", "job.yaml", "-i", "rows.jsonl", "--simulate", "--progress", "none")
    assert done.exit_code == 3, done.stderr
    lines = [json.loads(line) for line in cli("export", "latest", "-o", "-").stdout.splitlines()]
    assert [line["error"]["code"] for line in lines] == ["tool_name_conflict", "cmek_key_unreachable"]
    as_batch = cli("export", "latest", "-o", "-", "--as", "anthropic").stdout.splitlines()
    told = json.loads(as_batch[1])["result"]["error"]["error"]
    assert told["details"] == {"error_code": "cmek_key_unreachable"}
    assert "(cmek_key_unreachable)" in flat(cli("failures", "latest", "--row", "1").stdout).split("try 1")[1]


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
    assert "1 wait" in told
    assert "runner" in told
    if word.isdigit():
        assert f"HTTP {word} without an error of the API" in told
    else:
        assert "req_" in told
    if word in ERROR_CODES:
        assert word in told
        assert flat(f"{entry.means}: {entry.fix}") in told


def test_a_file_that_may_not_be_fetched_ends_the_command(cli: Cli, service: RunningServer, folder: Path) -> None:
    (folder / "a.pdf").write_bytes(b"%PDF-1.7")
    [told] = json.loads(cli("files", "upload", "a.pdf", "--json").stdout)["files"]
    done = cli("files", "download", told["id"])
    assert done.exit_code == 6
    check_shown_of_a_command("file_not_downloadable", done.stderr)


def test_a_skills_name_that_is_taken_ends_the_command(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = "skill_name_taken"
    fault = Fault(kind="error", path="/v1/skills", status=409, error_type="conflict_error", error_code=word)
    (folder / "letters").mkdir()
    (folder / "letters" / "SKILL.md").write_text("---\nname: letters\ndescription: Writes letters.\n---\n")
    with addressed(monkeypatch, faults=(fault,)):
        done = cli("skills", "create", "letters")
    assert done.exit_code == 6
    check_shown_of_a_command(word, done.stderr)


def check_shown_of_a_command(word: str, told: str) -> None:
    entry = EXPLANATIONS[word]
    assert flat(f"{entry.means}: {entry.fix}") in flat(told), told
    assert "req_" in told


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


@pytest.mark.parametrize("rule", TRAP_NAMES)
def test_rules_of_our_own_are_explained_too(cli: Cli, rule: str) -> None:
    shown = flat(cli("explain", rule).stdout)
    assert "refuses a request before it is sent" in shown
    assert f"--allow {rule}" in shown
