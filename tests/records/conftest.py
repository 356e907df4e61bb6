"""Runs and records for the tests of this room."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
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
