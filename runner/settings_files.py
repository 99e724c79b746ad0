"""The files that settings may come from: `.env`, the project's `runner.toml`, the user's `config.toml`."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import UsageInvalid

PROJECT_FILE = "runner.toml"
# A `.env` beyond this is some other file of that name.
MAX_DOTENV_BYTES = 1_000_000
# Settings that are tables; all others are single values.
TABLES = frozenset({"custom_headers", "model_prices"})

_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}


@dataclass(frozen=True, kw_only=True)
class SettingsFile:
    """What one file says. `path` is None where there is none."""

    values: Mapping[str, object] = field(default_factory=dict, repr=False)
    path: Path | None = None

    @property
    def folder(self) -> Path | None:
        return None if self.path is None else self.path.parent

    @property
    def shown(self) -> str:
        return "" if self.path is None else self.path.name


def read_project(cwd: Path, known: Iterable[str]) -> SettingsFile:
    """The nearest `runner.toml`, or pyproject.toml with `[tool.runner]`, from `cwd` upwards."""
    for folder in (cwd, *cwd.parents):
        own = folder / PROJECT_FILE
        if own.is_file():
            return SettingsFile(values=_checked(_toml(own), own, known), path=own)
        shared = folder / "pyproject.toml"
        if shared.is_file() and isinstance(table := _toml(shared).get("tool", {}).get("runner"), dict):
            return SettingsFile(values=_checked(table, shared, known), path=shared)
    return SettingsFile()


def read_user(env: Mapping[str, str], known: Iterable[str]) -> SettingsFile:
    """The user's own file in the place that XDG names."""
    base = env.get("XDG_CONFIG_HOME")
    folder = Path(base) if base and Path(base).is_absolute() else user_folder(env) / ".config"
    path = folder / "runner" / "config.toml"
    if not path.is_file():
        return SettingsFile()
    return SettingsFile(values=_checked(_toml(path), path, known), path=path)


def user_folder(env: Mapping[str, str]) -> Path:
    """The user's home folder."""
    return Path(env["HOME"]) if env.get("HOME") else Path.home()


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageInvalid(f"{path} cannot be read: {error}") from None


def _checked(table: Mapping[str, object], path: Path, known: Iterable[str]) -> Mapping[str, object]:
    names = set(known)
    for key, value in table.items():
        if key not in names:
            raise UsageInvalid(
                f"{path} has the unknown key {key!r}.",
                name="unknown-setting",
                hints=_nearest(key, names - table.keys()),
            )
        if isinstance(value, list) or (isinstance(value, dict) and key not in TABLES):
            raise UsageInvalid(f"{key} in {path} must be a single value.")
    return table


def _nearest(key: str, names: Iterable[str]) -> tuple[str, ...]:
    found = difflib.get_close_matches(key.lower().replace("-", "_"), sorted(names), n=1)
    return (f"did you mean {found[0]} ?",) if found else (f"known: {', '.join(sorted(names))}",)


def read_dotenv(path: Path) -> dict[str, str]:
    """`KEY=VALUE` lines: comments, `export`, quotes. Nothing is substituted and nothing is run."""
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            text = file.read(MAX_DOTENV_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageInvalid(f"{path} cannot be read: {error}") from None
    return dict(_assignments(text))


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        found = _ASSIGNMENT.fullmatch(line.strip())
        if found:
            yield found[1], _unquoted(found[2])


def _unquoted(told: str) -> str:
    """A value without its quotes; outside of quotes a comment begins at ` #`."""
    if told.startswith("'") and (end := told.find("'", 1)) > 0:
        return told[1:end]
    if told.startswith('"') and (found := re.match(r'"((?:[^"\\]|\\.)*)"', told)):
        return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), found[1])
    return re.split(r"(?:^|\s)#", told, maxsplit=1)[0].strip()
