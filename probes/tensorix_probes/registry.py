"""The checks that there are: built in, and named by installed packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from tensorix_api.errors import SettingsError
from tensorix_probes.check import Check
from tensorix_probes.checks import auth, chat, errors, models, ratelimit, stream, tls
from tensorix_probes.checks._promises import Promise
from tensorix_probes.settings import BUILT_IN_CHECKS

__all__ = ["ENTRY_POINTS", "PROMISES", "check_named", "known_checks"]

ENTRY_POINTS = "tensorix_probes.checks"
"""The group of entry points in which a package names its checks."""

_MODULES = (tls, models, chat, stream, auth, errors, ratelimit)
_BUILT_IN: dict[str, Check] = {module.CHECK.name: module.CHECK for module in _MODULES}
PROMISES: dict[str, tuple[Promise, ...]] = {module.CHECK.name: module.PROMISES for module in _MODULES}
"""What each built-in check asserts, in its order."""


def known_checks() -> list[str]:
    """The names of all checks: the built-in ones in their order, then others by name."""
    others = {entry.name for entry in entry_points(group=ENTRY_POINTS)} - set(BUILT_IN_CHECKS)
    return [*BUILT_IN_CHECKS, *sorted(others)]


@cache
def check_named(name: str) -> Check:
    """The check of a name. Raises SettingsError where there is none, or its package cannot be loaded."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    found = next((entry for entry in entry_points(group=ENTRY_POINTS) if entry.name == name), None)
    if found is None:
        raise SettingsError(f"there is no check {name!r}: choose from {', '.join(known_checks())}")
    try:
        loaded = found.load()
    except Exception as error:
        raise SettingsError(f"the check {name!r} ({found.value}) cannot be loaded: {error}") from error
    if not isinstance(loaded, Check):
        raise SettingsError(f"the check {name!r} ({found.value}) is no tensorix_probes.check.Check")
    return loaded
