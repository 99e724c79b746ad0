"""A failure that ends a command before any row: as one of the errors that people see, with where the key is from."""

from __future__ import annotations

from runner.api.credentials import Credential, host_of
from runner.domain.betas import refusal
from runner.domain.explanations import explained
from runner.domain.outcome import AccountTrouble, Failure, FailureKind
from runner.errors import BudgetReached, CredentialsRefused, JobInvalid, RunnerError, Stalled


def error_of(failure: Failure, credential: Credential, base_url: str) -> RunnerError:
    """The error to raise for a failure outside of any row."""
    told = f"{failure.message} ({_place(failure)})"
    if failure.kind is FailureKind.ACCOUNT:
        return _of_account(failure, told, credential)
    if failure.kind is FailureKind.ROW:
        # Of a request that is simply wrong there is only the service's word to tell: there is no row to look at.
        known = failure.code or (failure.type if failure.type != "invalid_request_error" else "")
        found = explained(known)
        hints = (f"{found.means}: {found.fix}".replace("RUN", "latest"),) if found is not None else ()
        name = str(failure.status or "refused")
        return JobInvalid(f"{host_of(base_url)} refused the request: {told}", name=name, hints=hints)
    return Stalled(f"{host_of(base_url)} does not answer: {told}", name="unreachable")


def _of_account(failure: Failure, told: str, credential: Credential) -> RunnerError:
    key = f"key {credential.shown} comes from {credential.source}"
    if failure.trouble in (AccountTrouble.BILLING, AccountTrouble.SPEND_CAP):
        return BudgetReached(told, name=str(failure.trouble), hints=(key,))
    if failure.trouble is AccountTrouble.BETA:
        return JobInvalid(f"{refusal(failure.message)} ({_place(failure)}).", name="beta")
    if failure.trouble is AccountTrouble.MODEL:
        return JobInvalid(told, name="404-model", hints=(key,))
    if failure.trouble is AccountTrouble.ADDRESS:
        return JobInvalid(told, name="base-url", hints=("set ANTHROPIC_BASE_URL to where the API is",))
    return CredentialsRefused(
        f"Anthropic refused the key: {told}", name=str(failure.status or "credentials"), hints=(key,)
    )


def _place(failure: Failure) -> str:
    return ", ".join(filter(None, (failure.type, failure.origin.request_id)))
