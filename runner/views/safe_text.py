"""Text that cannot do anything to the terminal it is shown on.

What models, servers, rows and file names say goes through here on its way to a screen: an escape sequence in an
answer could otherwise change the clipboard, hide a line or reorder the text that a person reads.
"""

from __future__ import annotations

_C0_AND_DEL = {*range(0x20), 0x7F} - {0x09, 0x0A}
_C1 = set(range(0x80, 0xA0))
_BIDI = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_ZERO_WIDTH = {0x00AD, 0x180E, 0x200B, 0x200C, 0x200D, *range(0x2060, 0x2066), *range(0x206A, 0x2070), 0xFEFF}
# Line and paragraph separators end a line in some terminals; interlinear marks and tag letters hide text.
_BREAKING = {0x2028, 0x2029}
_HIDING = {*range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080)}
# Half a surrogate pair cannot be written at all.
_SURROGATES = set(range(0xD800, 0xE000))


def _escape(point: int) -> str:
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


_ESCAPES = {
    point: _escape(point) for point in (*_C0_AND_DEL, *_C1, *_BIDI, *_ZERO_WIDTH, *_BREAKING, *_HIDING, *_SURROGATES)
}
_ON_ONE_LINE = {**_ESCAPES, 0x0A: "\\n", 0x09: "\\t"}


def safe_text(text: str) -> str:
    """`text` with every invisible or controlling character as a visible escape; tabs and line ends stay."""
    return text.translate(_ESCAPES)


def safe_line(text: str, most: int | None = None) -> str:
    """The same on one line, cut to `most` characters."""
    shown = text.translate(_ON_ONE_LINE)
    return shown if most is None or len(shown) <= most else shown[: max(most - 3, 0)] + "..."
