"""`db`: the database's state and its upgrade."""

from __future__ import annotations

import click

from runner.cli.command import ExampleGroup, command
from runner.cli.context import Context, sqlite_file_exists
from runner.cli.messages import say
from runner.cli.options import json_option, of_simulated_option
from runner.errors import SchemaMismatch
from runner.store.database import Database
from runner.store.fleet import upgrade_queue
from runner.store.tables import HEAD_REVISION
from runner.views.safe_text import safe_text


@click.group("db", cls=ExampleGroup, examples=("runner db status", "runner db upgrade"))
def db() -> None:
    """The database: its state, its upgrade.

    A SQLite file is upgraded when it is first used; PostgreSQL waits for `runner db upgrade`.
    """


@command("upgrade", examples=("runner db upgrade",))
@of_simulated_option
@json_option
def upgrade(context: Context) -> None:
    """Bring the database to the revision that this program needs. Safe to run at any time, by several at once."""
    database = Database(context.store_url(simulated=context.simulate))
    try:
        before = database.revision()
        if before is not None and before > HEAD_REVISION:
            raise SchemaMismatch(
                f"the database is at revision {before}, this runner knows only {HEAD_REVISION}.",
                name="db-ahead",
                hints=("install the newer runner that upgraded it",),
            )
        if database.is_sqlite:
            database.make_ready()
        else:
            database.upgrade(upgrade_queue)
        place = database.safe_url
    finally:
        database.close()
    if context.json:
        context.print_json({"database": place, "before": before, "revision": HEAD_REVISION})
    elif before == HEAD_REVISION:
        say(f"nothing to do: the database is at revision {HEAD_REVISION}.")
    else:
        say(f"the database went from revision {before or 'none'} to {HEAD_REVISION}.")


@command("status", examples=("runner db status", "runner db status --json"))
@of_simulated_option
@json_option
def status(context: Context) -> int:
    """Where the database is, its revision, and the one that is needed. Exit 8 when they differ."""
    url = context.store_url(simulated=context.simulate)
    revision, place = None, url
    if sqlite_file_exists(url):
        database = Database(url)
        try:
            revision, place = database.revision(), database.safe_url
        finally:
            database.close()
    made_at_first_use = revision is None and url.startswith("sqlite")
    if context.json:
        context.print_json({"database": place, "revision": revision, "needed": HEAD_REVISION})
    else:
        click.echo(f"database  {safe_text(place)}")
        click.echo(f"revision  {revision or ('none: it is made at first use' if made_at_first_use else 'none')}")
        click.echo(f"needed    {HEAD_REVISION}")
    return 0 if revision == HEAD_REVISION or made_at_first_use else SchemaMismatch.exit_code


db.add_command(upgrade)
db.add_command(status)
