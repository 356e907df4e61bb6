"""The tables of a history. They are made and changed by the migrations only; a test compares the two.

Texts that may be absent and are part of a key (`location`, `check_name` of an hour's rounds) are empty instead.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

__all__ = ["ASSERTION_SETS", "HEAD", "HOURS", "MEMORY", "METADATA", "RESULTS", "REVISIONS", "ROUNDS", "VERSION_TABLE"]

REVISIONS = ("1",)
"""Of the schema, oldest first."""
HEAD = REVISIONS[-1]
VERSION_TABLE = "probe_schema"

METADATA = MetaData()
# SQLite numbers rows itself where the type is INTEGER, by that very word.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")
_JSON = JSON(none_as_null=True)

ROUNDS = Table(
    "probe_rounds",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("round_id", Text, nullable=False, unique=True),
    Column("target", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_unix_ns", BigInteger, nullable=False),
    Column("slot_unix_ns", BigInteger),
    Column("duration_ns", BigInteger, nullable=False),
    Column("reason", Text),
    Column("cause_check", Text),
    Column("cause", Text),
    Column("maintenance", Text),
    Column("trace_id", Text),
    Column("rolled_up", SmallInteger, nullable=False, server_default="0"),
)
Index("probe_rounds_by_start", ROUNDS.c.started_unix_ns)
Index("probe_rounds_by_target", ROUNDS.c.target, ROUNDS.c.started_unix_ns)
NOT_ROLLED_UP = text("rolled_up = 0")
# Of the last hour or two only: rounds that no roll-up counts yet.
Index(
    "probe_rounds_fresh",
    ROUNDS.c.started_unix_ns,
    sqlite_where=NOT_ROLLED_UP,
    postgresql_where=NOT_ROLLED_UP,
)

RESULTS = Table(
    "probe_results",
    METADATA,
    Column("round", _NUMBER, ForeignKey("probe_rounds.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("number", SmallInteger, primary_key=True, autoincrement=False),
    Column("check_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_unix_ns", BigInteger, nullable=False),
    Column("duration_ns", BigInteger, nullable=False),
    Column("reason", Text),
    Column("failed", _JSON),
    Column("assertion_set", BigInteger),
    Column("details", _JSON),
    Column("phases_ns", _JSON),
    Column("figures", _JSON),
    Column("status", BigInteger),
    Column("error_kind", Text),
    Column("error_phase", Text),
    Column("request_id", Text),
    Column("key_alias", Text),
    Column("model", Text),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost", Double),
    sqlite_with_rowid=False,
)

# What the assertions of a result are called and whether they held is the same for thousands of results: kept once,
# under a hash of it. What was seen of each stands with the result, in `details`.
ASSERTION_SETS = Table(
    "probe_assertion_sets",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("content", _JSON, nullable=False),
)

HOURS = Table(
    "probe_hours",
    METADATA,
    Column("target", Text, primary_key=True),
    Column("hour_unix_s", BigInteger, primary_key=True, autoincrement=False),
    Column("location", Text, primary_key=True),
    Column("check_name", Text, primary_key=True),
    Column("maintenance", SmallInteger, primary_key=True, autoincrement=False),
    Column("up", BigInteger, nullable=False),
    Column("degraded", BigInteger, nullable=False),
    Column("inconclusive", BigInteger, nullable=False),
    Column("payment", BigInteger, nullable=False),
    Column("down", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost", Double),
    Column("causes", _JSON),
    Column("phases", _JSON),
    sqlite_with_rowid=False,
)

MEMORY = Table(
    "probe_memory",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", _JSON),
)
