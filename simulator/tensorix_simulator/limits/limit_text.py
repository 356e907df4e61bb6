"""Limits as a person writes them: `2 requests/1s`, `100000 tokens/1d clock_window`, `8 in flight`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tensorix_api.durations import TIME, UNIT, UNITS, nanoseconds
from tensorix_api.errors import SettingsError
from tensorix_api.limiters import Resource

__all__ = ["FORMS", "KINDS", "Limit", "read_limit"]

KINDS = ("fixed_window", "clock_window", "sliding_log", "sliding_counter", "token_bucket", "gateway_window")
"""How a window may be counted; what each means is in `tensorix_api.limiters`, of the last in `gateway_window`."""

FORMS = (
    "'2 requests/1s'",
    "'100000 tokens/1d clock_window'",
    "'60 requests/60s burst 5'",
    "'8 in flight'",
    "each also 'per model' or 'all keys'",
)
"""What may be written. Times have a unit (`durations.UNITS`); the words after the window may come in any order."""

_LIMIT = re.compile(
    r"(?P<amount>\d+(?:_\d+)*)\s*"
    rf"(?:(?P<resource>request|token)s?\s*/\s*(?P<time>{TIME}|{UNIT})|in\s+flight)"
    r"(?P<words>(?:\s.*)?)",
    re.ASCII,
)
_WORD = re.compile(
    rf"\s+(?:(?P<kind>{'|'.join(KINDS)})|burst\s+(?P<burst>\d+(?:_\d+)*)|(?P<model>per\s+model)|all\s+keys)", re.ASCII
)
_MOST = 10**12
_LONGEST = 100
_LONGEST_NS = 366 * 86_400 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit, as it is set."""

    name: str
    """`requests` and `tokens` for rpm and tpm, else the text."""
    resource: Resource | None
    """None: requests in flight, which have no window."""
    amount: int
    window_ns: int = 0
    kind: str | None = None
    """One of `KINDS`; None: what the setting `limiter` says."""
    burst: int | None = None
    per_model: bool = False
    """Each model has one of its own."""
    all_keys: bool = False
    """All keys together have one."""


def read_limit(text: str) -> Limit:
    """Read one of `FORMS`. Raises SettingsError that says what may be written."""
    name = " ".join(text.split())
    match = _LIMIT.fullmatch(name) if len(name) <= _LONGEST else None
    if match is None:
        raise _wrong(text)
    words = _read_words(text, match["words"])
    amount, burst = int(match["amount"]), words.get("burst")
    window_ns, resource = 0, match["resource"]
    if resource is not None:
        # A unit alone is one of it.
        exact_ns = nanoseconds(match["time"]) or nanoseconds(f"1{match['time']}") or 0
        window_ns = int(exact_ns)
        if not 10**6 <= exact_ns <= _LONGEST_NS:
            raise _wrong(text, "a window is from 1ms to 366d")
    kind = words.get("kind") or ("token_bucket" if burst is not None else None)
    if not 1 <= amount <= _MOST or (burst is not None and not 1 <= int(burst) <= _MOST):
        raise _wrong(text, "an amount is from 1 to 10**12")
    if resource is None and kind is not None:
        raise _wrong(text, "requests in flight have no window, and so no kind")
    if burst is not None and kind != "token_bucket":
        raise _wrong(text, "only a token_bucket has a burst")
    return Limit(
        name=name,
        resource=None if resource is None else "requests" if resource == "request" else "tokens",
        amount=amount,
        window_ns=window_ns,
        kind=kind,
        burst=None if burst is None else int(burst),
        per_model="model" in words,
        all_keys="keys" in words,
    )


def _read_words(text: str, rest: str) -> dict[str, str]:
    words: dict[str, str] = {}
    while rest:
        match = _WORD.match(rest)
        if match is None or (rest[match.end() :] and not rest[match.end()].isspace()):
            raise _wrong(text)
        name = match.lastgroup or "keys"
        if name in words:
            raise _wrong(text, "each may be said once")
        words[name] = match[name] if match.lastgroup else ""
        rest = rest[match.end() :]
    return words


def _wrong(text: str, why: str = "") -> SettingsError:
    reason = f": {why}" if why else ""
    kinds = ", ".join(KINDS)
    return SettingsError(
        f"{text[:_LONGEST]!r} is no limit{reason}; write {', '.join(FORMS)}; the kinds are {kinds}; "
        f"the units of time {UNITS}"
    )
