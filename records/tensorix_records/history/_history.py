"""The history of probes in a database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tensorix_records.history._rows import HourRow, RoundRow

__all__ = ["History"]


class History:
    """A history that is open. One process writes through one of it; any number read."""

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> History:
        """Open a file (SQLite) or `postgresql://…`, bringing its schema up to date.

        Raises HistoryError (one line, no password in it) where it cannot be opened, or a newer version made it.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close it."""

    def append(self, rounds: Sequence[RoundRow]) -> None:
        """Write rounds, all or none. Raises HistoryError where it cannot be written: locked, a full disk, gone."""
        raise NotImplementedError

    def rounds(
        self,
        *,
        target: str | None = None,
        location: str | None = None,
        since_unix_ns: int = 0,
        until_unix_ns: int | None = None,
        results: bool = True,
    ) -> Iterator[RoundRow]:
        """The rounds that started in [since, until), oldest first; those that are past retention are gone."""
        raise NotImplementedError

    def hours(
        self, *, target: str | None = None, since_unix_ns: int = 0, until_unix_ns: int | None = None
    ) -> Iterator[HourRow]:
        """Roll-ups of every hour in [since, until), also of those whose rounds are there and not yet rolled up."""
        raise NotImplementedError

    def spends(self, key_alias: str, since_unix_ns: int) -> list[tuple[int, int, int, float | None]]:
        """What the probes of a key used: (started_unix_ns, requests, tokens, cost), oldest first."""
        raise NotImplementedError

    def recall(self, name: str) -> Any:
        """A JSON value that was remembered under a name, None where there is none."""
        raise NotImplementedError

    def remember(self, name: str, value: Any) -> None:
        """Keep a JSON value under a name. Raises HistoryError as `append` does."""
        raise NotImplementedError

    def maintain(self, now_unix_ns: int, *, keep_results_s: float, keep_hours_s: float) -> None:
        """Roll up the hours that are over, then forget what is older than it is to be kept, a bounded piece at a time."""
        raise NotImplementedError
