"""What the words of a 429 say about the limit that was met. A hint: servers word them as they like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tensorix_records import RequestRecord

__all__ = ["Hint", "read_hint"]

_UNIT_S = {"ms": 0.001, "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_UNIT_S |= {"d": 86_400, "day": 86_400}
_STATED = re.compile(
    r"(?P<amount>\d{1,12}) ?(?P<what>request|token)s? ?(?:/|per) ?(?P<times>\d{1,6})? ?"
    rf"(?P<unit>{'|'.join(sorted(_UNIT_S, key=len, reverse=True))})s?\b"
)
_IN_FLIGHT = re.compile(r"in flight|in-flight|concurren|parallel|simultaneous|at the same time|at once")
_TOKENS = re.compile(r"\btokens?\b|\btpm\b|\btpd\b")
_REQUESTS = re.compile(r"\brequests?\b|\brpm\b|\brps\b|\brpd\b|\bcalls\b")


@dataclass(frozen=True, slots=True)
class Hint:
    """What the words say; None where they say nothing."""

    what: Literal["requests", "tokens", "in flight"] | None = None
    amount: int | None = None
    """A limit that was stated in so many words, with its window."""
    window_s: float | None = None


def read_hint(record: RequestRecord) -> Hint:
    """Read the error's message, type and code."""
    said = " ".join(filter(None, (record.error_message, record.error_type, record.error_code))).lower()
    if _IN_FLIGHT.search(said):
        return Hint("in flight")
    if match := _STATED.search(said):
        what = "requests" if match["what"] == "request" else "tokens"
        window_s = int(match["times"] or 1) * _UNIT_S[match["unit"]]
        if window_s > 0 and int(match["amount"]) > 0:
            return Hint("requests" if what == "requests" else "tokens", int(match["amount"]), window_s)
    # "Too many requests" is what every 429 says, whatever was too many.
    said = said.replace("too many requests", "")
    tokens, requests = bool(_TOKENS.search(said)), bool(_REQUESTS.search(said))
    if tokens == requests:
        return Hint()
    return Hint("tokens" if tokens else "requests")
