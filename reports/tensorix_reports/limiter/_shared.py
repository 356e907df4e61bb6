"""One kind of limiter on a key that somebody else uses too: a particle filter.

Each particle is a limiter with all its parameters, a rate at which the other sends, and what the other has used. What
the other sent between two steps is drawn so that it agrees with the answer, and the particle is weighed by how likely
that was: a filter with the answer in its proposal (Pitt and Shephard's "fully adapted" one, as far as that goes here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensorix_reports.limiter._alone import Setting, logsumexp
from tensorix_reports.limiter._findings import Kind
from tensorix_reports.limiter._likelihood import ERROR
from tensorix_reports.limiter._poisson import at_least, at_most, exactly
from tensorix_reports.limiter._states import STATES, Floats, State
from tensorix_reports.limiter._steps import Step
from tensorix_reports.limiter._variants import Variants

__all__ = ["Particles", "follow", "together"]

_GAP = 0.04
"""Of a window: what is sent in a longer gap is put down this finely."""
_LEAST_SHARE, _MOST_SHARE = 0.03, 1.0
"""What the other sends, as a share of what seems to be the limit."""
_LARGEST = 1e5
_JITTER = 0.05
_EXACT, _NEAR, _WRONG, _ANYTHING = 0.95, 0.02, 0.01, 200
_MOST_GAPS = 400


@dataclass(frozen=True, slots=True)
class Particles:
    """What is left of the particles in the end, equally likely; arrays of one length."""

    kind: Kind
    evidence: float
    """The logarithm of how likely the kind, with somebody else on the key, made what was seen."""
    window: Floats
    phase: Floats
    """In Unix time."""
    limit: Floats
    rate: Floats
    """What the other sends, a second."""


def follow(
    kind: Kind, steps: Sequence[Step], setting: Setting, variants: Variants, rng: np.random.Generator
) -> Particles:
    """Follow particles drawn from `variants`, by how likely these are beforehand, along the steps."""
    return _Filter(kind, setting, variants, rng).run(steps)


def together(parts: Sequence[tuple[float, Particles]], rng: np.random.Generator) -> Particles:
    """Parts that were followed apart as one, each with the logarithm of how likely it is beforehand."""
    logs = np.array([prior + part.evidence for prior, part in parts])
    whole = logsumexp(logs)
    first = parts[0][1]
    # As many of each as its share of the whole, in all as many as of one.
    shares = np.exp(logs - whole)
    counts = rng.multinomial(len(first.window), shares / shares.sum())
    places = [rng.integers(0, len(part.window), count) for (_, part), count in zip(parts, counts, strict=True)]

    def joined(name: str) -> Floats:
        return np.concatenate([getattr(part, name)[place] for (_, part), place in zip(parts, places, strict=True)])

    return Particles(first.kind, whole, joined("window"), joined("phase"), joined("limit"), joined("rate"))


class _Filter:
    def __init__(self, kind: Kind, setting: Setting, variants: Variants, rng: np.random.Generator) -> None:
        self._kind: Kind = kind
        self._rng, self._setting = rng, setting
        self._count = len(variants)
        self._state: State = STATES[kind](variants.window, variants.phase - setting.zero_unix_s)
        self._limit = variants.limit.copy()
        """NaN where nothing has told it yet."""
        window_s = setting.window_s or 60.0
        share = np.exp(rng.uniform(np.log(_LEAST_SHARE), np.log(_MOST_SHARE), self._count))
        self._rate = share * setting.about / window_s
        self._most_passed = np.zeros(self._count)
        """The most that was used when one passed: the limit is larger."""
        self._weight = np.zeros(self._count)
        self._evidence = 0.0
        self._gap_s = _GAP * window_s
        self._at_s = 0.0

    def run(self, steps: Sequence[Step]) -> Particles:
        self._gap_s = max(self._gap_s, (steps[-1].at_s - steps[0].at_s) / _MOST_GAPS)
        self._at_s = steps[0].at_s
        self._state.before(self._at_s, self._rate, 1.3 * self._setting.about, self._rng)
        for step in steps:
            while step.at_s - self._at_s > 1.5 * self._gap_s:
                self._pass_time(self._at_s + self._gap_s)
            self._see(step)
            self._maybe_resample()
        return self._ended()

    def _pass_time(self, until_s: float) -> None:
        since = self._state.since(self._at_s, until_s)
        sent = self._rng.poisson(self._rate * (until_s - since)).astype(float)
        self._at_s = until_s
        self._state.charge(until_s, np.minimum(sent, self._room()), self._first(since, sent))

    def _first(self, since: Floats, sent: Floats) -> Floats:
        """When the first of those came that were sent since then; now, if none was."""
        share = 1.0 - self._rng.random(self._count) ** (1.0 / np.maximum(sent, 1.0))
        return np.where(sent >= 1, since + share * (self._at_s - since), self._at_s)

    def _room(self) -> Floats:
        left = np.maximum(0.0, self._limit - self._used())
        return np.where(np.isnan(left), np.inf, left)

    def _used(self) -> Floats:
        used: Floats = np.ceil(self._state.used(self._at_s) - 1e-6)
        return used

    def _see(self, step: Step) -> None:
        now_s = max(self._at_s, step.at_s)
        since = self._state.since(self._at_s, now_s)
        mean = self._rate * (now_s - since)
        self._at_s = now_s
        used = self._used()
        free = self._rng.poisson(mean).astype(float)
        known = ~np.isnan(self._limit)
        if not np.isnan(step.remaining) and step.passed:
            sent, chance = self._told(step, used, free, mean, known)
        elif step.passed:
            sent, chance = self._passed(step, used, free, mean, known)
        else:
            sent, chance = self._refused(used, free, mean, known)
        self._weight += np.log(chance)
        sent = np.where(np.isnan(self._limit), sent, np.minimum(sent, np.maximum(0.0, self._limit - used)))
        self._state.charge(self._at_s, sent + (step.count if step.passed else 0), self._first(since, sent))
        if step.passed:
            self._most_passed = np.maximum(self._most_passed, used + sent + step.count - 1)

    def _passed(
        self, step: Step, used: Floats, free: Floats, mean: Floats, known: NDArray[np.bool_]
    ) -> tuple[Floats, Floats]:
        room = np.where(known, self._limit - step.count - used, np.inf)
        ok = np.where(np.isinf(room), 1.0, at_most(np.where(np.isinf(room), 1e9, room), mean))
        chance = (1 - ERROR) * ok + ERROR
        wrong = self._rng.random(self._count) * chance < ERROR
        return np.where(wrong | (room < 0), free, np.minimum(free, np.maximum(room, 0.0))), chance

    def _refused(self, used: Floats, free: Floats, mean: Floats, known: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        missing = np.where(known, self._limit - used, 0.0)
        ok = np.where(missing <= 0, 1.0, at_least(np.maximum(missing, 0.0), mean))
        chance = (1 - ERROR) * ok + ERROR
        wrong = self._rng.random(self._count) * chance < ERROR
        sent = np.where(wrong, free, np.maximum(free, missing))
        if not known.all():
            # It is above what passed and not above what is used now.
            low, high = self._most_passed, used + sent
            mass = np.where(high > low, _mass(low, high), 0.0)
            drawn = _between(low, np.maximum(high, low + 1), self._rng)
            is_set = ~known & (high > low)
            self._limit = np.where(is_set, drawn, self._limit)
            chance = np.where(known, chance, np.where(is_set, (1 - ERROR) * mass, ERROR * _mass(low, low + _LARGEST)))
        return sent, np.maximum(chance, 1e-300)

    def _told(
        self, step: Step, used: Floats, free: Floats, mean: Floats, known: NDArray[np.bool_]
    ) -> tuple[Floats, Floats]:
        # The header is written between the decision and the answer, when some of it may be back already.
        late = np.ceil(self._state.used(step.said_s) - 1e-6)
        used = np.where(self._rng.random(self._count) < 0.5, np.minimum(used, late), used)
        # Of others under way with it some were counted by then, nobody knows how many: as likely all as none.
        others = self._rng.integers(-step.unordered, step.unordered + 1, self._count)
        used = used + others
        sent = self._limit - step.remaining - step.count - used
        wrong = _WRONG / _ANYTHING
        with np.errstate(invalid="ignore"):
            right = _EXACT * exactly(sent, mean) + _NEAR * (exactly(sent - 1, mean) + exactly(sent + 1, mean))
        chance = right + wrong
        is_wrong = self._rng.random(self._count) * chance < wrong
        sent = np.where(is_wrong, free, np.maximum(sent, 0.0))
        if not known.all():
            new = step.remaining + step.count + used + free
            chance = np.where(known, chance, _mass(new - 1, new))
            sent = np.where(known, sent, free)
            self._limit = np.where(known, self._limit, new)
        return sent, chance

    def _maybe_resample(self) -> None:
        most = float(self._weight.max())
        weight = np.exp(self._weight - most)
        if weight.sum() ** 2 < 0.5 * self._count * float(weight @ weight):
            self._resample()

    def _resample(self) -> None:
        self._evidence += logsumexp(self._weight) - np.log(self._count)
        weight = np.exp(self._weight - self._weight.max())
        bounds = np.cumsum(weight) / weight.sum()
        places = np.searchsorted(bounds, (np.arange(self._count) + self._rng.random()) / self._count)
        places = np.minimum(places, self._count - 1)
        self._state.take(places)
        self._limit, self._most_passed = self._limit[places], self._most_passed[places]
        self._rate = self._rate[places] * np.exp(self._rng.normal(0.0, _JITTER, self._count))
        self._weight[:] = 0.0

    def _ended(self) -> Particles:
        unknown = np.isnan(self._limit)
        if unknown.any():
            self._weight += np.where(unknown, np.log(_mass(self._most_passed, self._most_passed * 0 + 2e5)), 0.0)
        self._resample()
        phase = self._state.phase + self._setting.zero_unix_s
        return Particles(self._kind, self._evidence, self._state.window, phase, self._limit, self._rate)


def _mass(low: Floats, high: Floats) -> Floats:
    """How likely a limit above `low` and up to `high` is beforehand: any is as likely as its inverse."""
    # None is below one: what would be follows from an order of requests under way that cannot have been.
    low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
    mass: Floats = np.log((high + 0.5) / (low + 0.5)) / np.log(2 * _LARGEST / 0.5)
    return np.maximum(mass, 1e-300)


def _between(low: Floats, high: Floats, rng: np.random.Generator) -> Floats:
    """One above `low` and up to `high`, by how likely it is beforehand."""
    drawn = np.exp(rng.uniform(np.log(low + 0.5), np.log(high + 0.5)))
    return np.minimum(np.maximum(np.round(drawn), low + 1), high)
