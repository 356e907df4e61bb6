"""Lengths of phases as log-spaced histograms that can be added up.

A bucket is a 16th of a power of two of nanoseconds (the buckets of `tensorix_records.gaps`, four in one): its middle is
at most 1/32 (3.1 %) off any length in it, and its index needs no logarithm, so it is the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["bucket_middle_ns", "bucket_of", "merge_phases", "pack", "phase_of", "phase_percentile_ns", "unpack"]

_PER_OCTAVE = 16


def bucket_of(length_ns: int) -> int:
    """The bucket of a length; below 1 ns it is the first."""
    mantissa, exponent = math.frexp(max(length_ns, 1))
    return (exponent - 1) * _PER_OCTAVE + int((mantissa - 0.5) * 2 * _PER_OCTAVE)


def bucket_middle_ns(bucket: int) -> float:
    """The middle of a bucket."""
    octave, within = divmod(bucket, _PER_OCTAVE)
    return math.ldexp(1 + (within + 0.5) / _PER_OCTAVE, octave)


def phase_of(length_ns: int) -> dict[str, Any]:
    """What is kept of one length: `count`, `sum_ns`, `min_ns`, `max_ns`, and `buckets`, counts by bucket."""
    return {
        "count": 1,
        "sum_ns": length_ns,
        "min_ns": length_ns,
        "max_ns": length_ns,
        "buckets": {bucket_of(length_ns): 1},
    }


def merge_phases(phases: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The same of several, None of none: of an hour from its rounds, of a day from its hours."""
    merged: dict[str, Any] | None = None
    for phase in phases:
        if merged is None:
            merged = {**phase, "buckets": dict(phase["buckets"])}
            continue
        merged["count"] += phase["count"]
        merged["sum_ns"] += phase["sum_ns"]
        merged["min_ns"] = min(merged["min_ns"], phase["min_ns"])
        merged["max_ns"] = max(merged["max_ns"], phase["max_ns"])
        buckets = merged["buckets"]
        for bucket, count in phase["buckets"].items():
            buckets[bucket] = buckets.get(bucket, 0) + count
    return merged


def phase_percentile_ns(phase: Mapping[str, Any], percent: float) -> float:
    """A percentile of the lengths, interpolated between order statistics, each within 3.1 % of the exact one."""
    ordered = sorted(phase["buckets"].items())
    rank = percent / 100 * (int(phase["count"]) - 1)

    def at(number: int) -> float:
        upto = 0
        for bucket, count in ordered:
            upto += count
            if number < upto:
                return float(min(max(bucket_middle_ns(bucket), phase["min_ns"]), phase["max_ns"]))
        return float(phase["max_ns"])

    low = int(rank)
    below, above = at(low), at(min(low + 1, int(phase["count"]) - 1))
    return below + (above - below) * (rank - low)


def pack(phases: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]] | None:
    """As the database keeps them: by phase a list of count, sum, least, most, then bucket and count in turn."""
    return {
        name: [one["count"], one["sum_ns"], one["min_ns"], one["max_ns"]]
        + [number for pair in sorted(one["buckets"].items()) for number in pair]
        for name, one in phases.items()
    } or None


def unpack(packed: Mapping[str, list[int]] | None) -> dict[str, dict[str, Any]]:
    """The phases that were packed."""
    return {
        name: {
            "count": numbers[0],
            "sum_ns": numbers[1],
            "min_ns": numbers[2],
            "max_ns": numbers[3],
            "buckets": dict(zip(numbers[4::2], numbers[5::2], strict=True)),
        }
        for name, numbers in (packed or {}).items()
    }
