"""Alembic's entry: migrates the connection it is given, or RUNNER_DATABASE_URL for developers."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, create_engine

from runner.store.tables import metadata


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """The fleet's queue keeps its own tables in the same database."""
    return not (kind == "table" and str(name).startswith("procrastinate_"))


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        include_name=is_ours,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    engine = create_engine(os.environ["RUNNER_DATABASE_URL"])
    with engine.begin() as opened:
        run(opened)
    engine.dispose()
