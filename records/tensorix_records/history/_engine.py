"""Where a history lies: a file's name or an address, the connection to it, and what its errors mean in one line."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from tensorix_api.errors import HistoryError

__all__ = ["Place", "compact_json", "connect_to", "place_of", "told"]

_MEANING = {
    "SQLITE_BUSY": "it is locked by another process",
    "SQLITE_LOCKED": "it is locked by another process",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it may not be written",
    "SQLITE_NOTADB": "it is no SQLite database",
    "SQLITE_CORRUPT": "it is damaged; move it aside to begin a new one, `sqlite3 FILE .recover` reads what is left",
    "SQLITE_CANTOPEN": "it cannot be opened",
}
_WRITES = "tensorix_writes"


@dataclass(frozen=True, slots=True)
class Place:
    """A history's address taken apart."""

    url: URL
    file: Path | None
    """None: PostgreSQL."""

    def __str__(self) -> str:
        """As messages name it: without a password, and without what else the address says."""
        return str(self.file) if self.file else self.url.set(query={}).render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Place({str(self)!r})"


def place_of(url: str) -> Place:
    """Take a history's address apart. Raises HistoryError where it is none, without repeating it: it may be secret."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "sqlite", f"/{url}"
    if scheme == "sqlite":
        name = rest.removeprefix("/")
        if not name or name.startswith(":memory:") or "\0" in name:
            raise HistoryError("a history needs a file: say its name, or `sqlite:///NAME`")
        file = Path(name)
        return Place(URL.create("sqlite", database=str(file)), file)
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise HistoryError("a history is a file's name, `sqlite:///NAME` or `postgresql://USER@HOST/DATABASE`")
    try:
        return Place(make_url(url).set(drivername="postgresql+psycopg"), None)
    except (ArgumentError, ValueError):
        raise HistoryError(
            "the history's address cannot be read: `postgresql://USER:PASSWORD@HOST:5432/DATABASE`, "
            "with what is special in the password written as %XX"
        ) from None


def compact_json(value: Any) -> str:
    """JSON as the database keeps it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def connect_to(place: Place, wait_s: float) -> Engine:
    """An engine for a place; nothing is opened yet. A lock is waited for so many seconds."""
    common: dict[str, Any] = {"hide_parameters": True, "json_serializer": compact_json}
    if place.file is not None:
        engine = create_engine(place.url, connect_args={"timeout": wait_s, "check_same_thread": False}, **common)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = create_engine(
            place.url,
            # A server that vanished without a word is noticed within half a minute.
            connect_args={
                "connect_timeout": max(2, round(wait_s)),
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 20_000,
                "application_name": "tensorix",
            },
            pool_pre_ping=True,
            **common,
        )
    except ModuleNotFoundError:
        raise HistoryError(
            "a history in PostgreSQL needs more: pip install 'tensorix-toolkit[postgresql]', in a clone '.[postgresql]'"
        ) from None

    def prepare(connection: Any, record: object) -> None:
        connection.execute(f"SET lock_timeout = {round(wait_s * 1000)}")
        connection.execute("SET statement_timeout = 60000")
        connection.commit()

    event.listen(engine, "connect", prepare)
    return engine


def _prepare_sqlite(connection: Any, record: object) -> None:
    # Transactions begin where `_begin_sqlite` says, not where the driver guesses.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # Each commit is on the disk before it counts: after a power cut, too. Batches come once or twice a second.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA journal_size_limit = 16777216")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock at once: one that began as a reader could not wait for it.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state of the database."""
    with engine.connect() as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes."""
    with engine.connect() as plain:
        connection = plain.execution_options(**{_WRITES: True})
        with connection.begin():
            yield connection


def _meaning(error: Exception) -> str:
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    name = str(getattr(original, "sqlite_errorname", ""))
    for known, meaning in _MEANING.items():
        if name.startswith(known):
            return meaning
    return "; ".join(line.strip() for line in str(original).splitlines() if line.strip()) or type(original).__name__


@contextlib.contextmanager
def told(place: Place, doing: str) -> Iterator[None]:
    """Turn what databases raise into a HistoryError: one line, without a password or a traceback of theirs."""
    try:
        yield
    except (SQLAlchemyError, OSError, ValueError, OverflowError) as error:
        text = _meaning(error)
        secrets = [place.url.password, *(place.url.query.get(name) for name in ("password", "passfile", "sslpassword"))]
        for secret in secrets:
            if isinstance(secret, str) and secret:
                text = text.replace(secret, "***")
        raise HistoryError(f"the history {place} cannot be {doing}: {text}") from None


def check_file(file: Path, *, create: bool) -> None:
    """Say what is wrong with a file's name before SQLite says it in fewer words. Raises HistoryError."""
    if file.is_dir():
        raise HistoryError(f"the history {file} is a folder: name a file in it")
    if not file.parent.is_dir():
        raise HistoryError(f"the history {file} has no folder {file.parent}: make it first")
    if not file.exists() and not create:
        raise HistoryError(f"there is no history {file}")
    needed = os.R_OK | (os.W_OK if create else 0)
    if not os.access(file if file.exists() else file.parent, needed if file.exists() else os.W_OK | os.X_OK):
        raise HistoryError(f"the history {file} cannot be opened: no permission")
