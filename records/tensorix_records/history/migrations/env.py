"""Run by Alembic, on the connection and in the transaction that `_migrate` hands over."""

from __future__ import annotations

from alembic import context

from tensorix_records.history._schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    # All of an upgrade or nothing, with SQLite too, whose statements on tables are transactional.
    transactional_ddl=True,
)
context.run_migrations()
