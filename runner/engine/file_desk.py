"""Files that rows bring along: uploaded once for each content and workspace, whoever needs them and however often;
uploaded again when they have gone. A file that is being uploaded is waited for, not uploaded beside."""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import anyio
from anyio import to_thread
from msgspec import Struct, field
from msgspec.structs import replace

from runner.api.files import Uploaded
from runner.api.forms import FormFile
from runner.clock import SECOND, Clock
from runner.domain.attachment import Attachment, with_ids
from runner.domain.outcome import Failure, FailureKind, Origin, Outcome
from runner.domain.request import MessagesRequest
from runner.store.files import KeptFile
from runner.store.store import Store

# The Files API takes about 500 calls a minute; more at once would only be told to wait.
MOST_AT_ONCE = 8
TRIES = 5
SLOWEST_RETRY_S = 30.0
# Ids that are remembered beside the store's; each is a few hundred bytes.
MOST_REMEMBERED = 20_000
# What is needed must still be there when the call is worked on: soon, or within the day that a batch may take.
LIVE_MARGIN_S = 600.0
BATCH_MARGIN_S = 90_000.0
PIECE_BYTES = 1_000_000
HTTP_NOT_FOUND = 404
PASSING = frozenset(
    {FailureKind.TRANSIENT, FailureKind.RATE_LIMITED, FailureKind.OVERLOADED, FailureKind.UNREACHABLE}
)


class FileService(Protocol):
    """What the desk needs of the Files API; `api.files.Files` is one."""

    async def upload(self, file: FormFile, *, expires_s: int | None = None) -> Uploaded | Failure: ...

    async def whose(self) -> Origin | Failure: ...

    async def delete(self, file_id: str) -> Failure | None: ...


class Calls(Protocol):
    """The Messages calls that the desk stands before."""

    async def messages(self, request: MessagesRequest) -> Outcome: ...


class FileDesk(Struct):
    """Knows which file has which id. `fingerprint` names the key where the service does not name a workspace;
    `run` is the one for which files are uploaded."""

    service: FileService
    store: Store
    clock: Clock
    fingerprint: str
    run: int | None = None
    uploads: int = 0
    _workspace: str | None = None
    _ids: OrderedDict[str, KeptFile] = field(default_factory=OrderedDict)
    _locks: dict[str, tuple[anyio.Lock, list[None]]] = field(default_factory=dict)
    _room: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(MOST_AT_ONCE))
    _chance: random.Random = field(default_factory=random.Random)

    async def resolved(
        self, request: MessagesRequest, *, margin_s: float = LIVE_MARGIN_S
    ) -> MessagesRequest | Failure:
        """The request with the ids of its files in it; a Failure where one cannot be uploaded."""
        ids: dict[str, str] = {}
        for attachment in request.attachments:
            found = await self._id_of(attachment, margin_s)
            if isinstance(found, Failure):
                return found
            ids[attachment.mark] = found
        return replace(request, body=with_ids(request.body, ids))

    async def bring(self, attachments: Iterable[Attachment], *, margin_s: float) -> None:
        """All of these to the service, side by side. What fails is met again by whoever needs it."""
        waiting = iter({one.mark: one for one in attachments}.values())

        async def carrier() -> None:
            for attachment in waiting:
                if isinstance(await self._id_of(attachment, margin_s), Failure):
                    return

        async with anyio.create_task_group() as carriers:
            for _ in range(MOST_AT_ONCE):
                carriers.start_soon(carrier)

    async def forget(self, attachments: Iterable[Attachment]) -> None:
        """The service has not got these any more: they are uploaded again when they are next needed."""
        gone = set()
        for one in attachments:
            kept = self._ids.get(one.mark) or await self._stored(one)
            if kept is not None:
                gone.add(kept.file_id)
        # Other marks may stand for the same content.
        for mark in [mark for mark, kept in self._ids.items() if kept.file_id in gone]:
            del self._ids[mark]
        if gone:
            await to_thread.run_sync(self.store.forget_files, gone)

    async def _stored(self, attachment: Attachment) -> KeptFile | None:
        """What the store knows of a file that this process has not needed yet."""
        workspace = await self._whose()
        if isinstance(workspace, Failure):
            return None
        try:
            content = await to_thread.run_sync(_hash_of, attachment)
        except OSError:
            return None
        return await to_thread.run_sync(self.store.file_of, workspace, content)

    async def delete_those_of_the_run(self) -> list[Failure]:
        """What was uploaded for the run goes from the service; another run that needs it uploads it again. What could
        not be deleted is told, and stays known."""
        if self.run is None:
            return []
        gone, failures = [], []
        for file_id in await to_thread.run_sync(self.store.files_of_run, self.run):
            told = await self.service.delete(file_id)
            if told is None or told.status == HTTP_NOT_FOUND:
                gone.append(file_id)
            else:
                failures.append(told)
        await to_thread.run_sync(self.store.forget_files, gone)
        return failures

    async def file_id(self, attachment: Attachment) -> str | Failure:
        """The id of one file, uploaded if it is not there."""
        return await self._id_of(attachment, LIVE_MARGIN_S)

    async def _id_of(self, attachment: Attachment, margin_s: float) -> str | Failure:
        async with self._alone(attachment.mark):
            kept = self._ids.get(attachment.mark)
            if kept is not None and self._lasts(kept, margin_s):
                self._ids.move_to_end(attachment.mark)
                return kept.file_id
            try:
                content = await to_thread.run_sync(_hash_of, attachment)
            except OSError as problem:
                return _unreadable(attachment, problem)
            workspace = await self._whose()
            if isinstance(workspace, Failure):
                return workspace
            async with self._alone(content.hex()):
                found = await self._found_or_uploaded(attachment, workspace, content, margin_s)
            if isinstance(found, Failure):
                return found
            self._ids[attachment.mark] = found
            if len(self._ids) > MOST_REMEMBERED:
                self._ids.popitem(last=False)
            return found.file_id

    async def _found_or_uploaded(
        self, attachment: Attachment, workspace: str, content: bytes, margin_s: float
    ) -> KeptFile | Failure:
        kept = await to_thread.run_sync(self.store.file_of, workspace, content)
        if kept is not None and self._lasts(kept, margin_s):
            return kept
        return await self._uploaded(attachment, workspace, content)

    def _lasts(self, kept: KeptFile, margin_s: float) -> bool:
        """Will it be there as long as it is needed? One that was meant to live shorter is used in its first half."""
        if kept.expires_us is None:
            return True
        now_us, life_us = self.clock.now_us(), kept.expires_us - kept.uploaded_us
        return kept.expires_us - now_us > min(margin_s * SECOND, life_us / 2)

    async def _uploaded(self, attachment: Attachment, workspace: str, content: bytes) -> KeptFile | Failure:
        """Uploading is free, and a file more does no harm: tried again while that may help."""
        for number in range(TRIES):
            found = await self._tried(attachment, workspace, content)
            if isinstance(found, KeptFile) or found.kind not in PASSING or number == TRIES - 1:
                return found
            wait_s = found.retry_after_s or min(SLOWEST_RETRY_S, 2.0**number) * max(0.1, self._chance.random())
            await self.clock.sleep(wait_s)
        raise AssertionError("the last try returns")

    async def _tried(self, attachment: Attachment, workspace: str, content: bytes) -> KeptFile | Failure:
        """One upload, and its id in the store. There is room for the next one only after both: were the store slow,
        any number of files would be at the service that a death makes us forget."""
        told = FormFile(
            name="file",
            filename=attachment.filename,
            content_type=attachment.media_type,
            path=Path(attachment.path),
            size=attachment.size,
        )
        async with self._room:
            uploaded = await self.service.upload(told, expires_s=attachment.expires_s)
            if isinstance(uploaded, Failure):
                return uploaded
            self.uploads += 1
            fresh = self._kept(attachment, workspace, content, uploaded.file.id)
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self.store.keep_file, fresh)
            return fresh

    def _kept(self, attachment: Attachment, workspace: str, content: bytes, file_id: str) -> KeptFile:
        now_us = self.clock.now_us()
        return KeptFile(
            workspace=workspace,
            hash=content,
            file_id=file_id,
            bytes=attachment.size,
            uploaded_us=now_us,
            expires_us=None if attachment.expires_s is None else now_us + attachment.expires_s * SECOND,
            run=self.run,
        )

    async def _whose(self) -> str | Failure:
        """The workspace of the key; files of another one are not to be found with it."""
        if self._workspace is None:
            async with self._alone("workspace"):
                if self._workspace is None:
                    told = await self.service.whose()
                    if isinstance(told, Failure):
                        return told
                    self._workspace = told.workspace or f"key {self.fingerprint}"
        return self._workspace

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """One at a time for this name; locks that nobody waits at are not kept."""
        lock, users = self._locks.setdefault(name, (anyio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                self._locks.pop(name, None)


class CallsWithFiles(Struct, frozen=True):
    """Messages calls whose files are at the service before they are made."""

    calls: Calls
    desk: FileDesk

    async def messages(self, request: MessagesRequest) -> Outcome:
        if not request.attachments:
            return await self.calls.messages(request)
        ready = await self.desk.resolved(request)
        if isinstance(ready, Failure):
            return ready
        outcome = await self.calls.messages(ready)
        if is_gone(outcome):
            await self.desk.forget(request.attachments)
            return going_again(outcome)
        return outcome


def is_gone(outcome: Outcome) -> bool:
    """May a file that the request names be there no more? Told by its code, or a 404 that is about no model."""
    if not isinstance(outcome, Failure):
        return False
    missing = outcome.type == "not_found_error" and outcome.kind is FailureKind.ROW
    return outcome.code == "file_expired" or missing


def going_again(outcome: Outcome) -> Outcome:
    """The failure as one that passes: the next try uploads what is missing."""
    return replace(outcome, kind=FailureKind.TRANSIENT) if isinstance(outcome, Failure) else outcome


def _hash_of(attachment: Attachment) -> bytes:
    """Of the content and its kind: the same bytes as text and as a PDF are two files."""
    digest = hashlib.sha256(attachment.media_type.encode() + b"\0")
    with Path(attachment.path).open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.digest()


def _unreadable(attachment: Attachment, problem: OSError) -> Failure:
    why = problem.strerror or str(problem)
    return Failure(kind=FailureKind.ROW, type="unreadable_file", message=f"{attachment.path} cannot be read: {why}")
