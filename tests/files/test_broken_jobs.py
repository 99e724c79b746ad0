"""Broken job files: each says where and what to do, none ends in a traceback, and the schema says no to most too.

`RUNNER_TEST_REWRITE=1` writes the texts anew, to be read over in the diff.
"""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from runner.errors import JobInvalid
from runner.files.job_file import load_job
from runner.files.job_json_schema import job_json_schema

BROKEN = Path(__file__).parent / "broken_jobs"
NAMES = sorted(path.stem for path in BROKEN.glob("*.yaml") if not path.stem.startswith("_"))
SIX = Path(__file__).parents[1] / "acceptance" / "jobs"
JOBS = Path(__file__).parents[2] / "jobs"
# Wrong by a single key or value, which an editor that knows the schema marks at once.
SEEN_BY_THE_SCHEMA = [
    *(name for name in NAMES if name.startswith("unknown_key")),
    *("mode_misspelt", "model_is_a_list", "limits_is_a_list", "concurrency_zero", "concurrency_text", "format"),
    *("output_format", "grader_type", "status_misspelt", "sample", "tags", "prompt_is_a_map", "name_is_a_number"),
    *("notify", "many", "base_url", "tool_python", "misplaced", "columns_text", "of_the_body"),
]


def said(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(BROKEN)
    with pytest.raises(JobInvalid) as caught:
        load_job(f"{name}.yaml")
    error = caught.value
    lines = [f"error[{error.name}]: {error.message}", *(f"  {hint}" for hint in error.hints)]
    return "\n".join(lines).replace(str(BROKEN), "HERE") + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_job_is_told_of_in_the_words_that_were_agreed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracemalloc.start()
    text = said(name, monkeypatch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000
    golden = BROKEN / f"{name}.txt"
    if os.environ.get("RUNNER_TEST_REWRITE"):
        golden.write_text(text)
    assert text == golden.read_text()
    places = re.findall(rf"^  {name}\.yaml:\d+:\d+: ", text, re.MULTILINE)
    assert 1 <= len(places) <= 20
    assert "Traceback" not in text
    assert "hunter2" not in text
    assert not Path("/tmp/pwned").exists()


def test_there_are_enough_of_them() -> None:
    assert len(NAMES) >= 60


def values_of(path: Path) -> Any:
    return json.loads(json.dumps(YAML(typ="safe", pure=True).load(path.read_text()), default=str))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    schema = job_json_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@pytest.mark.parametrize("path", sorted([*SIX.glob("*.yaml"), *JOBS.glob("*.yaml")]), ids=lambda path: path.stem)
def test_the_schema_says_yes_to_the_jobs_that_are_right(path: Path, validator: jsonschema.Draft7Validator) -> None:
    assert [error.message for error in validator.iter_errors(values_of(path))] == []


@pytest.mark.parametrize("name", SEEN_BY_THE_SCHEMA)
def test_the_schema_says_no_where_a_value_is_wrong_by_itself(
    name: str, validator: jsonschema.Draft7Validator
) -> None:
    assert list(validator.iter_errors(values_of(BROKEN / f"{name}.yaml")))


def test_the_schema_refuses_unknown_keys_everywhere() -> None:
    schema = job_json_schema()
    sections = [schema, *schema["definitions"].values()]
    objects = [section for section in sections if "properties" in section]
    assert len(objects) > 15
    assert all(section.get("additionalProperties") is False for section in objects)
