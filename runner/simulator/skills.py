"""The Skills API: skills and their versions, in today's shapes and the old beta's. Custom ones belong to a workspace;
those of Anthropic are everybody's and only read."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from runner.clock import Clock
from runner.simulator.callers import betas_of
from runner.simulator.exchange import Reply, Request, json_reply
from runner.simulator.facts import facts
from runner.simulator.multipart import Part, parts_of
from runner.simulator.paged import cursor_page
from runner.simulator.problems import Problem, invalid, not_found

PATH = "/v1/skills"
OLD_SHAPE = "skills-2025-10-02"
OPENED_US = 1_760_572_800_000_000  # 2025-10-16
OF_ANTHROPIC = ("pptx", "xlsx", "docx", "pdf")
_NAME = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    id: str
    number: str  # the old shapes' name of it: microseconds
    name: str
    description: str
    files: Mapping[str, bytes]
    created_us: int


@dataclass(kw_only=True, slots=True)
class Skill:
    id: str
    workspace: str | None  # None: everybody's
    display_name: str
    source: str
    created_us: int
    updated_us: int
    versions: list[Version] = field(default_factory=list)

    def told(self, *, old: bool) -> dict[str, Any]:
        latest = self.versions[-1] if self.versions else None
        times = {"created_at": _moment(self.created_us), "updated_at": _moment(self.updated_us)}
        if old:
            return {
                "id": self.id,
                "type": "skill",
                "display_title": self.display_name,
                "latest_version": latest.number if latest else None,
                "source": self.source,
                **times,
            }
        return {
            "id": self.id,
            "type": "skill",
            "display_name": self.display_name,
            "latest_version_id": latest.id if latest else None,
            "source": {"type": self.source},
            **times,
        }

    def version_told(self, version: Version, *, old: bool) -> dict[str, Any]:
        told = {
            "id": version.id,
            "type": "skill_version",
            "skill_id": self.id,
            "name": version.name,
            "description": version.description,
            "created_at": _moment(version.created_us),
        }
        return told | {"version": version.number, "directory": version.name} if old else told


class SkillsDoor:
    """Answers /v1/skills."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock, self._seed = clock, seed
        self._made = 0
        self.skills: dict[str, Skill] = {}
        for name in OF_ANTHROPIC:
            skill = Skill(
                id=name,
                workspace=None,
                display_name=name,
                source="anthropic",
                created_us=OPENED_US,
                updated_us=OPENED_US,
            )
            skill.versions.append(
                Version(
                    id=f"skver_{name}", number="20251013", name=name, description=name, files={}, created_us=OPENED_US
                )
            )
            self.skills[name] = skill

    def answer(self, request: Request, workspace: str) -> Reply | Problem:
        """Whatever this is about skills."""
        old = OLD_SHAPE in betas_of(request.headers)
        rest = [part for part in request.path.removeprefix(PATH).split("/") if part]
        if not rest:
            return self._created(request, workspace, old=old) if request.method == "POST" else self._listed(
                request, workspace, old=old
            )  # fmt: skip
        skill = self.skills.get(rest[0])
        if skill is None or skill.workspace not in (None, workspace):
            return not_found(f"Skill not found: {rest[0]}")
        if request.method != "GET" and skill.workspace is None:
            return invalid(f"the skill {skill.id} is Anthropic's and cannot be changed")
        if len(rest) == 1:
            return self._of_skill(request, skill, old=old)
        if rest[1] != "versions":
            return not_found(f"{request.path}: Not Found")
        if len(rest) == 2:
            return self._of_versions(request, skill, old=old)
        return self._of_version(request, skill, rest[2:], old=old)

    def _created(self, request: Request, workspace: str, *, old: bool) -> Reply | Problem:
        parts = parts_of(request.headers, request.body)
        version = self._version(parts)
        if isinstance(version, Problem):
            return version
        title = "display_title" if old else "display_name"
        named = next((part.body.decode() for part in parts or () if part.name == title), version.name)
        if len(named) > 255:
            return invalid(f"{title}: at most 255 characters")
        self._made += 1
        now_us = self._clock.now_us()
        skill = Skill(
            id=self._id("skill"),
            workspace=workspace,
            display_name=named,
            source="custom",
            created_us=now_us,
            updated_us=now_us,
            versions=[version],
        )
        self.skills[skill.id] = skill
        return json_reply(skill.told(old=old))

    def _of_skill(self, request: Request, skill: Skill, *, old: bool) -> Reply | Problem:
        if request.method != "DELETE":
            return json_reply(skill.told(old=old))
        if old and skill.versions:
            return invalid("the skill has versions; delete them first")
        del self.skills[skill.id]
        return json_reply({"id": skill.id, "type": "skill_deleted"})

    def _of_versions(self, request: Request, skill: Skill, *, old: bool) -> Reply | Problem:
        if request.method == "POST":
            version = self._version(parts_of(request.headers, request.body))
            if isinstance(version, Problem):
                return version
            skill.versions.append(version)
            skill.updated_us = version.created_us
            return json_reply(skill.version_told(version, old=old))
        newest = skill.versions[::-1]
        page = cursor_page(newest, parse_qs(request.query), lambda version: skill.version_told(version, old=old))
        return page if isinstance(page, Problem) else json_reply(_page(page, old=old))

    def _of_version(self, request: Request, skill: Skill, rest: list[str], *, old: bool) -> Reply | Problem:
        version = next((one for one in skill.versions if rest[0] in (one.id, one.number)), None)
        if version is None:
            return not_found(f"Skill version not found: {rest[0]}")
        if rest[1:] == ["content"]:
            if not old:
                return not_found(f"{request.path}: Not Found")
            return Reply(status=200, headers=(("content-type", "application/zip"),), body=_zipped(version))
        if rest[1:]:
            return not_found(f"{request.path}: Not Found")
        if request.method == "DELETE":
            if len(skill.versions) == 1 and not old:
                return invalid("a skill holds at least one version; delete the skill instead")
            skill.versions.remove(version)
            return json_reply({"id": version.number if old else version.id, "type": "skill_version_deleted"})
        return json_reply(skill.version_told(version, old=old))

    def _listed(self, request: Request, workspace: str, *, old: bool) -> Reply | Problem:
        query = parse_qs(request.query)
        source = query.get("source", [None])[0]
        mine = [
            skill
            for skill in self.skills.values()
            if skill.workspace in (None, workspace) and source in (None, skill.source)
        ]
        page = cursor_page(mine[::-1], query, lambda skill: skill.told(old=old))
        return page if isinstance(page, Problem) else json_reply(_page(page, old=old))

    def _version(self, parts: list[Part] | None) -> Version | Problem:
        files = _files(parts)
        if isinstance(files, Problem):
            return files
        place = next((name for name in files if name.rpartition("/")[2] == "SKILL.md" and name.count("/") <= 1), None)
        if place is None:
            return invalid("files: SKILL.md is missing")
        matter = _front_matter(files[place].decode("utf-8", "replace"))
        name, description = matter.get("name", ""), matter.get("description", "")
        if not _NAME.fullmatch(name) or "anthropic" in name or "claude" in name:
            return invalid("SKILL.md: name must be lower case letters, digits and hyphens, at most 64")
        if not 1 <= len(description) <= 1024:
            return invalid("SKILL.md: description must have 1 to 1024 characters")
        self._made += 1
        now_us = self._clock.now_us()
        return Version(
            id=self._id("skver"),
            number=str(now_us + self._made),
            name=name,
            description=description,
            files=files,
            created_us=now_us,
        )

    def _id(self, kind: str) -> str:
        return f"{kind}_01" + hashlib.sha256(f"{self._seed}:{kind}:{self._made}".encode()).hexdigest()[:20]


def _page(page: dict[str, Any], *, old: bool) -> dict[str, Any]:
    return page | {"has_more": page["next_page"] is not None} if old else page


def _files(parts: list[Part] | None) -> dict[str, bytes] | Problem:
    if parts is None:
        return invalid("the body must be multipart/form-data")
    given = [part for part in parts if part.name in ("files[]", "files") and part.filename]
    files = {part.filename or "": part.body for part in given}
    if len(given) == 1 and given[0].body[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(given[0].body)) as archive:
                files = {one.filename: archive.read(one) for one in archive.infolist() if not one.is_dir()}
        except zipfile.BadZipFile:
            return invalid("files: not a zip archive")
    if not files:
        return invalid("files: Field required")
    if sum(map(len, files.values())) >= facts().body_limits["skills"]:
        return Problem(status=413, type="request_too_large", message="the skill exceeds 30 MB")
    tops = {name.partition("/")[0] for name in files}
    if len(tops) > 1 and any("/" in name for name in files) and "SKILL.md" not in files:
        return invalid("files: all files must be in one top-level directory")
    return files


def _front_matter(text: str) -> dict[str, str]:
    if not text.startswith("---\n"):
        return {}
    lines = text[4:].partition("\n---")[0].splitlines()
    return {name.strip(): value.strip().strip("\"'") for name, _, value in (line.partition(":") for line in lines)}


def _zipped(version: Version) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in version.files.items():
            archive.writestr(name, content)
    return out.getvalue()


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat().replace("+00:00", "Z")
