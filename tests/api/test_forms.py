"""Forms that are sent from the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import from_thread

from runner.api.forms import PIECE_BYTES, Form, FormFile

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("when", ["opening", "reading"])
async def test_a_file_is_closed_when_its_upload_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"x" * 3 * PIECE_BYTES)
    opened: list[Any] = []
    plain_open = Path.open

    def noted(self: Path, *told: Any) -> Any:
        opened.append(plain_open(self, *told))
        if when == "opening":
            from_thread.run_sync(scope.cancel)
        return opened[-1]

    monkeypatch.setattr(Path, "open", noted)
    told = FormFile(name="file", filename="a.pdf", content_type="application/pdf", path=path, size=3 * PIECE_BYTES)
    pieces = Form({}, [told]).pieces()
    with anyio.CancelScope() as scope:
        async for piece in pieces:
            if len(piece) == PIECE_BYTES:
                scope.cancel()
    assert scope.cancelled_caught
    assert [file.closed for file in opened] == [True]
