"""Arrivals and pauses as a person writes them: `300/min`, `gamma:2`, `1,2,5 x 30s`, `1:20`, `2:20:10s`, `uniform:2s`.

Everything here raises SettingsError, in one line, for what it cannot read.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from tensorix_api.durations import UNITS, nanoseconds
from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan._arrivals import Arrivals, Gaps, Replay, Stage, ThinkTime

__all__ = ["arrivals_of", "read_gaps", "read_ramp", "read_rate", "read_spike", "read_steps", "read_think_time"]

_UNITS_S = {"s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0}
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")


def read_rate(text: str) -> float:
    """Requests a second: `5`, `5/s`, `300/min`, `1000/h`."""
    number, slash, unit = (part.strip() for part in text.partition("/"))
    if not _NUMBER.fullmatch(number) or (slash and unit not in _UNITS_S):
        raise SettingsError(f"the rate {text!r} cannot be read: write it like 5, 5/s or 300/min")
    return float(number) / _UNITS_S[unit or "s"]


def _seconds(what: str, text: str) -> float:
    """A length of time, with its unit; a bare number is seconds."""
    text = text.strip()
    known = float(text) * 10**9 if _NUMBER.fullmatch(text) else nanoseconds(text)
    if not known:
        raise SettingsError(f"the {what} {text!r} is no time: write a number and a unit ({UNITS}), like 30s")
    return float(known) / 1e9


def read_gaps(text: str) -> tuple[Gaps, float]:
    """The kind of gaps and their coefficient of variation: `poisson`, `constant`, `gamma:2`."""
    kind, _, number = text.strip().partition(":")
    plain = not number and kind in get_args(Gaps) and kind != "gamma"
    if not plain and not (kind == "gamma" and _NUMBER.fullmatch(number) and float(number) > 0):
        raise SettingsError(f"the arrivals {text!r} are not known: give poisson, constant or gamma:2")
    return ("gamma", float(number)) if kind == "gamma" else ("poisson" if kind == "poisson" else "constant", 1.0)


def read_steps(text: str) -> tuple[Stage, ...]:
    """Rates one after the other, each for the same time: `1,2,5 x 30s`."""
    rates, cross, each = text.rpartition("x")
    if not cross:
        raise SettingsError(f"the steps {text!r} cannot be read: write rates and a time for each, like '1,2,5 x 30s'")
    duration_s = _seconds("length of a step", each)
    return tuple(Stage(duration_s=duration_s, rate=read_rate(rate)) for rate in rates.split(","))


def read_ramp(text: str, duration_s: float) -> tuple[Stage, ...]:
    """A rate that changes evenly: `1:20`, from and to."""
    first, colon, last = text.partition(":")
    if not colon or ":" in last:
        raise SettingsError(f"the ramp {text!r} cannot be read: write the first and the last rate, like 1:20")
    return (Stage(duration_s=duration_s, rate=read_rate(first), end_rate=read_rate(last)),)


def read_spike(text: str, duration_s: float) -> tuple[Stage, ...]:
    """A peak in the middle: `2:20:10s`, the rate before and after, the rate of the peak, and how long that lasts."""
    parts = text.split(":")
    if len(parts) != 3:
        raise SettingsError(f"the spike {text!r} cannot be read: write base, peak and its length, like 2:20:10s")
    base, peak, length_s = read_rate(parts[0]), read_rate(parts[1]), _seconds("length of the spike", parts[2])
    around_s = (duration_s - length_s) / 2
    if around_s <= 0:
        raise SettingsError(f"the spike of {length_s:g} s does not fit into {duration_s:g} s: give a longer duration")
    return (
        Stage(duration_s=around_s, rate=base),
        Stage(duration_s=length_s, rate=peak),
        Stage(duration_s=around_s, rate=base),
    )


def read_think_time(text: str) -> ThinkTime:
    """A user's pause: `2s` (each the same), `exponential:2s`, `uniform:2s` (from 0 to twice that)."""
    kind, colon, time = text.strip().rpartition(":")
    kinds: dict[str, Literal["constant", "exponential", "uniform"]] = {
        "constant": "constant",
        "exponential": "exponential",
        "uniform": "uniform",
    }
    if colon and kind not in kinds:
        raise SettingsError(f"the think time {text!r} cannot be read: write 2s, exponential:2s or uniform:2s")
    return ThinkTime(mean_s=_seconds("think time", time), kind=kinds[kind or "constant"])


def _span_s(what: str, rate: float, duration_s: float | None, requests: int | None) -> float:
    """How long a stretch of one rate must be, where only a number of requests ends it.

    Of a Poisson process of n expected arrivals twice as many and 60 more come late enough: the chance that fewer than n
    come is below 1e-20 for every n.
    """
    if duration_s is not None:
        return duration_s
    if requests is None or not rate:
        raise SettingsError(f"{what} needs an end: give --duration" + (" or --requests" if rate else ""))
    return (2 * requests + 60) / rate


def arrivals_of(
    *,
    rate: str | None = None,
    steps: str | None = None,
    ramp: str | None = None,
    spike: str | None = None,
    replay: str | None = None,
    speed: float | None = None,
    gaps: str | None = None,
    seed: int | None = None,
    most_users: int | None = None,
    duration_s: float | None = None,
    requests: int | None = None,
) -> Arrivals | None:
    """The arrivals that were asked for; None where none were, so that the loop is a closed one.

    At most one of `rate`, `steps`, `ramp`, `spike` and `replay` is given; a rate needs a duration or a number of
    requests, a ramp and a spike a duration.
    """
    kinds = {"--rate": rate, "--steps": steps, "--ramp": ramp, "--spike": spike, "--replay": replay}
    given = [name for name, value in kinds.items() if value is not None]
    more = {"--arrivals": gaps, "--replay-speed": speed, "--max-users": most_users}
    if not given:
        if idle := [name for name, value in more.items() if value is not None]:
            raise SettingsError(f"{idle[0]} says how a schedule is sent: give one with {', '.join(kinds)}")
        return None
    if len(given) > 1:
        raise SettingsError(f"{' and '.join(given)} are schedules of their own: give one of them")
    if speed is not None and replay is None:
        raise SettingsError("--replay-speed is for --replay: leave it out")
    if gaps is not None and replay is not None:
        raise SettingsError("--replay has its own times between requests: leave --arrivals out")
    stages: tuple[Stage, ...] = ()
    if rate is not None:
        one = read_rate(rate)
        if not one:
            raise SettingsError(f"the rate {rate!r} sends nothing: write one above 0, like 5/s or 300/min")
        stages = (Stage(duration_s=_span_s("--rate", one, duration_s, requests), rate=one),)
    elif steps is not None:
        stages = read_steps(steps)
    elif ramp is not None or spike is not None:
        span_s = _span_s("--ramp" if ramp is not None else "--spike", 0.0, duration_s, None)
        stages = read_ramp(ramp, span_s) if ramp is not None else read_spike(spike or "", span_s)
    kind, variation = read_gaps(gaps) if gaps is not None else ("poisson", 1.0)
    return Arrivals(
        stages=stages,
        replay=None if replay is None else Replay(path=replay, speed=1.0 if speed is None else speed),
        gaps=kind,
        variation=variation,
        seed=0 if seed is None else seed,
        most_users=1000 if most_users is None else most_users,
    )
