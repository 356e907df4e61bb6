"""Whether another instrumentation of openai is active: two would tell of every call twice, so ours stands aside."""

from __future__ import annotations

import logging
import sys
import types
from pathlib import Path
from typing import Any

__all__ = ["Others"]

log = logging.getLogger("tensorix_tracing")

_CLASSES = ("OpenAI", "AsyncOpenAI")
_RESOURCES = ("Completions", "AsyncCompletions")
OURS = "_tensorix_tracing"
"""A hook of ours carries this attribute."""


class Others:
    """Looks at the methods of openai that others wrap; says once if it found one wrapped."""

    def __init__(self) -> None:
        self._seen: tuple[Any, ...] = ()
        self._active = False
        self._said = False

    def active(self, client: Any) -> bool:
        """Whether the calls of this client are told of by somebody else."""
        seen = _methods(client)
        # Compared by identity: what was looked at before is not looked at again.
        if len(seen) != len(self._seen) or any(now is not then for now, then in zip(seen, self._seen, strict=True)):
            self._seen = seen
            self._active = any(method is not None and _is_foreign(method) for method in seen)
        if self._active and not self._said:
            self._said = True
            log.warning(
                "another instrumentation of openai is active: tensorix_tracing stands aside; take one of the two out"
            )
        return self._active


def _methods(client: Any) -> tuple[Any, ...]:
    openai = sys.modules.get("openai")
    resources = sys.modules.get("openai.resources.chat.completions")
    if openai is None:
        return ()
    found = [vars(getattr(openai, name)).get("request") for name in _CLASSES]
    if resources is not None:
        found += [vars(getattr(resources, name)).get("create") for name in _RESOURCES]
    found.append(vars(client).get("request"))
    return tuple(found)


def _is_foreign(method: Any) -> bool:
    if hasattr(method, OURS):
        return False
    if not isinstance(method, types.FunctionType):
        return True
    package = Path(sys.modules["openai"].__file__ or "").parent
    return not Path(method.__code__.co_filename).is_relative_to(package)
