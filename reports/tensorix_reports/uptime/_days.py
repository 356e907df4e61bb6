"""Day by day (UTC): availability for the calendar, what was spent, and what made rounds fail or degrade."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tensorix_reports.uptime._availability import Availability, availability_of
from tensorix_reports.uptime._seen import STATES, Seen, Track
from tensorix_reports.uptime._watch import Watch

__all__ = ["DAY_NS", "Cause", "Spend", "causes_of", "days_between", "days_of", "spends_of"]

DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What the probes of a target used on a day."""

    target: str
    day_unix_ns: int
    requests: int
    tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """How often an assertion decided that a round was not up, outside of maintenance."""

    target: str
    state: str
    cause: str
    """`check.assertion`; of hours that are rolled up the state is not known: `not up`."""
    rounds: int
    last_reason: str | None


def days_between(since_ns: int, until_ns: int) -> list[tuple[int, int]]:
    """The days that [since, until) touches, each cut to what lies in it."""
    starts = range(since_ns // DAY_NS * DAY_NS, until_ns, DAY_NS)
    return [(max(start, since_ns), min(start + DAY_NS, until_ns)) for start in starts]


def days_of(tracks: Sequence[Track], watches: Sequence[Watch], since_ns: int, until_ns: int) -> list[Availability]:
    """The days of a target, all of its locations together."""
    return [availability_of(tracks, watches, "day", *day) for day in days_between(since_ns, until_ns)]


def spends_of(seen: Seen) -> list[Spend]:
    """What was spent by target and day, by whole hours."""
    requests: Counter[tuple[str, int]] = Counter()
    tokens: Counter[tuple[str, int]] = Counter()
    costs: dict[tuple[str, int], float] = defaultdict(float)
    for hour in seen.spends:
        key = hour.target, hour.hour_unix_s * 1_000_000_000 // DAY_NS * DAY_NS
        requests[key] += hour.requests
        tokens[key] += hour.tokens
        if hour.cost is not None:
            costs[key] += hour.cost
    return [
        Spend(target=key[0], day_unix_ns=key[1], requests=requests[key], tokens=tokens[key], cost=costs.get(key))
        for key in sorted(requests)
        if requests[key] or tokens[key]
    ]


def causes_of(tracks: Sequence[Track]) -> list[Cause]:
    """What decided most often, by target, the most frequent first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    reasons: dict[tuple[str, str, str], str] = {}
    for track in tracks:
        rows = zip(track.at_ns.tolist(), track.state.tolist(), track.maintenance.tolist(), strict=True)
        for at, code, aside in rows:
            if code and not aside:
                cause, reason = track.words.get(at, ("not known", None))
                key = track.target, STATES[code], cause
                counts[key] += 1
                if reason:
                    reasons[key] = reason
        for hour in track.rolled:
            if not hour.maintenance:
                for cause, number in hour.causes.items():
                    counts[track.target, "not up", cause] += number
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0]))
    return [
        Cause(target=key[0], state=key[1], cause=key[2], rounds=number, last_reason=reasons.get(key))
        for key, number in ordered
    ]
