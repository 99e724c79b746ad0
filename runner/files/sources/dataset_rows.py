"""The rows of a Hugging Face dataset, streamed, as JSON lines."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import msgspec

from runner.errors import InputInvalid, UsageInvalid


def dataset_rows(name: str, config: str | None, split: str | None, revision: str | None) -> Iterator[bytes]:
    """One JSON line a row of the split, `train` where none is named. Needs the extra `hf`."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageInvalid(
            "input.dataset needs a library that is not installed.",
            name="missing-extra",
            hints=("fix: pip install 'claude-job-runner[hf]'",),
        ) from None
    try:
        rows = load_dataset(name, config, split=split or "train", revision=revision, streaming=True)
        for row in rows:
            yield _encode(row)
    except (ValueError, OSError, KeyError, RuntimeError) as problem:
        lines = str(problem).splitlines() or [type(problem).__name__]
        raise InputInvalid(f"dataset {name} could not be read: {lines[0]}.", name="input-dataset") from None


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
