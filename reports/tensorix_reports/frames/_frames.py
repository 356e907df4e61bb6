"""A run as frames: one row a request and one row a second, whoever wrote the folder and however it ended.

Everything here is tolerant. A killed run has no end, another writer may leave columns or events out, and an empty
run has no rows; what is missing is None, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tensorix_records import Run

__all__ = ["OUTCOMES", "PREFLIGHT", "RunFrames", "Window", "kind_of", "kind_order", "read_frames", "whole"]

OUTCOMES = ("success", "throttled", "failed", "cancelled")

_TEXT = (
    *("request_id", "key_alias", "endpoint", "method", "model_requested", "model_served", "outcome", "stream_outcome"),
    *("error_kind", "error_phase", "error_type", "error_code", "error_message", "token_source", "stamp_source"),
    *("limit_spelling", "limit_anomaly", "process_id", "record_id", "scenario"),
    *("response_id", "host", "user_class", "logical_id"),
)
_NUMBERS = (
    *("intended_at_ns", "user_ready_at_ns", "connect_start_at_ns", "request_sent_at_ns", "headers_at_ns"),
    *("first_chunk_at_ns", "first_token_at_ns", "first_output_at_ns", "last_token_at_ns", "end_at_ns"),
    *("lag_first_token_ns", "lag_max_ns", "chunks_in_first_read", "max_chunks_in_a_read", "chunks", "status"),
    *("prompt_tokens", "completion_tokens", "reasoning_tokens", "n", "limit_requests", "limit_tokens"),
    *("dns_done_at_ns", "tcp_done_at_ns", "tls_done_at_ns", "held_ns", "schedule_index"),
    *("remaining_requests", "remaining_tokens", "reset_requests_ns", "reset_tokens_ns", "retry_after_ns"),
    *("prompt_chars", "step_id", "cached_tokens", "reserved_tokens", "cost", "attempt"),
    *("ledger_remaining_requests", "ledger_remaining_tokens"),
)
COLUMNS = (*_TEXT, *_NUMBERS, "start_unix_ns", "stream")
PREFLIGHT = "models, preflight"
"""The model list asked for before a run, to see that the server can be used: counted, but no part of the load."""

_KINDS = ("chat, streamed", "chat, not streamed", "chat", "models", PREFLIGHT)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the run, in seconds since its start, and in words why it was chosen."""

    start_s: float
    end_s: float
    why: str

    @property
    def length_s(self) -> float:
        """How long it is, in seconds."""
        return max(0.0, self.end_s - self.start_s)


@dataclass(frozen=True, slots=True)
class RunFrames:
    """A run folder, read.

    `requests` has a row for each record, in the order of their starts, with `kind` (streamed chat, chat that is not
    streamed, models), `at_s` and `done_s` (seconds since `origin_unix_ns`). Nullable columns are floats: relative
    nanoseconds stay exact to 104 days. `table` holds the same rows in the same order, as the records room takes them.
    """

    manifest: dict[str, Any]
    requests: pd.DataFrame
    table: Any = field(repr=False)
    events: list[dict[str, Any]]
    findings: list[str]
    origin_unix_ns: int
    end_s: float
    """The last sign of life, in seconds since the origin."""
    gaps: Any = field(default=None, repr=False)
    """The histogram of gaps between chunks (a pyarrow table), None where none was kept."""

    @property
    def ended(self) -> bool:
        """Whether the run came to its own end; False for one that was killed, or is still going."""
        return self.manifest.get("ended_unix_ns") is not None or bool(self.of("run_ended"))

    @property
    def load(self) -> pd.DataFrame:
        """The requests of the load itself: all but the model list that was asked for before it."""
        return self.requests[self.requests["kind"] != PREFLIGHT]

    @property
    def is_traced(self) -> bool:
        """Whether the requests are spans of a service in production, and not a load test's own."""
        return self.manifest.get("kind") == "traces"

    @property
    def is_complete(self) -> bool:
        """Whether every request of the key is there: a load test has sent them, of spans somebody must have said it."""
        return not self.is_traced or self.manifest.get("complete") is True

    @property
    def limits(self) -> dict[str, Any]:
        """What was known of the key's limits before the run: `requests`, `tokens`, `window_s`, which were `told`."""
        return mapping(self.manifest.get("limits"))

    @property
    def asked(self) -> dict[str, Any]:
        """What the run was asked to do."""
        return mapping(self.manifest.get("asked"))

    def of(self, name: str) -> list[dict[str, Any]]:
        """The events of one name, with `at_s`, in the order of time."""
        # `kind` is what this toolkit writes; other writers say `event`.
        named = [event for event in self.events if event.get("kind", event.get("event")) == name]
        timed = [{**event, "at_s": self.at(event["t_unix_ns"])} for event in named if whole(event.get("t_unix_ns"))]
        return sorted(timed, key=lambda event: float(event["at_s"]))

    def at(self, unix_ns: int) -> float:
        """An instant in seconds since the run's start."""
        return (int(unix_ns) - self.origin_unix_ns) / 1e9


def mapping(value: Any) -> dict[str, Any]:
    """A dictionary as it is, and an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def whole(value: Any) -> int | None:
    """A finite number as an integer; None for anything else (a bool is no number here)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    return int(value) if np.isfinite(value) else None


def kind_of(endpoint: str | None, stream: Any) -> str:
    """What sort of request it was; only like is put with like.

    >>> kind_of("/v1/chat/completions", True)
    'chat, streamed'
    """
    path = endpoint or ""
    if path.endswith("/models"):
        return "models"
    if path.endswith("/chat/completions"):
        # Spans of some other instrumentations do not tell.
        return "chat" if stream is None else "chat, streamed" if stream is True else "chat, not streamed"
    return path or "unknown"


def kind_order(kind: str) -> tuple[int, str]:
    """The order in which kinds of request stand in every table: chat first."""
    return (_KINDS.index(kind) if kind in _KINDS else len(_KINDS), kind)


def _requests(table: Any) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        column = table.column(name)
        if name in _NUMBERS:
            columns[name] = np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), dtype=float)
        elif name == "start_unix_ns":
            columns[name] = np.asarray(column.to_numpy(), dtype=np.int64)
        else:
            columns[name] = np.array(column.to_pylist(), dtype=object)
    frame = pd.DataFrame(columns)
    # An object column of nothing but None would be read as another type by each operation that meets it.
    return frame.astype(dict.fromkeys(_TEXT, object))


_LONGEST_NS = 40 * 86_400 * 10**9


def _plausible(table: Any) -> np.ndarray:
    """Which records have a start, an outcome, and times within 40 days of the run's middle.

    One that a damaged file puts a thousand years off would stretch every table of seconds until memory is full.
    """
    starts = np.asarray(pc.fill_null(table.column("start_unix_ns"), 0).to_numpy(), dtype=np.int64)
    good = np.asarray(pc.call_function("is_valid", [table.column("outcome")]).to_numpy(), dtype=bool) & (starts > 0)
    if not good.any():
        return good
    good &= np.abs(starts.astype(float) - float(np.median(starts[good]))) < _LONGEST_NS
    for name in _NUMBERS:
        if name.endswith("_at_ns"):
            at = pc.fill_null(pc.cast(table.column(name), pa.float64(), safe=False), 0.0).to_numpy()
            good &= np.abs(at) < _LONGEST_NS
    return good


def read_frames(run: Run | Path | str) -> RunFrames:
    """Read a run, or the folder of one. Raises RunFolderError where it is no run."""
    if not isinstance(run, Run):
        run = Run.open(Path(run))
    manifest, events, findings = run.manifest, run.events(), list(run.findings())
    table = run.records(COLUMNS)
    plausible = _plausible(table)
    if not plausible.all():
        findings.append(f"{np.count_nonzero(~plausible):,} records have no times that can be true, and were left out")
        table = table.filter(pa.array(plausible))
    table = table.take(np.argsort(np.asarray(table.column("start_unix_ns").to_numpy(), dtype=np.int64), kind="stable"))
    frame = _requests(table)
    event_times = [time for event in events if (time := whole(event.get("t_unix_ns"))) is not None]
    starts = [time for time in (whole(manifest.get("started_unix_ns")), *event_times[:1]) if time is not None]
    if len(frame):
        # A request cannot be older than its run: where clocks disagree, the records win.
        starts.append(int(frame["start_unix_ns"].iloc[0]))
    origin = min(starts, default=whole(manifest.get("ended_unix_ns")) or 0)
    frame["at_s"] = (frame["start_unix_ns"] - origin) / 1e9
    frame["done_s"] = frame["at_s"] + frame["end_at_ns"].fillna(frame["headers_at_ns"]).fillna(0.0) / 1e9
    kinds = [kind_of(*pair) for pair in zip(frame["endpoint"], frame["stream"], strict=True)]
    frame["kind"] = np.where(frame["scenario"] == "preflight", PREFLIGHT, np.array(kinds, dtype=object))
    ends = [(time - origin) / 1e9 for time in (whole(manifest.get("ended_unix_ns")), *event_times[-1:]) if time]
    ends += [float(frame["done_s"].max())] if len(frame) else []
    gaps = run.gap_counts()
    return RunFrames(
        manifest=manifest,
        requests=frame,
        table=table,
        events=events,
        findings=findings,
        origin_unix_ns=origin,
        end_s=max([0.0, *ends]),
        gaps=gaps if gaps is not None and gaps.num_rows else None,
    )
