"""Bodies of `multipart/form-data`, sent in pieces: files are read as they go, and the length is known beforehand."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
from msgspec import Struct

PIECE_BYTES = 256 * 1024


class FormFile(Struct, frozen=True, kw_only=True):
    """A file of a form: on the disk at `path` with `size` bytes, or in memory as `content`."""

    name: str
    filename: str
    content_type: str
    path: Path | None = None
    size: int = 0
    content: bytes = b""

    @property
    def length(self) -> int:
        return self.size if self.path is not None else len(self.content)


class Form:
    """Fields and files under one boundary. May be sent once."""

    def __init__(self, fields: dict[str, str], files: list[FormFile]) -> None:
        self._boundary = f"runner-{secrets.token_hex(16)}"
        self._fields, self._files = fields, files

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def length(self) -> int:
        heads = sum(len(self._head(file)) + file.length + 2 for file in self._files)
        return len(self._plain()) + heads + len(self._tail())

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body. Raises OSError where a file cannot be read, or is not as long as was said."""
        yield self._plain()
        for file in self._files:
            yield self._head(file)
            if file.path is None:
                yield file.content
            else:
                async for piece in _read(file.path, file.size):
                    yield piece
            yield b"\r\n"
        yield self._tail()

    def _plain(self) -> bytes:
        return b"".join(
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in self._fields.items()
        )

    def _head(self, file: FormFile) -> bytes:
        filename = file.filename.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")
        return (
            f"--{self._boundary}\r\n"
            f'Content-Disposition: form-data; name="{file.name}"; filename="{filename}"\r\n'
            f"Content-Type: {file.content_type}\r\n\r\n"
        ).encode()

    def _tail(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()


async def _read(path: Path, size: int) -> AsyncIterator[bytes]:
    with anyio.CancelScope(shield=True):  # cancelled meanwhile, it would be open and nobody's
        file = await anyio.to_thread.run_sync(path.open, "rb")
    left = size
    try:
        while left and (piece := await anyio.to_thread.run_sync(file.read, min(PIECE_BYTES, left))):
            left -= len(piece)
            yield piece
    finally:
        file.close()  # in a thread it would not be done by whoever is cancelled
    if left:
        raise OSError(f"{path} became shorter while it was read")
