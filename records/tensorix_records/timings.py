"""What is computed from records: times of each request, the steady-state window, tokens as they arrived.

Functions take a `pyarrow.Table` with the columns of `RequestRecord` (`Run.records()`) and give arrays of its rows, NaN
where a quantity has no meaning for a row. They do not choose rows: latencies of successes are those of
`table.filter(successful(table))`, and figures of `usage` and of counted chunks (`token_source`) are never pooled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from tensorix_records.figures import Figure, fraction

__all__ = [
    "ScheduleDelay",
    "Window",
    "e2e_ns",
    "error_rate",
    "itl_ns",
    "latency_from_intended_ns",
    "later_than_intended_ns",
    "outcome_is",
    "output_tokens_in",
    "output_tokens_per_second",
    "schedule_delay",
    "start_unix_ns",
    "successful",
    "text_is",
    "ttfo_ns",
    "ttft_ns",
]

_Floats: TypeAlias = NDArray[np.float64]
_Ints: TypeAlias = NDArray[np.int64]
_Mask: TypeAlias = NDArray[np.bool_]

_SECOND = 1_000_000_000
# Requests whose tokens are spread at once: for each second of each there are six numbers.
_BLOCK = 200_000


def _numbers(table: Any, name: str) -> _Floats:
    """A numeric column with NaN for null. Exact for what is relative to the start: a float holds 104 days of ns."""
    column = pc.cast(table.column(name), pa.float64(), safe=False)
    return np.asarray(pc.fill_null(column, float("nan")).to_numpy(), dtype=np.float64)


def text_is(column: Any, test: Callable[[str | None], bool]) -> _Mask:
    """Which texts of a column pass a test that is asked once for each that there is; None for null."""
    encoded = column if pa.types.is_dictionary(column.type) else pc.call_function("dictionary_encode", [column])
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), pa.array([], pa.string()))
    # The last answer is that of null, which is -1.
    answers = np.array([*map(test, encoded.dictionary.to_pylist()), test(None)], dtype=np.bool_)
    return np.asarray(answers[np.asarray(pc.fill_null(encoded.indices, -1))])


def _is(table: Any, name: str, value: Any) -> _Mask:
    column = table.column(name)
    if isinstance(value, str):
        return text_is(column, lambda text: text == value)
    return np.asarray(pc.fill_null(pc.call_function("equal", [column, pa.scalar(value)]), False), dtype=np.bool_)


def _where(mask: _Mask, values: _Floats) -> _Floats:
    return np.where(mask, values, np.nan)


def outcome_is(table: Any, outcome: str) -> _Mask:
    """Rows of an outcome: `success`, `throttled`, `failed` or `cancelled`."""
    return _is(table, "outcome", outcome)


def successful(table: Any) -> _Mask:
    """Rows that succeeded: the only ones whose times are latencies of the service."""
    return outcome_is(table, "success")


def start_unix_ns(table: Any) -> _Ints:
    """When each request was sent, Unix ns: as integers, a float does not hold them."""
    return np.asarray(table.column("start_unix_ns").to_numpy(), dtype=np.int64)


def ttft_ns(table: Any) -> _Floats:
    """Time to first token: how long until a chunk brought anything generated. NaN for a reply that is not streamed."""
    return _where(_is(table, "stream", True), _numbers(table, "first_token_at_ns"))


def ttfo_ns(table: Any) -> _Floats:
    """Time to first output: start to the first chunk with something generated that is not reasoning."""
    return _where(_is(table, "stream", True), _numbers(table, "first_output_at_ns"))


def itl_ns(table: Any) -> _Floats:
    """Inter-token latency: (last token - first token) / (completion tokens - 1).

    None below two tokens, for several choices (their tokens are interleaved), and where reasoning tokens are counted
    but were not streamed: the first chunk is then not the first token.
    """
    tokens = _numbers(table, "completion_tokens")
    first, last = _numbers(table, "first_token_at_ns"), _numbers(table, "last_token_at_ns")
    hidden = (_numbers(table, "reasoning_tokens") > 0) & (_numbers(table, "first_output_at_ns") <= first)
    known = _is(table, "stream", True) & (tokens >= 2) & ~(_numbers(table, "n") > 1) & ~hidden
    return _where(known, (last - first) / np.where(known, tokens - 1, 1))


def e2e_ns(table: Any) -> _Floats:
    """Start to the last byte, or to the instant of the failure."""
    return _numbers(table, "end_at_ns")


def latency_from_intended_ns(table: Any) -> _Floats:
    """The whole wait of a user who came on time: the schedule's own delay and the request. NaN in a closed loop."""
    return _numbers(table, "end_at_ns") - _numbers(table, "intended_at_ns")


def later_than_intended_ns(table: Any) -> _Floats:
    """How much later than the schedule wanted each request was sent, in all. NaN in a closed loop."""
    return -_numbers(table, "intended_at_ns")


@dataclass(frozen=True, slots=True)
class ScheduleDelay:
    """How much later than intended requests were sent, ns, in parts. In a closed loop it begins with a ready user."""

    waiting_ns: _Floats
    """For a user to be free."""
    held_ns: _Floats
    """At the gate, by the caps and the pace that were asked for."""
    connecting_ns: _Floats
    """Opening a connection; 0 where one was reused."""
    dispatch_ns: _Floats
    """The rest: the client's own fault."""


def schedule_delay(table: Any) -> ScheduleDelay:
    """The delay of each request between its intended instant and its start, in its parts."""
    ready, intended = _numbers(table, "user_ready_at_ns"), _numbers(table, "intended_at_ns")
    held = _numbers(table, "held_ns")
    open_loop = ~np.isnan(intended)
    waiting = np.where(open_loop, np.maximum(ready - intended, 0), np.where(np.isnan(ready), np.nan, 0))
    connected = np.full(len(table), np.nan)
    for name in ("dns_done_at_ns", "tcp_done_at_ns", "tls_done_at_ns"):
        connected = np.fmax(connected, _numbers(table, name))
    connecting = connected - _numbers(table, "connect_start_at_ns")
    connecting = np.where(np.isnan(connecting), 0, connecting)
    held = np.where(np.isnan(held), 0, held)
    return ScheduleDelay(waiting, held, connecting, -np.fmax(ready, intended) - held - connecting)


@dataclass(frozen=True, slots=True)
class Window:
    """The steady state: from the end of warm-up to the last scheduled start, both Unix ns.

    A request belongs to it that started within; it was drained, so that no slow one is missing.
    """

    start_unix_ns: int
    end_unix_ns: int

    @classmethod
    def of(cls, table: Any, *, warmup_s: float = 0.0, last_start_unix_ns: int | None = None) -> Window:
        """The window of a run; the last start seen is its end where the run's own is not known.

        Without a request, or where warm-up took it all, it has no length.
        """
        starts = start_unix_ns(table)
        if starts.size == 0:
            return cls(0, 0)
        begin = int(starts.min()) + round(warmup_s * _SECOND)
        end = int(starts.max()) if last_start_unix_ns is None else last_start_unix_ns
        return cls(begin, max(begin, end))

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end_unix_ns - self.start_unix_ns) / _SECOND

    def contains(self, unix_ns: ArrayLike) -> _Mask:
        """Which instants lie within, both ends included."""
        instants = np.asarray(unix_ns, dtype=np.int64)
        return (instants >= self.start_unix_ns) & (instants <= self.end_unix_ns)


def _token_spans(table: Any, origin_unix_ns: int) -> tuple[_Floats, _Floats, _Floats]:
    """First token, last token (ns since `origin_unix_ns`) and number of tokens of each row that has some.

    A reply that was not streamed has all its tokens at its end.
    """
    tokens = _numbers(table, "completion_tokens")
    first, last = _numbers(table, "first_token_at_ns"), _numbers(table, "last_token_at_ns")
    end = _numbers(table, "end_at_ns")
    last = np.where(np.isnan(last), np.where(np.isnan(first), end, first), last)
    first = np.where(np.isnan(first), last, first)
    known = (tokens > 0) & ~np.isnan(last)
    start = (start_unix_ns(table) - origin_unix_ns)[known].astype(np.float64)
    latest = np.maximum(first, last)
    return start + first[known], start + latest[known], tokens[known]


def output_tokens_in(table: Any, window: Window) -> float:
    """The output tokens that arrived within a window, evenly between each request's first and last token.

    All rows count: a stream that crosses an edge is neither wholly inside nor wholly outside.
    """
    first, last, tokens = _token_spans(table, window.start_unix_ns)
    length = float(window.end_unix_ns - window.start_unix_ns)
    inside = np.clip(last, 0, length) - np.clip(first, 0, length)
    instant = last <= first
    share = np.where(instant, (first >= 0) & (first <= length), inside / np.where(instant, 1, last - first))
    return float((tokens * share).sum())


def output_tokens_per_second(table: Any) -> tuple[_Ints, _Floats]:
    """Output tokens that arrived in each second: the seconds (Unix, without holes) and the tokens.

    Spread evenly between the first and the last token of a request; their sum is that of `completion_tokens`.
    """
    starts = start_unix_ns(table)
    origin = int(starts.min()) // _SECOND * _SECOND if starts.size else 0
    first, last, tokens = _token_spans(table, origin)
    if tokens.size == 0:
        return np.array([], dtype=np.int64), np.array([], dtype=np.float64)
    first, last = first / _SECOND, last / _SECOND
    lowest = int(np.floor(first.min()))
    bins = np.zeros(int(np.floor(last.max())) - lowest + 1)
    for begin in range(0, tokens.size, _BLOCK):
        block = slice(begin, begin + _BLOCK)
        _spread(bins, lowest, first[block], last[block], tokens[block])
    return origin // _SECOND + lowest + np.arange(bins.size, dtype=np.int64), bins


def _spread(bins: _Floats, lowest: int, first: _Floats, last: _Floats, tokens: _Floats) -> None:
    """Add the tokens of some requests, between `first` and `last` seconds, to the seconds from `lowest` on."""
    first_bin = np.floor(first).astype(np.int64)
    # One entry for each second that a request reaches into.
    reached = np.floor(last).astype(np.int64) - first_bin + 1
    row = np.repeat(np.arange(tokens.size), reached)
    second = first_bin[row] + np.arange(row.size) - np.repeat(np.cumsum(reached) - reached, reached)
    overlap = np.minimum(last[row], second + 1) - np.maximum(first[row], second)
    length = (last - first)[row]
    share = np.divide(overlap, length, out=np.ones_like(overlap), where=length > 0)
    np.add.at(bins, second - lowest, tokens[row] * share)


def error_rate(table: Any) -> Figure:
    """Failed out of failed and successful; throttled requests and those cancelled by us stand apart."""
    failed = int(outcome_is(table, "failed").sum())
    return fraction(failed, failed + int(successful(table).sum()))
