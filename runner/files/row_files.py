"""Files that rows bring along: read from the folder that the job names, and sent inside the request.

A row's value may choose the file and never the folder: what leads out of it, by `..`, an absolute path or a link, is
refused.
"""

from __future__ import annotations

import base64
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runner.domain.request import MAX_BODY_BYTES
from runner.files.bad_row import BadRow
from runner.files.template import MARKS

FILE = "$file"
# base64 makes three bytes four, and a request holds more than its file.
MAX_INLINE_BYTES = MAX_BODY_BYTES * 3 // 4 - 100_000
TEXT_TYPES = frozenset({"text/plain", "text/markdown", "text/csv", "text/html", "application/json"})
IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
OTHER_TYPES = {".md": "text/markdown", ".webp": "image/webp", ".csv": "text/csv", ".txt": "text/plain"}


class _Dropped:
    """Stands for a block that is left out because its optional file is not there."""

    def __repr__(self) -> str:
        return "DROPPED"


DROPPED: Final = _Dropped()


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFile:
    """`folder` is what the path begins with before its first `{{`; nothing outside of it is read."""

    folder: Path
    block_type: str
    optional: bool

    @staticmethod
    def of(path: str, *, block_type: str, optional: bool) -> RowFile:
        before = min((path.find(mark) for mark in MARKS if mark in path), default=len(path))
        fixed = path[:before]
        return RowFile(folder=Path(fixed[: fixed.rfind("/") + 1] or "."), block_type=block_type, optional=optional)

    def block(self, path: str) -> Any:
        """What the file puts into its block: `source`, or `file_id` where it would have to be uploaded."""
        target = self._inside(path)
        if not target.is_file():
            if self.optional:
                return DROPPED
            raise BadRow(f"names the file {self._shown(target)}, which is not there")
        if self.block_type == "container_upload":
            return {"file_id": f"(the upload of {self._shown(target)})"}
        return {"source": self._source(target)}

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
        media_type = _media_type(target)
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


def _media_type(path: Path) -> str:
    return OTHER_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
