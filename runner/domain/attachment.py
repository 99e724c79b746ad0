"""A file that a request brings along: where it lies, how it goes, and what kind of block takes it. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

MAX_FILE_BYTES = 500_000_000
MAX_NAME_CHARS = 255
# Inside the request below this: one call less, and nothing to delete. It travels with every row that uses it, and
# base64 makes it a third longer.
INLINE_BELOW_BYTES = 65_536
# A mark in a body that was encoded as JSON.
MARKED = re.compile(rb'"(file_of_runner_[0-9a-f]{64})"')


class UploadMode(StrEnum):
    AUTO = "auto"  # inside the request while it is small
    ALWAYS = "always"
    NEVER = "never"


class Attachment(Struct, frozen=True, kw_only=True):
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


def with_ids(body: bytes, ids: Mapping[str, str]) -> bytes:
    """The body with each mark replaced by the id of its file."""
    for mark, file_id in ids.items():
        body = body.replace(b'"%b"' % mark.encode(), b'"%b"' % file_id.encode())
    return body
