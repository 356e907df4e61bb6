"""The rows of a history: raw facts, None where unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["HourRow", "ResultRow", "RoundRow", "StateName"]

StateName: TypeAlias = Literal["up", "degraded", "inconclusive", "payment", "down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """What one check of a round found."""

    check: str
    state: StateName
    started_unix_ns: int
    duration_ns: int = 0
    reason: str | None = None
    failed: tuple[str, ...] = ()
    """The names of the assertions that did not hold, the one that decided first."""
    assertions: tuple[Mapping[str, Any], ...] = ()
    """All of them: name, held, detail, otherwise."""
    phases_ns: Mapping[str, int] = field(default_factory=dict)
    """By phase (`dns`, `connect`, `tls`, `send`, `first_byte`, `first_chunk`, `first_token`, `last_byte`, `total`)."""
    figures: Mapping[str, float] = field(default_factory=dict)
    status: int | None = None
    error_kind: str | None = None
    error_phase: str | None = None
    request_id: str | None = None
    key_alias: str | None = None
    model: str | None = None
    requests: int = 0
    tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """One probe of a target."""

    round_id: str
    """Unique for all time: appending a round twice keeps it once."""
    target: str
    location: str | None = None
    state: StateName
    started_unix_ns: int
    slot_unix_ns: int | None = None
    duration_ns: int = 0
    reason: str | None = None
    cause_check: str | None = None
    cause: str | None = None
    maintenance: str | None = None
    trace_id: str | None = None
    results: tuple[ResultRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRow:
    """An hour of a target and location, of one check or of its rounds, in or out of maintenance."""

    target: str
    location: str | None
    check: str | None
    """None: the rounds."""
    hour_unix_s: int
    maintenance: bool
    up: int = 0
    degraded: int = 0
    inconclusive: int = 0
    payment: int = 0
    down: int = 0
    phases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By phase: `count`, `sum_ns`, `min_ns`, `max_ns`, and `buckets`, counts in a log-spaced histogram.

    Of a check, those of the results that were up or degraded; of the rounds, `total` of all.
    """
    causes: Mapping[str, int] = field(default_factory=dict)
    """How often each `check.assertion` decided a state other than up."""
    requests: int = 0
    tokens: int = 0
    cost: float | None = None
