"""Without a job file: a question over a table, and rows that come from other programs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from runner.files.job_file import load_job
from tests.cli.conftest import Cli


def write_table(folder: Path) -> None:
    with (folder / "in.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows([["a", "one"], ["b", '{{7*7}} "two"'], ["c", "=1+1"]])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_question_over_a_table_needs_no_job_file(cli: Cli, folder: Path) -> None:
    write_table(folder)
    done = cli("ask", "in.csv", "Say it back: {{ text }}", "-o", "out.csv", "--simulate")
    assert done.exit_code == 0, done.stderr
    rows = table(folder / "out.csv")
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert {row["_status"] for row in rows} == {"succeeded"}
    assert rows[2]["text"] == "'=1+1"
    assert "{{7*7}}" in rows[1]["_text"]


def test_a_misspelt_column_is_told_before_anything_is_sent(cli: Cli, folder: Path) -> None:
    write_table(folder)
    done = cli("ask", "in.csv", "{{ txt }}", "--simulate")
    assert done.exit_code == 6
    assert 'did you mean "text"?' in done.stderr


def test_a_question_can_be_kept_as_a_job_that_asks_the_same(cli: Cli, folder: Path) -> None:
    write_table(folder)
    asked = cli("ask", "in.csv", "Say:\n{{ text }}", "--id", "id", "--max-tokens", "900", "--save", "keep.yaml")
    assert asked.exit_code == 0, asked.stderr
    assert (folder / "keep.yaml").read_text().startswith("# yaml-language-server: $schema=")
    shown = json.loads(cli("preview", "keep.yaml", "--json", "-n", "1").stdout)["requests"][0]
    assert shown["key"] == "a"
    assert shown["body"]["max_tokens"] == 900
    assert shown["body"]["messages"][0]["content"] == "Say:\none"
    again = cli("ask", "in.csv", "x", "--save", "keep.yaml")
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def test_another_delimiter_is_asked_for_and_may_be_told(cli: Cli, folder: Path) -> None:
    (folder / "semi.csv").write_text("a;b\n1;x,y\n")
    refused = cli("ask", "semi.csv", "{{ b }}", "--simulate")
    assert (refused.exit_code, "--delimiter" in refused.stderr) == (6, True)
    assert cli("ask", "semi.csv", "{{ b }}", "--delimiter", ";", "-o", "o.csv", "--simulate").exit_code == 0
    assert table(folder / "o.csv")[0]["b"] == "x,y"
    assert cli("ask", "semi.csv", "{{ b }}", "--delimiter", "semicolon", "--simulate").exit_code == 2


OPENAI = {
    "custom_id": "q1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {
        "model": "gpt-4o",
        "temperature": 0.2,
        "seed": 7,
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
    },
}
ANTHROPIC = {
    "custom_id": "q1",
    "params": {
        "model": "claude-haiku-5-5",
        "max_tokens": 50,
        "temperature": 1,
        "messages": [{"role": "user", "content": "Hi"}],
    },
}
CHAT = {
    "id": "q1",
    "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
    "lang": "en",
}
EVALUATION = {"id": "q1", "input": "Hi", "target": "Hello"}


@pytest.mark.parametrize(
    ("row", "dropped", "expected"),
    [
        (OPENAI, {"body.temperature", "body.seed", "the model gpt-4o"}, None),
        (ANTHROPIC, {"params.temperature"}, None),
        (CHAT, set(), "Hello"),
        (EVALUATION, set(), "Hello"),
    ],
)
def test_rows_of_other_programs_become_rows_and_a_job_that_runs(
    cli: Cli, folder: Path, row: dict[str, object], dropped: set[str], expected: str | None
) -> None:
    (folder / "theirs.jsonl").write_text(json.dumps(row) + "\nnot json\n")
    told = json.loads(cli("import", "theirs.jsonl", "--json").stdout)
    assert told["rows"] == 1
    assert told["refused_count"] == 1
    assert set(told["dropped"]) == dropped
    ours = json.loads((folder / "theirs.rows.jsonl").read_text())
    assert ours["custom_id"] == "q1"
    assert ours["params"]["messages"][-1] == {"role": "user", "content": "Hi"}
    assert ours.get("expected") == expected
    done = cli("run", "theirs.yaml", "--simulate")
    assert done.exit_code == 0, done.stderr
    (line,) = (folder / "theirs.answers.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == "q1"


def test_a_table_with_a_prompt_column_is_imported_by_its_name(cli: Cli, folder: Path) -> None:
    (folder / "faq.csv").write_text("nr,frage,topic\n1,Wie?,x\n2,,y\n")
    assert cli("import", "faq.csv").exit_code == 6  # no column is known to hold prompts
    done = cli("import", "faq.csv", "--prompt", "frage", "--id", "nr")
    assert done.exit_code == 0, done.stderr
    assert "1 row could not be imported" in done.stderr
    ours = json.loads((folder / "faq.rows.jsonl").read_text())
    assert ours == {
        "custom_id": "1",
        "params": {"messages": [{"role": "user", "content": "Wie?"}]},
        "topic": "x",
    }
    assert cli("import", "faq.csv").exit_code == 2  # nothing is overwritten


CROWDED: dict[str, object] = {
    "id": 1,
    "nr": 2,
    "custom_id": "c",
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
    "conversations": [],
    "expected": "mine",
    "system": "Be kind.",
    "lang": "en",
}


def test_nothing_of_a_row_is_left_behind_silently(cli: Cli, folder: Path) -> None:
    (folder / "in.jsonl").write_text(json.dumps(CROWDED) + "\n")
    told = json.loads(cli("import", "in.jsonl", "--id", "nr", "--json").stdout)
    assert told["dropped"] == {"the column custom_id": 1, "the column expected": 1}
    assert json.loads((folder / "in.rows.jsonl").read_text()) == {
        "custom_id": "2",
        "params": {"messages": [{"role": "user", "content": "Hi"}], "system": "Be kind."},
        "expected": "Hello",
        "id": 1,
        "conversations": [],
        "lang": "en",
    }


@pytest.mark.parametrize(("flag", "what"), [("--id", "its key"), ("--prompt", "its prompt")])
def test_a_misspelt_column_is_told_with_the_nearest(cli: Cli, folder: Path, flag: str, what: str) -> None:
    (folder / "faq.csv").write_text("number,question\n1,Wie?\n")
    near = {"--id": ("numbr", "number"), "--prompt": ("qestion", "question")}[flag]
    done = cli("import", "faq.csv", flag, near[0])
    assert done.exit_code == 6
    assert f'has no column "{near[0]}", which is to be {what} (did you mean "{near[1]}"?)' in done.stderr


def test_an_import_reads_what_spreadsheets_write(cli: Cli, folder: Path) -> None:
    (folder / "faq.csv").write_bytes("nr;question\n1;Größe?\n".encode("cp1252"))
    assert "--delimiter ';'" in cli("import", "faq.csv").stderr
    assert cli("import", "faq.csv", "--delimiter", ";", "--encoding", "cp1252").exit_code == 0
    ours = json.loads((folder / "faq.rows.jsonl").read_text())
    assert ours["params"]["messages"][0]["content"] == "Größe?"


def test_a_saved_question_keeps_all_that_was_said_with_it(cli: Cli, folder: Path) -> None:
    (folder / "in.csv").write_bytes("nr;text\n1;Größe\n".encode("cp1252"))
    words = ("--delimiter", ";", "--encoding", "cp1252", "--id", "nr", "--max-usd", "2.5", "--concurrency", "3")
    more = ("--rpm", "50", "--max-tokens", "77", "--mode", "batch", "--system", "a\nb", "-p", "tone=dry", "-n", "1")
    done = cli("ask", "in.csv", "{{ text }} {{ params.tone }}", "--save", "j.yaml", "-o", "o.csv", *words, *more)
    assert done.exit_code == 0, done.stderr
    job = load_job(str(folder / "j.yaml"))
    assert (job.limits.concurrency, job.limits.rpm, job.budget_pico) == (3, 50, 2_500_000_000_000)
    assert (job.input.delimiter, job.input.encoding, job.input.id, job.input.limit) == (";", "cp1252", "nr", 1)
    assert (job.mode, job.system, job.params, job.request) == ("batch", "a\nb", {"tone": "dry"}, {"max_tokens": 77})
    assert cli("check", "j.yaml").exit_code == 0


def test_a_question_that_cannot_be_asked_is_not_saved(cli: Cli, folder: Path) -> None:
    write_table(folder)
    assert cli("ask", "in.csv", "{{ text }", "--save", "j.yaml").exit_code == 6
    assert not (folder / "j.yaml").exists()


def test_the_schema_that_is_printed_is_one(cli: Cli) -> None:
    schema = json.loads(cli("schema", "job").stdout)
    assert schema["$schema"].endswith("draft-07/schema#")
    assert schema["additionalProperties"] is False


def test_a_value_of_the_job_may_be_set_or_taken_away(cli: Cli, folder: Path) -> None:
    (folder / "j.yaml").write_text(
        "model: claude-haiku-5-5\nprompt: 'x {{ text }}'\ninput: { path: in.csv }\n"
        "eval: { graders: [{ name: same, type: exact, python: 'checks:same' }] }\n"
    )
    write_table(folder)
    refused = cli("run", "j.yaml", "--simulate")
    assert refused.exit_code == 6
    assert "checks eval and cannot carry it out yet" in refused.stderr
    told = json.loads(
        cli("check", "j.yaml", "--set", "request.max_tokens=77", "--set", "input.limit=2", "--json").stdout
    )
    assert told["rows"] == 2
    assert cli("run", "j.yaml", "--simulate", "--set", "eval=null", "-o", "o.jsonl").exit_code == 0
    assert cli("check", "j.yaml", "--set", "limts.rpm=3").exit_code == 6


def test_rows_that_were_answered_are_not_asked_again_by_the_next_run(cli: Cli, folder: Path) -> None:
    (folder / "j.yaml").write_text(
        "name: nightly\nmodel: claude-haiku-5-5\nprompt: '{{ text }}'\n"
        "input: { path: in.csv, id: id, unanswered: true }\noutput: { path: o.csv }\n"
    )
    (folder / "in.csv").write_text("id,text\na,one\nb,[[sim:refusal]]\n")
    assert cli("run", "j.yaml", "--simulate").exit_code == 3
    (folder / "in.csv").write_text("id,text\na,one\nb,two\nc,three\n")
    assert cli("run", "j.yaml", "--simulate").exit_code == 0
    rows = table(folder / "o.csv")
    assert [row["id"] for row in rows] == ["b", "c"]


def test_a_retry_may_ask_otherwise_and_stays_the_same_run(cli: Cli, folder: Path) -> None:
    (folder / "j.yaml").write_text(
        "name: n\nmodel: claude-haiku-5-5\nprompt: '{{ text }}'\ninput: { path: in.csv, id: id }\n"
        "request: { max_tokens: 2000 }\noutput: { path: o.csv }\n"
    )
    (folder / "in.csv").write_text("id,text\na,one\nb,[[sim:max_tokens]] two words and many more\n")
    assert cli("run", "j.yaml", "--simulate").exit_code == 3
    refused = cli("retry", "latest", "--set", "name=x")
    assert (refused.exit_code, "a retry may ask otherwise by prompt" in refused.stderr) == (2, True)
    assert cli("retry", "latest", "-m", "claude-hiaku-5-5").exit_code == 6
    done = cli(
        "retry", "latest", "-m", "claude-sonnet-5-5", "--set", "prompt=again", "--set", "request.max_tokens=3000"
    )
    assert done.exit_code == 0, done.stderr
    rows = table(folder / "o.csv")
    assert [(row["id"], row["_model"], row["_status"]) for row in rows] == [
        ("a", "claude-haiku-5-5", "succeeded"),
        ("b", "claude-sonnet-5-5", "succeeded"),
    ]
    assert "again" in rows[1]["_text"]
    assert json.loads(cli("status", "--json").stdout)["runs"][0]["rows"] == 2
