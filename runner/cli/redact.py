"""Takes whatever looks like a secret out of text on its way to a log."""

from __future__ import annotations

import re

HIDDEN = "[hidden]"

_PATTERNS = (
    (re.compile(r"sk-ant-[A-Za-z0-9_\-]+"), HIDDEN),
    (re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=\-]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)(\bbasic\s+)[A-Za-z0-9+/=]{8,}"), rf"\1{HIDDEN}"),
    # As a header, in JSON, in a repr of pairs: the value ends at a quote, a comma or a blank.
    (
        re.compile(
            r"(?i)((?:x-api-key|api[_-]key|auth[_-]token|authorization|password|secret)['\"]?\s*[,:=]\s*b?['\"]?)"
            r"(?!\[hidden\]|bearer |basic )[^\s'\",;)}\]]+"
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"([a-zA-Z][a-zA-Z0-9+.\-]*://[^\s/:@'\"]*:)[^\s/'\"]+@"), rf"\1{HIDDEN}@"),
)


def redacted(text: str) -> str:
    """`text` without keys, tokens and passwords."""
    for pattern, put in _PATTERNS:
        text = pattern.sub(put, text)
    return text
