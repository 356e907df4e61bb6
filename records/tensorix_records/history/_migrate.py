"""Brings a history's schema up to date."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from tensorix_api.errors import HistoryError
from tensorix_records.history._engine import Place, reading, writing
from tensorix_records.history._schema import HEAD, REVISIONS, VERSION_TABLE

__all__ = ["migrate", "upgrade"]

# Any number will do that nobody else's programs lock: it stands for "the schema of a history".
MIGRATION_LOCK = 0x7E45_0001
# Alembic's context is one for all threads.
_ALEMBIC = threading.Lock()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a constant
    return found


def _check(connection: Connection, place: Place, *, create: bool) -> str | None:
    revision = _revision(connection)
    if revision is None and not create:
        raise HistoryError(f"there is no history in {place}")
    if revision is None and place.file is not None and inspect(connection).get_table_names():
        raise HistoryError(f"{place} is a database of another program, no history")
    if revision is not None and revision not in REVISIONS:
        raise HistoryError(
            f"the history {place} was made by a newer version (its schema is {revision}, this one knows up to {HEAD}): "
            "update tensorix-toolkit"
        )
    return revision


def migrate(engine: Engine, place: Place, *, create: bool) -> None:
    """Make the tables, or bring them up to date; several processes may do so at a time."""
    with reading(engine) as connection:
        if _check(connection, place, create=create) == HEAD:
            return
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        # Another process may have been quicker.
        if _check(connection, place, create=create) != HEAD:
            upgrade(connection, "head")


def upgrade(connection: Connection, revision: str) -> None:
    """Run the migrations up to one, in the transaction that is open."""
    # Takes longer to import than all the rest, and is needed once.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, revision)
