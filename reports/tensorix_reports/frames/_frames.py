"""A run as frames: one row a request and one row a second, whoever wrote the folder and however it ended.

Everything here is tolerant. A killed run has no end, another writer may leave columns or events out, and an empty
run has no rows; what is missing is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from tensorix_api.errors import RunFolderError
from tensorix_records import Run
from tensorix_records.columns import PartDamagedError, RecordColumns
from tensorix_reports.frames._held import Codes, HeldColumns, smallest
from tensorix_reports.frames._lost import missing_files
from tensorix_reports.frames._requests import Requests

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
T = TypeVar("T")
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

    def holds(self, at_s: np.ndarray) -> np.ndarray:
        """Which instants lie within, both ends included."""
        return np.asarray((at_s >= self.start_s) & (at_s <= self.end_s), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class RunFrames:
    """A run folder, read.

    `requests` has a row for each record, in the order of their starts, with `kind` (streamed chat, chat that is not
    streamed, models), `at_s` and `done_s` (seconds since `origin_unix_ns`). Nullable columns are floats: relative
    nanoseconds stay exact to 104 days. It is a table of records, too, as the records room takes them.
    """

    manifest: dict[str, Any]
    requests: Requests
    events: list[dict[str, Any]]
    findings: list[str]
    origin_unix_ns: int
    end_s: float
    """The last sign of life, in seconds since the origin."""
    gaps: Any = field(default=None, repr=False)
    """The histogram of gaps between chunks (a pyarrow table), None where none was kept."""

    @property
    def table(self) -> Requests:
        """The same requests, as the records room takes a table of records."""
        return self.requests

    @property
    def ended(self) -> bool:
        """Whether the run came to its own end; False for one that was killed, or is still going."""
        return self.manifest.get("ended_unix_ns") is not None or bool(self.of("run_ended"))

    @property
    def load(self) -> Requests:
        """The requests of the load itself: all but the model list that was asked for before it."""
        return self.requests.of(~self.requests.codes("kind").equal(PREFLIGHT))

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


_LONGEST_NS = 40 * 86_400 * 10**9


def _kept(records: RecordColumns, held: HeldColumns, findings: list[str]) -> np.ndarray:
    """The places of the records that are counted, in the order of their starts.

    Left out are those without a start or an outcome or with times more than 40 days from the run's middle, and those
    that are there twice. A time that a damaged file puts a thousand years off would stretch every table of seconds
    until memory is full.
    """
    starts = held.instants("start_unix_ns")
    good = (held.codes("outcome").codes >= 0) & (starts > 0)
    if good.any():
        good &= np.abs(starts - int(np.median(starts[good]))) < _LONGEST_NS
    for name in _NUMBERS:
        if name.endswith("_at_ns"):
            ends = records.bounds(name)
            if ends is None or min(ends) <= -_LONGEST_NS or max(ends) >= _LONGEST_NS:
                good &= ~(np.abs(held.numbers(name)) >= _LONGEST_NS)
    if not good.all():
        findings.append(f"{np.count_nonzero(~good):,} records have no times that can be true, and were left out")
    places = np.flatnonzero(good)
    places = places[np.argsort(starts[places], kind="stable")]
    again = _again(records, starts[places], places)
    if again.any():
        number = int(np.count_nonzero(again))
        words = "1 record is there twice" if number == 1 else f"{number:,} records are there more than once"
        findings.append(f"{words} (the same record_id and start): each was counted once")
        places = places[~again]
    return np.asarray(places)


def _again(records: RecordColumns, starts: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Which records are there a second time, in the order of their starts; only ids of equal starts are read."""
    again = np.zeros(len(starts), dtype=np.bool_)
    same = starts[1:] == starts[:-1]
    alike = np.flatnonzero(np.append(same, False) | np.append(False, same)) if len(starts) else np.zeros(0, np.int64)
    if alike.size:
        ids = records.column("record_id").take(places[alike]).to_pandas().astype(object)
        pairs = pd.DataFrame({"start": starts[alike], "id": ids})
        again[alike] = (pairs.duplicated() & ids.notna()).to_numpy(bool)
    return again


def _kinds(held: HeldColumns) -> Codes:
    """The kind of each request, worked out once for each pair of values."""
    endpoint, stream, scenario = (held.codes(name) for name in ("endpoint", "stream", "scenario"))
    paths: list[str | None] = [*endpoint.values, None]
    told: list[bool | None] = [*stream.values, None]
    named = [[kind_of(path, one) for one in told] for path in paths]
    values = list(dict.fromkeys([PREFLIGHT, *(kind for row in named for kind in row)]))
    codes = smallest(np.array([[values.index(kind) for kind in row] for row in named]), len(values))
    found = codes[endpoint.codes, stream.codes]
    found[scenario.equal("preflight")] = 0
    return Codes(found, values)


def reported(run: Run | Path | str, report: Callable[[RunFrames], T]) -> T:
    """What `report` makes of a run. Begins again, without it, where a part of the records turns out damaged.

    Raises RunFolderError where it is no run, or nothing of it can be read.
    """
    run = run if isinstance(run, Run) else Run.open(Path(run))
    records = RecordColumns(run)
    while True:
        try:
            return report(read_frames(run, records))
        except PartDamagedError:
            continue


def read_frames(run: Run | Path | str, records: RecordColumns | None = None) -> RunFrames:
    """Read a run, or the folder of one. Raises RunFolderError where it is no run."""
    if not isinstance(run, Run):
        run = Run.open(Path(run))
    manifest, events, findings = run.manifest, run.events(), run.findings(rows=False)
    records = RecordColumns(run) if records is None else records
    held = HeldColumns(records)
    held.keep(_kept(records, held, findings))
    findings += [*records.findings, *missing_files(records.sources, manifest, events)]
    starts_ns = held.instants("start_unix_ns")
    event_times = [time for event in events if (time := whole(event.get("t_unix_ns"))) is not None]
    starts = [time for time in (whole(manifest.get("started_unix_ns")), *event_times[:1]) if time is not None]
    if len(held):
        # A request cannot be older than its run: where clocks disagree, the records win.
        starts.append(int(starts_ns[0]))
    origin = min(starts, default=whole(manifest.get("ended_unix_ns")) or 0)
    held.keep_always("kind", _kinds(held))
    requests = Requests(held, origin)
    ends = [(time - origin) / 1e9 for time in (whole(manifest.get("ended_unix_ns")), *event_times[-1:]) if time]
    ends += [float(requests.array("done_s").max())] if len(held) else []
    gaps = None
    try:
        gaps = run.gap_counts()
        findings += run.file_findings("gaps")
    except RunFolderError as error:
        findings.append(f"{error}; the gaps between chunks were left out")
    return RunFrames(
        manifest=manifest,
        requests=requests,
        events=events,
        findings=findings,
        origin_unix_ns=origin,
        end_s=max([0.0, *ends]),
        gaps=gaps if gaps is not None and gaps.num_rows else None,
    )
