"""The six jobs that the format is made for: checked, previewed, and run to their end against a simulator."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.acceptance.doors import object_store, ticket_database
from tests.acceptance.house import Desk

JOBS = Path(__file__).parent / "jobs"
PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
DATE = "2026-11-20"


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with object_store() as env:
        yield env


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    shutil.copytree(JOBS, tmp_path / "jobs")
    return Desk(tmp_path / "jobs", env={"PYTHONWARNINGS": "default", "RUNNER_BATCH_POLL_S": "0.5"})


def s3_files(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def checked_and_previewed(desk: Desk, *words: str) -> list[dict[str, Any]]:
    """The requests that the preview shows; what the job would cost is told too."""
    desk.type("check", *words).check(0)
    told = json.loads(desk.type("estimate", *words, "--no-count", "--json").check(0).stdout)
    assert told["live"]["usd"] > told["batch"]["usd"] > 0
    shown = desk.type("preview", *words, "--json").check(0)
    requests: list[dict[str, Any]] = json.loads(shown.stdout)["requests"]
    return requests


def test_invoices_are_read_from_an_object_store_and_written_back_as_parquet_and_mended(
    desk: Desk, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = s3_files(s3, monkeypatch)
    desk.env |= s3
    for bucket in ("acme-raw", "acme-curated"):
        files.mkdir(bucket)
    rows = [
        {"email_id": f"e{n}", "lang": ["en", "de", "fr"][n % 3], "subject": f"Invoice {n}", "body": f"Total {n},10 €"}
        for n in range(60)
    ]
    for part in range(2):
        data = b"".join(json.dumps(row).encode() + b"\n" for row in rows[part * 30 : part * 30 + 30])
        files.pipe(f"acme-raw/emails/dt={DATE}/{part}.jsonl.gz", gzip.compress(data))

    (first, *_) = checked_and_previewed(desk, "extract.yaml", "-p", f"date={DATE}")
    assert first["body"]["system"][0]["text"].startswith("You read invoices")
    assert first["body"]["output_config"]["format"]["schema"]["required"][0] == "supplier"
    assert first["key"] == "e0"

    desk.type("run", "extract.yaml", "-p", f"date={DATE}", "--simulate").check(0)
    (name,) = files.glob(f"acme-curated/invoices/dt={DATE}/part-*.parquet")
    table = parquet.read_table(files.open(name))
    assert table.column_names == [
        "email_id", "supplier", "total", "currency", "due_date", "_status", "_cost_usd",
    ]  # fmt: skip
    assert table.num_rows == 40  # the rows in French are not asked
    assert set(table.column("_status").to_pylist()) == {"succeeded"}
    assert set(table.column("currency").to_pylist()) <= {"EUR", "USD", "GBP"}
    assert files.glob("acme-curated/**/*.part") == []


def test_tickets_come_from_a_query_and_labels_go_into_a_table(desk: Desk) -> None:
    desk.env["SUPPORT_DB_URL"] = ticket_database(desk.folder / "support.db", 60)
    words = ("triage.yaml", "-p", "since=2026-11-20", "-p", "until=2026-11-21")
    (first, *_) = checked_and_previewed(desk, *words)
    assert first["key"] == "1"
    assert "billing, bug, how-to, account, other" in first["body"]["messages"][0]["content"]
    assert "{{ 7*7 }} ; drop table" in first["body"]["messages"][0]["content"]

    run = (*words, "--simulate")
    desk.type("run", *run).check(0)
    desk.type("run", *run).check(0)  # found done, and not written twice
    with sqlite3.connect(desk.folder / "support.db") as database:
        labels = database.execute("select * from ticket_labels order by ticket_id").fetchall()
    database.close()
    assert [row[0] for row in labels] == list(range(1, 60, 2))
    assert {row[1] for row in labels} <= {"billing", "bug", "how-to", "account", "other"}
    assert SUPPORT_SECRET not in run_pages(desk)


SUPPORT_SECRET = "support.db"


def run_pages(desk: Desk) -> str:
    """What the store holds of the job: the address of their database is none of it."""
    return desk.type("show", "latest", "--json").check(0).stdout.decode()


def test_a_contract_is_asked_by_every_variant_three_times(desk: Desk) -> None:
    rows = [
        {"qid": f"q{n}", "contract_id": "c1", "contract_text": "Clause 1.", "question": f"{n}?", "answer": "Clause 1"}
        for n in range(5)
    ]  # fmt: skip
    write_csv(desk.folder / "data" / "contract_qa.csv", rows)
    requests = checked_and_previewed(desk, "contract_qa.yaml")
    assert [request["variant"] for request in requests[:3]] == ["haiku", "sonnet", "sonnet-terse"]
    assert requests[2]["body"]["system"] == "Answer in one sentence. Quote the clause number."
    assert requests[2]["body"]["max_tokens"] == 2000
    desk.type("run", "contract_qa.yaml", "--simulate", "--set", "eval=null", "-o", "out.jsonl").check(0)
    lines = desk.lines("out.jsonl")
    assert len(lines) == 45
    assert {(line["meta"]["variant"], line["model"]) for line in lines} == {
        ("haiku", "claude-haiku-5-5"),
        ("sonnet", "claude-sonnet-5-5"),
        ("sonnet-terse", "claude-sonnet-5-5"),
    }
    assert sorted({line["meta"]["repeat"] for line in lines}) == [0, 1, 2]


def test_leases_are_sent_with_their_scans_and_never_a_file_from_elsewhere(desk: Desk) -> None:
    for name, data in (("scans/a.pdf", PDF), ("photos/a.png", PNG), ("secret.pdf", PDF)):
        (desk.folder / name).parent.mkdir(exist_ok=True)
        (desk.folder / name).write_bytes(data)
    rows = [
        {"lease_id": "l1", "pdf_name": "a.pdf", "photo_name": "a.png"},
        {"lease_id": "l2", "pdf_name": "a.pdf", "photo_name": "none.png"},
    ]
    write_csv(desk.folder / "data" / "leases.csv", rows)
    first, second = checked_and_previewed(desk, "lease_review.yaml")
    assert [block["type"] for block in first["body"]["messages"][0]["content"]] == ["document", "image", "text"]
    assert [block["type"] for block in second["body"]["messages"][0]["content"]] == ["document", "text"]
    done = desk.type("run", "lease_review.yaml", "--simulate", "--json").check(0)
    run = done.events[0]["run"]
    lines = desk.lines(f"out/{run}.jsonl")
    assert [line["key"] for line in lines] == ["l1", "l2"]
    assert lines[0]["response"]["role"] == "assistant"
    assert lines[0]["citations"] == []
    for path in (
        "../secret.pdf",
        str(desk.folder / "secret.pdf"),
        "../scans/../secret.pdf",
        "\x00",
        "a.pdf/../../secret.pdf",
    ):
        write_csv(desk.folder / "data" / "leases.csv", [{**rows[0], "pdf_name": path}])
        desk.type("check", "lease_review.yaml").check(6)
    (desk.folder / "scans" / "link.pdf").symlink_to(desk.folder / "secret.pdf")
    write_csv(desk.folder / "data" / "leases.csv", [{**rows[0], "pdf_name": "link.pdf"}])
    assert "outside of the job's folder" in desk.type("check", "lease_review.yaml").check(6).stderr


def test_branches_are_checked_and_previewed_and_their_tools_wait_for_a_later_version(desk: Desk) -> None:
    (desk.folder / "data" / "sales").mkdir(parents=True)
    (desk.folder / "data" / "sales" / "b1.csv").write_text("month,eur\n1,10\n")
    table = pa.table({"branch_id": ["b1"], "name": ["Lisbon"], "opened": [None]})
    parquet.write_table(table, desk.folder / "data" / "branches.parquet")
    (first,) = checked_and_previewed(desk, "branch_reports.yaml", "-p", "year=2025")
    assert first["body"]["messages"][0]["content"][0]["text"] == "Build the 2025 report for Lisbon. Data attached."
    assert first["body"]["container"]["skills"][0]["skill_id"] == "xlsx"
    assert "context-management-2025-06-27" in first["headers"]["anthropic-beta"]
    refused = desk.type("run", "branch_reports.yaml", "--simulate").check(6)
    assert "checks tools and cannot carry it out yet" in refused.stderr


def test_failed_rows_of_an_earlier_run_are_asked_again_and_merged_into_its_output(
    desk: Desk,
) -> None:
    rows = [
        {
            "email_id": f"e{n}",
            "lang": "de",
            "subject": "s",
            "body": "[[sim:refusal]]" if n in (2, 5) else f"Total {n}",
        }
        for n in range(8)
    ]
    desk.write("mails.jsonl", [json.dumps(row) for row in rows])
    here = (
        "-i",
        "mails.jsonl",
        "--set",
        "output.path=first.csv",
        "--set",
        "limits.max_failures=null",
        "--mode",
        "live",
        "--simulate",
    )
    desk.type("run", "extract.yaml", *here, "-p", f"date={DATE}").check(3)
    # Mended by somebody in between, as it were: the same rows without what made them fail.
    text = (desk.folder / "redo.yaml").read_text()
    text = text.replace("[errored, expired, invalid_output, truncated]", "[refused]")
    text = text.replace("row._error in ['truncated', 'invalid_output']", "row._error == 'refused'")
    (desk.folder / "redo.yaml").write_text(text)
    extract = (desk.folder / "extract.yaml").read_text()
    (desk.folder / "extract.yaml").write_text(
        extract.replace("{{ body |", "{{ body | replace('[[sim:refusal]]', 'x') |")
    )
    desk.type("check", "redo.yaml", "-p", f"date={DATE}", "--simulate").check(0)
    redo = ("redo.yaml", "-p", f"date={DATE}", "--simulate", "-o", "merged.csv")
    desk.type("run", *redo).check(0)
    with (desk.folder / "merged.csv").open(newline="") as file:
        merged = list(csv.DictReader(file))
    assert [row["email_id"] for row in merged] == [f"e{n}" for n in range(8)]
    assert {row["_status"] for row in merged} == {"succeeded"}
    with (desk.folder / "first.csv").open(newline="") as file:
        first = list(csv.DictReader(file))
    for n in (0, 1, 3, 4, 6, 7):
        assert merged[n] == first[n]
