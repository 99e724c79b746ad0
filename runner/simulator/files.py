"""The Files API: uploads, metadata, content, expiry; and whether a message may use the files that it names.

Files belong to the workspace of the key. What code execution writes is put in by the messages' door.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from runner.clock import Clock
from runner.simulator.callers import betas_of
from runner.simulator.exchange import Reply, Request, json_reply
from runner.simulator.facts import facts
from runner.simulator.multipart import Part, parts_of
from runner.simulator.paged import cursor_page
from runner.simulator.paging import page_of
from runner.simulator.problems import Problem, invalid, not_found

PATH = "/v1/files"
OLD_SHAPE = "files-api-2025-04-14"
EXPIRES_S = (3_600, 7_776_000)
MAX_IDS = 100
MAX_NAME = 255
# Metadata of an expired file is still told for so long.
KEPT_US = 30 * 86_400 * 1_000_000
_BAD_NAME = re.compile(r'[<>:"|?*\\/\x00-\x1f]')
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
DOCUMENTS = ("application/pdf", "text/plain")
KINDS_OF_BLOCKS: Mapping[str, tuple[str, ...]] = {"image": IMAGES, "document": DOCUMENTS}


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file. Times in microseconds UTC."""

    id: str
    workspace: str
    filename: str
    mime_type: str
    content: bytes
    created_us: int
    expires_us: int | None
    downloadable: bool

    def told(self, *, old: bool) -> dict[str, Any]:
        value: dict[str, Any] = {
            "id": self.id,
            "type": "file",
            "filename": self.filename,
            "mime_type": self.mime_type,
            "size_bytes": len(self.content),
            "created_at": _moment(self.created_us),
            "downloadable": self.downloadable,
        }
        return value if old else value | {"expires_at": None if self.expires_us is None else _moment(self.expires_us)}

    def is_expired(self, now_us: int) -> bool:
        return self.expires_us is not None and now_us >= self.expires_us


class FilesDoor:
    """Answers /v1/files and keeps what was uploaded, the newest last."""

    def __init__(self, clock: Clock, seed: int, quota_bytes: int) -> None:
        self._clock, self._seed, self._quota = clock, seed, quota_bytes
        self.files: dict[str, File] = {}
        self.uploads = 0  # how many were accepted, those deleted since included
        self._made = 0

    def answer(self, request: Request, workspace: str) -> Reply | Problem:
        """Whatever this is about files."""
        old = OLD_SHAPE in betas_of(request.headers)
        rest = request.path.removeprefix(PATH).strip("/").split("/")
        if rest == [""]:
            if request.method == "POST":
                return self._uploaded(request, workspace, old=old)
            return self._listed(request, workspace, old=old)
        file = self._found(rest[0], workspace)
        if file is None or len(rest) > 2 or (len(rest) == 2 and rest[1] != "content"):
            return not_found(f"File not found: {rest[0]}")
        if len(rest) == 2:
            return self._content(file)
        if request.method == "DELETE":
            del self.files[file.id]
            return json_reply({"id": file.id, "type": "file_deleted"})
        return json_reply(file.told(old=old))

    def written(self, workspace: str, filename: str, content: bytes, file_id: str | None = None) -> File:
        """A file that code execution has made."""
        kind = "text/csv" if filename.endswith(".csv") else "application/octet-stream"
        return self._put(workspace, filename, kind, content, None, downloadable=True, file_id=file_id)

    def problem(self, params: Mapping[str, Any], workspace: str) -> Problem | None:
        """The first file of a Messages body that cannot be used there."""
        for where, block, file_id in _references(params):
            file = self._found(file_id, workspace)
            if file is None:
                return not_found(f"{where}: File not found: {file_id}")
            if file.is_expired(self._clock.now_us()):
                return _expired(file)
            kinds = KINDS_OF_BLOCKS.get(block)
            if kinds is not None and file.mime_type not in kinds:
                return invalid(f"{where}: a file of type {file.mime_type} cannot be used in a block of type {block}")
        return None

    def _found(self, file_id: str, workspace: str) -> File | None:
        file = self.files.get(file_id)
        if file is None or file.workspace != workspace:
            return None
        gone = file.expires_us is not None and self._clock.now_us() > file.expires_us + KEPT_US
        return None if gone else file

    def _uploaded(self, request: Request, workspace: str, *, old: bool) -> Reply | Problem:
        parts = parts_of(request.headers, request.body)
        if parts is None:
            return invalid("the body must be multipart/form-data")
        file = next((part for part in parts if part.name == "file" and part.filename is not None), None)
        if file is None:
            return invalid("file: Field required")
        if len(file.body) > facts().body_limits["files"]:
            return Problem(status=413, type="request_too_large", message="the file exceeds 500 MB")
        name = (file.filename or "").replace("\\", "/").rpartition("/")[2] or "unnamed"
        if len(name) > MAX_NAME or _BAD_NAME.search(name):
            return invalid(f'file: the filename must be 1 to {MAX_NAME} characters without < > : " | ? * \\ /')
        if sum(len(one.content) for one in self.files.values()) + len(file.body) > self._quota:
            return invalid("the organization's storage quota is exceeded", "storage_quota_exceeded")
        expires = _expires_s(parts)
        if isinstance(expires, Problem):
            return expires
        self.uploads += 1
        kept = self._put(workspace, name, file.content_type, file.body, expires, downloadable=False)
        return json_reply(kept.told(old=old))

    def _put(
        self,
        workspace: str,
        name: str,
        kind: str,
        content: bytes,
        expires_s: int | None,
        *,
        downloadable: bool,
        file_id: str | None = None,
    ) -> File:
        self._made += 1
        now_us = self._clock.now_us()
        mark = hashlib.sha256(f"{self._seed}:{self._made}".encode()).hexdigest()[:20]
        file = File(
            id=file_id or f"file_011{mark}",
            workspace=workspace,
            filename=name,
            mime_type=kind.partition(";")[0].strip(),
            content=content,
            created_us=now_us,
            expires_us=None if expires_s is None else now_us + expires_s * 1_000_000,
            downloadable=downloadable,
        )
        self.files[file.id] = file
        return file

    def _listed(self, request: Request, workspace: str, *, old: bool) -> Reply | Problem:
        known = [file for file in self.files.values() if self._found(file.id, workspace)]
        newest = known[::-1]
        query = parse_qs(request.query)
        ids = query.get("ids[]")
        if ids is not None:
            if len(ids) > MAX_IDS or "limit" in query or "page" in query:
                return invalid(f"ids: at most {MAX_IDS}, and not together with limit or page")
            chosen = [file.told(old=old) for file in newest if file.id in ids]
            return json_reply({"data": chosen, "next_page": None})
        if old:
            page = page_of(newest, request.query, id_of=lambda file: file.id, told=lambda file: file.told(old=True))
        else:
            page = cursor_page(newest, query, lambda file: file.told(old=False))
        return page if isinstance(page, Problem) else json_reply(page)

    def _content(self, file: File) -> Reply | Problem:
        if file.is_expired(self._clock.now_us()):
            return _expired(file)
        if not file.downloadable:
            return invalid(f"{file.id} cannot be downloaded", "file_not_downloadable")
        return Reply(status=200, headers=(("content-type", file.mime_type),), body=file.content)


def _expires_s(parts: list[Part]) -> int | Problem | None:
    told = next((part.body.decode("latin-1") for part in parts if part.name == "expires_in_seconds"), None)
    if told is None:
        return None
    least, most = EXPIRES_S
    if not told.isascii() or not told.isdigit() or not least <= int(told) <= most:
        return invalid(f"expires_in_seconds: must be between {least} and {most}")
    return int(told)


def _expired(file: File) -> Problem:
    return Problem(status=404, type="not_found_error", message=f"File expired: {file.id}", code="file_expired")


def _references(params: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Where a file is named, in which kind of block, and its id."""
    for number, turn in enumerate(params["messages"]):
        content = turn["content"]
        for at, block in enumerate(content if isinstance(content, list) else ()):
            where, kind = f"messages.{number}.content.{at}", str(block.get("type"))
            source = block.get("source")
            if isinstance(source, dict) and source.get("type") == "file":
                yield f"{where}.source", kind, str(source.get("file_id"))
            elif kind == "container_upload":
                yield where, kind, str(block.get("file_id"))


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat().replace("+00:00", "Z")
