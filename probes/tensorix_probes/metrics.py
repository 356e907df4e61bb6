"""Prometheus metrics of probes: what `serve` shows to a scraper, and `once` writes into a text file or a Pushgateway.

Labels are bounded: targets and location come from the configuration, checks and states are a few, and so are the
assertions of a check. Every counter of a target is there as 0 before its first round, so that its first failure is an
increase, too.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from tensorix_probes.result import Round, State
from tensorix_probes.settings import Target

__all__ = ["Metrics"]

MISSED = ("late", "overlap", "defect")
"""Why a slot was missed: it could not begin in time, the round before it was not over, or its round was none."""

BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)
"""Of the histogram of `first_token` and `total`: neighbours differ by a factor of two at most, closest where objectives
of chat models lie."""

_IN_HISTOGRAM = ("first_token", "total")
_MOST_ASSERTIONS = 100
"""Of one check; a user's own check could name them without end."""
_WHERE = ("target", "location")
_MOST = 10**12
"""Used by one check; more is nonsense that a server told."""


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        total, found = 0, []
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


@dataclass(slots=True)
class _Seen:
    """What was seen of one target."""

    target: Target
    rounds: Counter[tuple[str, str]]
    """By state and whether it was in maintenance."""
    results: Counter[tuple[str, str]]
    """By check and state."""
    missed: Counter[str]
    success: float | None = None
    last_run_unix_s: float | None = None
    failed: dict[str, dict[str, bool]] = field(default_factory=dict)
    """By check, of its last run: its assertions, and whether they failed."""
    durations: dict[str, dict[str, float]] = field(default_factory=dict)
    """By check, of its last run: seconds by phase."""
    histograms: dict[tuple[str, str], _Histogram] = field(default_factory=dict)
    expiry_unix_s: float | None = None
    remaining: dict[str, float] = field(default_factory=dict)


def _nothing_seen(target: Target) -> _Seen:
    return _Seen(
        target,
        Counter({(state.value, maintenance): 0 for state in State for maintenance in ("false", "true")}),
        Counter({(check, state.value): 0 for check in target.checks for state in State}),
        Counter(dict.fromkeys(MISSED, 0)),
    )


class Metrics(Collector):
    """The metrics of some targets at one location, in a registry of their own. Any thread may call it."""

    def __init__(self, targets: Iterable[Target], location: str | None = None) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}
        self._spent: Counter[tuple[str, str]] = Counter()
        self._cost: dict[tuple[str, str], float] = {}
        self.watch(targets, location)
        self.registry.register(self)

    def watch(self, targets: Iterable[Target], location: str | None = None) -> None:
        """From now on these targets: those that stay keep their counts, those that are gone leave nothing."""
        wanted = list(targets)
        # Outside the lock: an alias takes some ms.
        aliases = {_alias(target.key_alias) for target in wanted}
        with self._lock:
            kept = {}
            for target in wanted:
                seen = kept[target.name] = self._seen.get(target.name) or _nothing_seen(target)
                seen.target = target
                for check in target.checks:
                    seen.results.update({(check, state.value): 0 for state in State})
            self._seen, self._location = kept, location or ""
            self._spent = Counter(
                {(what, key): self._spent[what, key] for key in aliases for what in ("requests", "tokens")}
            )
            self._cost = {which: cost for which, cost in self._cost.items() if which[0] in aliases}

    def see(self, round_: Round, target: Target) -> None:
        """Take over what a round found. One of a target that is no longer watched counts for nothing."""
        with self._lock:
            seen = self._seen.get(target.name)
            if seen is None:
                return
            seen.rounds[round_.state.value, "true" if round_.maintenance else "false"] += 1
            seen.success = float(round_.state is not State.DOWN) if round_.state.conclusive else None
            seen.last_run_unix_s = (round_.started_unix_ns + round_.duration_ns) / 1e9
            for result in round_.results:
                check = result.check
                seen.results[check, result.state.value] += 1
                # A check that was skipped says nothing new of its assertions, but its old times would pass for new.
                if result.assertions:
                    some = result.assertions[:_MOST_ASSERTIONS]
                    seen.failed[check] = {one.name: not one.held for one in some if one.held is not None}
                seconds = seen.durations[check] = result.phases.seconds()
                for phase in _IN_HISTOGRAM:
                    if phase in seconds:
                        seen.histograms.setdefault((check, phase), _Histogram()).observe(seconds[phase])
                self._take_figures(seen, result.figures)
                alias, spent = _alias(result.key_alias), result.spent
                self._spent["requests", alias] += min(_MOST, spent.requests)
                self._spent["tokens", alias] += min(_MOST, spent.tokens)
                if spent.cost is not None and isfinite(spent.cost):
                    which = alias, target.prices.currency if target.prices else ""
                    self._cost[which] = self._cost.get(which, 0.0) + spent.cost

    @staticmethod
    def _take_figures(seen: _Seen, figures: Mapping[str, float]) -> None:
        if (expiry := _finite(figures.get("certificate_not_after_unix_s"))) is not None:
            seen.expiry_unix_s = expiry
        for resource in ("requests", "tokens"):
            if (left := _finite(figures.get(f"remaining_{resource}"))) is not None:
                seen.remaining[resource] = left

    def missed(self, target: Target, reason: str) -> None:
        """Count a slot of a target that was missed, by one of `MISSED`."""
        with self._lock:
            if target.name in self._seen:
                self._seen[target.name].missed[reason if reason in MISSED else "late"] += 1

    def missed_slots(self) -> dict[str, dict[str, int]]:
        """By target, how many slots were missed, by why."""
        with self._lock:
            return {name: dict(seen.missed) for name, seen in self._seen.items()}

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are at this instant."""
        with self._lock:
            families = [*self._states(), *self._times(), *self._checks(), *self._spending()]
        yield from families

    def _targets(self) -> Iterator[tuple[list[str], _Seen]]:
        for name, seen in self._seen.items():
            yield [name, self._location], seen

    def _states(self) -> Iterator[Metric]:
        success = GaugeMetricFamily(
            "probe_success", "1: the last round was up or degraded; 0: down; absent: it could not say.", labels=_WHERE
        )
        rounds = CounterMetricFamily(
            "tensorix_probe_rounds",
            "Rounds of checks, by what they say together.",
            labels=(*_WHERE, "state", "maintenance"),
        )
        missed = CounterMetricFamily(
            "tensorix_probe_missed", "Slots of the schedule without a round, by why.", labels=(*_WHERE, "reason")
        )
        objective = GaugeMetricFamily(
            "tensorix_probe_objective_ratio",
            "The share of conclusive rounds that has to be up or degraded.",
            labels=_WHERE,
        )
        for where, seen in self._targets():
            if seen.success is not None:
                success.add_metric(where, seen.success)
            for (state, maintenance), count in seen.rounds.items():
                rounds.add_metric([*where, state, maintenance], count)
            for reason, count in seen.missed.items():
                missed.add_metric([*where, reason], count)
            objective.add_metric(where, seen.target.objective.availability)
        yield from (success, rounds, missed, objective)

    def _times(self) -> Iterator[Metric]:
        last = GaugeMetricFamily("probe_last_run_timestamp_seconds", "When the last round ended.", labels=_WHERE)
        interval = GaugeMetricFamily("tensorix_probe_interval_seconds", "From one round to the next.", labels=_WHERE)
        durations = GaugeMetricFamily(
            "probe_duration_seconds",
            "How long the phases of each check's last run took.",
            labels=(*_WHERE, "check", "phase"),
        )
        histogram = HistogramMetricFamily(
            "tensorix_probe_phase_seconds",
            "How long the first token and the whole answer took.",
            labels=(*_WHERE, "check", "phase"),
        )
        expiry = GaugeMetricFamily(
            "tensorix_probe_certificate_expiry_timestamp_seconds",
            "When the server's certificate runs out.",
            labels=_WHERE,
        )
        for where, seen in self._targets():
            if seen.last_run_unix_s is not None:
                last.add_metric(where, seen.last_run_unix_s)
            interval.add_metric(where, seen.target.interval_s)
            for check, phases in seen.durations.items():
                for phase, seconds in phases.items():
                    durations.add_metric([*where, check, phase], seconds)
            for which, one in seen.histograms.items():
                histogram.add_metric([*where, *which], one.buckets(), one.sum_s)
            if seen.expiry_unix_s is not None:
                expiry.add_metric(where, seen.expiry_unix_s)
        yield from (last, interval, durations, histogram, expiry)

    def _checks(self) -> Iterator[Metric]:
        results = CounterMetricFamily(
            "tensorix_probe_results", "Runs of single checks, by what they found.", labels=(*_WHERE, "check", "state")
        )
        failed = GaugeMetricFamily(
            "tensorix_probe_assertion_failed",
            "1: the check's last run failed this assertion; 0: it held.",
            labels=(*_WHERE, "check", "assertion"),
        )
        for where, seen in self._targets():
            for which, count in seen.results.items():
                results.add_metric([*where, *which], count)
            for check, assertions in seen.failed.items():
                for assertion, value in assertions.items():
                    failed.add_metric([*where, check, assertion], value)
        yield from (results, failed)

    def _spending(self) -> Iterator[Metric]:
        remaining = GaugeMetricFamily(
            "tensorix_probe_remaining",
            "What the server last said is left of the key's limit.",
            labels=(*_WHERE, "resource"),
        )
        spent = CounterMetricFamily(
            "tensorix_probe_spent", "Requests and tokens used by the probes of a key.", labels=("resource", "key")
        )
        cost = CounterMetricFamily(
            "tensorix_probe_cost",
            "Money used by the probes of a key, by the configured prices.",
            labels=("key", "currency"),
        )
        for where, seen in self._targets():
            for resource, left in seen.remaining.items():
                remaining.add_metric([*where, resource], left)
        for which, count in self._spent.items():
            spent.add_metric(which, count)
        for which, money in self._cost.items():
            cost.add_metric(which, money)
        yield from (remaining, spent, cost)


def _finite(value: float | None) -> float | None:
    """A number as Prometheus takes it; None for one beyond all floats, which a server may tell."""
    try:
        return float(value) if value is not None and isfinite(value) else None
    except OverflowError:
        return None


def _alias(key_alias: str | None) -> str:
    return key_alias or "none"
