"""What the last responses said of a key's limits, for the gauges to tell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation

from tensorix_api import semantic_names as names
from tensorix_tracing._headers import Rows, limits_of

if TYPE_CHECKING:
    from tensorix_tracing._instruments import Attributes
    from tensorix_tracing._settings import TracingSettings

__all__ = ["LastSaid", "Remaining", "newest"]

# What remains of a minute says nothing once the minute is over.
_FRESH_NS = 60 * 1_000_000_000
_MOST_SERVERS = 100


class LastSaid:
    """What the last responses to one `instrument` said of a quantity, for a gauge to tell."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[int, int, Attributes]] = {}

    def fresh(self, now_ns: int) -> list[tuple[int, int, Attributes]]:
        """Values, when they were seen, and attributes, of what is fresh at `now_ns` of `time.perf_counter_ns`."""
        return [said for said in list(self._seen.values()) if now_ns - said[1] < _FRESH_NS]

    def note(self, resource: str, value: int, server: str, settings: TracingSettings, seen_ns: int) -> None:
        """A response that came at `seen_ns` said so much of `requests` or `tokens`."""
        known = self._seen.get((server, resource))
        attributes: Attributes
        if known is not None:
            attributes = known[2]
        else:
            if len(self._seen) >= _MOST_SERVERS:
                return
            attributes = {names.RESOURCE: resource, names.PROVIDER: settings.provider_name}
            attributes[names.SERVER_ADDRESS] = server
            if settings.key_alias is not None:
                attributes[names.KEY_ALIAS] = settings.key_alias
        self._seen[server, resource] = (value, seen_ns, attributes)

    def clear(self) -> None:
        """Nothing is told any more."""
        self._seen.clear()


def newest(sources: Iterable[LastSaid], now_ns: int) -> list[Observation]:
    """One observation for each set of attributes: several clients may use the same key, and the last answer counts."""
    newest: dict[frozenset[tuple[str, str | int]], tuple[int, int, Attributes]] = {}
    for source in sources:
        for said in source.fresh(now_ns):
            key = frozenset(said[2].items())
            if key not in newest or newest[key][1] < said[1]:
                newest[key] = said
    return [Observation(value, attributes) for value, _, attributes in newest.values()]


class Remaining(LastSaid):
    """What remains, and beside it the limits themselves, which few servers send.

    Of each server the last response that tells anything is kept as it came, and read when metrics are collected.
    """

    def __init__(self, settings: TracingSettings) -> None:
        super().__init__()
        self.limits = LastSaid()
        self._settings = settings
        self.unread: dict[str, tuple[Rows, int]] = {}
        """By the host, one of those that are traced: the headers of a response that tells of limits, and when it came
        (`time.perf_counter_ns`)."""

    def read(self) -> None:
        """Look what the responses say that came since the last time."""
        while self.unread:
            try:
                server, (rows, seen_ns) = self.unread.popitem()
            except KeyError:
                return
            said = limits_of(rows)
            if said is None:
                continue
            for last, resource, value in (
                (self, "requests", said.remaining_requests),
                (self, "tokens", said.remaining_tokens),
                (self.limits, "requests", said.limit_requests),
                (self.limits, "tokens", said.limit_tokens),
            ):
                if value is not None:
                    last.note(resource, value, server, self._settings, seen_ns)

    def clear(self) -> None:
        self.unread.clear()
        super().clear()
        self.limits.clear()
