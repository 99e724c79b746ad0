"""Replies, exceptions and result lines to outcomes, as tables."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.api.usage import read_usage, usage_of
from runner.api.wire import outcome_of_exception, outcome_of_reply, outcome_of_result_line
from runner.domain.outcome import AccountTrouble, Answer, Failure, FailureKind, Outcome, Usage
from tests.api.scripted import MESSAGE

JSON = {"content-type": "application/json", "request-id": "req_1"}
ROW, ACCOUNT, TRANSIENT = FailureKind.ROW, FailureKind.ACCOUNT, FailureKind.TRANSIENT
LIMITED, OVERLOADED = FailureKind.RATE_LIMITED, FailureKind.OVERLOADED
CREDENTIALS, BILLING = AccountTrouble.CREDENTIALS, AccountTrouble.BILLING
ADDRESS = AccountTrouble.ADDRESS
SPEND_CAP, MODEL = AccountTrouble.SPEND_CAP, AccountTrouble.MODEL


def error(kind: str, message: str = "told", code: str | None = None) -> bytes:
    told: dict[str, Any] = {"type": kind, "message": message}
    if code is not None:
        told["details"] = {"error_code": code}
    return json.dumps({"type": "error", "error": told, "request_id": "req_body"}).encode()


def failure(outcome: Outcome) -> Failure:
    assert isinstance(outcome, Failure)
    return outcome


def answer(outcome: Outcome) -> Answer:
    assert isinstance(outcome, Answer)
    return outcome


TAXONOMY = [
    (400, "invalid_request_error", None, "bad", ROW, None),
    (400, "invalid_request_error", None, "Your credit balance is too low to access the API", ACCOUNT, BILLING),
    (400, "invalid_request_error", None, "You have reached your specified API usage limits.", ACCOUNT, SPEND_CAP),
    (400, "invalid_request_error", "organization_on_hold", "held", ACCOUNT, BILLING),
    (400, "invalid_request_error", "request_body_encoding_unsupported", "x", ROW, None),
    (400, "invalid_request_error", "request_body_encoding_invalid", "x", ROW, None),
    (400, "invalid_request_error", "request_body_timeout", "slow", TRANSIENT, None),
    (400, "invalid_request_error", "unsupported_charset", "x", ROW, None),
    (400, "invalid_request_error", "storage_quota_exceeded", "x", ACCOUNT, BILLING),
    (400, "invalid_request_error", "file_not_downloadable", "x", ROW, None),
    (400, "invalid_request_error", "available_tools_limit_exceeded", "x", ROW, None),
    (400, "invalid_request_error", "tool_name_conflict", "x", ROW, None),
    (400, "invalid_request_error", "compaction_anything", "x", ROW, None),
    (400, "invalid_request_error", "cmek_key_disabled", "x", ACCOUNT, CREDENTIALS),
    (400, "invalid_request_error", "cmek_key_network_blocked", "x", ACCOUNT, CREDENTIALS),
    (400, "invalid_request_error", "user_profile_required", "x", ACCOUNT, CREDENTIALS),
    (401, "authentication_error", None, "invalid x-api-key", ACCOUNT, CREDENTIALS),
    (402, "billing_error", None, "pay", ACCOUNT, BILLING),
    (402, "billing_error", "linked_organization_billing_unavailable", "x", ACCOUNT, BILLING),
    (402, "billing_error", "linked_organization_spend_limit_reached", "x", ACCOUNT, SPEND_CAP),
    (403, "permission_error", None, "no", ACCOUNT, CREDENTIALS),
    (403, "permission_error", "api_key_scope_missing", "no", ACCOUNT, CREDENTIALS),
    (403, "permission_error", "user_profile_not_billable", "no", ACCOUNT, CREDENTIALS),
    (404, "not_found_error", None, "model: claude-nope", ACCOUNT, MODEL),
    (404, "not_found_error", None, "file not found", ROW, None),
    (404, "not_found_error", "file_expired", "gone", TRANSIENT, None),
    (408, "request_timeout", None, "slow", TRANSIENT, None),
    (409, "conflict_error", None, "busy", TRANSIENT, None),
    (409, "conflict_error", "skill_read_blocked_undecryptable", "x", TRANSIENT, None),
    (412, "memory_precondition_failed_error", None, "x", ROW, None),
    (413, "request_too_large", None, "big", ROW, None),
    (413, "request_too_large", "request_body_too_large_after_decoding", "big", ROW, None),
    (422, "unprocessable", None, "x", ROW, None),
    (429, "rate_limit_error", None, "slow down", LIMITED, None),
    (429, "rate_limit_error", "enforced_spend_limit_reached", "x", ACCOUNT, SPEND_CAP),
    (429, "rate_limit_error", "contract_spend_limit_reached", "x", ACCOUNT, SPEND_CAP),
    (429, "rate_limit_error", "ramp_limit_exceeded", "x", LIMITED, None),
    (429, "rate_limit_error", "code_of_tomorrow", "x", LIMITED, None),
    (429, "type_of_tomorrow", None, "x", LIMITED, None),
    (431, "unknown", None, "x", ROW, None),
    (499, "unknown", None, "x", ROW, None),
    (500, "api_error", None, "oops", TRANSIENT, None),
    (501, "unknown", None, "x", TRANSIENT, None),
    (503, "api_error", "cmek_key_unreachable", "x", TRANSIENT, None),
    (503, "api_error", "cmek_context_unavailable", "x", TRANSIENT, None),
    (503, "api_error", "registration_pending", "x", TRANSIENT, None),
    (504, "timeout_error", None, "x", TRANSIENT, None),
    (529, "overloaded_error", None, "x", OVERLOADED, None),
    (529, "overloaded_error", "compaction_unavailable", "x", OVERLOADED, None),
    (529, "api_error", None, "x", OVERLOADED, None),
    (503, "overloaded_error", None, "x", OVERLOADED, None),
    (400, "rate_limit_error", None, "x", LIMITED, None),
    (200, "overloaded_error", None, "x", OVERLOADED, None),
]


@pytest.mark.parametrize(("status", "kind_name", "code", "message", "kind", "trouble"), TAXONOMY)
def test_every_error_of_the_api_has_its_kind(
    status: int, kind_name: str, code: str | None, message: str, kind: FailureKind, trouble: AccountTrouble | None
) -> None:
    found = failure(outcome_of_reply(status, JSON, error(kind_name, message, code)))
    assert (found.kind, found.trouble) == (kind, trouble)
    assert (found.type, found.code, found.message, found.status) == (kind_name, code, message, status)
    assert not found.perhaps_billed


@pytest.mark.parametrize(
    ("status", "kind", "trouble", "billed"),
    [
        (400, ROW, None, False),
        (401, ACCOUNT, CREDENTIALS, False),
        (403, ACCOUNT, CREDENTIALS, False),
        (404, ACCOUNT, ADDRESS, False),
        (405, ACCOUNT, ADDRESS, False),
        (407, ACCOUNT, CREDENTIALS, False),
        (408, TRANSIENT, None, False),
        (413, ROW, None, False),
        (429, LIMITED, None, False),
        (500, TRANSIENT, None, True),
        (502, TRANSIENT, None, True),
        (504, TRANSIENT, None, True),
        (524, TRANSIENT, None, True),
        (529, OVERLOADED, None, False),
    ],
)
@pytest.mark.parametrize(
    "body", [b"<html>edge</html>", b"", b'{"error":"x"}', b'{"type":"error"', b"\xff\xfe", b"[1]"]
)
def test_a_body_that_is_not_the_apis_goes_by_its_status(
    status: int, kind: FailureKind, trouble: AccountTrouble | None, billed: bool, body: bytes
) -> None:
    found = failure(outcome_of_reply(status, {"content-type": "text/html"}, body))
    assert (found.kind, found.trouble, found.perhaps_billed) == (kind, trouble, billed)
    assert found.type == f"http_{status}"


def wrapped(kind: str, inner: bytes, before: str = "proxy.Error: SomeException - ") -> bytes:
    """As gateways answer: the API's own error whole, inside the message of theirs."""
    message = f"{before}{inner.decode()}\n\nproxy: no other way was tried."
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


@pytest.mark.parametrize(
    ("status", "outer", "inner", "kind", "trouble", "code"),
    [
        (500, "api_error", ("overloaded_error", "busy", None), OVERLOADED, None, None),
        (
            429,
            "rate_limit_error",
            ("rate_limit_error", "over", "enforced_spend_limit_reached"),
            ACCOUNT,
            SPEND_CAP,
            "enforced_spend_limit_reached",
        ),
        (
            400,
            "invalid_request_error",
            ("invalid_request_error", "twice", "tool_name_conflict"),
            ROW,
            None,
            "tool_name_conflict",
        ),
    ],
)
def test_the_apis_error_inside_a_gateways_message_is_the_one_that_counts(
    status: int,
    outer: str,
    inner: tuple[str, str, str | None],
    kind: FailureKind,
    trouble: AccountTrouble | None,
    code: str | None,
) -> None:
    found = failure(outcome_of_reply(status, {"content-type": "application/json"}, wrapped(outer, error(*inner))))
    assert (found.kind, found.trouble, found.code) == (kind, trouble, code)
    assert (found.type, found.message) == inner[:2]
    assert found.origin.request_id == "req_body"


def test_an_error_that_the_api_signs_is_taken_at_its_word() -> None:
    quoted = wrapped("invalid_request_error", error("authentication_error"), before="your prompt says ")
    assert failure(outcome_of_reply(400, JSON, quoted)).kind is ROW


@pytest.mark.parametrize("cut", [30, 60, 90])
def test_a_wrapped_error_that_is_cut_short_is_left_as_it_is(cut: int) -> None:
    body = wrapped("api_error", error("overloaded_error")[:cut])
    assert failure(outcome_of_reply(500, {}, body)).type == "api_error"


def test_a_gateways_own_shape_is_read_for_its_message() -> None:
    body = b'{"error":{"message":"No\\nroute","type":"internal_server_error","param":null,"code":"500"}}'
    found = failure(outcome_of_reply(500, {}, body))
    assert found.message == "HTTP 500 without an error of the API: No route"


def test_a_gateway_without_a_database_that_does_not_know_the_key_refuses_the_key() -> None:
    body = b'{"error":{"message":"No connected db.","type":"no_db_connection","param":null,"code":"400"}}'
    found = failure(outcome_of_reply(400, {}, body))
    assert (found.kind, found.trouble) == (ACCOUNT, CREDENTIALS)


def test_a_model_that_a_gateway_has_no_way_to_is_the_runs_trouble() -> None:
    body = error("invalid_request_error", "anthropic_messages: Invalid model name passed in model=claude-x. Call")
    assert failure(outcome_of_reply(400, {}, body)).trouble is MODEL


@pytest.mark.parametrize(
    ("status", "kind_name", "word", "kind"),
    [
        (400, "invalid_request_error", "true", TRANSIENT),
        (413, "request_too_large", "true", TRANSIENT),
        (500, "api_error", "false", ROW),
        (409, "conflict_error", "false", ROW),
        (429, "rate_limit_error", "false", LIMITED),
        (529, "overloaded_error", "false", OVERLOADED),
        (401, "authentication_error", "true", ACCOUNT),
        (500, "api_error", "perhaps", TRANSIENT),
    ],
)
def test_x_should_retry_moves_only_rows_and_transients(
    status: int, kind_name: str, word: str, kind: FailureKind
) -> None:
    found = failure(outcome_of_reply(status, {**JSON, "x-should-retry": word}, error(kind_name)))
    assert found.kind is kind


DATE = "Sat, 21 Nov 2026 08:00:00 GMT"


@pytest.mark.parametrize("server_date", [DATE, "Sat, 21 Nov 2026 07:00:00 GMT", "Sat, 21 Nov 2026 09:00:00 GMT"])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "4000000"}, 4_000_000.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "junk", "retry-after": "3"}, 3.0),
        ({}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None, server_date: str) -> None:
    found = failure(outcome_of_reply(429, {**JSON, "date": server_date, **headers}, error("rate_limit_error")))
    assert found.retry_after_s == seconds


@pytest.mark.parametrize("hour", [7, 8, 9])
def test_dates_are_measured_by_the_servers_own_clock(hour: int) -> None:
    headers = {
        **JSON,
        "date": f"Sat, 21 Nov 2026 {hour:02}:00:00 GMT",
        "retry-after": f"Sat, 21 Nov 2026 {hour:02}:00:30 GMT",
    }
    assert failure(outcome_of_reply(429, headers, error("rate_limit_error"))).retry_after_s == 30.0
    headers["retry-after"] = f"Sat, 21 Nov 2026 {hour - 1:02}:00:30 GMT"
    assert failure(outcome_of_reply(429, headers, error("rate_limit_error"))).retry_after_s == 0.0


def test_an_exhausted_familys_reset_stands_in_for_a_missing_retry_after() -> None:
    headers = {
        **JSON,
        "date": DATE,
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-21T08:00:12Z",
        "anthropic-ratelimit-requests-remaining": "5",
        "anthropic-ratelimit-requests-reset": "2026-11-21T09:00:00Z",
    }
    assert failure(outcome_of_reply(429, headers, error("rate_limit_error"))).retry_after_s == 12.0


def test_the_origin_is_read_from_the_headers() -> None:
    headers = {
        "request-id": "req_7",
        "anthropic-organization-id": "org_1",
        "anthropic-workspace-id": "wrkspc_1",
        "date": DATE,
    }
    for outcome in (
        outcome_of_reply(200, headers, json.dumps(MESSAGE).encode()),
        outcome_of_reply(400, headers, error("invalid_request_error")),
    ):
        origin = outcome.origin
        assert (origin.request_id, origin.organization, origin.workspace) == ("req_7", "org_1", "wrkspc_1")
        assert origin.server_time_us == 1_795_248_000_000_000


def test_a_request_id_is_found_in_the_body_too() -> None:
    assert outcome_of_reply(500, {}, error("api_error")).origin.request_id == "req_body"


def test_an_answer_keeps_its_bytes() -> None:
    body = json.dumps({**MESSAGE, "new_field": {"x": 1.10}}, indent=3).encode()
    found = answer(outcome_of_reply(200, JSON, body))
    assert found.message is body
    assert (found.message_id, found.model, found.stop_reason) == ("msg_1", "claude-haiku-5-5", "end_turn")
    assert (found.usage.input_tokens, found.usage.output_tokens) == (14, 3)


WHOLE = json.dumps(MESSAGE).encode()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, b""),
        (JSON, WHOLE[:-1]),
        (JSON, WHOLE + b"}"),
        (JSON, b"<html>portal</html>"),
        ({"content-type": "text/html"}, WHOLE),
        (JSON, b"null"),
        (JSON, b'{"type":"message"}'),
        (JSON, json.dumps({**MESSAGE, "type": "completion"}).encode()),
        (JSON, json.dumps({**MESSAGE, "stop_reason": None}).encode()),
        (JSON, WHOLE.replace(b"positive", b"posi\xfftive")),
    ],
)
def test_a_200_that_is_no_whole_message_may_have_been_billed(headers: dict[str, str], body: bytes) -> None:
    found = failure(outcome_of_reply(200, headers, body))
    assert (found.kind, found.type, found.perhaps_billed) == (TRANSIENT, "unreadable_reply", True)


def test_a_redirect_pauses_the_run_and_names_where_it_leads() -> None:
    found = failure(outcome_of_reply(307, {"location": "https://user:pw@evil.example:8443/x"}, b""))
    assert (found.kind, found.trouble, found.perhaps_billed) == (ACCOUNT, ADDRESS, False)
    assert "evil.example:8443" in found.message
    assert "pw" not in found.message


def test_long_messages_are_cut() -> None:
    assert len(failure(outcome_of_reply(400, JSON, error("invalid_request_error", "x" * 9_000))).message) == 2_000
    assert len(failure(outcome_of_reply(502, {}, b"y" * 9_000)).message) < 500


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 1, "output_tokens": 2}, Usage(input_tokens=1, output_tokens=2)),
        ({"input_tokens": 1, "cache_creation_input_tokens": 9}, Usage(input_tokens=1, cache_write_5m=9)),
        (
            {
                "cache_creation_input_tokens": 9,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 5},
                "cache_read_input_tokens": 6,
            },
            Usage(cache_write_5m=4, cache_write_1h=5, cache_read=6),
        ),
        ({"cache_creation_input_tokens": 9, "cache_creation": {}}, Usage(cache_write_5m=9)),
        (
            {"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1d_input_tokens": 9}},
            Usage(unpriced=("cache_creation.ephemeral_1d_input_tokens",)),
        ),
        (
            {"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_5m_input_tokens": 4}},
            Usage(cache_write_5m=4, unpriced=("cache_creation",)),
        ),
        (
            {"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 3, "code_execution_requests": 0}},
            Usage(web_searches=2, uses=(("web_fetch_requests", 3),)),
        ),
        (
            {"server_tool_use": {"code_execution_requests": 1, "time_travels": 1}},
            Usage(uses=(("code_execution_requests", 1), ("time_travels", 1))),
        ),
        ({"server_tool_use": {"dreams": {"deep": 2}}}, Usage(unpriced=("server_tool_use.dreams",))),
        ({"server_tool_use": None, "cache_creation": None}, Usage()),
        (
            {"service_tier": "batch", "inference_geo": "us", "speed": "fast"},
            Usage(service_tier="batch", inference_geo="us", speed="fast"),
        ),
        ({"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 3}}, Usage(output_tokens=5)),
        ({"psychic_tokens": 3, "idle_tokens": 0, "mood": "good", "flag": True}, Usage(unpriced=("psychic_tokens",))),
        ({"future": {"deep": [{"tokens": 3}]}}, Usage(unpriced=("future",))),
        ({"iterations": [{"type": "message", "input_tokens": 3}]}, Usage()),
        ({"iterations": [{"type": "compaction", "input_tokens": 3}]}, Usage(unpriced=("iterations.compaction",))),
        ({"input_tokens": "many", "output_tokens": -1}, Usage(unpriced=("input_tokens", "output_tokens"))),
        (None, Usage(unpriced=("usage",))),
    ],
)
def test_usage_is_priced_or_named(usage: Any, expected: Usage) -> None:
    assert answer(outcome_of_reply(200, JSON, json.dumps({**MESSAGE, "usage": usage}).encode())).usage == expected


REQUEST = httpx.Request("POST", "https://api.anthropic.com/v1/messages")


@pytest.mark.parametrize(
    ("raised", "kind", "name", "billed"),
    [
        (httpx.ConnectError, FailureKind.UNREACHABLE, "connect_error", False),
        (httpx.ConnectTimeout, FailureKind.UNREACHABLE, "connect_timeout", False),
        (httpx.PoolTimeout, FailureKind.UNREACHABLE, "pool_timeout", False),
        (httpx.ProxyError, FailureKind.UNREACHABLE, "proxy_error", False),
        (httpx.UnsupportedProtocol, FailureKind.UNREACHABLE, "unsupported_protocol", False),
        (httpx.WriteError, TRANSIENT, "write_error", True),
        (httpx.WriteTimeout, TRANSIENT, "write_timeout", True),
        (httpx.ReadError, TRANSIENT, "read_error", True),
        (httpx.ReadTimeout, TRANSIENT, "read_timeout", True),
        (httpx.CloseError, TRANSIENT, "close_error", True),
        (httpx.RemoteProtocolError, TRANSIENT, "remote_protocol_error", True),
        (httpx.LocalProtocolError, TRANSIENT, "local_protocol_error", True),
        (httpx.DecodingError, TRANSIENT, "decoding_error", True),
        (httpx.TooManyRedirects, TRANSIENT, "too_many_redirects", True),
    ],
)
def test_only_errors_of_connecting_mean_not_sent(
    raised: type[httpx.RequestError], kind: FailureKind, name: str, billed: bool
) -> None:
    found = outcome_of_exception(raised("", request=REQUEST))
    assert (found.kind, found.type, found.perhaps_billed) == (kind, name, billed)
    assert found.message


def test_every_exception_of_httpx_has_an_outcome() -> None:
    for name in httpx.__all__:
        raised = getattr(httpx, name)
        if isinstance(raised, type) and issubclass(raised, httpx.TransportError):
            assert outcome_of_exception(raised("x")).kind in (FailureKind.UNREACHABLE, TRANSIENT)


def line(**result: Any) -> bytes:
    return json.dumps({"custom_id": "s1-7", "result": result}).encode()


def test_a_succeeded_line_is_an_answer_of_the_batch() -> None:
    found = outcome_of_result_line(line(type="succeeded", message=MESSAGE))
    assert found.custom_id == "s1-7"
    told = answer(found.outcome)
    assert told.batch
    assert json.loads(told.message) == MESSAGE


@pytest.mark.parametrize(
    ("result", "kind", "name", "trouble"),
    [
        ({"error": json.loads(error("invalid_request_error"))}, ROW, "invalid_request_error", None),
        ({"error": {"type": "invalid_request_error", "message": "bare"}}, ROW, "invalid_request_error", None),
        (
            {"error": json.loads(error("invalid_request_error", "Your credit balance is too low"))},
            ACCOUNT,
            "invalid_request_error",
            BILLING,
        ),
        ({"error": json.loads(error("api_error"))}, TRANSIENT, "api_error", None),
        ({"error": json.loads(error("overloaded_error"))}, OVERLOADED, "overloaded_error", None),
        ({}, TRANSIENT, "unknown_error", None),
    ],
)
def test_an_errored_line_counts_like_a_live_error(
    result: dict[str, Any], kind: FailureKind, name: str, trouble: AccountTrouble | None
) -> None:
    found = failure(outcome_of_result_line(line(type="errored", **result)).outcome)
    assert (found.kind, found.type, found.trouble, found.perhaps_billed) == (kind, name, trouble, False)


@pytest.mark.parametrize("end", ["expired", "canceled"])
def test_rows_that_a_batch_never_sent_are_not_billed(end: str) -> None:
    found = failure(outcome_of_result_line(line(type=end)).outcome)
    assert (found.kind, found.type, found.perhaps_billed) == (TRANSIENT, end, False)


def test_an_unknown_end_is_not_sent_again() -> None:
    found = failure(outcome_of_result_line(line(type="evaporated")).outcome)
    assert (found.kind, found.perhaps_billed) == (ROW, True)


def test_a_succeeded_line_without_a_whole_message_may_have_been_billed() -> None:
    found = failure(outcome_of_result_line(line(type="succeeded", message={"type": "message"})).outcome)
    assert (found.kind, found.perhaps_billed) == (TRANSIENT, True)


COUNTS = st.none() | st.integers(-1, 10) | st.booleans() | st.floats(0, 3) | st.text(max_size=2)
FIELDS = ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "new_tokens"]
SPLITS = st.none() | st.dictionaries(
    st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "ephemeral_9h_input_tokens"]), COUNTS
)


@given(
    counts=st.dictionaries(st.sampled_from(FIELDS), COUNTS),
    more=st.fixed_dictionaries(
        {},
        optional={
            "cache_creation": SPLITS,
            "server_tool_use": st.none() | st.dictionaries(st.just("web_search_requests"), COUNTS),
            "service_tier": COUNTS,
            "output_tokens_details": st.none() | st.dictionaries(st.text(max_size=1), COUNTS),
        },
    ),
)
def test_the_quick_look_at_usage_sees_what_the_thorough_one_sees(counts: Any, more: Any) -> None:
    told = {**counts, **more}
    assert usage_of(msgspec.Raw(json.dumps(told).encode())) == read_usage(told)
