"""What an error of the service is about. Tables, read from the most specific word to the least.

By error code, then a handful of phrases, then `error.type`, then the status. The phrases are the one place where
words of a message count, and they can only turn a row's error into the account's.
"""

from __future__ import annotations

from typing import NamedTuple

from runner.domain.outcome import AccountTrouble, FailureKind


class Verdict(NamedTuple):
    kind: FailureKind
    trouble: AccountTrouble | None = None


ROW = Verdict(FailureKind.ROW)
RATE_LIMITED = Verdict(FailureKind.RATE_LIMITED)
OVERLOADED = Verdict(FailureKind.OVERLOADED)
TRANSIENT = Verdict(FailureKind.TRANSIENT)
CREDENTIALS = Verdict(FailureKind.ACCOUNT, AccountTrouble.CREDENTIALS)
ADDRESS = Verdict(FailureKind.ACCOUNT, AccountTrouble.ADDRESS)
BILLING = Verdict(FailureKind.ACCOUNT, AccountTrouble.BILLING)
SPEND_CAP = Verdict(FailureKind.ACCOUNT, AccountTrouble.SPEND_CAP)
MODEL = Verdict(FailureKind.ACCOUNT, AccountTrouble.MODEL)
BETA = Verdict(FailureKind.ACCOUNT, AccountTrouble.BETA)

BY_CODE = {
    "organization_on_hold": BILLING,
    "enforced_spend_limit_reached": SPEND_CAP,
    "contract_spend_limit_reached": SPEND_CAP,
    "linked_organization_spend_limit_reached": SPEND_CAP,
    # The customer's own key store is off or out of reach: every row would meet it.
    "cmek_key_disabled": CREDENTIALS,
    "cmek_key_network_blocked": CREDENTIALS,
    # One that every row of this organisation or profile meets.
    "organization_not_enrolled_in_beta": CREDENTIALS,
    "organization_type_not_supported": CREDENTIALS,
    "user_profile_required": CREDENTIALS,
    "storage_quota_exceeded": BILLING,
    # What we uploaded is uploaded again.
    "file_expired": TRANSIENT,
    # A 400 that says our upload was slow, not that it was wrong.
    "request_body_timeout": TRANSIENT,
    # A conflict that stays: the name is somebody's.
    "skill_name_taken": ROW,
    # Over as soon as the other call has ended.
    "thread_continue_in_flight": TRANSIENT,
}

BY_TYPE = {
    "authentication_error": CREDENTIALS,
    "permission_error": CREDENTIALS,
    "billing_error": BILLING,
    "rate_limit_error": RATE_LIMITED,
    "overloaded_error": OVERLOADED,
    "api_error": TRANSIENT,
    "timeout_error": TRANSIENT,
    "conflict_error": TRANSIENT,
    "invalid_request_error": ROW,
    "not_found_error": ROW,
    "memory_precondition_failed_error": ROW,
    "memory_path_conflict_error": TRANSIENT,
    "request_too_large": ROW,
}

BY_STATUS = {
    401: CREDENTIALS,
    402: BILLING,
    403: CREDENTIALS,
    407: CREDENTIALS,
    408: TRANSIENT,
    409: TRANSIENT,
    429: RATE_LIMITED,
    529: OVERLOADED,
}

# (error.type, phrase in lower case, at the start only, verdict)
PHRASES = (
    ("invalid_request_error", "credit balance is too low", False, BILLING),
    ("invalid_request_error", "specified api usage limits", False, SPEND_CAP),
    ("invalid_request_error", "unsupported beta header", False, BETA),
    ("not_found_error", "model:", True, MODEL),
    # LiteLLM's words for a model that it has no way to.
    ("invalid_request_error", "invalid model name passed in model=", False, MODEL),
)

# Types of gateways, in bodies that are not the API's, that say more than their status.
FOREIGN_TYPES = {
    # LiteLLM without a database: any key but its own is looked up in one, and refused as a 400.
    "no_db_connection": CREDENTIALS,
}


def verdict(*, status: int | None, error_type: str | None, code: str | None, message: str) -> Verdict:
    """What an error with the API's own body is about; `status` is None for lines of batch results."""
    if code in BY_CODE:
        return BY_CODE[code]
    for wanted, phrase, at_start, found in PHRASES:
        told = message.lower()
        if error_type == wanted and (told.startswith(phrase) if at_start else phrase in told):
            return found
    if status == 529:
        return OVERLOADED
    if error_type in BY_TYPE:
        return BY_TYPE[error_type]
    return verdict_of_status(status)


def verdict_of_status(status: int | None) -> Verdict:
    """What is left to go by when the body says nothing we know."""
    if status is None or status >= 500:
        return BY_STATUS.get(status or 500, TRANSIENT)
    return BY_STATUS.get(status, ROW)


def heeding_should_retry(found: Verdict, should_retry: str | None) -> Verdict:
    """`x-should-retry` moves a failure between row and transient; account troubles and pauses stay what they are."""
    if should_retry == "true" and found.kind is FailureKind.ROW:
        return TRANSIENT
    if should_retry == "false" and found.kind is FailureKind.TRANSIENT:
        return ROW
    return found
