"""What every room's tests share: the environment they run in, and the rule for tests that need a system package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

# Before anything can import Locust: the tests' own process stays unpatched. The engine is a process of its own, and
# `subprocess_environment` leaves this variable out for it.
os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"

import pytest

_PROGRAMS = {"chromium": ("chromium", "chromium-browser", "google-chrome")}
# Debian leaves PostgreSQL's own programs off the PATH.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def _is_users_own(name: str) -> bool:
    """Whether a variable could lead a test away from loopback, or hands it somebody's real key."""
    return name.startswith("TENSORIX_") or name.lower() in _PROXIES


@pytest.fixture(autouse=True)
def no_real_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the key, address or proxy of whoever runs it."""
    for name in list(os.environ):
        if _is_users_own(name):
            monkeypatch.delenv(name)


@pytest.fixture
def subprocess_environment() -> dict[str, str]:
    """The environment for a process that a test starts: no key, no proxy, and Locust free to patch."""
    left_out = {"LOCUST_SKIP_MONKEY_PATCH"}
    return {name: value for name, value in os.environ.items() if name not in left_out and not _is_users_own(name)}


@pytest.fixture(scope="session")
def find_program() -> Callable[[str], str]:
    """Where a program is that a test marked `system(program)` needs."""

    def find(program: str) -> str:
        found = shutil.which(program, path=_PATH)
        assert found is not None
        return found

    return find


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `system(program)` by the program's name where it is missing; under CI=true, fail it."""
    for mark in item.iter_markers("system"):
        for program in mark.args:
            if any(shutil.which(name, path=_PATH) for name in _PROGRAMS.get(program, (program,))):
                continue
            if os.environ.get("CI", "").lower() in ("1", "true"):
                pytest.fail(f"{program} is not installed, and under CI no test is skipped for that", pytrace=False)
            pytest.skip(f"{program} is not installed")
