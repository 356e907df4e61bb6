"""What was found in files of spans, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Seen"]

_MOST_NAMES = 50


@dataclass(slots=True)
class Seen:
    """The counts of one reading. Nothing is passed over in silence: what is no record is counted here."""

    spans: int = 0
    records: int = 0
    lines_skipped: int = 0
    """Cut, too long, or no OTLP."""
    files_cut: int = 0
    """Compressed files that end too soon or are damaged: what came before that was read."""
    other_spans: int = 0
    """Of other work than calls to a chat API."""
    unusable: int = 0
    """Spans of calls without ids or times that can be true."""
    doubles: int = 0
    """Spans that were there before, as when a collector repeats an export."""
    without_call: int = 0
    """Attempts whose call's span is not there and which do not say how they ended."""
    without_attempts: int = 0
    """Calls with several attempts of which spans are missing: the times of the last one include those before it."""
    first_unix_ns: int | None = None
    last_unix_ns: int | None = None
    services: Counter[str] = field(default_factory=Counter)
    """Records by the name of the service."""
    servers: Counter[str] = field(default_factory=Counter)
    """Records by the server that was called."""
    sampled: Counter[str] = field(default_factory=Counter)
    """Records by the share of traces that their trace state says was kept; most samplers do not write any."""

    def name(self, counter: Counter[str], name: str | None) -> None:
        """Count a name; beyond so many distinct ones, as `others`."""
        if name is not None:
            counter[name if name in counter or len(counter) < _MOST_NAMES else "others"] += 1

    def covers(self, first_unix_ns: int, last_unix_ns: int) -> None:
        """A record lies here."""
        self.first_unix_ns = min(first_unix_ns, self.first_unix_ns or first_unix_ns)
        self.last_unix_ns = max(last_unix_ns, self.last_unix_ns or last_unix_ns)

    def to_dict(self) -> dict[str, Any]:
        """For the manifest: the counts that are not 0."""
        counts = ("spans", "records", "lines_skipped", "files_cut", "other_spans", "unusable", "doubles")
        found: dict[str, Any] = {
            name: value for name in (*counts, "without_call", "without_attempts") if (value := getattr(self, name))
        }
        found |= {name: dict(getattr(self, name).most_common()) for name in ("services", "servers", "sampled")}
        return found
