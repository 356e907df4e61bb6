"""A history in PostgreSQL that several locations share: what only a server can do to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tensorix_api.errors import HistoryError
from tensorix_records.history import History, RoundRow

if TYPE_CHECKING:
    from tests.records.conftest import PostgresServer

pytestmark = pytest.mark.system("initdb")
MakeRound = Callable[..., RoundRow]


def test_locations_that_begin_at_once_write_into_one(postgresql: PostgresServer, make_round: MakeRound) -> None:
    """Four that make the tables and write at the same instant: none fails, and each one's rounds are there."""
    url, barrier, failed = postgresql.database(), threading.Barrier(4), list[Exception]()

    def location(name: str) -> None:
        try:
            barrier.wait(20)
            with History.open(url) as history:
                for number in range(20):
                    history.append([make_round(number, round_id=f"{name}-{number}", location=name)])
                    history.maintain(2**61, keep_results_s=1e10, keep_hours_s=1e10)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=location, args=(name,)) for name in ("fra", "nyc", "sin", "syd")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    with History.open(url, create=False) as history:
        for name in ("fra", "nyc", "sin", "syd"):
            assert len(list(history.rounds(location=name))) == 20
        assert {row.location: row.up for row in history.hours(checks=False)} == dict.fromkeys(
            ("fra", "nyc", "sin", "syd"), 20
        )


def test_a_wrong_password_is_told_without_it(postgresql: PostgresServer) -> None:
    """One line that says whose password is wrong, and neither password."""
    with pytest.raises(HistoryError) as caught:
        History.open(postgresql.url("postgres", "a-wrong-one"))
    told = str(caught.value)
    assert "password authentication failed" in told
    assert "\n" not in told
    assert "a-wrong-one" not in told
    assert postgresql.password not in told


def test_a_server_that_goes_and_comes_back_loses_nothing(postgresql: PostgresServer, make_round: MakeRound) -> None:
    """Gone, each call says so in one line; back, the same history goes on where it was."""
    url = postgresql.database()
    with History.open(url) as history:
        history.append([make_round(1)])
        postgresql.stop()
        try:
            for call in (lambda: history.append([make_round(2)]), lambda: list(history.rounds())):
                with pytest.raises(HistoryError) as caught:
                    call()
                assert "\n" not in str(caught.value)
                assert postgresql.password not in str(caught.value)
            with pytest.raises(HistoryError, match="cannot be opened"):
                History.open(url)
        finally:
            postgresql.start()
        history.append([make_round(2)])
        assert list(history.rounds()) == [make_round(1), make_round(2)]


def test_no_such_database_is_told(postgresql: PostgresServer) -> None:
    """One line with its name."""
    with pytest.raises(HistoryError, match='database "nowhere" does not exist'):
        History.open(postgresql.url("nowhere"))


def test_a_table_lock_is_waited_for_and_then_told(postgresql: PostgresServer, make_round: MakeRound) -> None:
    """Somebody's lock on the tables ends in one line after the time, not in a wait for ever."""
    import psycopg

    url = postgresql.database()
    with History.open(url, wait_s=0.2) as history, psycopg.connect(url) as other:
        other.execute("LOCK TABLE probe_rounds")
        with pytest.raises(HistoryError, match="lock timeout"):
            history.append([make_round()])
        other.rollback()
        history.append([make_round()])
