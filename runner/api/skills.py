"""The Skills API: skills and their versions, in today's shapes or the old beta's. Failures are values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from runner.api.client import Client, Reply, not_understood
from runner.api.files import posted
from runner.api.forms import Form, FormFile
from runner.api.replies import object_of
from runner.domain.outcome import Failure

PATH = "/v1/skills"
PAGE = 1_000


class SkillInfo(Struct, frozen=True, kw_only=True):
    """A skill as the service tells of it. `source` is custom, anthropic, anthropic_example or plugin."""

    id: str
    name: str
    source: str
    latest_version: str | None
    created_at: str
    updated_at: str


class VersionInfo(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    created_at: str


class Skills:
    """The endpoints, over a client that is open."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def every(self, source: str | None = None) -> AsyncIterator[SkillInfo | Failure]:
        """All skills, or those of one source; a Failure ends it."""
        chosen = f"&source={quote(source)}" if source else ""
        async for entry in self._pages(PATH, chosen):
            yield entry if isinstance(entry, Failure) else _skill(entry)

    async def show(self, skill_id: str) -> SkillInfo | Failure:
        told = await self._got(f"{PATH}/{quote(skill_id, safe='')}")
        return told if isinstance(told, Failure) else _skill(told)

    async def versions(self, skill_id: str) -> AsyncIterator[VersionInfo | Failure]:
        async for entry in self._pages(f"{PATH}/{quote(skill_id, safe='')}/versions", ""):
            yield entry if isinstance(entry, Failure) else _version(entry)

    async def create(self, files: Sequence[tuple[str, bytes]], name: str | None = None) -> SkillInfo | Failure:
        """One POST; its files by their names."""
        told = await self._posted(PATH, {} if name is None else {"display_name": name}, files)
        return told if isinstance(told, Failure) else _skill(told)

    async def add_version(self, skill_id: str, files: Sequence[tuple[str, bytes]]) -> VersionInfo | Failure:
        told = await self._posted(f"{PATH}/{quote(skill_id, safe='')}/versions", {}, files)
        return told if isinstance(told, Failure) else _version(told)

    async def delete(self, skill_id: str, version: str | None = None) -> Failure | None:
        """The skill with all its versions, or one of them; None when it is gone."""
        path = f"{PATH}/{quote(skill_id, safe='')}"
        if version is not None:
            path += f"/versions/{quote(version, safe='')}"
        reply = await self._client.small_call("DELETE", self._client.url(path))
        return reply if isinstance(reply, Failure) else None

    async def _pages(self, path: str, chosen: str) -> AsyncIterator[dict[str, Any] | Failure]:
        cursor = ""
        while True:
            told = await self._got(f"{path}?limit={PAGE}{chosen}{cursor}")
            if isinstance(told, Failure):
                yield told
                return
            data = told.get("data")
            for entry in data if isinstance(data, list) else []:
                yield entry if isinstance(entry, dict) else {}
            following = told.get("next_page")
            if not isinstance(following, str):
                return
            cursor = f"&page={quote(following)}"

    async def _got(self, path: str) -> dict[str, Any] | Failure:
        return _object(await self._client.small_call("GET", self._client.url(path)))

    async def _posted(
        self, path: str, fields: dict[str, str], files: Sequence[tuple[str, bytes]]
    ) -> dict[str, Any] | Failure:
        parts = [
            FormFile(name="files[]", filename=name, content_type="application/octet-stream", content=content)
            for name, content in files
        ]
        return _object(await posted(self._client, path, Form(fields, parts)))


def _object(reply: Reply | Failure) -> dict[str, Any] | Failure:
    if isinstance(reply, Failure):
        return reply
    told = object_of(reply.body)
    return not_understood(reply) if told is None else told


def _skill(told: dict[str, Any]) -> SkillInfo:
    source = told.get("source")
    latest = told.get("latest_version_id", told.get("latest_version"))
    return SkillInfo(
        id=str(told.get("id", "")),
        name=str(told.get("display_name", told.get("display_title")) or ""),
        source=str(source.get("type", "") if isinstance(source, dict) else source or ""),
        latest_version=None if latest is None else str(latest),
        created_at=str(told.get("created_at", "")),
        updated_at=str(told.get("updated_at", "")),
    )


def _version(told: dict[str, Any]) -> VersionInfo:
    return VersionInfo(
        id=str(told.get("version", told.get("id", ""))),
        name=str(told.get("name", "")),
        description=str(told.get("description", "")),
        created_at=str(told.get("created_at", "")),
    )
