"""Job files: what they give, and every error with its exact place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.domain.budget import Reserve
from runner.domain.job import AutoSpec, BatchSpec, BudgetSpec, DeleteAfter, Job, Mode, OnBadRow, WarmCache
from runner.domain.pricing import PICO_PER_USD
from runner.domain.submission import OnUnknown
from runner.errors import JobInvalid
from runner.files.job_file import load_job

WHOLE = """\
version: 1
name: ticket-triage
model: claude-haiku-5-5
params: { date: "2026-11-20", year: 2026, ratio: 0.5, loud: false, labels: [a, b] }
input: { path: "data/{{ params.date }}.jsonl", id: ticket, on_bad_row: skip, limit: 10 }
output: { path: "out/{{ params.year }}.jsonl" }
prompt: |
  Classify {{ subject }} as {{ params.labels | join(', ') }}.
system: no
request:
  max_tokens: 1000
  output_config: { effort: low }
mode: live
limits: { concurrency: 8, rpm: 100, row_timeout: 15m, max_failures: 0.5%, max_attempts: 3 }
budget: { usd: 0.1 }
api_version: 2026-10-21
betas: [context-management-2025-06-27]
headers: { x-team: support }
repeat: 2
tags: { team: support, cost_centre: "4711" }
"""


def written(folder: Path, text: str | bytes) -> str:
    path = folder / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def problems(folder: Path, text: str | bytes, **given: Any) -> list[str]:
    path = written(folder, text)
    with pytest.raises(JobInvalid) as caught:
        load_job(path, **given)
    return [hint.removeprefix(path + ":") for hint in caught.value.hints]


def test_a_whole_job_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    job = load_job(written(tmp_path, WHOLE))
    assert job.input.path == str(tmp_path / "data/2026-11-20.jsonl"), "relative to the job file"
    assert job.output.path == str(tmp_path / "elsewhere/out/2026.jsonl"), "relative to the working directory"
    assert (job.input.id, job.input.on_bad_row, job.input.limit) == ("ticket", OnBadRow.SKIP, 10)
    assert job.system == "no", "YAML 1.2: no is text"
    assert job.budget_pico == 100_000_000_000
    assert job.limits.row_timeout_s == 900
    assert (job.limits.max_failures, job.limits.max_failures_share) == (None, 0.005)
    assert (job.mode, job.repeat, job.api_version) == (Mode.LIVE, 2, "2026-10-21")
    assert job.request == {"max_tokens": 1000, "output_config": {"effort": "low"}}
    assert Job.from_json(job.to_json()) == job


def test_flags_win_and_take_the_kind_of_what_they_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = load_job(
        written(tmp_path, WHOLE),
        {"date": "x", "year": "2027", "ratio": "0.25", "loud": "true", "labels": "c,d"},
        {"model": "other", "limits.rpm": 5, "budget.usd": "3.5", "input.path": "here.jsonl", "output.path": "-"},
    )
    assert job.params == {"date": "x", "year": 2027, "ratio": 0.25, "loud": True, "labels": ["c", "d"]}
    assert (job.model, job.limits.rpm, job.limits.concurrency) == ("other", 5, 8)
    assert job.budget_pico == 3_500_000_000_000
    assert (job.input.path, job.output.path) == (str(tmp_path / "here.jsonl"), "-")


def test_a_job_without_a_name_is_called_as_its_file_is(tmp_path: Path) -> None:
    assert load_job(written(tmp_path, "prompt: x\n")).name == "job"


def test_a_budget_of_days_and_months_is_read_with_its_share_and_its_reserve(tmp_path: Path) -> None:
    text = "budget: { usd: 1, per: { day: 5, month: 60 }, warn_at: 75 %, reserve: likely }\n"
    job = load_job(written(tmp_path, text))
    assert job.budget_pico == PICO_PER_USD
    assert job.budget == BudgetSpec(
        per_day_pico=5 * PICO_PER_USD, per_month_pico=60 * PICO_PER_USD, warn_share=0.75, reserve=Reserve.LIKELY
    )


def test_a_budget_without_an_amount_for_the_run_caps_days_alone(tmp_path: Path) -> None:
    job = load_job(written(tmp_path, "budget: { per: { day: 5 } }\n"))
    assert (job.budget_pico, job.budget.has_cap) == (None, True)


@pytest.mark.parametrize(
    ("text", "pico"),
    [("0.1", 10**11), ("12", 12 * 10**12), ("{ usd: 0.000000000001 }", 1), ('"0.30"', 3 * 10**11), ("1e-3", 10**9)],
)
def test_a_budget_is_exact(tmp_path: Path, text: str, pico: int) -> None:
    assert load_job(written(tmp_path, f"budget: {text}\n")).budget_pico == pico


@pytest.mark.parametrize("mode", list(Mode))
def test_every_mode_may_stand_in_a_job(tmp_path: Path, mode: Mode) -> None:
    assert load_job(written(tmp_path, f"mode: {mode}\n")).mode is mode


def test_a_job_that_says_nothing_of_batches_has_their_defaults(tmp_path: Path) -> None:
    for text in ("name: a\n", "batch: {}\nauto: {}\n", "auto: { finish_by: null }\nbatch: { max_requests: null }\n"):
        job = load_job(written(tmp_path, text))
        assert (job.batch, job.auto) == (BatchSpec(), AutoSpec())


def test_a_job_may_say_all_of_batches(tmp_path: Path) -> None:
    text = """\
mode: auto
batch:
  max_requests: 50000
  max_bytes: 150MB
  max_queued: 200000
  on_unknown: cancel
  workspace_exclusive: true
  delete_after: ingest
  probe: false
  warm_cache: never
auto: { threshold: 500, finish_by: 08:00 }
"""
    job = load_job(written(tmp_path, text))
    assert job.batch == BatchSpec(
        max_requests=50_000,
        max_bytes=150_000_000,
        max_queued=200_000,
        on_unknown=OnUnknown.CANCEL,
        workspace_exclusive=True,
        delete_after=DeleteAfter.INGEST,
        probe=False,
        warm_cache=WarmCache.NEVER,
    )
    assert job.auto == AutoSpec(threshold=500, finish_by="08:00")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("150MB", 150_000_000),
        ("150 mb", 150_000_000),
        ("1.5MB", 1_500_000),
        ("500KB", 500_000),
        ("1000", 1_000),
        ("256MB", 256_000_000),
    ],
)
def test_the_size_of_a_batch_is_read(tmp_path: Path, text: str, size: int) -> None:
    assert load_job(written(tmp_path, f"batch: {{ max_bytes: {text} }}\n")).batch.max_bytes == size


@pytest.mark.parametrize("text", ["6h", "90m", "8:00", "22:30", "2026-11-22T08:00", "2026-11-22T08:00Z"])
def test_when_to_be_done_is_kept_as_it_was_written(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, f"auto: {{ finish_by: {text} }}\n")
    assert load_job(path).auto.finish_by == text
    assert load_job(path, overrides={"auto.finish_by": "3h"}).auto.finish_by == "3h"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("2026-11-22 08:00:30", "2026-11-22T08:00:30"),
        ("2026-11-22T08:00:30+01:00", "2026-11-22T08:00:30+01:00"),
        ("2026-11-22T08:00:30Z", "2026-11-22T08:00:30+00:00"),
        ("2026-11-22T08:00:30 -5", "2026-11-22T08:00:30-05:00"),
    ],
)
def test_what_yaml_takes_for_a_time_stays_the_same_moment(tmp_path: Path, text: str, kept: str) -> None:
    assert load_job(written(tmp_path, f"auto: {{ finish_by: {text} }}\n")).auto.finish_by == kept


ONE_ERROR = [
    ("name: x\nmodle: y\n", '2:1: unknown key modle (did you mean "model"?)'),
    ("model: x\nmodle: y\n", "2:1: unknown key modle"),
    ("limits:\n  rpm: 3\n  concurency: 4\n", '3:3: unknown key concurency in limits (did you mean "concurrency"?)'),
    ("version: 2\n", "1:10: version must be 1, not 2"),
    ("name: a b\n", "1:7: name must be 1 to 64 letters"),
    ("model: 5\n", "1:8: model must be text, not a number (put it in quotes)"),
    ("prompt: ''\n", "1:9: prompt is empty"),
    ("mode: lvie\n", '1:7: mode must be live or batch or auto, not lvie (did you mean "live"?)'),
    ("batch: 3\n", "1:8: batch must be a map of keys and values, not a number"),
    ("batch: { max_request: 3 }\n", '1:10: unknown key max_request in batch (did you mean "max_requests"?)'),
    ("batch: { max_requests: 0 }\n", "1:24: batch.max_requests must be at least 1"),
    ("batch: { max_requests: 100001 }\n", "1:24: batch.max_requests must be at most 100000"),
    ("batch: { max_bytes: 150 }\n", "1:21: batch.max_bytes must be between 1KB and 256MB"),
    ("batch: { max_bytes: 257MB }\n", "1:21: batch.max_bytes must be between 1KB and 256MB"),
    ("batch: { max_bytes: 256000001 }\n", "1:21: batch.max_bytes must be between 1KB and 256MB"),
    ("batch: { max_bytes: 1GB }\n", "1:21: batch.max_bytes must be between 1KB and 256MB"),
    ("batch: { max_bytes: true }\n", "1:21: batch.max_bytes must be a size such as 150MB"),
    ("batch: { max_queued: 0 }\n", "1:22: batch.max_queued must be at least 1"),
    ("batch: { on_unknown: hope }\n", "1:22: batch.on_unknown must be wait or cancel or resubmit, not hope"),
    ("batch:\n  on_unknown: cancel\n", "2:15: batch.on_unknown: cancel stops the batch that looks like ours"),
    ("batch: { on_unknown: cancel, workspace_exclusive: false }\n", "1:22: batch.on_unknown: cancel stops the batch"),
    ("batch: { workspace_exclusive: yes }\n", "1:31: batch.workspace_exclusive must be true or false, not text"),
    ("batch: { probe: 1 }\n", "1:17: batch.probe must be true or false, not a number"),
    (
        "answer_cache: sometimes\n",
        "1:15: answer_cache must be true, false or how old an answer may be, such as 12h or 30d",
    ),
    ("prompt_cache: always\n", "1:15: prompt_cache must be auto or never, not always"),
    ("batch: { warm_cache: always }\n", "1:22: batch.warm_cache must be auto or never, not always"),
    ("batch: { delete_after: 3d }\n", "1:24: batch.delete_after must be never or ingest, not 3d"),
    ("auto: { threshold: 0 }\n", "1:20: auto.threshold must be at least 1"),
    ("auto: { finish_by: soon }\n", "1:20: auto.finish_by must be a duration such as 6h, a time of day"),
    ("auto: { finish_by: 6 }\n", "1:20: auto.finish_by must be a duration such as 6h"),
    ("auto: { finish_by: 2026-02-30T08:00 }\n", "1:20: auto.finish_by is no date of the calendar"),
    ("auto: { finish_by: 31d }\n", "1:20: auto.finish_by must be between 1s and 30d"),
    ("limits: { rpm: 0 }\n", "1:16: limits.rpm must be at least 1"),
    ("limits: { row_timeout: soon }\n", "1:24: limits.row_timeout must be a time such as 90s"),
    ("limits: { max_failures: 101% }\n", "1:25: limits.max_failures must be a number of rows or a percentage"),
    ("limits: 3\n", "1:9: limits must be a map of keys and values, not a number"),
    ("budget: { usd: -1 }\n", "1:16: budget.usd must be an amount in dollars"),
    ("budget: much\n", "1:9: budget.usd must be an amount in dollars"),
    ("budget: { usd: 0.0000000000001 }\n", "1:16: budget.usd has more than 12 decimals"),
    ("budget: { per: { week: 5 } }\n", "1:18: budget.per.week is not kept: a budget is for a UTC day or month"),
    ("budget: { per: { dya: 5 } }\n", '1:18: unknown key dya in budget.per (did you mean "day"?)'),
    ("budget: { warn_at: 80 }\n", "1:20: budget.warn_at must be a percentage such as 80%"),
    ("budget: { reserve: most }\n", "1:20: budget.reserve must be worst or likely, not most"),
    ("api_version: 2024-01-01\n", "1:14: api_version must be one of 2026-10-21, 2023-06-01"),
    ("betas:\n  - ok\n  - a, b\n", "3:5: betas[1] must be a beta's name"),
    ("headers: { X-Api-Key: k }\n", "1:12: headers.X-Api-Key is a secret"),
    ("headers:\n  Authorization: k\n", "2:3: headers.Authorization is a secret"),
    ("headers: { anthropic-beta: k }\n", "1:12: headers.anthropic-beta may not be set here: use betas"),
    ('headers: { x: "a\\nb" }\n', "1:15: headers.x must be printable ASCII text on one line"),
    ("base_url: http://127.0.0.1:9\n", "1:1: base_url may not stand in a job file"),
    ("match: first\nvariants: []\n", "1:1: match needs variants"),
    ("params: { d: { type: dat } }\n", "1:22: params.d.type must be text or int or"),
    ("tags: { a: 4711 }\n", "1:12: tags.a must be text, not a number (put it in quotes)"),
    ("repeat: 1.5\n", "1:9: repeat must be a whole number, not a number"),
    ("prompt: x\nrequest: { messages: [] }\n", "2:12: request.messages and prompt say the same thing"),
    ("request: { temperature: 0 }\n", '1:12: "temperature", which API version 2026-10-21 no longer knows'),
    ("request: { model: x }\n", "1:12: the model stands in model, not here"),
    ("request:\n  system: [{ text: { $file: a } }]\n", "2:29: $file: there is no file a"),
    ("request: { max_tokens: .nan }\n", "1:24: nan is not a value that a job can hold"),
    ("name: a\nname: b\n", '2:1: the key "name" stands here twice'),
    ("name: a\n  model: b\n", "2:8: this is not YAML: this line is indented further than those"),
    ("name: [a\n", "2:1: this is not YAML"),
    ("name: !!python/object/apply:os.system [id]\n", "1:7: tags such as"),
    ("- a\n", "1:1: a job file is a map of keys and values"),
    ("", "1:1: a job file is a map of keys and values"),
    ("name: a\n---\nname: b\n", "2:1: a job file holds one document"),
    (b"name: \xff\n", "1:1: this is not UTF-8"),
    ("name: a\x01\n", "1:1: this is not YAML"),
    ("prompt: |\n  one {{ a }}\n  two {{ b }\n", "3:1: unexpected '}'"),
    ("prompt: '{% if x %}'\n", "1:9: Unexpected end of template"),
    ("request:\n  messages:\n    - { role: user, content: '{{ a | nope }}' }\n", "3:30: there is no filter nope"),
    ("input: { path: '{{ params.q }}.jsonl' }\n", "1:16: input.path may use params only"),
    ("output: { path: '{{ row.id }}.jsonl' }\n", "1:17: output.path may use params only"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ONE_ERROR)
def test_each_error_has_its_place_and_its_sentence(tmp_path: Path, text: str | bytes, expected: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(expected)


def test_all_errors_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "modle: x\nmode: btach\nlimits: { rmp: 1 }\nprompt: '{{'\n"
    assert [line.split(":")[0] for line in problems(tmp_path, text)] == ["1", "2", "3", "4"]


def test_at_most_twenty_errors_are_shown(tmp_path: Path) -> None:
    found = problems(tmp_path, "".join(f"key{n}: 1\n" for n in range(30)))
    assert len(found) == 21
    assert found[-1] == "... and 10 more"


def test_an_override_that_is_wrong_names_its_key(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "name: a\n", overrides={"limits.rpm": 0})
    assert found.endswith("limits.rpm must be at least 1")


def test_a_parameter_that_nothing_uses_is_refused(tmp_path: Path) -> None:
    text = "params: { date: x }\nprompt: '{{ params.date }} {{ params.lang }}'\n"
    (found,) = problems(tmp_path, text, params={"dat": "y", "lang": "de"})
    assert found == '-p dat: the job uses no such parameter (did you mean "date"?)'


def test_a_parameter_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "params: { year: 2026 }\n", params={"year": "soon"})
    assert found == "-p year=soon: the job has int there"


def test_aliases_cannot_blow_up(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (found,) = problems(tmp_path, "request:\n" + "".join(f"  {row}\n" for row in rows))
    assert "grows too large" in found


def test_a_small_alias_is_welcome(tmp_path: Path) -> None:
    job = load_job(written(tmp_path, "params: { a: &x [1, 2], b: *x }\n"))
    assert job.params == {"a": [1, 2], "b": [1, 2]}


def test_a_file_of_another_size_or_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobInvalid, match="larger than 1 MB"):
        load_job(written(tmp_path, "#" * 1_000_001))
    with pytest.raises(JobInvalid, match="there is no job file") as caught:
        load_job(str(tmp_path / "jbo.yaml"))
    assert "job.yaml" in caught.value.hints[0]


def test_budgets_of_a_job_a_day_and_a_month(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "model: claude-haiku-5-5\nprompt: hi\nlimits: { row_usd: 0.80 }\n"
        "budget: { usd: 12, per: { day: 12.5, month: 250 }, warn_at: 60%, reserve: likely, on_reach: pause }\n"
    )
    job = load_job(str(path))
    assert (job.budget_pico, job.limits.row_pico) == (12 * 10**12, 8 * 10**11)
    assert job.budget == BudgetSpec(
        per_day_pico=125 * 10**11, per_month_pico=250 * 10**12, warn_share=0.6, reserve=Reserve.LIKELY
    )


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        ("{ per: { week: 3 } }", "week"),
        ("{ warn_at: 120% }", "must be a percentage such as 80%"),
        ("{ per: { day: much } }", "must be an amount in dollars"),
        ("{ reserve: maybe }", "reserve"),
    ],
)
def test_a_budget_that_makes_no_sense_is_named(tmp_path: Path, budget: str, sentence: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"model: claude-haiku-5-5\nprompt: hi\nbudget: {budget}\n")
    with pytest.raises(JobInvalid) as invalid:
        load_job(str(path))
    assert sentence in " ".join(invalid.value.hints) + invalid.value.message
