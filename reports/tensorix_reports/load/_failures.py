"""Requests that did not succeed, by what went wrong and where, each with one sample of what was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorix_api.secret import Redactor
from tensorix_reports.frames import Requests

__all__ = ["Failure", "failures_of"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One way to fail."""

    outcome: str
    """`failed`, `throttled` or `cancelled`: the three are never added up."""
    request: str
    """The kind of request, as everywhere in the report."""
    kind: str
    phase: str | None
    status: int | None
    count: int
    first_s: float
    last_s: float
    sample: str | None
    """One message, redacted once more on the way out."""
    sample_at_s: float
    """When the request of the sample started."""
    sample_took_ms: float | None
    """From there to its end."""
    sample_request_id: str | None
    sample_response_id: str | None
    sample_process: str | None
    """Which process sent it."""


_LONGEST_ID = 100
_ORDER = {"failed": 0, "throttled": 1, "cancelled": 2}


def _kinds_of(bad: Requests) -> tuple[NDArray[np.int64], list[str | None]]:
    """What went wrong with each, as codes; the last stands for nothing told."""
    error, ended = bad.codes("error_kind"), bad.codes("stream_outcome")
    # Both ended from this end, in two ways that are worth telling apart.
    left = ended.equal("closed_early", "abandoned")
    names: list[str | None] = [*dict.fromkeys([*error.values, *ended.values]), None]
    by_error, by_end = (np.array([names.index(one) for one in [*of.values, None]]) for of in (error, ended))
    return np.where(left, by_end[ended.codes], by_error[error.codes]), names


def _grouped(*columns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first place of each combination of codes, and the number of the combination of each row."""
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        key = key * (int(column.max(initial=0)) + 1) + column
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    return first, group


def failures_of(requests: Requests) -> list[Failure]:
    """Every kind of failure, the most frequent first within each outcome."""
    bad = requests.of(~requests.codes("outcome").equal("success"))
    if not len(bad):
        return []
    kinds, names = _kinds_of(bad)
    statuses, status = np.unique(bad.array("status"), return_inverse=True)
    coded = [bad.codes(name) for name in ("outcome", "kind", "error_phase")]
    outcomes, requested, phases = ([*one.values, None] for one in coded)
    # -1, for none, is the last of those names.
    outcome, kind, phase = (one.codes.astype(np.int64) % (len(one.values) + 1) for one in coded)
    first, group = _grouped(outcome, kind, kinds, phase, status)
    last = np.zeros(len(first), dtype=np.int64)
    # Of an index that comes again the last stays.
    last[group] = np.arange(len(group))
    told = np.flatnonzero(bad.known("error_message"))
    with_message, place = np.unique(group[told], return_index=True)
    sample = first.copy()
    sample[with_message] = told[place]
    at_s, end_ns, redact = bad.array("at_s"), bad.array("end_at_ns"), Redactor()
    messages = bad.texts("error_message", sample)
    ids = [bad.texts(name, sample) for name in ("request_id", "response_id", "process_id")]

    def text(value: str | None, longest: int) -> str | None:
        return None if value is None else redact(value, longest)

    found = [
        Failure(
            outcome=str(outcomes[outcome[begin]]),
            request=str(requested[kind[begin]]),
            kind=names[kinds[begin]] or "unknown",
            phase=phases[phase[begin]],
            status=int(code) if np.isfinite(code := statuses[status[begin]]) else None,
            count=count,
            first_s=float(at_s[begin]),
            last_s=float(at_s[last[number]]),
            sample=text(messages[number], 300),
            # Where to look the sample up: here by its ids, in a server's log by its time.
            sample_at_s=float(at_s[sample[number]]),
            sample_took_ms=float(took) / 1e6 if np.isfinite(took := end_ns[sample[number]]) else None,
            sample_request_id=text(ids[0][number], _LONGEST_ID),
            sample_response_id=text(ids[1][number], _LONGEST_ID),
            sample_process=text(ids[2][number], _LONGEST_ID),
        )
        for number, (begin, count) in enumerate(zip(first.tolist(), np.bincount(group).tolist(), strict=True))
    ]
    return sorted(found, key=_place)


def _place(one: Failure) -> tuple[Any, ...]:
    among = (one.outcome, one.request, one.phase is None, one.phase or "", one.status is None, one.status or 0)
    return (_ORDER.get(one.outcome, 3), -one.count, one.kind, *among)
