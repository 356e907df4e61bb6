"""Whether another instrumentation of openai is active: two would tell of every call twice, so ours stands aside."""

from __future__ import annotations

import logging
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["Others"]

log = logging.getLogger("tensorix_tracing")

OURS = "_tensorix_tracing"
"""A hook of ours carries this attribute."""


class Others:
    """Looks at the methods of openai that others wrap; says once if it found one wrapped."""

    def __init__(self) -> None:
        self._classes: tuple[Any, ...] | None = None
        self._seen: tuple[Any, ...] = ()
        self._active = False
        self._said = False

    def active(self, client: Any) -> bool:
        """Whether the calls of this client are told of by somebody else."""
        if self._classes is None:
            resources = import_module("openai.resources.chat.completions")
            openai = sys.modules["openai"]
            self._classes = (openai.OpenAI, openai.AsyncOpenAI, resources.Completions, resources.AsyncCompletions)
        one, two, three, four = self._classes
        own = client.__dict__.get("request")
        # What was looked at before is not looked at again: this is done for each call.
        known = self._seen
        if not (
            known
            and one.request is known[0]
            and two.request is known[1]
            and three.create is known[2]
            and four.create is known[3]
        ):
            self._seen = (one.request, two.request, three.create, four.create)
            self._active = any(map(_is_foreign, self._seen))
        active = self._active or (own is not None and not hasattr(own, OURS))
        if active and not self._said:
            self._said = True
            log.warning(
                "another instrumentation of openai is active: tensorix_tracing stands aside; take one of the two out"
            )
        return active


def _is_foreign(method: Any) -> bool:
    # Not isinstance, and no attribute asked before: what wrapt wraps says that it is whatever is in it.
    while type(method) is types.FunctionType and hasattr(method, OURS):
        method = method.__wrapped__  # type: ignore[attr-defined]
    if type(method) is not types.FunctionType:
        return True
    package = Path(sys.modules["openai"].__file__ or "").parent
    return not Path(method.__code__.co_filename).is_relative_to(package)
