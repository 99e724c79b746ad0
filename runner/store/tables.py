"""Every table, the same on SQLite and PostgreSQL. Migrations are written from this; a test compares the two.

Conventions: times are integer microseconds UTC (`*_us`), money is integer pico-dollars (`*_pico`), what users or the
model wrote is bytes (PostgreSQL text takes no NUL), and a column named `run` refers to `runs.id`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

# The newest migration; `database.py` compares it with what the database says of itself.
HEAD_REVISION = "0001"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes only INTEGER primary keys its row id; PostgreSQL wants 64 bits.
Serial = BigInteger().with_variant(Integer, "sqlite")


def _run_column() -> Column[int]:
    return Column("run", Serial, ForeignKey("runs.id"), primary_key=True, autoincrement=False)


runs = Table(
    "runs",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("label", Text, nullable=False, unique=True),
    Column("job_name", Text, nullable=False, index=True),
    Column("job", LargeBinary, nullable=False),
    Column("identity", Text, nullable=False, index=True),
    Column("key", Text, unique=True),
    Column("simulated", Boolean, nullable=False),
    Column("mode", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("pause_reason", Text),
    Column("pause_message", Text),
    Column("wanted", Text),
    Column("round", Integer, nullable=False),
    Column("fan", Integer, nullable=False),
    Column("input_uri", Text, nullable=False),
    Column("input_digest", Text),
    Column("input_bytes", BigInteger),
    Column("records", BigInteger),
    Column("skipped", BigInteger, nullable=False),
    Column("ingested_upto", BigInteger, nullable=False),
    Column("ingested_bytes", BigInteger, nullable=False),
    Column("ingested_digest", Text),
    Column("ingest_done", Boolean, nullable=False),
    Column("output", Text),
    Column("exported_us", BigInteger),
    Column("epoch", Integer, nullable=False),
    Column("holder", Text),
    Column("heartbeat_us", BigInteger),
    Column("organization", Text),
    Column("workspace", Text),
    Column("estimates", Text),
    Column("detached", Boolean, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("purged_us", BigInteger),
    Column("forecast", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
)

chunks = Table(
    "chunks",
    metadata,
    _run_column(),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("first_idx", BigInteger, nullable=False),
    Column("n", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("next_at_us", BigInteger),
    Column("done", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("riding", Integer, nullable=False),
    Column("worker", Text),
    Column("beat_us", BigInteger),
)
_UNFINISHED = text("state NOT IN ('done', 'canceled')")
Index(
    "ix_chunks_unfinished",
    chunks.c.run,
    chunks.c.seq,
    sqlite_where=_UNFINISHED,
)

payloads = Table(
    "payloads",
    metadata,
    _run_column(),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("first_record", BigInteger, nullable=False),
    Column("records", Integer, nullable=False),
    Column("lines", LargeBinary, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    _run_column(),
    Column("hash", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

results = Table(
    "results",
    metadata,
    _run_column(),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("record", BigInteger, nullable=False),
    Column("variant", SmallInteger, nullable=False),
    Column("repeat", SmallInteger, nullable=False),
    Column("round", SmallInteger, nullable=False),
    Column("key", LargeBinary),
    Column("status", Text, nullable=False),
    Column("stop_reason", Text),
    Column("model", Text),
    Column("input_tokens", BigInteger),
    Column("cache_write_5m", BigInteger),
    Column("cache_write_1h", BigInteger),
    Column("cache_read", BigInteger),
    Column("output_tokens", BigInteger),
    Column("web_searches", Integer),
    Column("cost_pico", BigInteger),
    Column("price_version", Text),
    Column("request_id", Text),
    Column("organization", Text),
    Column("workspace", Text),
    Column("try", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("latency_us", BigInteger),
    Column("batch", Text),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("same_as", BigInteger),
    Column("same_run", Text),
    Column("at_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

answers = Table(
    "answers",
    metadata,
    _run_column(),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("message", LargeBinary, nullable=False),
)

sends = Table(
    "sends",
    metadata,
    _run_column(),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("try", Integer, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("worst_pico", BigInteger),
    Column("at_us", BigInteger, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    _run_column(),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("try", Integer, primary_key=True, autoincrement=False),
    Column("round", Integer, nullable=False),
    Column("counted", Boolean, nullable=False),
    Column("kind", Text, nullable=False),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("request_id", Text),
    Column("cost_pico", BigInteger),
    Column("latency_us", BigInteger),
    Column("message", LargeBinary),
    Column("at_us", BigInteger, nullable=False),
)

turns = Table(
    "turns",
    metadata,
    _run_column(),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("try", Integer, primary_key=True, autoincrement=False),
    Column("turn", Integer, primary_key=True, autoincrement=False),
    Column("message", LargeBinary, nullable=False),
    Column("usage", LargeBinary, nullable=False),
    Column("cost_pico", BigInteger),
    Column("tool_results", LargeBinary),
    Column("at_us", BigInteger, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("submission", Text, primary_key=True),
    Column("run", Serial, ForeignKey("runs.id"), nullable=False, index=True),
    Column("round", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("intent_us", BigInteger),
    Column("asked_server_us", BigInteger),
    Column("asked_shared_us", BigInteger),
    Column("sent_us", BigInteger),
    Column("created_us", BigInteger),
    Column("expires_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("read_upto", BigInteger),
    Column("ingested_us", BigInteger),
    Column("provider_id", Text, unique=True),
    Column("counts", Text),
    Column("body_hash", Text, nullable=False),
    Column("body_bytes", BigInteger, nullable=False),
    Column("worst_pico", BigInteger),
    Column("reserved_pico", BigInteger, nullable=False),
    Column("shares", Text),
    Column("key_fingerprint", Text, nullable=False),
    Column("organization", Text),
    Column("workspace", Text),
    Column("question", Text),
)
# One POST at a time per workspace: two unknown ones of equal size could not be told apart.
_SENDING = text("state = 'sending'")
Index(
    "ix_batches_sending",
    batches.c.workspace,
    unique=True,
    sqlite_where=_SENDING,
)

riders = Table(
    "riders",
    metadata,
    Column("submission", Text, ForeignKey("batches.submission"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("rows", LargeBinary, nullable=False),
)

# Batches that the workspace has shown, whoever owns them: what proves that we look at the right place, what is known
# to be somebody else's, and what is ours a second time.
sightings = Table(
    "sightings",
    metadata,
    Column("provider_id", Text, primary_key=True),
    Column("organization", Text),
    Column("workspace", Text),
    Column("n", BigInteger, nullable=False),
    Column("created_us", BigInteger),
    Column("seen_us", BigInteger, nullable=False),
    Column("foreign", Boolean, nullable=False),
    Column("duplicate_of", Text, ForeignKey("batches.submission")),
)

# Which sighted batches a submission of unknown end may turn out to be.
candidates = Table(
    "candidates",
    metadata,
    Column("submission", Text, ForeignKey("batches.submission"), primary_key=True),
    Column("provider_id", Text, ForeignKey("sightings.provider_id"), primary_key=True),
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("run", Serial, ForeignKey("runs.id"), nullable=False),
    Column("idx", BigInteger),
    Column("kind", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("cost_pico", BigInteger),
    Column("bound_pico", BigInteger),
    Column("unbatched_pico", BigInteger),
    Column("list_pico", BigInteger),
    Column("usage", LargeBinary),
    Column("price_version", Text, nullable=False),
    Column("request_id", Text),
    Column("batch", Text),
    Column("rows", SmallInteger, nullable=False),
    Column("corrects", Serial, ForeignKey("ledger.id")),
    Column("at_us", BigInteger, nullable=False),
    Index("ix_ledger_run_idx", "run", "idx"),
)
_CORRECTION = text("corrects IS NOT NULL")
Index("ix_ledger_corrects", ledger.c.corrects, sqlite_where=_CORRECTION)

# What the ledger sums to, by UTC day: written with its lines, so that nobody has to add up millions of them.
spending = Table(
    "spending",
    metadata,
    _run_column(),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("batch", Boolean, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("uncosted", BigInteger, nullable=False),
    Column("unbounded", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_write_5m", BigInteger, nullable=False),
    Column("cache_write_1h", BigInteger, nullable=False),
    Column("cache_read", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("web_searches", BigInteger, nullable=False),
    Column("cost_pico", BigInteger, nullable=False),
    Column("bound_pico", BigInteger, nullable=False),
    Column("unbatched_pico", BigInteger, nullable=False),
    Column("list_pico", BigInteger, nullable=False),
    Index("ix_spending_day", "day"),
    sqlite_with_rowid=False,
)

budgets = Table(
    "budgets",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("cap_pico", BigInteger),
    Column("spent_pico", BigInteger, nullable=False),
    Column("committed_pico", BigInteger, nullable=False),
)

buckets = Table(
    "buckets",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("rpm", BigInteger),
    Column("itpm", BigInteger),
    Column("otpm", BigInteger),
    Column("source", Text),
    Column("requests", Float, nullable=False),
    Column("input_tokens", Float, nullable=False),
    Column("output_tokens", Float, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("window_us", BigInteger, nullable=False),
    Column("takers", Integer, nullable=False),
    Column("takers_before", Integer, nullable=False),
    Column("paused_until_us", BigInteger),
)

bodies = Table(
    "bodies",
    metadata,
    _run_column(),
    Column("hash", LargeBinary, primary_key=True),
    Column("leader_idx", BigInteger, nullable=False),
    Index("ix_bodies_hash", "hash"),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("job", LargeBinary, nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("overlap", Text, nullable=False),
    Column("catch_up", Text, nullable=False),
    Column("deadline_s", Integer),
    Column("jitter_s", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("last_fire_us", BigInteger, nullable=False),
    Column("next_fire_us", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

fires = Table(
    "fires",
    metadata,
    Column("schedule", Serial, ForeignKey("schedules.id"), primary_key=True, autoincrement=False),
    Column("fire_us", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("run", Serial, ForeignKey("runs.id")),
    Column("exit_code", Integer),
    Column("beat_us", BigInteger),
    Column("recorded_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
)

# Members of the fleet, living and lately gone.
workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("beat_us", BigInteger, nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("workspace", Text, primary_key=True),
    Column("hash", LargeBinary, primary_key=True),
    Column("file_id", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("uploaded_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("run", BigInteger),
)

# A succeeded result is final: no statement of ours tries, and the database refuses those of others. Only with its
# whole run, once that is marked as purged, it may go.
FINAL_RESULT_TRIGGERS = {
    "sqlite": (
        """CREATE TRIGGER final_result_update BEFORE UPDATE ON results WHEN OLD.status = 'succeeded'
           BEGIN SELECT RAISE(ABORT, 'a succeeded result never changes'); END""",
        """CREATE TRIGGER final_result_delete BEFORE DELETE ON results WHEN OLD.status = 'succeeded'
           AND (SELECT purged_us FROM runs WHERE id = OLD.run) IS NULL
           BEGIN SELECT RAISE(ABORT, 'a succeeded result never changes'); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION refuse_final_result() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN
             IF TG_OP = 'DELETE' AND (SELECT purged_us FROM runs WHERE id = OLD.run) IS NOT NULL THEN
               RETURN OLD;
             END IF;
             RAISE EXCEPTION 'a succeeded result never changes';
           END $$""",
        """CREATE TRIGGER final_result BEFORE UPDATE OR DELETE ON results FOR EACH ROW
           WHEN (OLD.status = 'succeeded') EXECUTE FUNCTION refuse_final_result()""",
    ),
}


def tell_postgresql() -> None:
    """Indexes of a part of a table, as PostgreSQL is told of them. Whoever never meets it need not load its dialect,
    which SQLAlchemy does at the first word for it."""
    for table in metadata.tables.values():
        for index in table.indexes:
            if (part := index.dialect_kwargs.get("sqlite_where")) is not None:
                index.kwargs["postgresql_where"] = part
