"""A file that a request brings along: where it lies, how it goes, and what kind of block takes it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MAX_FILE_BYTES = 500_000_000
MAX_NAME_CHARS = 255
# Inside the request below this: one call less, and nothing to delete. It travels with every row that uses it, and
# base64 makes it a third longer.
INLINE_BELOW_BYTES = 65_536
# Images are taken up to this inside a request.
MAX_INLINE_IMAGE_BYTES = 7_500_000

TYPES: Mapping[str, str] = {
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".md": "text/plain",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".csv": "text/csv",
    ".json": "application/json",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".zip": "application/zip",
}
ANY_TYPE = "application/octet-stream"
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
DOCUMENTS = ("application/pdf", "text/plain")
TYPES_OF_BLOCKS: Mapping[str, tuple[str, ...]] = {"image": IMAGES, "document": DOCUMENTS}


class UploadMode(StrEnum):
    AUTO = "auto"  # inside the request while it is small
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """A file on the disk as it was looked at. `mark` stands in the body until the file has an id at the service."""

    path: str
    size: int
    changed_ns: int
    media_type: str
    expires_s: int | None = None

    @property
    def mark(self) -> str:
        told = f"{self.path}\0{self.size}\0{self.changed_ns}\0{self.media_type}\0{self.expires_s}"
        return f"file_of_runner_{hashlib.sha256(told.encode('utf-8', 'surrogateescape')).hexdigest()}"

    @property
    def filename(self) -> str:
        """As the service takes it: the last part of the path, without what it refuses."""
        name = self.path.rpartition("/")[2]
        return "".join("_" if c in '<>:"|?*\\' or ord(c) < 32 else c for c in name)[-MAX_NAME_CHARS:]


def media_type_of(path: str) -> str:
    """By the file's ending, as the blocks of the API name it."""
    dot = path.rfind(".")
    return TYPES.get(path[dot:].lower() if dot >= 0 else "", ANY_TYPE)


def wrong_kind(block: str, media_type: str) -> str | None:
    """Why a block of this type does not take the file; None where it does."""
    wanted = TYPES_OF_BLOCKS.get(block)
    if wanted is None or media_type in wanted:
        return None
    return f"a block of type {block} takes {', '.join(kind.rpartition('/')[2] for kind in wanted)}, not {media_type}"


def with_ids(body: bytes, ids: Mapping[str, str]) -> bytes:
    """The body with each mark replaced by the id of its file."""
    for mark, file_id in ids.items():
        body = body.replace(b'"%b"' % mark.encode(), b'"%b"' % file_id.encode())
    return body
