"""A worker's sink: records and events become parcels for the master."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tensorix_loadtests._distributed._outbox import Outbox
from tensorix_loadtests._distributed._wire import PARCEL_BYTES
from tensorix_records.parcels import Gathering

__all__ = ["WorkerSink"]

# What is said of the whole run in the master's words has another name in a worker's.
_RENAMED = {"second": "worker_second", "stop": "worker_stop", "run_ended": "worker_ended", "phase": "worker_phase"}


class WorkerSink:
    """Gathers until `flush`, which puts parcels into the outbox and calls `on_parcels`. It never raises: what finds no
    room is counted by the outbox.
    """

    path: Path | None = None
    """The folder is the master's."""

    def __init__(self, run_id: str, outbox: Outbox, on_parcels: Callable[[], None]) -> None:
        self._run_id = run_id
        self._outbox = outbox
        self._on_parcels = on_parcels
        self._gathering = Gathering(PARCEL_BYTES)
        self._events: list[str] = []
        self.counts: Callable[[], dict[str, Any]] = dict
        """What each parcel says of the run so far."""
        self.add = self._gathering.add
        self.add_gaps: Callable[[str | None, Sequence[int]], None] = self._gathering.add_gaps

    def event(self, kind: str, **fields: Any) -> None:
        """Keep an event for the next parcel."""
        line = {"kind": _RENAMED.get(kind, kind), "t_unix_ns": time.time_ns()} | fields
        self._events.append(json.dumps(line, default=str, separators=(",", ":")))

    def flush(self) -> None:
        """Make parcels of everything taken so far. The last one's counts are those of this moment."""
        parcels = list(self._gathering.take())
        events, self._events = self._events, []
        if not parcels and not events:
            return
        for records, gaps, count in parcels:
            self._put(records, gaps, [], count)
        # Behind the records, as in a folder: what is in flight and what is recorded then fit together.
        self._put(b"", b"", events, 0)
        self._on_parcels()

    def _put(self, records: bytes, gaps: bytes, events: list[str], count: int) -> None:
        message = {"run": self._run_id, "records": records, "gaps": gaps, "events": events, "count": count}
        size = len(records) + len(gaps) + sum(map(len, events)) + 100
        self._outbox.put(message | self.counts(), size, count)

    def close(self, end_reason: str) -> None:
        """The last parcels; who owns the outbox brings them."""
        self.flush()
