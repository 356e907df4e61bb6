"""What the server's clock shows, by the `Date` of its responses: whole seconds, narrowed down by many of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["ServerClock"]


class ServerClock:
    """How far the server's clock is ahead of ours.

    A `Date` is cut to the second, so the server's clock was in [date, date + 1) at some instant between the sending and
    the response: each reading bounds the offset, and their cut is narrower than any of them.
    """

    def __init__(self) -> None:
        self.low_s, self.high_s = float("-inf"), float("inf")
        self.readings = 0

    def take(self, headers: Iterable[tuple[str, str]], sent_unix_s: float, seen_unix_s: float) -> None:
        """A response's headers, and between which instants of our clock it was made."""
        text = next((value for name, value in headers if name.lower() == "date"), None)
        if text is None:
            return
        try:
            moment = parsedate_to_datetime(text)
            date_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            return
        low, high = max(self.low_s, date_s - seen_unix_s), min(self.high_s, date_s + 1 - sent_unix_s)
        if low > high:
            # One of the two clocks was set meanwhile, or several servers answer: what is newer holds.
            low, high = date_s - seen_unix_s, date_s + 1 - sent_unix_s
        self.low_s, self.high_s = low, high
        self.readings += 1

    @property
    def offset_s(self) -> float:
        """Seconds to add to our clock. Two clocks that may agree are taken to: both are set by the network's time."""
        if not self.readings or self.low_s <= 0 <= self.high_s:
            return 0.0
        return (self.low_s + self.high_s) / 2

    @property
    def uncertainty_s(self) -> float | None:
        """By how much that can be off at most; None where no response had a `Date`."""
        return max(self.high_s - self.offset_s, self.offset_s - self.low_s) if self.readings else None
