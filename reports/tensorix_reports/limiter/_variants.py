"""What a limiter may be like before anything is seen: its window, its phase and how likely each of them is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tensorix_reports.limiter._findings import Kind
from tensorix_reports.limiter._states import Floats

__all__ = ["Variants", "finer", "variants_of"]

_USUAL_S = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 3_600.0)
_DOCUMENTED, _USUAL, _ANY = 0.75, 0.15, 0.10
"""How often a window is the documented one, one of the usual lengths, and any other."""
_ON_THE_CLOCK = 0.95
"""How often a window on a clock begins at a whole multiple of its length in Unix time."""
_FROM_THE_FIRST = 0.2
"""How often the windows of a counter begin with a key's first request after a silence, as haproxy's do."""
_ROUNDS_DOWN = 0.3
"""How often a counter leaves out the fraction of a request that still counts of the last window."""
_COUNTS_REFUSED = 0.1
_LINKED = 0.6
"""How often a bucket holds as much as flows back in a window."""
_FINE = 60
"""How many windows of any length are tried at first."""
_PHASES = 24


@dataclass(frozen=True, slots=True)
class Variants:
    """The variants of one kind; arrays of one length."""

    window: Floats
    """Seconds; of a bucket between two drips."""
    phase: Floats
    """Of windows on a clock, in seconds of Unix time; 0 for the others."""
    counts_refused: np.ndarray
    limit: Floats
    """Where the limit follows from the rest; else NaN."""
    log_prior: Floats
    spacing: Floats
    """How far the next variant's window is off, as a share of it; 0 where the window is exactly known."""
    phase_spacing: Floats
    """How far the next phase is off, as a share of the window; 0 where it is exactly known."""
    rounds_down: np.ndarray
    """Whether a part of a request that counts is none, instead of a whole one."""

    def __len__(self) -> int:
        return len(self.window)

    def __add__(self, other: Variants) -> Variants:
        return Variants(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__slots__))

    def of(self, places: np.ndarray) -> Variants:
        """Those at these places."""
        return Variants(*(getattr(self, name)[places] for name in self.__slots__))


def variants_of(
    kind: Kind,
    window_s: float | None,
    span_s: float,
    trip_s: float,
    clock_s: float,
    about: int,
    *,
    first_unix_s: float | None = None,
) -> Variants:
    """Those of one kind to try.

    `window_s` is what the documentation says, if it says; `span_s` how long the traffic was watched, `trip_s` the round
    trip, `clock_s` how uncertain the server's clock is, `about` what the limit may be, `first_unix_s` when the first
    request was decided.
    """
    if kind == "token_bucket":
        return _both_countings(_drips(window_s, span_s, about))
    longest = 4 * max(span_s, 4 * trip_s, 0.01)
    shortest = min(max(2 * trip_s, span_s / 200, 1e-3), longest / 10)
    ratio = (longest / shortest) ** (1 / _FINE)
    fine = shortest * ratio ** (np.arange(_FINE) + 0.5)
    usual = [one for one in _USUAL_S if shortest < one < longest and one != window_s]
    documented = _jittered(window_s, trip_s) if window_s else []
    lengths = [length for length, _ in documented] + usual + list(fine)
    # Where nothing is documented the usual lengths stand for it.
    known = _DOCUMENTED if documented else 0.0
    each = (1 - known) * _USUAL / (_USUAL + _ANY)
    weights = [known * weight for _, weight in documented] + [each / max(1, len(usual))] * len(usual)
    weights += [(1 - known - each) / _FINE] * _FINE
    exact = len(lengths) - _FINE
    spacing = np.array([0.0] * exact + [ratio - 1] * _FINE)
    window, weight = np.array(lengths), np.array(weights)
    if kind in ("fixed_window", "sliding_log"):
        return _both_countings(_plain(window, weight, spacing))
    if kind == "clock_window" or first_unix_s is None:
        return _both_countings(_with_phases(window, weight, spacing, exact, trip_s, clock_s))
    # Of windows of any length the phase is tried coarsely anyway: their chance stays whole.
    share = np.where(np.arange(len(window)) < exact, 1 - _FROM_THE_FIRST, 1.0)
    on_the_clock = _with_phases(window, weight * share, spacing, exact, trip_s, clock_s)
    from_the_first = _phased(window[:exact], weight[:exact] * _FROM_THE_FIRST, 0.5 * trip_s, first_unix_s)
    return _both_countings(_both_roundings(on_the_clock + from_the_first))


def _jittered(window_s: float, trip_s: float) -> list[tuple[float, float]]:
    """The documented window, a little shorter and longer too: both its ends are only known to the way of a request."""
    off = min(0.3 * trip_s, 0.05 * window_s)
    if not off:
        return [(window_s, 1.0)]
    return [(window_s - off, 0.15), (window_s, 0.7), (window_s + off, 0.15)]


def _plain(window: Floats, weight: Floats, spacing: Floats) -> Variants:
    none = np.zeros(len(window))
    return Variants(window, none, none.astype(bool), none + np.nan, np.log(weight), spacing, none, none.astype(bool))


def _with_phases(
    window: Floats, weight: Floats, spacing: Floats, exact: int, trip_s: float, clock_s: float
) -> Variants:
    aligned = _phased(window[:exact], weight[:exact] * _ON_THE_CLOCK, clock_s + 0.5 * trip_s, 0.0)
    free_weight = np.where(np.arange(len(window)) < exact, 1 - _ON_THE_CLOCK, 1.0) * weight
    steps = np.arange(_PHASES) / _PHASES
    free = _plain(np.repeat(window, _PHASES), np.repeat(free_weight / _PHASES, _PHASES), np.repeat(spacing, _PHASES))
    free = replace(
        free, phase=np.tile(steps, len(window)) * free.window, phase_spacing=np.full(len(free), 1.0 / _PHASES)
    )
    return aligned + free


def _phased(window: Floats, weight: Floats, off_s: float, phase_s: float) -> Variants:
    """Windows of known lengths with a phase that is known up to so much."""
    offsets = np.array([-1.0, -0.6, -0.3, -0.1, 0.0, 0.1, 0.3, 0.6, 1.0]) * off_s
    likely = 1.2 - np.abs(np.linspace(-1, 1, len(offsets)))
    likely /= likely.sum()
    each = np.repeat(window, len(offsets))
    plain = _plain(each, np.repeat(weight, len(offsets)) * np.tile(likely, len(window)), np.zeros(len(each)))
    return replace(plain, phase=phase_s % each + np.tile(offsets, len(window)))


def _both_roundings(one: Variants) -> Variants:
    # Those that round down are tried where window and phase are exactly known: at any phase one more makes it as good.
    kept = (one.spacing == 0) & (one.phase_spacing == 0)
    down = replace(one, rounds_down=np.ones(len(one), bool), log_prior=one.log_prior + np.log(_ROUNDS_DOWN))
    one = replace(one, log_prior=one.log_prior + np.where(kept, np.log(1 - _ROUNDS_DOWN), 0.0))
    return one + down.of(np.flatnonzero(kept))


def _both_countings(one: Variants) -> Variants:
    other = replace(one, counts_refused=np.ones(len(one), bool), log_prior=one.log_prior + np.log(_COUNTS_REFUSED))
    # Those that count what they refuse are tried where the window is exactly known, and not at any phase.
    kept = (one.spacing == 0) & (one.phase_spacing == 0)
    if not kept.any():
        kept = one.phase_spacing == 0
    one = replace(one, log_prior=one.log_prior + np.where(kept, np.log(1 - _COUNTS_REFUSED), 0.0))
    return one + other.of(np.flatnonzero(kept))


def _drips(window_s: float | None, span_s: float, about: int) -> Variants:
    """Buckets: any drip with any burst, and those that hold what flows back in a window."""
    count = 2 * _FINE
    shortest, longest = max(span_s, 0.01) / 5_000, max(span_s, 0.01) * 2
    ratio = (longest / shortest) ** (1 / count)
    fine = shortest * ratio ** (np.arange(count) + 0.5)
    free = _plain(fine, np.full(count, (1 - _LINKED) / count), np.full(count, ratio - 1))
    windows = [(window_s, _DOCUMENTED)] if window_s else []
    usual = [one for one in _USUAL_S if one != window_s]
    windows += [(one, (1 - (_DOCUMENTED if window_s else 0)) / len(usual)) for one in usual]
    most = max(round(1.05 * about) + 2, 12)
    found = free
    for window, weight in windows:
        limits = _limits_between(max(1, about // 4), most, 400 if window == window_s else 60)
        # Of any limit, as likely as its inverse; these are the ones that can be told apart.
        of_limit = (1 / limits) / np.log(1e4) * (np.gradient(limits) if len(limits) > 1 else 1.0)
        linked = _plain(window / limits, _LINKED * weight * of_limit, np.zeros(len(limits)))
        found = found + replace(linked, limit=limits)
    return found


def _limits_between(least: int, most: int, count: int) -> Floats:
    if most - least < count:
        return np.arange(least, most + 1.0)
    whole: Floats = np.unique(np.geomspace(least, most, count).round())
    return whole


def finer(variants: Variants, place: int) -> Variants | None:
    """Variants around one, in its stead; None where it is known exactly."""
    one = variants.of(np.array([place]))
    spacing, phase_spacing = float(one.spacing[0]), float(one.phase_spacing[0])
    if spacing < 1e-4 and phase_spacing < 1e-3:
        return None
    parts = 9
    factors = (1 + spacing) ** ((np.arange(parts) - parts // 2) / parts) if spacing else np.ones(1)
    shifts = (np.arange(parts) - parts // 2) / parts * phase_spacing if phase_spacing else np.zeros(1)
    window = np.repeat(one.window * factors, len(shifts))
    phase = np.tile(one.phase + shifts * one.window, len(factors))
    count = len(window)
    return Variants(
        window=window,
        phase=phase,
        counts_refused=np.repeat(one.counts_refused, count),
        limit=np.repeat(one.limit, count),
        log_prior=np.repeat(one.log_prior - np.log(count), count),
        spacing=np.full(count, ((1 + spacing) ** (1 / len(factors)) - 1) if spacing else 0.0),
        phase_spacing=np.full(count, phase_spacing / len(shifts)),
        rounds_down=np.repeat(one.rounds_down, count),
    )
