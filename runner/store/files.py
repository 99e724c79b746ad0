"""Which files the service has of ours: a row a workspace and content, so that nothing is uploaded twice."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Delete, Select, delete, insert, select

from runner.store.tables import files


class KeptFile(Struct, frozen=True, kw_only=True):
    """A file at the service.

    `hash` is of its content and kind; `expires_us` None: it stays until it is deleted.
    `run` is the one for which it was uploaded, None for one that a person has put there.
    """

    workspace: str
    hash: bytes
    file_id: str
    bytes: int
    uploaded_us: int
    expires_us: int | None
    run: int | None = None


def find(connection: Connection, workspace: str, content: bytes) -> KeptFile | None:
    row = connection.execute(_of(workspace, content)).first()
    return None if row is None else _value(row)


def keep(connection: Connection, kept: KeptFile) -> None:
    """In the place of an older one of the same content."""
    connection.execute(_forget(kept.workspace, kept.hash))
    connection.execute(
        insert(files).values(
            workspace=kept.workspace,
            hash=kept.hash,
            file_id=kept.file_id,
            bytes=kept.bytes,
            uploaded_us=kept.uploaded_us,
            expires_us=kept.expires_us,
            run=kept.run,
        )
    )


def forget(connection: Connection, file_ids: Collection[str]) -> None:
    """These are not there any more."""
    connection.execute(_forget_ids(file_ids))


def of_ids(connection: Connection, file_ids: Collection[str]) -> list[KeptFile]:
    return [_value(row) for row in connection.execute(select(files).where(files.c.file_id.in_(file_ids)))]


def of_run(connection: Connection, run: int) -> list[str]:
    """The ids of files that were uploaded for a run."""
    return list(connection.scalars(select(files.c.file_id).where(files.c.run == run)))


def _of(workspace: str, content: bytes) -> Select[Any]:
    return select(files).where(files.c.workspace == workspace, files.c.hash == content)


def _forget(workspace: str, content: bytes) -> Delete:
    return delete(files).where(files.c.workspace == workspace, files.c.hash == content)


def _forget_ids(file_ids: Collection[str]) -> Delete:
    return delete(files).where(files.c.file_id.in_(file_ids))


def _value(row: Any) -> KeptFile:
    return KeptFile(
        workspace=row.workspace,
        hash=row.hash,
        file_id=row.file_id,
        bytes=row.bytes,
        uploaded_us=row.uploaded_us,
        expires_us=row.expires_us,
        run=row.run,
    )
