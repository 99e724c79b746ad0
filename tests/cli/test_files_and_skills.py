"""`files`, `skills` and `tokens` against the service, as people use them and as they break them."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.api.files import Files, free_path, safe_name
from runner.domain.job import Job
from runner.domain.outcome import Failure, FailureKind
from runner.errors import InputInvalid
from runner.files.output_folders import OutputFolders
from runner.files.skill_folder import read_skill
from runner.simulator import RunningServer
from tests.cli.conftest import Cli
from tests.cli.served import served

MATTER = "---\nname: letters\ndescription: Writes letters.\n---\nWrite.\n"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    with served() as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        yield server


def flat(text: str) -> str:
    return " ".join(text.split())


# -- files


def test_a_file_from_upload_to_deletion(cli: Cli, folder: Path, service: RunningServer) -> None:
    (folder / "a.pdf").write_bytes(b"%PDF-1.7")
    done = cli("files", "upload", "a.pdf", "--expires", "7d", "--json")
    assert done.exit_code == 0, done.stderr
    [told] = json.loads(done.stdout)["files"]
    assert told["uploaded"]
    assert "was there already" in cli("files", "upload", "a.pdf", "--expires", "7d").stdout
    assert service.simulator.files.uploads == 1
    assert told["id"] in cli("files", "ls").stdout
    shown = flat(cli("files", "show", told["id"]).stdout)
    assert "a.pdf" in shown
    assert "application/pdf" in shown
    refused = cli("files", "download", told["id"])
    assert refused.exit_code == 6
    assert "only files made by code execution or skills can be downloaded" in flat(refused.stderr)
    assert cli("files", "rm", told["id"]).exit_code == 0
    assert json.loads(cli("files", "ls", "--json").stdout)["files"] == []
    assert "uploaded" not in cli("files", "upload", "a.pdf").stdout
    assert service.simulator.files.uploads == 2


def test_what_was_written_is_fetched_under_a_harmless_name(cli: Cli, folder: Path, service: RunningServer) -> None:
    workspace = service.simulator.config.workspace_id
    (folder / "out").mkdir()
    (folder / "out" / "passwd").write_bytes(b"mine")
    file = service.simulator.files.written(workspace, "../../etc/passwd", b"theirs")
    done = cli("files", "download", file.id, "-o", "out")
    assert done.exit_code == 0, done.stderr
    assert (folder / "out" / "passwd").read_bytes() == b"mine"
    assert (folder / "out" / "passwd-2").read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("report.csv", "report.csv"),
        ("../../x", "x"),
        ("C:\\temp\\x.txt", "x.txt"),
        ("/etc/passwd", "passwd"),
        ("a\x1b[1mb.txt", "a__1mb.txt"),
        ("..", "file_1.bin"),
        ("", "file_1.bin"),
        ("CON.txt", "file_1.bin"),
        (".hidden", "hidden"),
        ("x" * 300 + ".csv", "x" * 146 + ".csv"),
    ],
)
def test_names_of_downloads_lead_nowhere(told: str, kept: str) -> None:
    assert safe_name(told, "file_1") == kept


def test_a_link_in_the_way_is_not_followed(folder: Path) -> None:
    (folder / "a.csv").symlink_to("/nowhere")
    assert free_path(folder, "a.csv") == folder / "a-2.csv"


def test_only_our_own_files_are_deleted_with_uploaded(cli: Cli, folder: Path, service: RunningServer) -> None:
    theirs = service.simulator.files.written(service.simulator.config.workspace_id, "x", b"x")
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(name)
        cli("files", "upload", name)
    done = cli("files", "rm", "--uploaded", "-y")
    assert done.stdout.count("deleted") == 2
    assert list(service.simulator.files.files) == [theirs.id]


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("upload", "nothing.pdf"), 2, "nothing.pdf cannot be read"),
        (("upload", "empty.pdf"), 2, "0 bytes"),
        (("upload", "."), 2, "is no file"),
        (("upload", "a.txt", "--expires", "5m"), 6, "between 1h and 90d"),
        (("show", "file_unknown"), 6, "not_found_error"),
        (("download",), 2, "name files, or a run"),
        (("rm",), 2, "name files, or --uploaded"),
        (("lst",), 2, "lst"),
    ],
)
def test_what_cannot_be_done_is_said(
    cli: Cli, folder: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (folder / "empty.pdf").touch()
    (folder / "a.txt").write_text("a")
    done = cli("files", *arguments)
    assert done.exit_code == code, done.stderr
    assert said in flat(done.stderr)


def test_a_key_that_is_refused_says_where_it_is_from(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(keys=("another",)) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        done = cli("files", "ls")
    assert done.exit_code == 5
    assert "ANTHROPIC_API_KEY" in done.stderr


def test_the_old_beta_is_read_too(
    cli: Cli, folder: Path, service: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    del service
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "anthropic-beta: files-api-2025-04-14,skills-2025-10-02")
    (folder / "a.txt").write_text("a")
    assert cli("files", "upload", "a.txt").exit_code == 0
    assert len(json.loads(cli("files", "ls", "--json").stdout)["files"]) == 1
    found = json.loads(cli("skills", "ls", "--json").stdout)["skills"]
    assert {one["name"] for one in found} == {"pptx", "xlsx", "docx", "pdf"}
    assert all(one["latest_version"] for one in found)


# -- skills


def skill(folder: Path, matter: str = MATTER) -> Path:
    place = folder / "letters"
    (place / "scripts").mkdir(parents=True, exist_ok=True)
    (place / "SKILL.md").write_text(matter)
    (place / "scripts" / "a.py").write_text("print()")
    return place


def test_a_skill_from_creation_to_deletion(cli: Cli, folder: Path, service: RunningServer) -> None:
    skill(folder)
    made = json.loads(cli("skills", "create", "letters", "--name", "Letters", "--json").stdout)
    assert service.simulator.skills.skills[made["id"]].display_name == "Letters"
    files = service.simulator.skills.skills[made["id"]].versions[0].files
    assert set(files) == {"letters/SKILL.md", "letters/scripts/a.py"}
    assert cli("skills", "create", "letters", "--to", made["id"]).exit_code == 0
    listed = json.loads(cli("skills", "versions", made["id"], "--json").stdout)["versions"]
    assert len(listed) == 2
    assert made["id"] in cli("skills", "ls", "--source", "custom").stdout
    assert "Letters" in cli("skills", "show", made["id"]).stdout
    assert cli("skills", "rm", made["id"], "--version", made["version"]).exit_code == 0
    assert cli("skills", "rm", made["id"]).exit_code == 0
    assert made["id"] not in cli("skills", "ls").stdout


@pytest.mark.parametrize("inner", ["letters/SKILL.md", "SKILL.md"])
def test_a_zip_is_a_skill_too(cli: Cli, folder: Path, service: RunningServer, inner: str) -> None:
    del service
    with zipfile.ZipFile(folder / "letters.zip", "w") as archive:
        archive.writestr(inner, MATTER)
    done = cli("skills", "create", "letters.zip")
    assert done.exit_code == 0, done.stderr
    assert "letters" in done.stdout


@pytest.mark.parametrize(
    ("matter", "said"),
    [
        ("no matter", "begins with no front matter"),
        ("---\nname: x\n---\n", "description is missing"),
        ("---\ndescription: x\n---\n", "name is missing"),
        ("---\nname: Big Name\ndescription: x\n---\n", "lower case letters"),
        ("---\nname: claude-tools\ndescription: x\n---\n", "may not hold"),
        (f"---\nname: a\ndescription: {'x' * 1025}\n---\n", "1,025 characters"),
        (f"---\nname: {'x' * 65}\ndescription: x\n---\n", "at most 64"),
    ],
)
def test_front_matter_is_looked_at_before_anything_is_sent(folder: Path, matter: str, said: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        read_skill(skill(folder, matter))
    assert said in " ".join(refused.value.hints)


def test_a_folded_description_is_read() -> None:
    from runner.files.skill_folder import front_matter

    found = front_matter("---\nname: a\ndescription: >\n  one\n  two\n---\n")
    assert found == {"name": "a", "description": "one two"}


def test_a_folder_without_a_skill_is_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    for path in ("empty", "nowhere"):
        with pytest.raises(InputInvalid):
            read_skill(folder / path)


# -- tokens


def test_small_inputs_are_counted_whole(cli: Cli, folder: Path, service: RunningServer) -> None:
    del service
    (folder / "rows.jsonl").write_text("".join(json.dumps({"prompt": f"hello {n}"}) + "\n" for n in range(20)))
    told = json.loads(cli("tokens", "rows.jsonl", "-m", "claude-haiku-5-5", "--json").stdout)
    assert (told["rows"], told["counted"]) == (20, 20)
    assert told["input_tokens"] > 0
    assert "input_tokens_low" not in told


def test_large_inputs_are_sampled_with_an_interval(cli: Cli, folder: Path, service: RunningServer) -> None:
    lines = (json.dumps({"prompt": "word " * (n % 50 + 1)}) + "\n" for n in range(2_000))
    (folder / "rows.jsonl").write_text("".join(lines))
    told = json.loads(cli("tokens", "rows.jsonl", "-m", "claude-haiku-5-5", "--sample", "60", "--json").stdout)
    assert (told["rows"], told["counted"]) == (2_000, 60)
    assert told["input_tokens_low"] < told["input_tokens"] < told["input_tokens_high"]
    assert service.simulator.ledger.counts["requests"] == 60


def test_tokens_reads_a_job_and_waits_when_told_to(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.simulator.faults import Fault

    (folder / "rows.jsonl").write_text('{"a": "x"}\n{"a": "y"}\n')
    (folder / "job.yaml").write_text(
        'model: claude-opus-5-5\nprompt: "{{ a }}"\n'
        "request: { max_tokens: 2000, stop_sequences: [x], metadata: { user_id: u } }\n"
    )
    fault = Fault(kind="rate_limit", path="/v1/messages/count_tokens", first=1, retry_after_s=0.1)
    with served(faults=(fault,)) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        done = cli("tokens", "job.yaml", "-i", "rows.jsonl")
    assert done.exit_code == 0, done.stderr
    assert "input tokens" in done.stdout


# -- what code execution has written


def test_the_files_of_a_run_are_fetched_row_by_row(cli: Cli, folder: Path, service: RunningServer) -> None:
    del service
    tools = [{"type": "code_execution_20260521", "name": "code_execution"}]
    job = {
        "name": "reports",
        "model": "claude-haiku-5-5",
        "prompt": "{{ p }}",
        "request": {"max_tokens": 4_000, "tools": tools},
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    prompts = ("a [[sim:file=../report.csv]]", "b", "c [[sim:file=report.csv]]")
    (folder / "rows.jsonl").write_text("".join(json.dumps({"p": prompt}) + "\n" for prompt in prompts))
    done = cli("run", "job.yaml", "-i", "rows.jsonl", "--progress", "none")
    assert done.exit_code == 0, done.stderr
    fetched = cli("files", "download", "--run", "latest", "-o", "out")
    assert fetched.exit_code == 0, fetched.stderr
    found = sorted(str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*") if path.is_file())
    assert found == ["0/report.csv", "2/report.csv"]


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_reports_job(folder: Path, files: str) -> None:
    """Its rows have code run, and what that writes goes to `files`."""
    tools = [{"type": "code_execution_20260521", "name": "code_execution"}]
    job = {
        "name": "reports",
        "model": "claude-haiku-5-5",
        "prompt": "{{ p }}",
        "request": {"max_tokens": 4_000, "tools": tools},
        "output": {"files": files},
    }
    (folder / "job.yaml").write_text(json.dumps(job))


def test_a_job_says_into_which_folder_each_rows_files_go(cli: Cli, folder: Path, service: RunningServer) -> None:
    write_reports_job(folder, "made/{{ branch }}/")
    rows = [
        {"p": "[[sim:file=report.csv]] 1", "branch": "b1"},
        {"p": "[[sim:file=report.csv]] 2", "branch": "b1"},
        {"p": "[[sim:file=../x.csv]] 3", "branch": "../../etc/.ssh"},
        {"p": "[[sim:file=x.csv]] 4", "branch": ".."},
        {"p": "nothing is written", "branch": "b2"},
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli("run", "job.yaml", "-i", "rows.jsonl", "--progress", "none")
    assert done.exit_code == 0, done.stderr
    first = written(folder / "made")
    assert sorted(first) == ["3/x.csv", "b1/report-2.csv", "b1/report.csv", "etc/ssh/x.csv"]
    # The command that fetches by hand goes to the same places, and fetches what is missing.
    (folder / "made" / "b1" / "report.csv").unlink()
    assert cli("files", "download", "--run", "latest").exit_code == 0
    assert written(folder / "made") == first
    # What somebody else put there is left alone.
    (folder / "made" / "b1" / "report.csv").write_bytes(b"mine")
    assert cli("files", "download", "--run", "latest").exit_code == 0
    assert (folder / "made" / "b1" / "report.csv").read_bytes() == b"mine"
    assert (folder / "made" / "b1" / "report-3.csv").exists()


def test_a_file_that_cannot_be_fetched_is_told_and_the_run_is_done(
    cli: Cli, folder: Path, service: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reports_job(folder, "made")
    (folder / "rows.jsonl").write_text('{"p": "[[sim:file=a.csv]]"}\n{"p": "[[sim:file=b.csv]]"}\n')

    async def not_there(files: Files, file_id: str) -> Failure:
        del files, file_id
        return Failure(kind=FailureKind.ROW, type="not_found_error", message="no such file")

    with monkeypatch.context() as patched:
        patched.setattr(Files, "show", not_there)
        done = cli("run", "job.yaml", "-i", "rows.jsonl", "--progress", "none")
    assert done.exit_code == 0, done.stderr
    assert "could not be fetched: no such file" in flat(done.stderr)
    assert "2 files are not here. runner files download --run r_" in flat(done.stderr)
    assert cli("files", "download", "--run", "latest").exit_code == 0
    assert sorted(written(folder / "made")) == ["0/a.csv", "1/b.csv"]
    del service


@pytest.mark.parametrize(
    ("text", "row", "folder"),
    [
        ("/out", {"a": "x"}, "/out/7"),
        ("/out/{{ a }}", {"a": "x y"}, "/out/x y"),
        ("/out/b-{{ a }}/{{ params.day }}", {"a": "1/2"}, "/out/b-1/2/2026"),
        ("/out/{{ a }}/", {"a": "/etc/passwd"}, "/out/etc/passwd"),
        ("/out/{{ a }}/", {"a": "..\\..\x00\n{{ params }}"}, "/out/_..____ params __"),
        ("/out/{{ a }}/", {"a": "é" * 100}, "/out/" + "é" * 60),
        ("/out/{{ a }}/", {"b": "x"}, "/out/7"),
        ("/out/{{ a }}/", {"a": ""}, "/out/7"),
        ("/out/{{ run.id }}/{{ a }}", {"a": None}, "/out/r_x"),
    ],
)
def test_no_row_leads_its_files_out_of_the_folder(text: str, row: dict[str, object], folder: str) -> None:
    job = Job(name="t", params={"day": 2026})
    assert str(OutputFolders(text, job, "r_x").folder(json.dumps(row).encode(), 7)) == folder


# -- `files:` in a job


def lease_job(folder: Path, **files: object) -> None:
    (folder / "scans").mkdir()
    for number in range(3):
        (folder / "scans" / f"{number}.pdf").write_bytes(b"%%PDF-1.7 %d " % number + b"x" * 70_000)
    source = {"$file": "scans/{{ n }}.pdf"}
    content = [{"type": "document", "source": source}, {"type": "text", "text": "read"}]
    request = {"max_tokens": 2_000, "messages": [{"role": "user", "content": content}]}
    told = {"name": "leases", "model": "claude-haiku-5-5", "request": request, "files": files}
    (folder / "job.yaml").write_text(json.dumps(told))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"n": number}) + "\n" for number in range(3)))


@pytest.mark.parametrize(("stay", "left"), [("run", 0), ("never", 3)])
def test_files_of_a_run_are_deleted_when_it_has_ended_if_that_is_wished(
    cli: Cli, folder: Path, service: RunningServer, stay: str, left: int
) -> None:
    lease_job(folder, delete_after=stay)
    done = cli("run", "job.yaml", "-i", "rows.jsonl", "--progress", "none")
    assert done.exit_code == 0, done.stderr
    assert service.simulator.files.uploads == 3
    assert len(service.simulator.files.files) == left


@pytest.mark.usefixtures("service")
def test_a_file_above_the_jobs_own_limit_is_told_with_its_row(cli: Cli, folder: Path) -> None:
    lease_job(folder, max_bytes="50KB")
    done = cli("check", "job.yaml", "-i", "rows.jsonl")
    assert done.exit_code == 6
    assert "line 1 names the file scans/0.pdf of 70,011 bytes; files.max_bytes says 50,000" in flat(done.stderr)


# -- what is said


def test_a_file_that_is_not_there_is_not_told_to_be_deleted(cli: Cli, folder: Path, service: RunningServer) -> None:
    (folder / "a.txt").write_text("a")
    [told] = json.loads(cli("files", "upload", "a.txt", "--json").stdout)["files"]
    done = cli("files", "rm", "file_nope", told["id"])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [f"deleted {told['id']}"]
    assert "file_nope is not there" in done.stderr


def test_times_are_told_for_people_and_as_they_came_for_machines(
    cli: Cli, folder: Path, service: RunningServer
) -> None:
    (folder / "a.txt").write_text("a")
    [told] = json.loads(cli("files", "upload", "a.txt", "--json").stdout)["files"]
    assert not re.search(r"\d{2}T\d{2}", cli("files", "ls").stdout + cli("files", "show", told["id"]).stdout)
    assert re.search(r"\d{2}T\d{2}:\d{2}:\d{2}", cli("files", "ls", "--plain").stdout)
    assert not re.search(r"\d{2}T\d{2}", cli("skills", "ls").stdout + cli("skills", "versions", "xlsx").stdout)


def test_what_is_refused_of_a_command_is_not_told_as_a_rows(cli: Cli, service: RunningServer) -> None:
    done = cli("skills", "rm", "xlsx")
    assert done.exit_code == 6
    assert "cannot be changed" in flat(done.stderr)
    assert "row" not in done.stderr


def test_rows_that_cannot_be_counted_are_told_with_the_reason(cli: Cli, folder: Path, service: RunningServer) -> None:
    (folder / "rows.jsonl").write_text('{"prompt": "hi"}\n')
    done = cli("tokens", "rows.jsonl")
    assert done.exit_code == 6
    assert "1 row cannot be asked: line 1 names no model" in flat(done.stderr)
    (folder / "rows.jsonl").write_text('{"prompt": "hi"}\n{"nothing": 1}\n')
    done = cli("tokens", "rows.jsonl", "-m", "claude-haiku-5-5")
    assert done.exit_code == 0
    assert "warning[rows-not-counted]: 1 row cannot be asked: line 2" in flat(done.stderr)
