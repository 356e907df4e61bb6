"""The keys of a run, from the environment of the process that sends."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from tensorix_api.errors import SettingsError
from tensorix_api.secret import Secret
from tensorix_api.settings import fits_a_header

__all__ = ["read_keys"]


def read_keys(variables: Sequence[str], environ: Mapping[str, str] | None = None) -> tuple[Secret, ...]:
    """The keys in the environment variables of these names. Raises SettingsError where one is missing or held twice.

    Each process that sends reads its own environment; a key is never part of a plan.
    """
    if environ is None:
        environ = os.environ
    keys = tuple(Secret(environ.get(name, "").strip()) for name in variables)
    # Whatever raises from here on has no locals that hold a key in the clear.
    del environ
    for number, (name, key) in enumerate(zip(variables, keys, strict=True)):
        if not key:
            raise SettingsError(f"the environment variable {name} holds no key: set it, or leave it out")
        if key in keys[:number]:
            raise SettingsError(f"{variables[keys.index(key)]} and {name} hold the same key: name one of them")
        if not fits_a_header(key):
            raise SettingsError(f"{name} holds a character that no header can carry: set it again")
    return keys
