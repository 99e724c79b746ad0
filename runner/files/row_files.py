"""Files that rows bring along: read from the folder that the job names, and sent inside the request while they are
small, else marked to be uploaded.

A row's value may choose the file and never the folder: what leads out of it, by `..`, an absolute path or a link, is
refused.
"""

from __future__ import annotations

import base64
import mimetypes
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runner.domain.attachment import INLINE_BELOW_BYTES, MAX_FILE_BYTES, Attachment, UploadMode
from runner.domain.durations import seconds_of
from runner.domain.request import MAX_BODY_BYTES
from runner.errors import JobInvalid
from runner.files.bad_row import BadRow
from runner.files.template import MARKS

FILE = "$file"
# base64 makes three bytes four, and a request holds more than its file.
MAX_INLINE_BYTES = MAX_BODY_BYTES * 3 // 4 - 100_000
TEXT_TYPES = frozenset({"text/plain", "text/markdown", "text/csv", "text/html", "application/json"})
IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
# A record brings a handful of files; this many are far more than one.
MOST_MARKED = 4_096
LEAST_LIFE_S, MOST_LIFE_S = 3_600, 7_776_000
OTHER_TYPES = {".md": "text/markdown", ".webp": "image/webp", ".csv": "text/csv", ".txt": "text/plain"}


class _Dropped:
    """Stands for a block that is left out because its optional file is not there."""

    def __repr__(self) -> str:
        return "DROPPED"


DROPPED: Final = _Dropped()


@dataclass(kw_only=True, slots=True)
class RowFile:
    """`folder` is what the path begins with before its first `{{`; nothing outside of it is read."""

    folder: Path
    block_type: str
    optional: bool = False
    upload: UploadMode = UploadMode.AUTO
    expires_s: int | None = None
    max_bytes: int = MAX_FILE_BYTES  # the job's own limit is set when it is compiled
    # Those that were marked lately, by their marks: a request is made right after its blocks.
    marked: OrderedDict[str, Attachment] = field(default_factory=OrderedDict, compare=False, repr=False)

    @staticmethod
    def of(path: str, *, block_type: str, source: Mapping[str, Any], where: str) -> RowFile:
        """`source` is that of the job, with what it says beside the path. Raises JobInvalid."""
        before = min((path.find(mark) for mark in MARKS if mark in path), default=len(path))
        fixed = path[:before]
        return RowFile(
            folder=Path(fixed[: fixed.rfind("/") + 1] or "."),
            block_type=block_type,
            optional=source.get("optional") is True,
            upload=_upload_mode(source.get("upload", UploadMode.AUTO), where),
            expires_s=expires_s(source.get("expires"), f"{where}.source"),
        )

    def block(self, path: str) -> Any:
        """What the file puts into its block: `source`, or `file_id` where it would have to be uploaded."""
        target = self._inside(path)
        if not target.is_file():
            if self.optional:
                return DROPPED
            raise BadRow(f"names the file {self._shown(target)}, which is not there")
        found = self._looked_at(target)
        if self.block_type == "container_upload":
            return {"file_id": self._marked(found)}
        self._check_kind(found)
        if self._goes_inside(found):
            return {"source": self._source(target)}
        return {"source": {"type": "file", "file_id": self._marked(found)}}

    def _looked_at(self, target: Path) -> Attachment:
        try:
            about = target.stat()
        except OSError as problem:
            raise BadRow(f"names the file {self._shown(target)}, which cannot be read: {problem.strerror}") from None
        if not about.st_size:
            raise BadRow(f"names the file {self._shown(target)}, which is empty")
        if about.st_size > self.max_bytes:
            whose = "the Files API takes" if self.max_bytes == MAX_FILE_BYTES else "files.max_bytes says"
            sizes = f"{about.st_size:,} bytes; {whose} {self.max_bytes:,}"
            raise BadRow(f"names the file {self._shown(target)} of {sizes}")
        media_type = media_type_of(target)
        if self.block_type == "document" and media_type in TEXT_TYPES:
            media_type = "text/plain"
        return Attachment(
            path=os.fspath(target),
            size=about.st_size,
            changed_ns=about.st_mtime_ns,
            media_type=media_type,
            expires_s=self.expires_s,
        )

    def _check_kind(self, found: Attachment) -> None:
        allowed = IMAGE_TYPES if self.block_type == "image" else {"application/pdf", "text/plain"}
        if found.media_type not in allowed:
            what = f"the API does not take as {self.block_type}"
            raise BadRow(f"names the file {self._shown(Path(found.path))}, which {what}")

    def _goes_inside(self, found: Attachment) -> bool:
        """A text is read as what it is, while a request has room for it."""
        if self.upload is UploadMode.AUTO:
            most = MAX_INLINE_BYTES if found.media_type == "text/plain" else INLINE_BELOW_BYTES
            return found.size <= most
        return self.upload is UploadMode.NEVER

    def _marked(self, found: Attachment) -> str:
        mark = found.mark
        self.marked[mark] = found
        self.marked.move_to_end(mark)
        if len(self.marked) > MOST_MARKED:
            self.marked.popitem(last=False)
        return mark

    def _inside(self, path: str) -> Path:
        try:
            target = Path(path).resolve()
            inside = target.is_relative_to(self.folder.resolve())
        except (OSError, ValueError, RuntimeError):
            raise BadRow("names a file with a path that is none") from None
        if not inside:
            raise BadRow("names a file outside of the job's folder for them")
        return target

    def _source(self, target: Path) -> dict[str, Any]:
        try:
            size = target.stat().st_size
            if size > MAX_INLINE_BYTES:
                raise BadRow(
                    f"names the file {self._shown(target)} of {size:,} bytes; a request holds {MAX_INLINE_BYTES:,}"
                )
            data = target.read_bytes()
        except OSError as problem:
            raise BadRow(f"names the file {self._shown(target)}, which cannot be read: {problem.strerror}") from None
        media_type = media_type_of(target)
        if media_type in TEXT_TYPES and self.block_type == "document":
            return self._as_text(target, data)
        allowed = IMAGE_TYPES if self.block_type == "image" else {"application/pdf"}
        if media_type not in allowed:
            raise BadRow(f"names the file {self._shown(target)}, which the API does not take as {self.block_type}")
        return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}

    def _as_text(self, target: Path, data: bytes) -> dict[str, Any]:
        try:
            return {"type": "text", "media_type": "text/plain", "data": data.decode("utf-8-sig")}
        except UnicodeDecodeError:
            raise BadRow(f"names the file {self._shown(target)}, which is not UTF-8") from None

    def _shown(self, target: Path) -> str:
        folder = self.folder.resolve()
        return str(target.relative_to(folder.parent) if target.is_relative_to(folder.parent) else target.name)


def _upload_mode(told: Any, where: str) -> UploadMode:
    try:
        return UploadMode(told)
    except ValueError:
        known = ", ".join(UploadMode)
        raise JobInvalid(f"{where}.source: upload must be one of {known}, not {told}.", name="request") from None


def expires_s(told: Any, where: str) -> int | None:
    """`1h` to `90d`, as the Files API takes it."""
    if told is None:
        return None
    seconds = seconds_of(told)
    if seconds is None or not LEAST_LIFE_S <= seconds <= MOST_LIFE_S:
        raise JobInvalid(f"{where}: expires must be between 1h and 90d, not {told}.", name="request")
    return round(seconds)


def media_type_of(path: Path) -> str:
    """By the end of its name, as the API names kinds."""
    return OTHER_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
