"""Output lines: exact, in one line, the row and the answer as they were."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from runner.domain.outcome import Usage
from runner.domain.result import ExportedRow, RowResult
from runner.domain.states import RowStatus
from runner.files.output_lines import anthropic_line, line_writer, openai_line, output_line

RESULT = RowResult(
    idx=4, record=4, variant=0, repeat=0, round=1, key="k-4", status=RowStatus.SUCCEEDED, stop_reason="end_turn",
    model="m", usage=Usage(input_tokens=3, output_tokens=2, cache_read=5, cache_write_1h=7), cost_pico=12_345_000,
    price_version="p", request_id="req_1", attempts=2, latency_us=1_234_567, batch=None, error_type=None,
    error_message=None,
)  # fmt: skip
FAILED = replace(
    RESULT, status=RowStatus.ERRORED, stop_reason=None, usage=None, cost_pico=None, error_type="api_error",
    error_message="boom \ud83d", key=None, latency_us=None,
)  # fmt: skip


def message(*texts: str, **extra: Any) -> bytes:
    content = [{"type": "thinking", "thinking": "t"}, *({"type": "text", "text": text} for text in texts)]
    return json.dumps({"id": "msg_1", "content": content, **extra}).encode()


def exported(row: bytes = b'{"a": 1}', answer: bytes | None = None, result: RowResult = RESULT) -> ExportedRow:
    return ExportedRow(result=result, row=row, message=answer)


def line(row: ExportedRow, **options: Any) -> dict[str, Any]:
    data = output_line(row, run="r_1", mode="live", **options)
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    assert b"\r" not in data
    return json.loads(data)  # type: ignore[no-any-return]


def test_a_line_has_every_part() -> None:
    assert line(exported(answer=message("hel", "lo"))) == {
        "key": "k-4",
        "index": 4,
        "status": "succeeded",
        "text": "hello",
        "output": None,
        "stop_reason": "end_turn",
        "model": "m",
        "usage": {
            "input_tokens": 3,
            "output_tokens": 2,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 7},
            "web_search_requests": 0,
        },
        "cost_usd": 0.000012345,
        "attempts": 2,
        "latency_ms": 1235,
        "error": None,
        "meta": {
            "run": "r_1", "mode": "live", "variant": None, "repeat": 0, "batch": None, "request_id": "req_1",
            "simulated": False,
        },
        "row": {"a": 1},
    }  # fmt: skip


def test_a_failed_row_has_its_error_and_no_text() -> None:
    told = line(exported(result=FAILED), simulated=True)
    assert (told["text"], told["usage"], told["cost_usd"], told["latency_ms"]) == (None, None, None, None)
    assert told["error"] == {"type": "api_error", "message": "boom ?"}
    assert told["meta"]["simulated"] is True


@given(st.dictionaries(st.text(), st.text()), st.booleans(), st.lists(st.text(), max_size=3))
def test_row_bytes_and_answer_texts_survive(row: dict[str, str], escaped: bool, texts: list[str]) -> None:
    original = json.dumps(row, ensure_ascii=escaped, indent=None).encode()
    data = output_line(exported(original, message(*texts)), run="r", mode="live")
    assert data.rstrip(b"\n").endswith(b'"row":' + original + b"}")
    assert json.loads(data)["text"] == "".join(texts)


def test_the_rows_own_spelling_is_kept() -> None:
    spelled = b'{"big": 123456789012345678901234567890, "exp": 1.10E2, "esc": "\\u00e9\\/", "sp" :  0}'
    assert spelled in output_line(exported(spelled), run="r", mode="live")


def test_half_a_surrogate_pair_in_an_answer_stays_an_escape() -> None:
    data = output_line(
        exported(answer=b'{"id":"m","content":[{"type":"text","text":"x\\ud83d"}]}'), run="r", mode="live"
    )
    assert b'"text":"x\\ud83d"' in data


def test_a_line_break_between_tokens_of_a_row_becomes_a_blank() -> None:
    assert line(exported(b'{"a":\r1}'))["row"] == {"a": 1}


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ('{"a": 1.10,\n "b": [1]}', b'{"a": 1.10,  "b": [1]}'),
        (" 3 ", b"3"),
        ('{"a": 1', b"null"),
        ("NaN", b"null"),
        ("hello", b"null"),
        ('"\\ud83d"', b'"\\ud83d"'),
    ],
)
def test_the_output_is_the_value_that_the_text_spells(text: str, spelled: bytes) -> None:
    data = output_line(exported(answer=message(text)), run="r", mode="live", parse_json=True)
    assert b'"output":' + spelled + b"," in data


@given(st.integers(min_value=0, max_value=10**18))
def test_the_cost_is_an_exact_decimal(pico: int) -> None:
    data = output_line(exported(result=replace(RESULT, cost_pico=pico)), run="r", mode="live")
    assert json.loads(data, parse_float=Decimal, parse_int=Decimal)["cost_usd"] == Decimal(pico) / 10**12


def test_the_anthropic_form_is_a_batch_result_line() -> None:
    answer = message("x")
    told = json.loads(anthropic_line(exported(answer=answer)))
    assert told == {"custom_id": "k-4", "result": {"type": "succeeded", "message": json.loads(answer)}}
    failed = json.loads(anthropic_line(exported(result=FAILED)))
    assert failed["custom_id"] == "row-4"
    assert failed["result"]["error"]["error"]["type"] == "api_error"
    expired = replace(RESULT, status=RowStatus.EXPIRED)
    assert json.loads(anthropic_line(exported(result=expired)))["result"] == {"type": "expired"}


def test_the_openai_form_is_a_batch_output_line() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}}
    answer = json.dumps({"id": "msg_1", "content": [{"type": "text", "text": "x"}, call]}).encode()
    result = replace(RESULT, stop_reason="max_tokens")
    told = json.loads(openai_line(exported(answer=answer, result=result), run="r_1"))
    assert told["id"] == "batch_req_r_1_4"
    choice = told["response"]["body"]["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == "x"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"a": [1]}
    assert told["response"]["body"]["usage"]["prompt_tokens"] == 15
    failed = json.loads(openai_line(exported(result=FAILED), run="r_1"))
    assert (failed["response"], failed["error"]["code"]) == (None, "api_error")


@pytest.mark.parametrize(("form", "key"), [("runner", "row"), ("anthropic", "result"), ("openai", "response")])
def test_each_form_has_its_writer(form: str, key: str) -> None:
    assert key in json.loads(line_writer(form, run="r", mode="live")(exported()))
