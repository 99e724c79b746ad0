"""Nothing that a model, a server or a row says can do anything to the terminal it is shown on."""

from __future__ import annotations

import unicodedata

import pytest

from runner.views.safe_text import safe_line, safe_text

KEPT = {"\t", "\n"}
BIDI = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C]
ZERO_WIDTH = [0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD]


@pytest.mark.parametrize("point", range(0xA0))
def test_every_control_below_a0_becomes_a_visible_escape(point: int) -> None:
    letter = chr(point)
    shown = safe_text(letter)
    if letter in KEPT or not unicodedata.category(letter).startswith("C"):
        assert shown == letter
    else:
        assert shown == f"\\x{point:02x}"


@pytest.mark.parametrize("point", [*BIDI, *ZERO_WIDTH, 0x2028, 0x2029, 0xD800, 0xDFFF, 0xE0041])
def test_what_reorders_hides_or_breaks_a_line_becomes_visible(point: int) -> None:
    shown = safe_text(f"a{chr(point)}b")
    assert shown.isascii()
    assert f"{point:x}" in shown


@pytest.mark.parametrize("text", ["Zoë", "日本語", "emoji 😀", "עברית", "a b", "\u00a0"])
def test_scripts_of_people_stay_as_they_are(text: str) -> None:
    assert safe_text(text) == text


def test_an_escape_sequence_is_only_text() -> None:
    assert safe_text("\x1b]52;c;ZXZpbA==\x07") == "\\x1b]52;c;ZXZpbA==\\x07"
    assert safe_text("\x9b31m") == "\\x9b31m"


def test_a_line_stays_one_line() -> None:
    assert safe_line("a\nb\tc\r") == "a\\nb\\tc\\x0d"


def test_a_long_line_is_cut_and_says_so() -> None:
    assert safe_line("x" * 20, 10) == "xxxxxxx..."
    assert safe_line("x" * 10, 10) == "x" * 10
