"""Runs and records for the tests of this room."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from tensorix_records import RequestRecord, Run

RecordMaker = Callable[..., RequestRecord]
_HINTS = get_type_hints(RequestRecord)
_TEXTS = ["", "a", "deepseek/deepseek-chat-v3.1", "größer 模型 🙂", "tab\tline\n\0"]


@pytest.fixture
def make_record() -> RecordMaker:
    """A record with little in it; keywords set more."""

    def make(number: int = 0, **changes: Any) -> RequestRecord:
        least: dict[str, Any] = {
            "run_id": "run-1",
            "record_id": f"r-{number}",
            "request_id": f"q-{number}",
            "endpoint": "/chat/completions",
            "start_unix_ns": 1_800_000_000_000_000_000 + number,
            "outcome": "success",
        }
        return RequestRecord(**(least | changes))

    return make


@pytest.fixture
def random_record() -> Callable[[random.Random], RequestRecord]:
    """A record with anything in every column that its annotation allows."""

    def value(kind: Any, rng: random.Random) -> Any:
        if get_origin(kind) is Literal:
            return rng.choice(get_args(kind))
        if kind is int:
            return rng.choice([0, 1, -1, 2**63 - 1, -(2**63), rng.randrange(-(10**12), 10**12)])
        if kind is float:
            return rng.choice([0.0, -0.0, float("inf"), rng.uniform(-1e9, 1e9)])
        if kind is bool:
            return rng.random() < 0.5
        if kind is str:
            return rng.choice(_TEXTS)
        assert get_origin(kind) is list
        return [value(int, rng) for _ in range(rng.randrange(4))]

    def make(rng: random.Random) -> RequestRecord:
        row: dict[str, Any] = {}
        for column in fields(RequestRecord):
            kinds = [kind for kind in get_args(_HINTS[column.name]) if kind is not type(None)]
            nullable = type(None) in get_args(_HINTS[column.name])
            kind = kinds[0] if nullable else _HINTS[column.name]
            row[column.name] = None if nullable and rng.random() < 0.4 else value(kind, rng)
        return RequestRecord(**row)

    return make


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A new run."""
    return Run.create(tmp_path / "run", {"run_id": "run-1"})


@pytest.fixture
def start_program(subprocess_environment: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Start a Python program given as text, with arguments; its standard output is a pipe."""

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
            env=subprocess_environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


class PostgresServer:
    """A real server with nothing in it, on a Unix socket in a folder of its own."""

    password = "pass-of-the-test"

    def __init__(self, find_program: Callable[[str], str]) -> None:
        self._find = find_program
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="tensorix-pg-"))
        self._databases = 0
        if self._user:
            os.chown(self.folder, pwd.getpwnam(self._user).pw_uid, -1)
        password = self.folder / "password"
        password.write_text(self.password)
        password.chmod(0o644)
        arguments = ["-U", "tensorix", "-A", "scram-sha-256", f"--pwfile={password}", "-N", "-E", "UTF8", "--locale=C"]
        self._run("initdb", "-D", f"{self.folder}/data", *arguments)
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._find(program), *arguments]
        subprocess.run(command, user=self._user, cwd=self.folder, check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [self._find("postgres"), "-D", f"{self.folder}/data", *options],
            user=self._user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        import psycopg

        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it at once, whoever is connected."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)

    def url(self, database: str, password: str = password) -> str:
        """The address of a database of it."""
        return f"postgresql://tensorix:{password}@/{database}?host={self.folder}"

    def database(self) -> str:
        """The address of a new database."""
        import psycopg

        self._databases += 1
        name = f"history_{self._databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def remove(self) -> None:
        """Stop it and remove all of it."""
        with contextlib.suppress(ProcessLookupError):
            self.stop()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="session")
def postgresql(find_program: Callable[[str], str]) -> Iterator[PostgresServer]:
    """A server for all tests that are marked `system("initdb")`."""
    server = PostgresServer(find_program)
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system("initdb"))])
def history_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a history that is not there yet: a file, then a database."""
    if request.param == "sqlite":
        return str(tmp_path / "history.db")
    server: PostgresServer = request.getfixturevalue("postgresql")
    return server.database()


@pytest.fixture
def make_round() -> Callable[..., Any]:
    """A round of two checks that is up; keywords set more, and `number` its id and its minute."""
    from tensorix_records.history import ResultRow, RoundRow

    def make(number: int = 0, **changes: Any) -> RoundRow:
        start = 1_800_000_000_000_000_000 + number * 60_000_000_000
        chat = ResultRow(
            check="chat",
            state="up",
            started_unix_ns=start + 1_000,
            duration_ns=250_000_000,
            assertions=(
                {"name": "status_is_200", "held": True, "otherwise": "down", "detail": None},
                {"name": "canary_answered", "held": True, "otherwise": "degraded", "detail": "42"},
            ),
            phases_ns={"connect": 1_000_000 + number, "total": 250_000_000 + number},
            figures={"tokens_per_second": 40.5},
            status=200,
            request_id=f"q-{number}",
            key_alias="key-1",
            model="a-model",
            requests=1,
            tokens=20,
            cost=0.25,
        )
        models = ResultRow(check="models", state="up", started_unix_ns=start, phases_ns={"total": 5_000_000})
        least: dict[str, Any] = {
            "round_id": f"r-{number}",
            "target": "here",
            "location": "fra",
            "state": "up",
            "started_unix_ns": start,
            "duration_ns": 260_000_000,
            "results": (models, chat),
        }
        return RoundRow(**(least | changes))

    return make
