"""The floors of docs/architecture.md, kept by reading the imports (those for type checking only included)."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "runner"
GROUND = frozenset({"errors", "clock", "failpoints", "settings"})
STDLIB = frozenset(sys.stdlib_module_names)

# Which rooms of our own a room may import, beside itself.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "clock": frozenset(),
    "failpoints": frozenset(),
    "settings": frozenset({"errors"}),
    "domain": frozenset({"errors"}),
    "files": GROUND | {"domain"},
    "api": GROUND | {"domain"},
    "store": GROUND | {"domain"},
    "engine": GROUND | {"domain", "files", "api", "store"},
    "views": GROUND | {"domain", "files", "store"},
    "simulator": frozenset({"clock"}),
    "cli": GROUND | {"domain", "files", "api", "store", "engine", "views", "simulator"},
    "__main__": frozenset({"cli"}),
    "migrations": frozenset({"store"}),
}
# Other people's databases are read and written by one module, which knows nothing of ours.
THEIR_DATABASES = "runner.files.foreign_database"
# Foreign packages that one room keeps to itself.
ONLY_IN = {
    "httpx": {"api"},
    "sqlalchemy": {"store", "migrations"},
    "psycopg": {"store", "migrations"},
    "sqlite3": {"store", "migrations"},
    "alembic": {"store", "migrations"},
    "jinja2": {"files"},
    "ruamel": {"files"},
    "click": {"cli"},
    "procrastinate": {"engine", "store"},
}


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module, by its full name, and where that is written."""

    file: Path
    line: int
    importer: str
    name: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(REPOSITORY)}:{self.line}: {self.importer} imports {self.name}"


def sources() -> dict[str, Path]:
    """Every module of the program and of the migrations, by its dotted name."""
    found = {}
    for top in (PACKAGE, REPOSITORY / "migrations"):
        for path in top.rglob("*.py"):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = sources()


def room(module: str) -> str:
    """`domain` for runner.domain.states, `errors` for runner.errors, `migrations` for a migration.

    A room on the ground may be several files: `settings` is also runner/settings_files.py.
    """
    parts = module.split(".")
    if parts[0] != "runner" or len(parts) == 1:
        return parts[0]
    stem = parts[1].partition("_")[0]
    return stem if stem in GROUND else parts[1]


def imports_of(module: str) -> Iterator[Import]:
    path = SOURCES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in _named(node, package):
            yield Import(file=path, line=node.lineno, importer=module, name=name)


def _named(node: ast.AST, package: str) -> Iterable[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, base] if base else above)
    # `from runner.domain import states` means the module, not the package.
    return [full if (full := f"{base}.{alias.name}") in SOURCES else base for alias in node.names]


IMPORTS = [found for module in SOURCES for found in imports_of(module)]
OWN = [found for found in IMPORTS if found.name.split(".")[0] == "runner"]


def complain(broken: Iterable[Import], rule: str) -> None:
    lines = [f"{found}\n    rule: {rule}" for found in broken]
    assert not lines, "\n" + "\n".join(lines)


def test_the_reader_of_imports_sees_what_is_there() -> None:
    assert "runner.domain.decide" in SOURCES
    seen = {(found.importer, found.name) for found in OWN}
    assert ("runner.domain.decide", "runner.domain.states") in seen
    assert ("runner.domain.job", "runner.domain.decide") in seen


@pytest.mark.parametrize("name", sorted({room(module) for module in SOURCES if module != "runner"}))
def test_each_room_imports_only_from_the_floors_under_it(name: str) -> None:
    assert name in MAY_IMPORT, f"runner/{name} is no room of docs/architecture.md"
    allowed = MAY_IMPORT[name] | {name, "runner"}
    broken = [found for found in OWN if room(found.importer) == name and room(found.name) not in allowed]
    complain(broken, f"{name} may import only {', '.join(sorted(MAY_IMPORT[name])) or 'nothing of ours'}")


def test_the_package_itself_imports_nothing_so_that_help_is_quick() -> None:
    complain([found for found in OWN if found.importer == "runner"], "runner/__init__.py imports no room")


def test_the_domain_needs_only_the_standard_library_and_what_values_are_made_of() -> None:
    taken = STDLIB | {"runner"}
    foreign = [
        found
        for found in IMPORTS
        if room(found.importer) == "domain"
        and found.name.split(".")[0] not in taken
        and found.name not in {"msgspec", "msgspec.structs"}
    ]
    complain(foreign, "domain imports only errors, itself, the standard library and msgspec's values")


@pytest.mark.parametrize("name", ["anyio", "asyncio", "time", "random", "socket", "subprocess", "threading"])
def test_the_domain_has_no_clock_no_chance_and_no_io(name: str) -> None:
    broken = [f for f in IMPORTS if room(f.importer) == "domain" and f.name.split(".")[0] == name]
    complain(broken, "time and chance come into domain as arguments")


@pytest.mark.parametrize("name", sorted(ONLY_IN))
def test_a_foreign_package_stays_in_its_room(name: str) -> None:
    rooms = ONLY_IN[name]
    used = [found for found in IMPORTS if found.name.split(".")[0] == name]
    broken = [found for found in used if not _may_import(found, rooms)]
    complain(broken, f"{name} is imported only in {', '.join(sorted(rooms))}")


def _may_import(found: Import, rooms: set[str]) -> bool:
    return room(found.importer) in rooms or (
        found.importer == THEIR_DATABASES and found.name.startswith("sqlalchemy")
    )


def test_only_main_and_nothing_else_imports_the_command_line() -> None:
    broken = [f for f in OWN if room(f.name) == "cli" and room(f.importer) not in {"cli", "__main__"}]
    complain(broken, "nothing imports cli")


def test_no_module_imports_itself_by_a_detour() -> None:
    arrows: dict[str, dict[str, Import]] = {module: {} for module in SOURCES}
    for found in OWN:
        if found.name in SOURCES and found.name != found.importer:
            arrows[found.importer].setdefault(found.name, found)
    circle = _circle(arrows)
    complain(circle, "no cycles, type-only imports included: a shared type moves down a floor")


def _circle(arrows: dict[str, dict[str, Import]]) -> list[Import]:
    """The imports of one cycle, or none."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str] | None:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        found = next(filter(None, (walk(to, [*path, module]) for to in arrows[module])), None)
        done.add(module)
        return found

    for module in arrows:
        if circle := walk(module, []):
            return [arrows[one][to] for one, to in pairwise(circle)]
    return []


def test_a_cycle_would_be_seen() -> None:
    at = {"file": PACKAGE, "line": 1}
    there = Import(**at, importer="a", name="b")
    back = Import(**at, importer="b", name="a")
    assert _circle({"a": {"b": there}, "b": {"a": back}, "c": {}}) == [there, back]
    assert _circle({"a": {"b": there}, "b": {}}) == []


def test_every_room_has_its_line_in_the_architecture_page() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    for name in sorted({room(module) for module in SOURCES} - {"runner", "__main__", "migrations"}):
        assert re.search(rf"\b{name}\b", page), f"docs/architecture.md says nothing of {name}"
