"""A skill as it lies on the disk, a folder or a zip: looked at before it is uploaded."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from msgspec import Struct

from runner.errors import InputInvalid

MAX_SKILL_BYTES = 30_000_000
MAX_NAME, MAX_DESCRIPTION = 64, 1_024
MATTER = "SKILL.md"
_NAME = re.compile(r"[a-z0-9-]+")
_LEFT_OUT = (".git", "__pycache__", ".DS_Store", ".venv", "node_modules")


class SkillFiles(Struct, frozen=True, kw_only=True):
    """`files` by the names under which they are uploaded, all in one folder."""

    name: str
    description: str
    files: tuple[tuple[str, bytes], ...]


def read_skill(path: Path) -> SkillFiles:
    """The skill of a folder or of a zip. Raises InputInvalid with what the API would refuse."""
    if path.is_dir():
        files = _of_folder(path)
    elif path.is_file():
        files = _of_zip(path)
    else:
        raise InputInvalid(f"there is no skill at {path}.", name="skill", hints=("a folder or a zip with SKILL.md",))
    matters = [name for name in files if name.rpartition("/")[2] == MATTER and name.count("/") == 1]
    if len(matters) != 1:
        what = "no SKILL.md" if not matters else "more than one SKILL.md"
        raise InputInvalid(f"{path} holds {what} at its top.", name="skill")
    size = sum(map(len, files.values()))
    if size >= MAX_SKILL_BYTES:
        raise InputInvalid(f"{path} has {size / 1e6:.1f} MB; the API takes less than 30.", name="skill")
    try:
        matter = front_matter(files[matters[0]].decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputInvalid(f"{path}/{MATTER} is not UTF-8.", name="skill") from None
    problems = list(_problems(matter))
    if problems:
        raise InputInvalid(f"{path}/{MATTER} cannot be used.", name="skill", hints=problems)
    return SkillFiles(name=matter["name"], description=matter["description"], files=tuple(files.items()))


def front_matter(text: str) -> dict[str, str]:
    """The plain values between the first two lines of dashes; empty where there are none."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].strip() != "---":
        return {}
    found: dict[str, str] = {}
    last = ""
    for line in lines[1:]:
        if line.strip() == "---":
            return found
        if line[:1] in (" ", "\t") and last:
            found[last] = f"{found[last].removeprefix('>').removeprefix('|')} {line.strip()}".strip()
            continue
        name, colon, value = line.partition(":")
        if colon:
            last = name.strip()
            found[last] = value.strip().strip("\"'")
    return {}


def _problems(matter: dict[str, str]) -> list[str]:
    name, description = matter.get("name", ""), matter.get("description", "")
    found = []
    if not matter:
        found.append("it begins with no front matter: ---, name: ..., description: ..., ---")
        return found
    if not name:
        found.append("name is missing")
    elif len(name) > MAX_NAME or not _NAME.fullmatch(name):
        found.append(f'name "{name}" must be at most {MAX_NAME} lower case letters, digits and hyphens')
    elif "anthropic" in name or "claude" in name:
        found.append(f'name "{name}" may not hold "anthropic" or "claude"')
    if not description:
        found.append("description is missing")
    elif len(description) > MAX_DESCRIPTION:
        found.append(f"description has {len(description):,} characters; the API takes {MAX_DESCRIPTION:,}")
    return found


def _of_folder(path: Path) -> dict[str, bytes]:
    top = path.resolve().name or "skill"
    files = {}
    size = 0
    for file in sorted(path.rglob("*")):
        parts = file.relative_to(path).parts
        if any(part in _LEFT_OUT for part in parts) or file.is_symlink() or not file.is_file():
            continue
        size += file.stat().st_size
        if size >= MAX_SKILL_BYTES:
            raise InputInvalid(f"{path} has 30 MB or more; the API takes less.", name="skill")
        files["/".join((top, *parts))] = file.read_bytes()
    return files


def _of_zip(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if sum(entry.file_size for entry in entries) >= MAX_SKILL_BYTES:
                raise InputInvalid(f"{path} holds 30 MB or more; the API takes less.", name="skill")
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, OSError) as problem:
        raise InputInvalid(f"{path} is no zip archive that can be read: {problem}.", name="skill") from None
    if MATTER in files:
        return {f"{path.stem}/{name}": content for name, content in files.items()}
    return files
