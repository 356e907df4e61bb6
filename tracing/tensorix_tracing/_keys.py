"""Keeping the key of a call out of what a server writes: it may repeat it anywhere."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from tensorix_api.secret import Redactor, Secret
from tensorix_tracing._headers import rows_of

__all__ = ["KeyGuard", "guard_of", "text_without_key"]

# A text that a server made up for one call hides no key if it is shorter and holds neither end of it.
_PLAIN_LENGTH = 60
_EDGE = 6
# Words of the contract, which a key may end in: that does not make them a part of it.
_DOCUMENTED_CODES = frozenset(["invalid_api_key", "stop", "length", "tool_calls", "content_filter"])
_LINE_BREAKS = re.compile(r"([\n\r\t])")


class KeyGuard:
    """Short texts without one key. `name` is for those that come again with each call, such as the model's."""

    def __init__(self, key: Secret | None) -> None:
        self.key = key
        self._redact = _redactor(key)
        edges = [key.reveal()[:_EDGE], key.reveal()[-_EDGE:]] if key else []
        # The search alone, for a pattern shows what it looks for.
        self._may_hide = re.compile("|".join(map(re.escape, ["sk-", *edges])), re.IGNORECASE).search
        self.name = lru_cache(maxsize=256)(self._name)

    def _name(self, text: str) -> str:
        return text if text in _DOCUMENTED_CODES else self._redact(text, len(text))

    def unique(self, text: str) -> str:
        """A text that is another for each call, so not worth keeping."""
        if len(text) < _PLAIN_LENGTH and self._may_hide(text) is None:
            return text
        return self._name(text)


def guard_of(headers: Any) -> KeyGuard:
    """What keeps out the key that a request with these headers carries; None where it was never sent."""
    other = b""
    for _, name, value in rows_of(headers) if headers is not None else ():
        if name == b"authorization":
            return _guard(value)
        if name == b"api-key":
            other = value
    return _guard(other)


@lru_cache(maxsize=16)
def _guard(credential: bytes) -> KeyGuard:
    key = (credential.partition(b" ")[2] or credential).decode("latin-1")
    return KeyGuard(Secret(key) if key else None)


def text_without_key(text: str, key: Secret | None) -> str:
    """A longer text, whose lines stay what they are."""
    redact = _redactor(key)
    return "".join(redact(line, len(line)) if line else line for line in _LINE_BREAKS.split(text))


@lru_cache(maxsize=16)
def _redactor(key: Secret | None) -> Redactor:
    return Redactor(key)
