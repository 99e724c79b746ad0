"""Every status, type and error code is explained, and told as the program treats it."""

from __future__ import annotations

from typing import get_args

import pytest
from anthropic._error_classes import ERROR_CLASSES
from anthropic.types.shared import ErrorType

from runner.api.taxonomy import verdict
from runner.domain.explanations import (
    ERROR_CODES,
    ERROR_TYPES,
    EXPLANATIONS,
    STATUSES,
    Fate,
    code_in,
    explained,
    nearest_code,
    with_code,
)
from runner.domain.outcome import FailureKind
from runner.simulator.problems import TYPE_OF_STATUS

KIND_OF_FATE = {
    Fate.ROW: {FailureKind.ROW},
    Fate.AGAIN: {FailureKind.TRANSIENT, FailureKind.OVERLOADED},
    Fate.WAIT: {FailureKind.RATE_LIMITED},
    Fate.PAUSE: {FailureKind.ACCOUNT},
}
TOLD = [word for word in (*ERROR_TYPES, *ERROR_CODES) if EXPLANATIONS[word].fate is not Fate.COMMAND]


@pytest.mark.parametrize("word", TOLD)
def test_what_is_told_of_the_rows_is_what_becomes_of_them(word: str) -> None:
    entry = EXPLANATIONS[word]
    assert entry.status is not None
    error_type = word if word in ERROR_TYPES else TYPE_OF_STATUS.get(entry.status, "api_error")
    code = word if word in ERROR_CODES else None
    found = verdict(status=entry.status, error_type=error_type, code=code, message="as it was")
    assert found.kind in KIND_OF_FATE[entry.fate]


@pytest.mark.parametrize("status", STATUSES)
def test_a_bare_status_is_treated_as_it_is_explained(status: int) -> None:
    found = verdict(status=status, error_type=None, code=None, message="")
    assert found.kind in KIND_OF_FATE[EXPLANATIONS[str(status)].fate]


@pytest.mark.parametrize("status", [418, 451, 520, 598])
def test_a_status_that_nobody_has_told_of_is_explained_by_its_class(status: int) -> None:
    entry = explained(str(status))
    assert entry is not None
    found = verdict(status=status, error_type="brand_new_error", code="brand_new", message="")
    assert found.kind in KIND_OF_FATE[entry.fate]


# Codes of the official client's table that no call of ours can meet: of the Admin API, of Managed Agents, of apps.
NOT_OF_THESE_ENDPOINTS = (
    "already_", "bundle_", "cannot_", "claude_", "compliance_", "concurrent_membership", "email_", "environment_",
    "external_key_", "heartbeat_", "invalid_config", "invalid_metadata", "invite_", "key_profile_", "org_",
    "organization_level_", "parent_", "plugin_", "rbac_", "scan_", "settings_", "slack_", "spend_limits_admin",
    "workspace_",
)  # fmt: skip
OF_THE_CLIENT = [
    (status, code)
    for status, code in ERROR_CLASSES
    if code is not None and not code.startswith(NOT_OF_THESE_ENDPOINTS)
]


@pytest.mark.parametrize(("status", "code"), OF_THE_CLIENT)
def test_every_code_that_the_official_client_knows_is_explained_with_its_status(status: int, code: str) -> None:
    assert code in ERROR_CODES
    assert EXPLANATIONS[code].status == status


def test_every_code_that_is_explained_is_one_that_the_client_knows() -> None:
    assert set(ERROR_CODES) == {code for _, code in OF_THE_CLIENT}


def test_every_status_and_type_that_the_official_client_knows_is_explained() -> None:
    assert {status for status, code in ERROR_CLASSES if code is None} <= set(STATUSES)
    # Which it does not list, and the service sends.
    assert set(get_args(ErrorType)) | {"request_too_large"} == set(ERROR_TYPES)


def test_the_simulators_types_are_explained() -> None:
    assert set(TYPE_OF_STATUS.values()) <= EXPLANATIONS.keys()


@pytest.mark.parametrize("entry", EXPLANATIONS.values(), ids=lambda entry: entry.code)
def test_each_says_what_to_do_in_one_line(entry: object) -> None:
    fix = getattr(entry, "fix", "")
    assert fix
    assert "\n" not in fix
    assert not fix.endswith(".")


def test_words_are_found_however_they_are_written() -> None:
    assert explained("HTTP_413") is explained("413") is not None
    assert explained("rate-limit-error") is explained("rate_limit_error")
    assert explained("nonsense") is None
    assert explained("999") is None
    assert nearest_code("rate_limit_eror") == "rate_limit_error"


def test_a_code_is_found_again_in_the_message_that_it_was_put_into() -> None:
    told = with_code("It is over.", "enforced_spend_limit_reached", "req_011")
    assert told == "It is over. (enforced_spend_limit_reached, req_011)"
    assert code_in(told) is EXPLANATIONS["enforced_spend_limit_reached"]
    assert code_in(with_code("It is over.", "brand_new")) is None
    assert code_in(with_code("It is over.", None)) is code_in(None) is None
    assert code_in("a message that ends in (words)") is None
