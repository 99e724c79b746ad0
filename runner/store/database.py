"""From a URL to a database that is ready: engines, transactions, schema version.

SQLite: one writing connection whose transactions begin with BEGIN IMMEDIATE (a deferred one that reads before it
writes loses updates or fails at once), WAL, `synchronous=FULL`. PostgreSQL: psycopg, one engine for both.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, exc, inspect, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from runner.errors import RunnerError, SchemaMismatch, StoreFault
from runner.store import frozen
from runner.store.tables import FINAL_RESULT_TRIGGERS, HEAD_REVISION, metadata, tell_postgresql

# How long a SQLite writer waits for another process's transaction; ours last milliseconds.
BUSY_TIMEOUT_MS = 10_000
# Rows of about 1 KB fit several to a page; the default of 4 KB leaves half of each page empty.
PAGE_SIZE = 8_192
# What lies in the write-ahead log beyond this after a checkpoint is given back to the file system.
JOURNAL_LIMIT_BYTES = 64 << 20
# A lost PostgreSQL connection is taken up again, and its transaction replayed, for the time that a failover takes.
RECONNECT_S = 30

# Connections of one process: these are kept, so many more are opened while many threads are at work. A thread that
# finds none waits: transactions last milliseconds.
KEPT_CONNECTIONS, MORE_CONNECTIONS = 5, 10
CONNECTION_WAIT_S = 30.0

# Where else a PostgreSQL URL may carry a password.
_SECRET_PARAMETERS = ("password", "sslpassword")

T = TypeVar("T")


# Two transactions waited for each other, and PostgreSQL has undone this one for the other's sake.
DEADLOCK = "40P01"


def _was_undone(error: BaseException) -> bool:
    """Whether nothing of the transaction is there, or nobody knows: it may be done again."""
    if not isinstance(error, exc.DBAPIError):
        return False
    return error.connection_invalidated or _state_of(error) in (DEADLOCK, frozen.LOCK_TIMEOUT)


def _state_of(error: exc.DBAPIError) -> str | None:
    """PostgreSQL's word for what is the matter; SQLite's errors have none."""
    return getattr(error.orig, "sqlstate", None)


# What a PostgreSQL says that is not the primary, or not any more.
READ_ONLY = "25006"
# What it says while it goes down or comes up again.
_GOING_OR_COMING = frozenset({"57P01", "57P02", "57P03"})


def _is_away(error: BaseException) -> bool:
    """The connection was lost, or there is none to be had: a restart, a failover, all of ours in use by others."""
    if _was_undone(error) or isinstance(error, exc.TimeoutError):
        return True
    if not isinstance(error, exc.OperationalError) or not hasattr(error.orig, "sqlstate"):
        return False  # SQLite's errors have no such state
    state = _state_of(error)
    return state is None or state.startswith("08") or state in _GOING_OR_COMING


_RECONNECTS = Retrying(
    retry=retry_if_exception(_was_undone),
    wait=wait_random_exponential(multiplier=0.1, max=5),
    stop=stop_after_delay(RECONNECT_S),
    reraise=True,
)
# A server that was there comes back; one that was never reached is a wrong address, and said at once.
_WAITS_FOR_RETURN = _RECONNECTS.copy(retry=retry_if_exception(_is_away))


def _in_transaction(engine: Engine, work: Callable[[Connection], T]) -> T:
    try:
        with engine.begin() as connection:
            return work(connection)
    except exc.DBAPIError as error:
        if _state_of(error) == frozen.LOCK_TIMEOUT:
            frozen.end_frozen(engine)
        raise


class Database:
    """An open database. `read` and `write` run a function in one transaction and give back what it returns."""

    def __init__(self, url: str) -> None:
        self.url = _canonical(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._reached = False
        if self.is_sqlite:
            _create_private(self.path)
            self._writer = _sqlite_engine(self.url, begin="BEGIN IMMEDIATE")
            self._reader = _sqlite_engine(self.url, begin="BEGIN")
        else:
            self._writer = self._reader = _postgresql_engine(self.url)

    @property
    def path(self) -> Path:
        """The file of a SQLite database."""
        return Path(self.url.database or "")

    @property
    def safe_url(self) -> str:
        """The URL without its password, fit for a screen."""
        return self.url.difference_update_query(_SECRET_PARAMETERS).render_as_string(hide_password=True)

    @property
    def conninfo(self) -> str:
        """A PostgreSQL URL as its driver takes it, password included: for a connection, never for a screen."""
        url = self.url.set(drivername="postgresql").difference_update_query(["prepare_threshold"])
        return url.render_as_string(hide_password=False)

    def write(self, work: Callable[[Connection], T]) -> T:
        """One transaction. It is replayed when the connection was lost, when another's was preferred in a deadlock or
        one of a frozen process was in its way, so `work` must bear that."""
        return self._run(self._writer, work)

    def read(self, work: Callable[[Connection], T]) -> T:
        """One short reading transaction."""
        return self._run(self._reader, work)

    def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        again = _WAITS_FOR_RETURN if self._reached else _RECONNECTS
        try:
            told: T = again(_in_transaction, engine, work)
            self._reached = True
            return told
        except exc.TimeoutError:
            hints = (f"database: {self.safe_url}", "it answers too slowly for what is asked of it, or not at all")
            raise StoreFault("no connection to the database became free.", name="database", hints=hints) from None
        except exc.DBAPIError as error:
            raise _fault(error, self.safe_url) from None

    def vacuum(self, tables: Sequence[str]) -> None:
        """Give back what deleted rows have left. Not in a transaction, as both databases want it."""
        with _mapped_faults(self.safe_url):
            if self.is_sqlite:
                with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_MS / 1_000)) as connection:
                    connection.execute("VACUUM")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                return
            with self._writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                for table in tables:
                    connection.execute(text(f"VACUUM (ANALYZE) {table}"))

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()

    def revision(self) -> str | None:
        """The schema revision that the database says it has; None when it is empty."""

        def ask(connection: Connection) -> str | None:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return None if found is None else str(found)

        return self.read(ask)

    def make_ready(self) -> None:
        """SQLite: bring the schema up to date, keeping a copy of a file that held data. PostgreSQL: only check.

        Raises SchemaMismatch when the schema is ahead of this program, or behind on PostgreSQL.
        """
        found = self.revision()
        if found == HEAD_REVISION:
            return
        if found is not None and found > HEAD_REVISION:
            raise SchemaMismatch(
                f"the database is at revision {found}, this runner knows only {HEAD_REVISION}.",
                name="db-ahead",
                hints=(f"database: {self.safe_url}", "install the newer runner that upgraded it"),
            )
        if not self.is_sqlite:
            raise SchemaMismatch(
                f"the database is at revision {found or 'none'}, this runner needs {HEAD_REVISION}.",
                name="db-behind",
                hints=(f"database: {self.safe_url}", "runner db upgrade"),
            )
        if found is None:
            self.write(_create)
        else:
            _copy(self.path, self.path.with_suffix(f".before-{HEAD_REVISION}{self.path.suffix}"))
            self.upgrade()

    def upgrade(self, *also: Callable[[Connection], object]) -> None:
        """Bring the schema to the newest revision; safe to call by several at once. `also` goes with it."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
        with _mapped_faults(self.safe_url), self._writer.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text("SET LOCAL lock_timeout = 0"))  # another may be at it for minutes
                connection.execute(text("SELECT pg_advisory_xact_lock(7260921)"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            for step in also:
                step(connection)


def _create(connection: Connection) -> None:
    """A new SQLite file, as all migrations would make it. They take a fifth of a second, most of it to load alembic,
    and the first run of everybody would wait for it."""
    if inspect(connection).has_table("alembic_version"):
        return  # another process was first
    metadata.create_all(connection)
    key = "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)"
    for statement in (*FINAL_RESULT_TRIGGERS["sqlite"], f"CREATE TABLE alembic_version ({key})"):
        connection.execute(text(statement))
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": HEAD_REVISION})


def migrations_folder() -> Path:
    """Inside an installed wheel the migrations lie in the package; in a checkout, beside it."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def _canonical(url: str) -> URL:
    try:
        made = make_url(url)
    except exc.ArgumentError as error:
        raise StoreFault(
            "the database URL cannot be read.",
            name="database-url",
            hints=("examples: sqlite:////var/lib/runner/runner.db   postgresql://user@host/runner",),
        ) from error
    if made.drivername in {"postgres", "postgresql"}:
        return made.set(drivername="postgresql+psycopg")
    if made.get_backend_name() not in {"sqlite", "postgresql"}:
        raise StoreFault(
            f"{made.drivername} is not a database that runner can use.",
            name="database-url",
            hints=("use sqlite:///FILE or postgresql://...",),
        )
    return made


def _create_private(path: Path) -> None:
    """The database holds prompts and answers: nobody else may read it. WAL files inherit the mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreFault(
            f"cannot open the database {path}: {error.strerror}.",
            name="database",
            hints=("set RUNNER_DATABASE_URL or RUNNER_HOME to a place that can be written",),
        ) from error


def _copy(path: Path, copy: Path) -> None:
    """By SQLite itself: commits that are still only in the write-ahead log belong to it."""
    _create_private(copy)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _sqlite_engine(url: URL, *, begin: str) -> Engine:
    engine = create_engine(
        url, connect_args={"check_same_thread": False, "isolation_level": None}, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def prepare(dbapi_connection: Any, _record: object) -> None:
        for pragma in (
            f"page_size={PAGE_SIZE}",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"journal_size_limit={JOURNAL_LIMIT_BYTES}",
        ):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def prepare_threshold(url: URL) -> dict[str, int | None]:
    """`?prepare_threshold=none` of a URL, as the driver takes it: PgBouncer may hand a transaction to a server that
    has never heard of a statement that was prepared elsewhere."""
    told = url.query.get("prepare_threshold")
    if told is None:
        return {}
    return {"prepare_threshold": int(told) if isinstance(told, str) and told.isdecimal() else None}


def _postgresql_engine(url: URL) -> Engine:
    tell_postgresql()
    threshold = prepare_threshold(url)
    try:
        engine = create_engine(
            url.difference_update_query(["prepare_threshold"]),
            pool_pre_ping=True,
            pool_size=KEPT_CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
            pool_timeout=CONNECTION_WAIT_S,
            hide_parameters=True,
            connect_args={
                "application_name": "runner",
                "keepalives": 1,
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "tcp_user_timeout": 60_000,
                **threshold,
            },
        )
    except ImportError as error:
        raise StoreFault(
            "PostgreSQL needs the extra that brings its driver.",
            name="postgres-extra",
            hints=("pip install 'claude-job-runner[postgres]'",),
        ) from error

    @event.listens_for(engine, "handle_error")
    def leave(context: ExceptionContext) -> None:
        """What was the primary is it no more: its connections are as good as lost, the next may lead to another."""
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
            context.is_disconnect = True

    @event.listens_for(engine, "connect")
    def prepare(dbapi_connection: Any, _record: object) -> None:
        frozen.bound_waits(dbapi_connection)

    return engine


@contextmanager
def _mapped_faults(safe_url: str) -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        raise _fault(error, safe_url) from None


def _fault(error: exc.DBAPIError, safe_url: str) -> RunnerError:
    """Foreign errors as one of ours. The statement's values stay out: they are prompts and answers.

    Only the first line is told, and it is raised without its cause: PostgreSQL quotes whole rows in the others, and
    the value itself where it does not fit its type.
    """
    reason = (str(error.orig).strip().splitlines() or [""])[0]
    if isinstance(error, exc.DataError) or not reason:
        reason = type(error.orig).__name__
    hints = [f"database: {safe_url}", "what was stored is safe; the same command goes on once this is mended"]
    if "disk is full" in reason or "No space left" in reason:
        return StoreFault("the disk is full.", name="disk-full", hints=hints)
    if "malformed" in reason or "not a database" in reason:
        hints[1] = "the file was left untouched; restore a copy, or choose another with RUNNER_DATABASE_URL"
        return StoreFault(f"the database is damaged: {reason}.", name="database-damaged", hints=hints)
    return StoreFault(f"the database failed: {reason}.", name="database", hints=hints)
