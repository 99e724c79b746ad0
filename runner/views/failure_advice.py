"""What to do about rows that did not succeed, by how they ended. Data: a line a reason."""

from __future__ import annotations

from runner.domain.explanations import code_in, explained
from runner.domain.states import PauseReason, RowStatus

RETRY = "`runner retry {run}` asks these rows again"

BY_ERROR_TYPE = {
    "bad_row": "the row makes no request: mend it in the input and run again",
    "invalid_request_error": "the API refuses the request itself: see one with --row, mend the job or the row",
    "request_too_large": "the request is larger than the API takes: shorten the row",
    "not_found_error": "something the request names does not exist: a model, a file, a container",
    "redirected": "the address sends elsewhere: set ANTHROPIC_BASE_URL to the final address",
    "overloaded_error": f"the service was overloaded for a while. {RETRY}",
    "rate_limit_error": f"the limits left no room. {RETRY}, with a lower --concurrency or --rpm",
    "api_error": f"the service failed each time. {RETRY}",
    "timeout": f"no whole answer in time: raise limits.row_timeout or lower max_tokens. {RETRY}",
    "timeout_error": f"no whole answer in time: raise limits.row_timeout or lower max_tokens. {RETRY}",
    "connect_timeout": f"the service could not be reached: see `runner doctor --online`. {RETRY}",
}
BY_STATUS = {
    RowStatus.TRUNCATED: "the answer hit max_tokens (thinking counts too): raise it, then run the job with --new",
    RowStatus.REFUSED: "the model declined: see one with --row; rephrase, or take these rows out",
    RowStatus.INVALID_OUTPUT: f"the answer is off the schema: see one with --row, ease the schema. {RETRY}",
    RowStatus.ERRORED: f"each attempt failed: see one with --row. {RETRY}",
    RowStatus.EXPIRED: f"time ran out before the row was worked on; it was not billed. {RETRY}",
    RowStatus.CANCELED: f"the run was canceled before this row. {RETRY}",
}

BY_PAUSE = {
    PauseReason.REQUESTED: "runner resume {run}",
    PauseReason.BUDGET: "runner resume {run} --max-usd X   with a higher limit",
    PauseReason.CREDENTIALS: "mend the key, see `runner doctor --online`; then: runner resume {run}",
    PauseReason.ADDRESS: "run the job again with ANTHROPIC_BASE_URL set to where the API is; "
    "if it is right: runner resume {run}",
    PauseReason.BILLING: "add credit in the Claude Console; then: runner resume {run}",
    PauseReason.SPEND_CAP: "raise the spend limit in the Claude Console, or wait for the new month; "
    "then: runner resume {run}",
    PauseReason.MODEL: "use a model this workspace has: mend the job and run it with --new",
    PauseReason.STALLED: "try later: runner resume {run}",
    PauseReason.MAX_FAILURES: "runner failures {run}   says why; then: runner resume {run}",
    PauseReason.BAD_ROW: "mend the input, or leave bad rows out with --on-bad-row skip; then run the job with --new",
    PauseReason.SUBMITTED: "runner collect {run}   fetches what has ended; or wait for all: runner resume {run}",
    PauseReason.UNKNOWN_BATCH: "runner batches list   shows them; runner resume {run}   looks again",
    PauseReason.SAMPLED: "the same `runner run` goes on with the others; or: runner resume {run}",
    PauseReason.REFUSED: "mend what all rows have in common: then runner resume {run}, or the job with --new",
}


def advice(status: RowStatus, error_type: str | None, run: str, message: str | None = None) -> str | None:
    """What to do about rows that ended so; None for rows that succeeded. `message` may carry a finer word."""
    if status is RowStatus.SUCCEEDED:
        return None
    if status is not RowStatus.ERRORED:
        return BY_STATUS[status].format(run=run)
    told = message.lower() if message else ""
    if any(words in told for words in NOT_KNOWN_TO_THE_API):
        return NOT_KNOWN
    known = BY_ERROR_TYPE.get(error_type or "")
    found = code_in(message) or (None if known else explained(error_type or ""))
    if found is not None:
        return f"{found.means}: {found.fix}".replace("RUN", run)
    return (known or BY_STATUS[status]).format(run=run)


# The API's words for something that it does not know, where it may be a beta that lacks its header.
NOT_KNOWN_TO_THE_API = ("extra inputs are not permitted", "does not match any of the expected tags")

NOT_KNOWN = (
    "the API does not know this field or type: misspelt, or a beta without its header. Correct it, or name the beta "
    "with betas: in the job or --beta NAME; runner check JOB shows which ones are sent"
)


def pause_advice(reason: PauseReason, run: str, message: str | None = None) -> str:
    """What to do for a run that is paused; where its message carries a word of the service, what that means first."""
    told = BY_PAUSE[reason].format(run=run)
    found = code_in(message)
    return told if found is None else f"{found.means}: {found.fix}\n{told}"
