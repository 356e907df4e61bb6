"""Headers as httpx and httpx2 keep them, and what those of a response say of limits."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any, TypeAlias

from tensorix_api.ratelimit_headers import RateLimits, read_rate_limits

__all__ = ["WAITING", "Rows", "limits_of", "media_type", "plain_limits", "rows_of"]

Rows: TypeAlias = list[tuple[bytes, bytes, bytes]]
"""Of each header its name as written, its name in small letters, its value."""

WAITING = frozenset([b"retry-after", b"retry-after-ms", b"reset_at"])
"""Headers that ask to wait."""
_DOCUMENTED = {
    b"x-ratelimit-api_key-remaining-requests": "remaining_requests",
    b"x-ratelimit-api_key-remaining-tokens": "remaining_tokens",
    b"x-ratelimit-api_key-limit-requests": "limit_requests",
    b"x-ratelimit-api_key-limit-tokens": "limit_tokens",
}
_LONGEST_PLAIN = 15


def rows_of(headers: Any) -> Rows:
    """The headers of a request or response: httpx's own list where it is what is expected, else made anew.

    Through the mapping each look encodes and compares all headers; `raw` makes a list each time.
    """
    rows = getattr(headers, "_list", None)
    if type(rows) is list and rows and len(rows[0]) == 3:
        return rows
    return [(name, name.lower(), value) for name, value in headers.raw]


@lru_cache(maxsize=64)
def media_type(value: bytes) -> bytes:
    """What a `content-type` says without its parameters, in small letters."""
    return value.partition(b";")[0].strip().lower()


def plain_limits(rows: Rows) -> dict[str, int] | None:
    """What a response's headers say in the documented spelling with plain numbers, each once, by `RateLimits`' fields.

    None where there is more to read.
    """
    found: dict[str, int] = {}
    for _, name, value in rows:
        if (field := _DOCUMENTED.get(name)) is not None:
            if field in found or not value.isdigit() or len(value) > _LONGEST_PLAIN:
                return None
            found[field] = int(value)
        elif b"ratelimit" in name or name in WAITING:
            return None
    return found


def limits_of(rows: Rows) -> RateLimits | None:
    """What a response's headers say of limits, in any spelling; None where they say nothing."""
    plain = plain_limits(rows)
    if plain is None:
        texts = [(name.decode("latin-1"), value.decode("latin-1")) for name, _, value in rows]
        return read_rate_limits(texts, time.time_ns())
    return RateLimits(**plain, spelling="api_key") if plain else None  # type: ignore[arg-type]
