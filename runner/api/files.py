"""The Files API: upload from the disk, list, show, download to the disk, delete. Files are free and belong to the
workspace of the key. Nothing here is repeated; a failure is a value."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx
from msgspec import Struct

from runner.api.client import Client, Reply, not_understood
from runner.api.exchange import Journey
from runner.api.forms import Form, FormFile
from runner.api.replies import TooLong, lowered_headers, object_of, read_body
from runner.api.results_file import Spool
from runner.api.wire import UNREADABLE, origin_of, outcome_of_exception, outcome_of_reply
from runner.domain.outcome import Failure, FailureKind, Origin

PATH = "/v1/files"
PAGE = 1_000
# For 500 MB over a line of 3 Mbit/s; a form that does not move at all ends sooner, by the connection's timeouts.
UPLOAD_LIMIT_S = 1_800.0
# A beta that somebody set chooses the endpoint's old shape; both are read here.
_SAFE = re.compile(r"[^A-Za-z0-9._ -]")
MOST_NAME = 150


class FileInfo(Struct, frozen=True, kw_only=True):
    """A file as the service tells of it. Times as RFC 3339 texts."""

    id: str
    filename: str
    mime_type: str
    size_bytes: int
    created_at: str
    downloadable: bool
    expires_at: str | None


class Uploaded(Struct, frozen=True, kw_only=True):
    """A new file, and in whose workspace it is."""

    file: FileInfo
    origin: Origin


class Files:
    """The endpoints, over a client that is open."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def upload(self, file: FormFile, *, expires_s: int | None = None) -> Uploaded | Failure:
        """One POST. `file.name` is not looked at."""
        fields = {} if expires_s is None else {"expires_in_seconds": str(expires_s)}
        form = Form(
            fields,
            [
                FormFile(
                    name="file",
                    filename=file.filename,
                    content_type=file.content_type,
                    path=file.path,
                    size=file.size,
                    content=file.content,
                )
            ],
        )
        reply = await posted(self._client, PATH, form)
        if isinstance(reply, Failure):
            return reply
        found = _file(object_of(reply.body) or {})
        return not_understood(reply) if found is None else Uploaded(file=found, origin=origin_of(reply.headers))

    async def whose(self) -> Origin | Failure:
        """In whose workspace the files of this key are, by the cheapest call that says it."""
        reply = await self._client.small_call("GET", self._client.url(f"{PATH}?limit=1"))
        return reply if isinstance(reply, Failure) else origin_of(reply.headers)

    async def show(self, file_id: str) -> FileInfo | Failure:
        reply = await self._client.small_call("GET", self._client.url(f"{PATH}/{_segment(file_id)}"))
        if isinstance(reply, Failure):
            return reply
        return _file(object_of(reply.body) or {}) or not_understood(reply)

    async def every(self) -> AsyncIterator[FileInfo | Failure]:
        """All files of the workspace, newest first, page by page; a Failure ends it."""
        query = ""
        while True:
            reply = await self._client.small_call("GET", self._client.url(f"{PATH}?limit={PAGE}{query}"))
            if isinstance(reply, Failure):
                yield reply
                return
            page = object_of(reply.body) or {}
            data = page.get("data")
            for entry in data if isinstance(data, list) else []:
                if (found := _file(entry)) is not None:
                    yield found
            query = _following(page)
            if not query:
                return

    async def delete(self, file_id: str) -> Failure | None:
        """None when it is gone."""
        reply = await self._client.small_call("DELETE", self._client.url(f"{PATH}/{_segment(file_id)}"))
        return reply if isinstance(reply, Failure) else None

    async def download(self, file_id: str, to: Path) -> int | Failure:
        """Its bytes, whole or not at all, to a path that must not exist; how many there are. Raises StoreFault."""
        journey = Journey(billable=False)
        url = self._client.url(f"{PATH}/{_segment(file_id)}/content")
        with anyio.move_on_after(UPLOAD_LIMIT_S):
            try:
                accept = {"accept": "application/octet-stream, */*"}
                async with self._client.exchange("GET", url, None, (), journey, accept) as response:
                    headers = lowered_headers(response)
                    if response.status_code != 200:
                        told = outcome_of_reply(response.status_code, headers, await read_body(response))
                        return self._client.unbilled(told)
                    async with Spool(to) as spool:
                        async for piece in response.aiter_bytes():
                            await spool.write(piece)
                        expected = headers.get("content-length")
                        if expected is not None and "content-encoding" not in headers and int(expected) != spool.size:
                            return Failure(kind=FailureKind.TRANSIENT, type="cut", message="the download was cut off")
                        await spool.finish()
                        return spool.size
            except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
                return self._client.unbilled(outcome_of_exception(error))
            except TooLong as error:
                return Failure(kind=FailureKind.TRANSIENT, type=UNREADABLE, message=str(error))
        return Failure(kind=FailureKind.TRANSIENT, type="timeout", message="the download took too long")


async def posted(client: Client, path: str, form: Form) -> Reply | Failure:
    """One POST of a form; a file that cannot be read is a failure of the row that names it."""
    headers = {"content-type": form.content_type, "content-length": str(form.length)}
    with anyio.move_on_after(UPLOAD_LIMIT_S):
        try:
            journey = Journey(billable=False)
            async with client.exchange("POST", client.url(path), form.pieces(), (), journey, headers) as response:
                told = lowered_headers(response)
                body = await read_body(response)
                if response.status_code == 200:
                    return Reply(status=200, headers=told, body=body)
                return client.unbilled(outcome_of_reply(response.status_code, told, body))
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            return client.unbilled(outcome_of_exception(error))
        except TooLong as error:
            return Failure(kind=FailureKind.TRANSIENT, type=UNREADABLE, message=str(error))
        except OSError as error:
            return Failure(kind=FailureKind.ROW, type="unreadable_file", message=f"cannot be read: {error}")
    limit = f"{UPLOAD_LIMIT_S / 60:g} minutes"
    return Failure(kind=FailureKind.TRANSIENT, type="timeout", message=f"not uploaded within {limit}")


def safe_name(filename: str, file_id: str) -> str:
    """The name of a downloaded file: the service's word for it, with nothing in it that leads elsewhere."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    name = _SAFE.sub("_", last).strip(" .")[-MOST_NAME:]
    stem = name.partition(".")[0].upper()
    reserved = stem in ("CON", "PRN", "AUX", "NUL") or re.fullmatch(r"(COM|LPT)\d", stem)
    return f"{_SAFE.sub('_', file_id)}.bin" if not name or reserved else name


def free_path(folder: Path, name: str) -> Path:
    """A path in the folder that nothing stands at. Never follows a link."""
    return next(path for path in free_paths(folder, name) if not os.path.lexists(path))


def free_paths(folder: Path, name: str) -> Iterator[Path]:
    """The paths that may be taken for a file, in this order: `a.csv`, `a-2.csv`, and so on."""
    stem, dot, suffix = name.partition(".")
    yield folder / name
    yield from (folder / f"{stem}-{number}{dot}{suffix}" for number in count(2))


def _following(page: dict[str, Any]) -> str:
    """The query of the page after this one, in today's shape or the old beta's; empty at the end."""
    cursor, last = page.get("next_page"), page.get("last_id")
    if isinstance(cursor, str):
        return f"&page={quote(cursor)}"
    return f"&after_id={quote(last)}" if page.get("has_more") and isinstance(last, str) else ""


def _file(entry: Any) -> FileInfo | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return None
    return FileInfo(
        id=entry["id"],
        filename=str(entry.get("filename", "")),
        mime_type=str(entry.get("mime_type", "")),
        size_bytes=entry["size_bytes"] if isinstance(entry.get("size_bytes"), int) else 0,
        created_at=str(entry.get("created_at", "")),
        downloadable=entry.get("downloadable") is True,
        expires_at=entry["expires_at"] if isinstance(entry.get("expires_at"), str) else None,
    )


def _segment(file_id: str) -> str:
    return quote(file_id, safe="")
