"""Gaps between chunks as a log-spaced histogram: percentiles of inter-chunk latency without keeping every gap.

A bucket is a 64th of a power of two of nanoseconds. A bucket's middle is therefore at most 1/128 (0.79 %) off any gap
in it, from a microsecond to days, and the index needs no logarithm: it is exact and the same on every machine.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

__all__ = ["GAP_SCHEMA", "GapCounter", "bucket_middle_ns", "bucket_of_gap", "gap_percentile_ns"]

_PER_OCTAVE = 64
# Buckets of gaps that an int64 can hold: 63 octaves.
_BUCKETS = 63 * _PER_OCTAVE
# Keys that wait to be counted; 8 bytes each.
_PENDING_MAX = 1 << 18

_Ints: TypeAlias = NDArray[np.int64]

GAP_SCHEMA = pa.schema(
    [
        pa.field("second_unix", pa.int64(), nullable=False),
        pa.field("model", pa.string()),
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)


def bucket_of_gap(gap_ns: ArrayLike) -> _Ints:
    """The bucket of each gap. Below 1 ns (two chunks in one read, a clock that was set back) it is the first."""
    mantissa, exponent = np.frexp(np.maximum(np.asarray(gap_ns, dtype=np.int64), 1))
    within = ((mantissa - 0.5) * (2 * _PER_OCTAVE)).astype(np.int64)
    # Near 2**63 the conversion to float may round up into an octave that does not exist.
    index: _Ints = np.minimum((exponent.astype(np.int64) - 1) * _PER_OCTAVE + within, _BUCKETS - 1)
    return index


def _lower_ns(bucket: _Ints) -> NDArray[np.float64]:
    return np.ldexp(1.0 + (bucket % _PER_OCTAVE) / _PER_OCTAVE, (bucket // _PER_OCTAVE).astype(np.int32))


def bucket_middle_ns(bucket: ArrayLike) -> NDArray[np.float64]:
    """The middle of each bucket, at most 0.79 % from any gap that was counted in it."""
    index = np.asarray(bucket, dtype=np.int64)
    return (_lower_ns(index) + _lower_ns(index + 1)) / 2


def gap_percentile_ns(bucket: ArrayLike, count: ArrayLike, percent: float) -> float | None:
    """A percentile of the counted gaps in ns; None where there are none.

    Between order statistics it is interpolated as elsewhere; each order statistic is the middle of its bucket, so the
    result is within 0.79 % of the exact one.
    """
    buckets, counts = np.asarray(bucket, dtype=np.int64), np.asarray(count, dtype=np.int64)
    order = np.argsort(buckets, kind="stable")
    upto = np.cumsum(counts[order])
    if upto.size == 0 or upto[-1] == 0:
        return None
    rank = percent / 100 * (int(upto[-1]) - 1)
    low = int(rank)
    at = np.searchsorted(upto, [low, min(low + 1, int(upto[-1]) - 1)], side="right")
    below, above = bucket_middle_ns(buckets[order][at])
    return float(below + (above - below) * (rank - low))


class GapCounter:
    """Counts gaps a second, model and bucket until `take` fetches the counts. Memory is bounded."""

    def __init__(self) -> None:
        self._keys: dict[str | None, list[_Ints]] = {}
        self._counted: dict[str | None, tuple[_Ints, _Ints]] = {}
        self._pending = 0

    def add(self, model: str | None, chunk_unix_ns: ArrayLike) -> None:
        """Count the gaps of one response, given the instants of its chunks in order (Unix ns).

        A gap belongs to the second in which it ended.
        """
        stamps = np.asarray(chunk_unix_ns, dtype=np.int64)
        if stamps.size < 2:
            return
        keys = stamps[1:] // 1_000_000_000 * _BUCKETS + bucket_of_gap(np.diff(stamps))
        self._keys.setdefault(model, []).append(keys)
        self._pending += keys.size
        if self._pending > _PENDING_MAX:
            self._count()

    def _count(self) -> None:
        for model, waiting in self._keys.items():
            keys, counts = np.unique(np.concatenate(waiting), return_counts=True)
            if model in self._counted:
                earlier_keys, earlier_counts = self._counted[model]
                keys, index = np.unique(np.concatenate([earlier_keys, keys]), return_inverse=True)
                counts = np.bincount(index, weights=np.concatenate([earlier_counts, counts])).astype(np.int64)
            self._counted[model] = (keys, counts)
        self._keys.clear()
        self._pending = 0

    def take(self) -> Any:
        """The counts since the last call as a RecordBatch of `GAP_SCHEMA`; None where nothing was counted."""
        self._count()
        if not self._counted:
            return None
        models = [model for model, (keys, _) in self._counted.items() for _ in range(keys.size)]
        keys = np.concatenate([keys for keys, _ in self._counted.values()])
        counts = np.concatenate([counts for _, counts in self._counted.values()])
        self._counted.clear()
        columns = [keys // _BUCKETS, pa.array(models, pa.string()), (keys % _BUCKETS).astype(np.int32), counts]
        return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=GAP_SCHEMA)
