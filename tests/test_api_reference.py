"""The page about the Claude API says what is so: every endpoint and field is in its table, and each has a test."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import message_create_params
from anthropic.types.beta import message_create_params as beta_params

from runner.simulator.batches import PATH as BATCHES
from runner.simulator.files import PATH as FILES
from runner.simulator.reports import PATHS as REPORTS
from runner.simulator.skills import PATH as SKILLS

MESSAGES, RATE_LIMITS = "/v1/messages", "/v1/organizations/rate_limits"
REPOSITORY = Path(__file__).resolve().parent.parent
TABLE = tomllib.loads((REPOSITORY / "docs" / "reference" / "api.toml").read_text(encoding="utf-8"))
ENTRIES: list[dict[str, Any]] = TABLE["entry"]
# Parameters of the client that travel as headers.
HEADERS_OF_THE_CLIENT = {"betas", "user_profile_id", "workspace_id"}


def names_of(section: str) -> set[str]:
    return {name for entry in ENTRIES if entry["section"] == section for name in entry["name"].split(", ")}


@cache
def known_tests(file: str) -> set[str]:
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['section']}-{entry['name']}")
def test_every_line_names_tests_that_there_are(entry: dict[str, Any]) -> None:
    assert entry["tests"] or not entry["supported"], "what is supported is tested"
    for told in entry["tests"]:
        file, _, name = told.partition("::")
        assert name in known_tests(file), told


def fields_of(kind: Any) -> set[str]:
    """The keys of one of the client's request types, those of its bases included."""
    found = set(kind.__annotations__)
    for base in getattr(kind, "__orig_bases__", ()):
        if hasattr(base, "__annotations__"):
            found |= fields_of(base)
    return found


@pytest.mark.parametrize("module", [message_create_params, beta_params])
def test_every_field_that_the_official_client_sends_is_in_the_table(module: Any) -> None:
    fields = fields_of(module.MessageCreateParamsNonStreaming) - HEADERS_OF_THE_CLIENT
    assert fields <= names_of("Request fields")


def test_every_endpoint_of_the_simulator_is_in_the_table() -> None:
    told = {name.partition(" ")[2] for name in names_of("Endpoints")}
    for path in (MESSAGES, f"{MESSAGES}/count_tokens", BATCHES, "/v1/models", FILES, SKILLS, RATE_LIMITS, *REPORTS):
        assert path in told, path
    assert f"{SKILLS}/{{id}}/versions/{{version}}/content" in told


def test_no_line_stands_twice() -> None:
    keys = [(entry["section"], entry["name"]) for entry in ENTRIES]
    assert len(keys) == len(set(keys))
