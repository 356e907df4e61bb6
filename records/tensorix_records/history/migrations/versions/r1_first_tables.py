"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the tables and their indexes."""
    op.create_table(
        "probe_rounds",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("round_id", sa.Text(), nullable=False, unique=True),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("slot_unix_ns", sa.BigInteger()),
        sa.Column("duration_ns", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("cause_check", sa.Text()),
        sa.Column("cause", sa.Text()),
        sa.Column("maintenance", sa.Text()),
        sa.Column("trace_id", sa.Text()),
        sa.Column("rolled_up", sa.SmallInteger(), nullable=False, server_default="0"),
    )
    op.create_index("probe_rounds_by_start", "probe_rounds", ["started_unix_ns"])
    op.create_index("probe_rounds_by_target", "probe_rounds", ["target", "started_unix_ns"])
    fresh = sa.text("rolled_up = 0")
    op.create_index(
        "probe_rounds_fresh", "probe_rounds", ["started_unix_ns"], sqlite_where=fresh, postgresql_where=fresh
    )
    op.create_table(
        "probe_results",
        sa.Column(
            "round",
            _NUMBER,
            sa.ForeignKey("probe_rounds.id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("number", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("check_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("duration_ns", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("failed", _JSON),
        sa.Column("assertion_set", sa.BigInteger()),
        sa.Column("details", _JSON),
        sa.Column("phases_ns", _JSON),
        sa.Column("figures", _JSON),
        sa.Column("status", sa.BigInteger()),
        sa.Column("error_kind", sa.Text()),
        sa.Column("error_phase", sa.Text()),
        sa.Column("request_id", sa.Text()),
        sa.Column("key_alias", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Double()),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "probe_assertion_sets",
        sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("content", _JSON, nullable=False),
    )
    op.create_table(
        "probe_hours",
        sa.Column("target", sa.Text(), primary_key=True),
        sa.Column("hour_unix_s", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("location", sa.Text(), primary_key=True),
        sa.Column("check_name", sa.Text(), primary_key=True),
        sa.Column("maintenance", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("up", sa.BigInteger(), nullable=False),
        sa.Column("degraded", sa.BigInteger(), nullable=False),
        sa.Column("inconclusive", sa.BigInteger(), nullable=False),
        sa.Column("payment", sa.BigInteger(), nullable=False),
        sa.Column("down", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Double()),
        sa.Column("causes", _JSON),
        sa.Column("phases", _JSON),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "probe_memory",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", _JSON),
    )
