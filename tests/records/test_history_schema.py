"""The schema of a history: made by migrations alone, from each version that there ever was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tensorix_records.history import History, RoundRow, _migrate
from tensorix_records.history._engine import connect_to, place_of, reading
from tensorix_records.history._schema import HEAD, METADATA, REVISIONS, VERSION_TABLE

MakeRound = Callable[..., RoundRow]


def test_the_migrations_make_the_tables_that_the_code_knows(history_url: str) -> None:
    """In SQLite and PostgreSQL, Alembic finds nothing left to change after the last migration."""
    History.open(history_url).close()
    place = place_of(history_url)
    engine = connect_to(place, 5)
    with reading(engine) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "version_table": VERSION_TABLE}
        )
        assert compare_metadata(context, METADATA) == []
        assert context.get_current_revision() == HEAD
    engine.dispose()


def test_the_list_of_versions_is_that_of_the_migrations() -> None:
    """One line of them without branches, the oldest first."""
    config = Config()
    config.set_main_option("script_location", str(Path(_migrate.__file__).parent / "migrations"))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == REVISIONS


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_history_of_each_version_is_brought_up_to_date(
    tmp_path: Path, make_round: MakeRound, revision: str, histories: Path
) -> None:
    """A file that a version made, kept as SQL, opens with all its rounds, hours and memories, and takes new ones."""
    path = tmp_path / "history.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((histories / f"history_revision_{revision}.sql").read_text())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone() == (revision,)
    with History.open(str(path), create=False) as history:
        kept = [make_round(1), make_round(2, location=None, state="down", maintenance="sunday", reason="größer")]
        assert list(history.rounds()) == kept
        assert [(row.up, row.down) for row in history.hours(checks=False)] == [(3, 0), (0, 1), (1, 0)]
        assert history.recall("target/here") == {"checks": {"models": {"known": ["a"]}}}
        history.append([make_round(1), make_round(3)])
        assert len(list(history.rounds())) == 3
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone() == (HEAD,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.fixture
def histories() -> Path:
    """The folder of what earlier versions made."""
    return Path(__file__).parent / "histories"


def test_an_upgrade_that_fails_changes_nothing(
    tmp_path: Path, make_round: MakeRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a migration or none: what was there is as it was, and the next try succeeds."""
    path = tmp_path / "history.db"
    upgrade = _migrate.upgrade

    def fails(connection: Any, revision: str) -> None:
        upgrade(connection, revision)
        raise KeyboardInterrupt

    monkeypatch.setattr(_migrate, "upgrade", fails)
    with pytest.raises(KeyboardInterrupt):
        History.open(str(path))
    monkeypatch.undo()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    with History.open(str(path)) as history:
        history.append([make_round()])
        assert list(history.rounds()) == [make_round()]


def test_each_commit_is_on_the_disk_and_readers_hold_up_nobody(tmp_path: Path) -> None:
    """WAL, a commit synced in full, foreign keys held: on every connection."""
    place = place_of(str(tmp_path / "history.db"))
    History.open(str(place)).close()
    engine = connect_to(place, 5)
    for _ in range(2):
        with reading(engine) as connection:
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    engine.dispose()
