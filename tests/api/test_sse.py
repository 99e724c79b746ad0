"""Event streams: cut anywhere, they give the same events; whole, they give the message; cut short, they do not."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.api.sse import Event, EventParser, MessageAssembler, StreamMalformed
from runner.api.wire import outcome_of_stream
from runner.domain.outcome import Answer, Failure, FailureKind

START = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "cache_read_input_tokens": 2, "output_tokens": 1, "service_tier": "standard"},
}


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


ODD_TEXT = "line\u2028separator\u0085\x1c\x0bé🎉"
WHOLE: list[dict[str, Any]] = [
    {"type": "message_start", "message": START},
    {"type": "ping"},
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "thinking_delta", "thinking": "m"},
        {"type": "signature_delta", "signature": "c2ln"},
    ),
    *block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Hi "},
        {"type": "text_delta", "text": ODD_TEXT},
        {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "Hi"}},
        {"type": "sparkle_delta", "sparkle": 1},
    ),
    *block(
        2,
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"n": 12345678901234567890123, "x"'},
        {"type": "input_json_delta", "partial_json": ": 1.10}"},
    ),
    *block(3, {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}),
    *block(4, {"type": "hologram", "glow": {"a": 1}}),
    {"type": "constellation", "stars": 3},
    {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 3}},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None, "container": {"id": "c1"}, "stop_details": None},
        "usage": {"output_tokens": 7, "input_tokens": None, "server_tool_use": {"web_search_requests": 1}},
        "context_management": {"applied": []},
    },
    {"type": "message_stop"},
]


def told(events: list[dict[str, Any]], end: str = "\n") -> bytes:
    lines = [
        f"event: {event['type']}{end}data: {json.dumps(event, ensure_ascii=False)}{end}{end}" for event in events
    ]
    return "".join(lines).encode()


def parsed(data: bytes, cuts: list[int] | None = None) -> list[Event]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or [])})
    parser = EventParser()
    return [event for start, end in itertools.pairwise(places) for event in parser.feed(data[start:end])]


def assembled(data: bytes) -> MessageAssembler:
    assembler = MessageAssembler()
    for event in parsed(data):
        assembler.feed(event)
    return assembler


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@given(cuts=st.lists(st.integers(min_value=0), max_size=30))
def test_chunks_may_be_cut_anywhere(end: str, cuts: list[int]) -> None:
    data = told(WHOLE, end)
    events = parsed(data, cuts)
    assert events == parsed(told(WHOLE))
    assert [json.loads(event.data) for event in events] == WHOLE


def test_every_single_cut_and_single_bytes_too() -> None:
    data = told(WHOLE[:4], "\r\n")
    expected = parsed(data)
    assert all(parsed(data, [cut]) == expected for cut in range(len(data)))
    assert parsed(data, list(range(len(data)))) == expected


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: a\n\n", [("message", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", b"a")]),
        (b"data:a\ndata: b\ndata\n\n", [("message", b"a\nb\n")]),
        (b": comment\nid: 3\nretry: 9\nodd\nevent: x\ndata:  a\n\n", [("x", b" a")]),
        (b"event: x\n\n\n\ndata: a\n\n", [("message", b"a")]),
        (b"data: a\r\rdata: b\r\n\r\n", [("message", b"a"), ("message", b"b")]),
        ("data: a\u2028b\u0085c\x0b\n\n".encode(), [("message", "a\u2028b\u0085c\x0b".encode())]),
        (b"data: never ended\n", []),
        (b"", []),
    ],
)
def test_the_rules_of_event_streams(data: bytes, events: list[tuple[str, bytes]]) -> None:
    assert [tuple(event) for event in parsed(data)] == events


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=10))
def test_any_bytes_give_the_same_events_however_cut(data: bytes, cuts: list[int]) -> None:
    assert parsed(data, cuts) == parsed(data)


def test_a_stream_becomes_the_message_that_a_plain_call_returns() -> None:
    message = json.loads(assembled(told(WHOLE)).message_bytes())
    assert message == {
        **START,
        "content": [
            {"type": "thinking", "thinking": "hmm", "signature": "c2ln"},
            {
                "type": "text",
                "text": "Hi " + ODD_TEXT,
                "citations": [{"type": "char_location", "cited_text": "Hi"}],
            },
            {
                "type": "tool_use",
                "id": "toolu_1",
                "name": "f",
                "input": {"n": 12345678901234567890123, "x": 1.10},
            },
            {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
            {"type": "hologram", "glow": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "container": {"id": "c1"},
        "stop_details": None,
        "context_management": {"applied": []},
        "usage": {
            "input_tokens": 9,
            "cache_read_input_tokens": 2,
            "output_tokens": 7,
            "service_tier": "standard",
            "server_tool_use": {"web_search_requests": 1},
        },
    }


def test_tool_input_keeps_the_numbers_that_the_model_wrote() -> None:
    assert b'{"n": 12345678901234567890123, "x": 1.10}' in assembled(told(WHOLE)).message_bytes()


def test_a_tool_call_cut_by_max_tokens_keeps_its_half() -> None:
    events = block(0, {"type": "tool_use", "input": {}}, {"type": "input_json_delta", "partial_json": '{"a": [1,'})
    content = assembled(told([WHOLE[0], *events])).message()["content"]
    assert content == [{"type": "tool_use", "input": {}, "partial_json": '{"a": [1,'}]


@pytest.mark.parametrize("count", range(len(WHOLE)))
def test_a_stream_cut_after_any_event_is_no_answer(count: int) -> None:
    outcome = outcome_of_stream(assembled(told(WHOLE[:count])), {"request-id": "req_1"})
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.type, outcome.perhaps_billed) == (FailureKind.TRANSIENT, "cut_reply", True)
    assert outcome.origin.request_id == "req_1"


def test_a_cut_stream_tells_what_it_had_used() -> None:
    outcome = outcome_of_stream(assembled(told(WHOLE[:-1])), {})
    assert isinstance(outcome, Failure)
    assert "11 tokens in, 7 out" in outcome.message


def test_a_whole_stream_is_an_answer() -> None:
    outcome = outcome_of_stream(assembled(told(WHOLE)), {})
    assert isinstance(outcome, Answer)
    assert (outcome.stop_reason, outcome.usage.output_tokens, outcome.usage.web_searches) == ("tool_use", 7, 1)


@pytest.mark.parametrize("place", range(len(WHOLE)))
@pytest.mark.parametrize(
    ("error_type", "kind"),
    [
        ("overloaded_error", FailureKind.OVERLOADED),
        ("api_error", FailureKind.TRANSIENT),
        ("rate_limit_error", FailureKind.RATE_LIMITED),
        ("authentication_error", FailureKind.ACCOUNT),
        ("invalid_request_error", FailureKind.ROW),
        ("brand_new_error", FailureKind.TRANSIENT),
    ],
)
def test_an_error_event_counts_by_its_type_wherever_it_comes(place: int, error_type: str, kind: FailureKind) -> None:
    error = {"type": "error", "error": {"type": error_type, "message": "sorry"}}
    outcome = outcome_of_stream(assembled(told([*WHOLE[:place], error, *WHOLE[place:]])), {})
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.type, outcome.perhaps_billed) == (kind, error_type, True)


def test_nothing_counts_after_message_stop() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "late"}}
    assert isinstance(outcome_of_stream(assembled(told([*WHOLE, error])), {}), Answer)


def test_message_stop_without_a_stop_reason_is_no_answer() -> None:
    outcome = outcome_of_stream(assembled(told([WHOLE[0], WHOLE[-1]])), {})
    assert isinstance(outcome, Failure)
    assert (outcome.type, outcome.perhaps_billed) == ("unreadable_reply", True)


@pytest.mark.parametrize(
    "event",
    [
        b"not json",
        b"[]",
        b'{"type":"content_block_delta","index":9,"delta":{"type":"text_delta","text":"lost"}}',
        b'{"type":"content_block_delta","index":0}',
        b'{"type":"message_start","message":null}',
        b'{"type":"message_delta","delta":{}}',
    ],
)
def test_what_would_lose_content_is_malformed(event: bytes) -> None:
    with pytest.raises(StreamMalformed):
        MessageAssembler().feed(Event("message", event))
