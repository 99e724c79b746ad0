"""One line to one object: what passes unchanged, and what is refused with its place."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.files.bad_row import BadLine, BadRow
from runner.files.strict_json import parse_object

PASSES = [
    (b'{"a":1}', {"a": 1}),
    (b' \t{"a":1} ', {"a": 1}),
    (b"{}", {}),
    (b'{"a":"\\u0000"}', {"a": "\x00"}),
    (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
    (b'{"a":"\\\\ud83d"}', {"a": "\\ud83d"}),
    ('{"a":"\u2028\u2029\u0085\x7f"}'.encode(), {"a": "\u2028\u2029\u0085\x7f"}),
    (b'{"a":9007199254740993,"b":-123456789012345678901234567890}',
     {"a": 9007199254740993, "b": -123456789012345678901234567890}),
    (b'{"a":' + b"9" * 4000 + b"}", {"a": 10**4000 - 1}),
    (b'{"a":"NaN","b":[{"a":1},{"a":2}]}', {"a": "NaN", "b": [{"a": 1}, {"a": 2}]}),
]  # fmt: skip

REFUSED = [
    (b'{"id": 16, "text": "He said "no" and left"}', "is not JSON: expected ','", 30),
    (b'{"a":1', "is not JSON: expected ','", 7),
    (b'{"a":1}{"b":2}', "is not JSON: extra data", 8),
    (b'{"a":"x\ty"}', "is not JSON: invalid control character", 8),
    (b"\xef\xbb\xbf{}", "is not JSON", 1),
    (b"", "is not JSON: expected value", 1),
    (b"[1]", "is a JSON array; each line must be one JSON object", None),
    (b'"x"', "is a JSON string", None),
    (b"null", "is null", None),
    (b"17", "is a number", None),
    (b'{"a":"NaN","b":NaN}', "holds NaN", 16),
    (b'{"a":-Infinity}', "holds -Infinity", 6),
    (b'{"a":1e999}', "holds the number 1e999, which is too large", 6),
    (b'{"a":[1,-1e999]}', "holds the number -1e999", 9),
    (b'{"a":1' + b"0" * 4000 + b"}", "holds an integer of more than 4,000 digits", 6),
    (b'{"a":1,"a":2}', 'has the key "a" twice', None),
    (b'{"b":{"a":1,"\\u0061":2}}', 'has the key "a" twice', None),
    (b'{"a":"\xff"}', "is not UTF-8: byte 0xff at byte 7", None),
    (b'{"a":"\xed\xa0\xbd"}', "is not UTF-8", None),
    (b'{"a":"\\ud83d"}', "holds half a character: the lone surrogate \\ud83d", None),
    (b' {"a":["\\udc00x"]}', "holds half a character", None),
    (b'{"\\udfff":1}', "holds half a character", None),
    (b'{"a":' * 100_000, "is nested too deeply", None),
]


@pytest.mark.parametrize(("line", "value"), PASSES)
def test_what_json_means_passes_unchanged(line: bytes, value: dict[str, object]) -> None:
    assert parse_object(line) == value


@pytest.mark.parametrize(("line", "reason", "column"), REFUSED)
def test_what_json_does_not_mean_is_refused_with_its_column(line: bytes, reason: str, column: int | None) -> None:
    with pytest.raises(BadRow) as caught:
        parse_object(line)
    assert caught.value.reason.startswith(reason)
    assert caught.value.column == column


@given(st.dictionaries(st.text(), st.text()), st.booleans())
def test_any_text_survives_reading(row: dict[str, str], escaped: bool) -> None:
    assert parse_object(json.dumps(row, ensure_ascii=escaped).encode()) == row


@given(st.binary(max_size=60))
def test_no_bytes_make_the_reader_fail_otherwise(line: bytes) -> None:
    with suppress(BadRow):
        assert isinstance(parse_object(line), dict)


def test_a_bad_line_reads_as_one_sentence() -> None:
    line = BadLine.of(17, "data/in.jsonl line 17", b"{" + b"x" * 500, BadRow("is not JSON: expected ','", 30))
    assert line.sentence() == "data/in.jsonl line 17 is not JSON: expected ',' at column 30."
    assert len(line.excerpt) < 200
