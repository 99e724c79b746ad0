"""What people get wrong at first: each is told before anything is sent, with its place and what to write instead."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

JOB = "model: claude-haiku-5-5\nprompt: |\n  Sort this.\n  {{ text }}\ninput: { path: in.csv, id: id }\n"


@pytest.fixture
def table(folder: Path) -> Path:
    path = folder / "in.csv"
    path.write_text("id,text,lang\n1,Great lamp,en\n2,Kaputt,de\n")
    (folder / "job.yaml").write_text(JOB)
    return path


@pytest.mark.parametrize("command", ["check", "run", "preview", "estimate"])
@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "{{ text }}",
            "{{ Text }}",
            '4:1: no row has a column "Text", which the prompt uses (did you mean "text"?).',
        ),
        ("id: id", "id: ID", '5:28: no row has a column "ID", which input.id names (did you mean "id"?).'),
    ],
)
def test_a_column_that_no_row_has_is_told_with_its_place_in_the_job(
    cli: Cli, folder: Path, table: Path, command: str, before: str, after: str, said: str
) -> None:
    del table
    (folder / "job.yaml").write_text(JOB.replace(before, after))
    done = cli(command, "job.yaml", *([] if command == "preview" else ["--simulate"]))
    assert done.exit_code == 6
    assert f"error[missing-column]: job.yaml:{said}" in done.stderr
    assert "columns: id, text, lang" in done.stderr


def test_rows_that_are_all_bad_for_one_reason_are_told_once(cli: Cli, folder: Path, table: Path) -> None:
    del table
    (folder / "job.yaml").write_text(JOB.replace("{{ text }}", "{{ text.words }}"))
    told = cli("check", "job.yaml").stderr
    assert told.count("has no attribute 'words'") == 1
    assert "and all others alike" in told
    assert "no row can be asked" in told


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("out.xlsx", "has a format that is not written here"),
        (".", "it is a directory"),
        ("in.csv/out.csv", "is no directory"),
        ("http://localhost/out.csv", "can be read and not written"),
        ("gs://bucket/out.csv", "pip install 'claude-job-runner[gcs]'"),
        ("az://bucket/out.csv", "pip install 'claude-job-runner[azure]'"),
    ],
)
def test_an_output_that_cannot_be_written_is_told_before_anything_is_paid(
    cli: Cli, table: Path, output: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del table
    for name in ("gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, name, None)  # as where the extra is not installed
    done = cli("ask", "in.csv", "{{ text }}", "-o", output, "--simulate")
    assert done.exit_code in (2, 6)
    assert said in done.stderr
    assert json.loads(cli("status", "--json").stdout)["runs"] == []
    assert cli("check", "job.yaml", "--set", f"output.path={output}").exit_code == done.exit_code


def test_a_prompt_without_a_column_is_doubted(cli: Cli, table: Path) -> None:
    del table
    done = cli("ask", "in.csv", "Sort {text}", "--simulate")
    assert "every row asks the same; did you mean {{ text }} ?" in done.stderr
    assert "every row asks the same" not in cli("ask", "in.csv", "Sort {{ text }}", "--simulate").stderr


@pytest.mark.parametrize(("model", "near"), [("haiku", "claude-haiku-5-5"), ("claude-haiku-5.5", "claude-haiku-5-5")])
def test_a_model_by_its_short_name_is_told_its_long_one(cli: Cli, table: Path, model: str, near: str) -> None:
    del table
    done = cli("check", "job.yaml", "-m", model)
    assert done.exit_code == 6
    assert f"did you mean {near} ?" in done.stderr


@pytest.mark.parametrize(
    ("chosen", "place"),
    [
        ("path: in.csv, where: \"lang == 'fr'\"", "in.csv"),
        ("sql: select id from tickets, database: 'sqlite:///their.db'", "the query of input.sql"),
    ],
)
def test_no_row_is_an_answer_where_rows_are_chosen(
    cli: Cli, folder: Path, table: Path, chosen: str, place: str
) -> None:
    del table
    with sqlite3.connect(folder / "their.db") as theirs:
        theirs.execute("create table tickets (id integer)")
    theirs.close()
    (folder / "job.yaml").write_text(f"model: claude-haiku-5-5\nprompt: 'x {{{{ id }}}}'\ninput: {{ {chosen} }}\n")
    done = cli("run", "job.yaml", "--simulate", "--json")
    assert done.exit_code == 0
    assert "nothing to do: none of the rows of" in done.stderr
    assert place in done.stderr
    assert json.loads(done.stdout)["state"] == "nothing-to-do"
    assert cli("check", "job.yaml").exit_code == 0


def test_a_file_without_rows_is_a_mistake(cli: Cli, table: Path) -> None:
    table.write_text("id,text,lang\n")
    assert cli("run", "job.yaml", "--simulate").exit_code == 6


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("[id, lagn]", 'no row has a column lagn (did you mean "lang"?); it is looked for in the answers'),
        ("[id, _staus]", 'there is no column _staus (did you mean "_status"?); it will be empty'),
        ("[row.x]", "there is no column row.x; it will be empty"),
        ("[id, supplier, lang, row.text, output.x, output, _status, _cost_usd]", None),
    ],
)
def test_a_column_of_the_output_that_nothing_may_fill_is_doubted(
    cli: Cli, folder: Path, table: Path, columns: str, said: str | None
) -> None:
    del table
    (folder / "job.yaml").write_text(f"{JOB}output: {{ path: out.csv, columns: {columns} }}\n")
    warned = json.loads(cli("check", "job.yaml", "--json").stdout)["warnings"]
    told = [one for one in map(str, warned) if "output:" in one]
    assert len(told) == (said is not None)
    assert all(str(said) in one.replace("\\", "") for one in told)


@pytest.mark.parametrize(
    ("database", "code", "said"),
    [
        ("sqlite:////no/where/their.db", 11, "output.database cannot be reached: unable to open database file"),
        ("${NOT_SET_ANYWHERE}", 6, "output.database needs ${NOT_SET_ANYWHERE}, which is not set"),
        ("nonsense", 6, "output.database is no URL that can be used"),
    ],
)
def test_a_database_for_results_that_does_not_answer_is_told_before_anything_is_paid(
    cli: Cli, folder: Path, table: Path, database: str, code: int, said: str
) -> None:
    del table
    (folder / "job.yaml").write_text(
        f"{JOB}output: {{ sql: 'insert into l values (:id)', database: '{database}' }}\n"
    )
    for command in ("check", "run"):
        done = cli(command, "job.yaml", "--simulate")
        assert done.exit_code == code
        assert said in done.stderr
    assert json.loads(cli("status", "--json").stdout)["runs"] == []


def test_a_statement_that_fails_is_mended_and_nothing_is_asked_twice(cli: Cli, folder: Path, table: Path) -> None:
    del table
    statement = "insert into labels (id) values (:id)"
    job = f"{JOB}output: {{ sql: '{statement}', database: 'sqlite:///{folder}/their.db' }}\n"
    (folder / "job.yaml").write_text(job)
    failed = cli("run", "job.yaml", "--simulate")
    assert failed.exit_code == 11
    assert "fix the statement, then the same command again" in failed.stderr
    with sqlite3.connect(folder / "their.db") as theirs:
        theirs.execute("create table tags (id text)")
    (folder / "job.yaml").write_text(job.replace("labels", "tags"))
    assert cli("run", "job.yaml", "--simulate").exit_code == 0
    assert theirs.execute("select id from tags order by id").fetchall() == [("1",), ("2",)]
    theirs.close()
    assert len(json.loads(cli("status", "--json").stdout)["runs"]) == 1
