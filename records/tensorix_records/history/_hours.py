"""Adds rounds up to hours, and hours to hours: in any order, the sums are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from tensorix_records.history._phases import merge_phases, phase_of
from tensorix_records.history._rows import HourRow, ResultRow, RoundRow

__all__ = ["HOUR_NS", "HOUR_S", "Key", "hours_of", "key_of", "merge_hours", "start_of_hour_s"]

HOUR_S = 3600
HOUR_NS = HOUR_S * 1_000_000_000

Key: TypeAlias = tuple[str, int, str, str, bool]
"""Target, hour, location, check, maintenance: what an hour is unique by, and the order in which hours are given."""


def start_of_hour_s(unix_ns: int) -> int:
    """The beginning of the hour that an instant is in, in seconds of Unix time."""
    return unix_ns // HOUR_NS * HOUR_S


def key_of(row: HourRow) -> Key:
    """What an hour is unique by."""
    return row.target, row.hour_unix_s, row.location or "", row.check or "", row.maintenance


def _single(round_: RoundRow, result: ResultRow | None) -> HourRow:
    """The hour of one round, or of one result of it."""
    if result is None:
        cause = ".".join(part for part in (round_.cause_check, round_.cause) if part)
        phases = {"total": round_.duration_ns}
        costs = [one.cost for one in round_.results if one.cost is not None]
        used: dict[str, Any] = {
            "requests": sum(one.requests for one in round_.results),
            "tokens": sum(one.tokens for one in round_.results),
            "cost": sum(costs) if costs else None,
        }
    else:
        cause = f"{result.check}.{result.failed[0]}" if result.failed else result.check
        # Only of good answers: what a refusal or a time-out took says nothing of how quick the server is.
        phases = dict(result.phases_ns) if result.state in ("up", "degraded") else {}
        used = {"requests": result.requests, "tokens": result.tokens, "cost": result.cost}
    state = (result or round_).state
    counts: dict[str, Any] = {str(state): 1}
    return HourRow(
        target=round_.target,
        location=round_.location or None,
        check=result.check if result else None,
        hour_unix_s=start_of_hour_s(round_.started_unix_ns),
        maintenance=round_.maintenance is not None,
        phases={name: phase_of(length) for name, length in phases.items()},
        causes={} if state == "up" or not cause else {cause: 1},
        **counts,
        **used,
    )


def hours_of(rounds: Iterable[RoundRow]) -> dict[Key, HourRow]:
    """The hours that some rounds make; a result counts in the hour in which its round began."""
    return merge_hours(_singles(rounds))


def _singles(rounds: Iterable[RoundRow]) -> Iterator[HourRow]:
    for round_ in rounds:
        yield _single(round_, None)
        for result in round_.results:
            yield _single(round_, result)


def merge_hours(rows: Iterable[HourRow]) -> dict[Key, HourRow]:
    """Rows of the same hour as one."""
    groups: dict[Key, list[HourRow]] = {}
    for row in rows:
        groups.setdefault(key_of(row), []).append(row)
    return {key: _sum(group) for key, group in groups.items()}


def _sum(rows: list[HourRow]) -> HourRow:
    first = rows[0]
    if len(rows) == 1:
        return first
    causes: Counter[str] = Counter()
    phases: dict[str, list[Any]] = {}
    for row in rows:
        causes.update(row.causes)
        for name, phase in row.phases.items():
            phases.setdefault(name, []).append(phase)
    costs = [row.cost for row in rows if row.cost is not None]
    return HourRow(
        target=first.target,
        location=first.location,
        check=first.check,
        hour_unix_s=first.hour_unix_s,
        maintenance=first.maintenance,
        up=sum(row.up for row in rows),
        degraded=sum(row.degraded for row in rows),
        inconclusive=sum(row.inconclusive for row in rows),
        payment=sum(row.payment for row in rows),
        down=sum(row.down for row in rows),
        phases={name: merged for name, group in phases.items() if (merged := merge_phases(group))},
        causes=dict(causes),
        requests=sum(row.requests for row in rows),
        tokens=sum(row.tokens for row in rows),
        cost=sum(costs) if costs else None,
    )
