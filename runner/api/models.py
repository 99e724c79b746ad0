"""The Models API: what there is to call, as values. It tells no prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.api.client import Client
from runner.domain.model_list import ListedModel

DAY_LETTERS = len("2026-11-21")


async def list_models(client: Client) -> list[ListedModel]:
    """All models that this key may use. Raises the error that people should see."""
    return [listed for entry in await client.models() if (listed := _listed(entry)) is not None]


def _listed(entry: Mapping[str, Any]) -> ListedModel | None:
    """An entry, as far as it can be understood; None where not even its id can."""
    id_ = entry.get("id")
    if not isinstance(id_, str) or not id_:
        return None
    return ListedModel(
        id=id_,
        lifecycle=_word(entry.get("lifecycle")),
        deprecated=_day(entry.get("deprecated_at")),
        retires=_day(entry.get("retires_at")),
        context_window=_count(entry.get("max_input_tokens")),
        max_output=_count(entry.get("max_tokens")),
    )


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _day(value: Any) -> str | None:
    return value[:DAY_LETTERS] if isinstance(value, str) and len(value) >= DAY_LETTERS else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
