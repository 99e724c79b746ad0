"""What every error of the service means, what becomes of the rows, and what to do: by error code, by type, by status.

A table for people. What the program does about an error is decided elsewhere, from `api.taxonomy`; a test holds the
two against each other.
"""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct

from runner.domain.nearest import suggest


class Fate(StrEnum):
    """What becomes of the rows."""

    ROW = "row"
    AGAIN = "again"
    WAIT = "wait"
    PAUSE = "pause"
    COMMAND = "command"


FATES = {
    Fate.ROW: "the row fails at once and is not billed; the run goes on, and `runner retry RUN` asks it again.",
    Fate.AGAIN: "the row is tried again, later each time, up to limits.max_attempts; the run goes on.",
    Fate.WAIT: "no row loses a try: those of the model class wait as long as the service says, then go on.",
    Fate.PAUSE: "the run pauses; rows without an answer wait and are not billed. `runner resume RUN` goes on.",
    Fate.COMMAND: "no row is touched: the command that asked ends.",
}


class Explanation(Struct, frozen=True, kw_only=True):
    """One word of the service. `status` is the HTTP status it comes with, None where it has none of its own."""

    code: str
    status: int | None
    means: str
    fate: Fate
    fix: str

    @property
    def rows(self) -> str:
        return FATES[self.fate]


_TYPES = (
    ("invalid_request_error", 400, "the request itself is wrong", Fate.ROW,
     "see one with `runner failures RUN --row`, mend the job or the row"),
    ("authentication_error", 401, "the key is missing, wrong or revoked", Fate.PAUSE,
     "set ANTHROPIC_API_KEY to a key that works: runner doctor --online says which one is used"),
    ("billing_error", 402, "the organization cannot be billed", Fate.PAUSE,
     "settle billing or add credit in the Console"),
    ("permission_error", 403, "the key may not do this", Fate.PAUSE,
     "give the key access in the Console, or use another: runner doctor --online shows whose it is"),
    ("not_found_error", 404, "something that the request names does not exist: a model, a file", Fate.ROW,
     "check the names; ids are known only in the workspace that made them"),
    ("conflict_error", 409, "something else changed the same thing at the same time", Fate.AGAIN,
     "nothing, unless it stays: then see what else works on it"),
    ("request_too_large", 413, "the request is larger than the API takes: 32 MB, of a batch 256 MB", Fate.ROW,
     "shorten the row, or upload its files instead of sending them inside ($file with upload: always)"),
    ("rate_limit_error", 429, "a limit of the organization or workspace is used up", Fate.WAIT,
     "nothing: rows wait their turn. --rpm, --itpm and --otpm leave room for others"),
    ("api_error", 500, "the service failed", Fate.AGAIN, "nothing, unless it stays: see the service's status page"),
    ("timeout_error", 504, "the service ran out of time for this request", Fate.AGAIN,
     "lower max_tokens, or send the job with mode: batch"),
    ("overloaded_error", 529, "the service has too much to do", Fate.AGAIN,
     "nothing: calls are made more slowly; mode: batch minds it least"),
    ("memory_precondition_failed_error", 412, "a memory was changed by somebody else meanwhile", Fate.ROW,
     "ask the row again"),
    ("memory_path_conflict_error", 409, "two memories would have the same path", Fate.AGAIN, "use another path"),
)  # fmt: skip

_CODES = (
    ("organization_on_hold", 400, "the organization is disabled for trust and safety", Fate.PAUSE,
     "see the Console; the error may name an address for an appeal"),
    ("request_body_encoding_unsupported", 400, "the body's Content-Encoding is not taken", Fate.ROW,
     "a proxy on the way compresses requests: have it stop"),
    ("request_body_encoding_invalid", 400, "the body is not what its Content-Encoding says", Fate.ROW,
     "a proxy on the way breaks requests: have it stop"),
    ("request_body_timeout", 400, "the body came too slowly", Fate.AGAIN,
     "a slow line: lower --concurrency, or upload files instead of sending them inside"),
    ("unsupported_charset", 400, "the content type names a charset that is not taken", Fate.ROW,
     "remove the charset from content-type, or make it UTF-8"),
    ("storage_quota_exceeded", 400, "the files of the organization fill its 1 TB", Fate.PAUSE,
     "delete some: runner files ls --all, runner files rm ID; `expires` in the job lets files go by themselves"),
    ("file_not_downloadable", 400, "only files made by code execution or skills can be downloaded", Fate.COMMAND,
     "keep your own copy of what you upload"),
    ("available_tools_limit_exceeded", 400, "there are too many tools in the request", Fate.ROW,
     "take some out, or let the tool search find them (defer_loading)"),
    ("tool_name_conflict", 400, "two tools have the same name", Fate.ROW, "rename one of them"),
    ("image_dimensions_too_large", 400, "an image has too many pixels: 8,000 a side, 2,000 beside over 20", Fate.ROW,
     "scale it down, or have the service do it (transformations: { oversized_image: downsize })"),
    ("tool_reference_unresolved", 400, "a tool is referred to that is not in the request", Fate.ROW,
     "add it to tools, or correct its name"),
    ("compaction_block_ambiguous", 400, "several compaction blocks could be meant", Fate.ROW,
     "send back only the last one, as it came"),
    ("compaction_block_misplaced", 400, "a compaction block stands where none may", Fate.ROW,
     "send it back at the place where it came"),
    ("compaction_content_mismatch", 400, "a compaction block was changed", Fate.ROW, "send it back as it came"),
    ("compaction_incomplete_turn", 400, "the turn before the compaction is not complete", Fate.ROW,
     "send the whole turn, its tool results included"),
    ("compaction_nothing_to_summarize", 400, "there is nothing to compact yet", Fate.ROW,
     "leave compaction out of short conversations"),
    ("compaction_signature_invalid", 400, "a compaction block is not the one that the service gave", Fate.ROW,
     "send it back as it came, to the workspace that made it"),
    ("compaction_too_many_tool_references", 400, "the compacted part refers to too many tools", Fate.ROW,
     "use fewer tools"),
    ("compaction_tool_changes_mismatch", 400, "the tool changes of a compaction block were changed", Fate.ROW,
     "send them back as they came"),
    ("thread_unsupported_request", 400, "the request has something that threads do not take", Fate.ROW,
     "take it out, or send the whole conversation instead of a thread"),
    ("thread_fingerprint_mismatch", 400, "the thread was begun with other settings", Fate.ROW,
     "keep model, tools and system as they were when it was begun"),
    ("thread_already_continued", 400, "the thread went on from this message already", Fate.ROW,
     "go on from its last message"),
    ("thread_continue_in_flight", 400, "another call goes on with the same thread", Fate.AGAIN,
     "one call at a time goes on with a thread"),
    ("thread_not_found", 404, "there is no such thread in this workspace", Fate.ROW,
     "begin one with thread: { type: create }"),
    ("cmek_key_disabled", 400, "the organization's own encryption key is disabled", Fate.PAUSE,
     "enable it in your key store"),
    ("cmek_key_network_blocked", 400, "the organization's own encryption key cannot be reached", Fate.PAUSE,
     "let the service reach your key store"),
    ("cmek_feature_unsupported", 400, "the organization's own encryption key does not go with what is asked for",
     Fate.ROW, "take it out, or use another organization's key"),
    ("cmek_key_unreachable", 503, "the organization's own encryption key does not answer", Fate.AGAIN,
     "see that your key store is up"),
    ("cmek_context_unavailable", 503, "the encryption of the organization is not ready", Fate.AGAIN,
     "nothing, unless it stays"),
    ("registration_pending", 503, "the organization is still being set up", Fate.AGAIN, "try later"),
    ("organization_not_enrolled_in_beta", 400, "the organization does not take part in this beta", Fate.PAUSE,
     "ask for access, or take out what needs the beta: runner check JOB shows it"),
    ("organization_type_not_supported", 400, "this kind of organization does not have the feature", Fate.PAUSE,
     "take out what the request asks for, or use another organization's key"),
    ("user_profile_required", 400, "this key works only on behalf of a user profile", Fate.PAUSE,
     "name one: --header 'anthropic-user-profile-id: ID'"),
    ("user_profile_not_found", 400, "there is no such user profile", Fate.ROW, "correct its id"),
    ("linked_organization_billing_unavailable", 402, "the user profile's organization cannot be billed", Fate.PAUSE,
     "have its billing settled, or bill your own organization"),
    ("linked_organization_spend_limit_reached", 402, "the user profile's organization has reached its limit",
     Fate.PAUSE, "have it raised, or bill your own organization"),
    ("user_profile_not_billable", 403, "the user profile cannot be billed", Fate.PAUSE,
     "bill your own organization (billing_policy.bill_to: self)"),
    ("user_profile_billing_not_authorized", 403, "you may not bill this user profile", Fate.PAUSE,
     "have its owner allow it, or bill your own organization"),
    ("api_key_scope_missing", 403, "the key lacks a scope that this call needs", Fate.PAUSE,
     "make a key with that scope in the Console"),
    ("sandbox_egress_restricted", 403, "the sandbox may not reach the network that the request asks for", Fate.PAUSE,
     "allow it in the workspace's settings, or leave it out"),
    ("file_expired", 404, "a file that the request names has expired", Fate.AGAIN,
     "nothing for files that runner uploaded: they are uploaded again. Others: upload them anew"),
    ("skill_read_blocked_undecryptable", 409, "the skill cannot be decrypted with the organization's key", Fate.AGAIN,
     "restore the key, or create the skill anew"),
    ("skill_name_taken", 409, "a skill of this name exists already", Fate.COMMAND,
     "add a version to it: runner skills create FOLDER --to SKILL_ID"),
    ("request_body_too_large_after_decoding", 413, "the body is too large once it is decompressed", Fate.ROW,
     "shorten the row, or upload its files"),
    ("enforced_spend_limit_reached", 429, "the tier's monthly spend cap is reached", Fate.PAUSE,
     "it resumes at 00:00 UTC on the first of the month; a higher tier has a higher cap"),
    ("contract_spend_limit_reached", 429, "the contract's spend limit is reached", Fate.PAUSE,
     "have it raised by your account manager"),
    ("ramp_limit_exceeded", 429, "traffic grew too fast, whatever the limits", Fate.WAIT,
     "nothing: calls are made more slowly and grow again"),
    ("compaction_unavailable", 529, "compaction has too much to do", Fate.AGAIN, "nothing, unless it stays"),
)  # fmt: skip

_STATUSES = (
    (400, "bad request", Fate.ROW, "see one with `runner failures RUN --row`"),
    (401, "not authenticated", Fate.PAUSE, "runner doctor --online"),
    (402, "payment required", Fate.PAUSE, "settle billing in the Console"),
    (403, "forbidden", Fate.PAUSE, "runner doctor --online; a firewall on the way answers so too"),
    (404, "not found: with the API's own error, something that the row names; without it, no API is at this address",
     Fate.ROW, "check names; check ANTHROPIC_BASE_URL"),
    (407, "a proxy wants credentials", Fate.PAUSE, "put them into HTTPS_PROXY"),
    (408, "the request took too long to arrive", Fate.AGAIN, "a slow line: lower --concurrency"),
    (409, "conflict", Fate.AGAIN, "nothing, unless it stays"),
    (412, "a condition of the request does not hold", Fate.ROW, "ask the row again"),
    (413, "too large. The edge says so too, with an HTML page and no request id", Fate.ROW,
     "shorten the row, or upload its files"),
    (422, "understood, and not possible", Fate.ROW, "see one with `runner failures RUN --row`"),
    (429, "too many requests", Fate.WAIT, "nothing: rows wait their turn"),
    (431, "the headers are too large", Fate.ROW, "take out some of your custom headers"),
    (499, "the connection was given up on the way", Fate.ROW, "raise limits.row_timeout; see what is in between"),
    (500, "the service failed", Fate.AGAIN, "nothing, unless it stays"),
    (501, "not implemented", Fate.AGAIN, "check ANTHROPIC_BASE_URL"),
    (502, "something between you and the service failed", Fate.AGAIN, "nothing, unless it stays"),
    (503, "the service is not available", Fate.AGAIN, "nothing, unless it stays"),
    (504, "out of time", Fate.AGAIN, "lower max_tokens, or send the job with mode: batch"),
    (529, "overloaded", Fate.AGAIN, "nothing: calls are made more slowly"),
)  # fmt: skip

_OURS = (
    ("bad_row", "the row makes no request", Fate.ROW, "mend it in the input and run again"),
    ("redirected", "the address sends elsewhere; neither key nor prompt was sent there", Fate.PAUSE,
     "set ANTHROPIC_BASE_URL to the final address"),
    ("connect_timeout", "the service could not be reached in time; nothing was sent", Fate.AGAIN,
     "see `runner doctor --online`"),
    ("connect_error", "the service could not be reached; nothing was sent", Fate.AGAIN,
     "see `runner doctor --online`"),
    ("read_timeout", "no answer in time; it may have been billed, and is booked as unknown", Fate.AGAIN,
     "raise limits.row_timeout or lower max_tokens"),
    ("timeout", "no whole answer in time; it may have been billed, and is booked as unknown", Fate.AGAIN,
     "raise limits.row_timeout or lower max_tokens"),
    ("remote_protocol_error", "the connection broke; it may have been billed, and is booked as unknown", Fate.AGAIN,
     "nothing, unless it stays: see what is between you and the service"),
    ("unreadable", "the reply could not be understood; it may have been billed, and is booked as unknown", Fate.AGAIN,
     "see what is between you and the service"),
    ("max_turns", "the service paused more often than limits.max_turns", Fate.ROW, "raise limits.max_turns"),
    ("expired", "the batch ended before the row was worked on; it was not billed", Fate.AGAIN,
     "nothing: it rides again in the next batch"),
    ("canceled", "the batch was cancelled before the row was worked on; it was not billed", Fate.AGAIN,
     "nothing: it rides again in the next batch"),
)  # fmt: skip


def _table() -> dict[str, Explanation]:
    found = {}
    for status, means, fate, fix in _STATUSES:
        found[str(status)] = Explanation(code=str(status), status=status, means=means, fate=fate, fix=fix)
    for code, means, fate, fix in _OURS:
        found[code] = Explanation(code=code, status=None, means=means, fate=fate, fix=fix)
    for code, number, means, fate, fix in (*_TYPES, *_CODES):
        found[code] = Explanation(code=code, status=number, means=means, fate=fate, fix=fix)
    return found


EXPLANATIONS = _table()
ERROR_TYPES = tuple(entry[0] for entry in _TYPES)
ERROR_CODES = tuple(entry[0] for entry in _CODES)
STATUSES = tuple(entry[0] for entry in _STATUSES)

_HTTP = re.compile(r"http_(\d{3})")


def explained(word: str) -> Explanation | None:
    """By error code, type, status, or one of our own words for what went wrong on the way; None where unknown."""
    told = word.strip().lower().replace("-", "_")
    of_http = _HTTP.fullmatch(told)
    return EXPLANATIONS.get(of_http[1] if of_http else told) or _of_class(of_http[1] if of_http else told)


def _of_class(word: str) -> Explanation | None:
    """A status that nobody has told of is treated as its class is."""
    if not re.fullmatch(r"[45]\d\d", word):
        return None
    again = word.startswith("5")
    means = "the service, or something before it, failed" if again else "the request was refused"
    fix = "nothing, unless it stays" if again else "see one with `runner failures RUN --row`"
    return Explanation(code=word, status=int(word), means=means, fate=Fate.AGAIN if again else Fate.ROW, fix=fix)


def nearest_code(word: str) -> str | None:
    """The word that somebody probably meant."""
    return suggest(word, EXPLANATIONS)


_ENDING = re.compile(r"\(([a-z0-9_]+)(?:, (req_[A-Za-z0-9_-]+))?\)\.?$")


def with_code(message: str, code: str | None, request_id: str | None = None) -> str:
    """A message of the service with its finer word and its request id after it."""
    told = ", ".join(filter(None, (code, request_id)))
    return f"{message} ({told})" if told else message


def code_in(message: str | None) -> Explanation | None:
    """What the word that `with_code` put after a message means."""
    found = _ENDING.search(message or "")
    return EXPLANATIONS.get(found[1]) if found else None
