"""The page of log events is the list of log events."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEVELS = frozenset({"debug", "info", "warning", "error", "critical"})


def logged() -> dict[str, tuple[str, frozenset[str]]]:
    """Each event's level, and the fields that are written where it is logged; none where they come from elsewhere."""
    found = {}
    for path in (ROOT / "runner").rglob("*.py"):
        if "simulator" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id == "log":
                    name = node.args[0]
                    assert isinstance(name, ast.Constant), f"{path}: an event's name is a word, not made up"
                    found[str(name.value)] = (node.func.attr, _fields(node))
    return found


def _fields(node: ast.Call) -> frozenset[str]:
    extra = next((keyword.value for keyword in node.keywords if keyword.arg == "extra"), None)
    if not isinstance(extra, ast.Dict):
        return frozenset()
    return frozenset(str(key.value) for key in extra.keys if isinstance(key, ast.Constant))


def test_every_event_is_on_the_page_with_its_level_and_fields_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "log-events.md").read_text(encoding="utf-8")
    told = {
        name: (level, frozenset(re.findall(r"`(\w+)`", fields)))
        for name, level, fields in re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", page, re.MULTILINE)
    }
    events = logged()
    assert set(told) == set(events)
    for name, (level, fields) in events.items():
        assert told[name][0] == level, name
        assert not fields or told[name][1] == fields, name


def test_event_names_are_snake_case() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in logged())
