"""The limiters of each key, made from the settings at its first request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from tensorix_api.limiters import AllOf, FixedWindow, InFlight, Limiter, SlidingCounter, SlidingLog, TokenBucket
from tensorix_simulator.http.stamps import unix_less_monotonic_ns
from tensorix_simulator.limits.gateway_window import GatewayLimit, GatewayWindow
from tensorix_simulator.limits.limit_text import Limit, read_limit
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["KeyLimits", "limits_of"]

_ON_CLOCK = ("clock_window", "sliding_counter", "gateway_window")
_STEPPED_NS = 1_000_000


def limits_of(settings: SimulatorSettings) -> list[Limit]:
    """Every limit that is set: rpm, tpm, then the others in their order."""
    limits: list[Limit] = []
    if settings.rpm is not None:
        limits.append(
            Limit(
                name="requests",
                resource="requests",
                amount=settings.rpm,
                window_ns=settings.window_ns,
                kind=settings.limiter,
                burst=settings.burst,
            )
        )
    if settings.tpm is not None:
        limits.append(
            Limit(
                name="tokens",
                resource="tokens",
                amount=settings.tpm,
                window_ns=settings.window_ns,
                kind=settings.limiter,
                burst=settings.burst_tokens,
            )
        )
    return limits + [read_limit(text) for text in settings.more_limits]


@dataclass(frozen=True, slots=True)
class _Place:
    """Which limit a limiter is kept for, whatever its amount: what stays the same where settings change."""

    kind: str | None
    what: str
    window_ns: int | None
    per_model: bool
    all_keys: bool
    nth: int = 0
    """Of those that are alike but for their amounts."""


def _places(settings: SimulatorSettings) -> dict[_Place, Limit]:
    places: dict[_Place, Limit] = {}
    seen: Counter[_Place] = Counter()
    for limit in limits_of(settings):
        kind = None if limit.resource is None else limit.kind or settings.limiter
        if limit.name in ("requests", "tokens"):
            # The window of rpm and tpm may change too.
            place = _Place(kind, limit.name, None, False, False)
        else:
            what = f"{limit.resource or 'in flight'} besides"
            place = _Place(kind, what, limit.window_ns, limit.per_model, limit.all_keys)
        places[replace(place, nth=seen[place])] = limit
        seen[place] += 1
    return places


class KeyLimits:
    """Keeps what each key has used, by its alias.

    Where the settings change, what was used stays used if the kind of limiter stays the same; a limiter of another
    kind begins anew. Which of `more_limits` is which is told by kind, resource, window and scope: only its amount and
    burst can be changed while what was used stays. Requests in flight stay so, also where the keys are forgotten.
    """

    def __init__(
        self, settings: SimulatorSettings, clocks_apart_ns: Callable[[], int] = unix_less_monotonic_ns
    ) -> None:
        """`clocks_apart_ns` is how far the clock of windows on the clock is ahead of the one that times requests."""
        self._clocks_apart_ns = clocks_apart_ns
        self._limiters: dict[tuple[str | None, str | None, _Place], Limiter] = {}
        self._windows: dict[tuple[str | None, str | None, _Place], GatewayWindow] = {}
        self._together: dict[tuple[str, str | None], AllOf] = {}
        self._of_all: set[Limiter] = set()
        """Those that count the requests of all keys."""
        self._set(settings)

    def _set(self, settings: SimulatorSettings) -> None:
        self._places = _places(settings)
        self.by_model = any(limit.per_model for limit in self._places.values())
        """Whether it matters which model is asked for."""
        self.shared = any(limit.all_keys for limit in self._places.values())
        """Whether one key's requests can hold another's."""
        self._on_clock = any(place.kind in _ON_CLOCK for place in self._places)
        self._apart_ns = self._clocks_apart_ns()

    def of(self, alias: str, model: str | None = None) -> AllOf:
        """What limits a key's request for a model; None: before it is known, and where none is meant."""
        if self._on_clock:
            self._follow_clock()
        key = (alias, model if self.by_model else None)
        together = self._together.get(key)
        if together is None:
            together = self._together[key] = AllOf(
                [
                    self._one(place, limit, alias, model)
                    for place, limit in self._places.items()
                    if model is not None or not limit.per_model
                ]
            )
        return together

    def shared_of(self, alias: str, model: str | None) -> frozenset[Limiter]:
        """Those of a request's limiters that count the requests of all keys."""
        if not self.shared:
            return frozenset()
        together = self.of(alias, model)
        return frozenset(limiter for limiter in together.limiters if limiter in self._of_all)

    def named(self, name: str | None) -> Limit:
        """The limit of a limiter's name."""
        return next(limit for limit in self._places.values() if limit.name == name)

    def change(self, settings: SimulatorSettings) -> None:
        """From now on other limits."""
        self._set(settings)
        self._together.clear()
        self._limiters = {key: limiter for key, limiter in self._limiters.items() if key[2] in self._places}
        for window in self._windows.values():
            window.limits.clear()
        for (_, _, place), limiter in self._limiters.items():
            _adjust(limiter, self._places[place])
        self._of_all.intersection_update(self._limiters.values())

    def forget(self) -> None:
        """Forget what keys have used."""
        self._together.clear()
        self._windows.clear()
        self._limiters = {key: one for key, one in self._limiters.items() if isinstance(one, InFlight)}
        self._of_all.intersection_update(self._limiters.values())

    def _one(self, place: _Place, limit: Limit, alias: str, model: str | None) -> Limiter:
        key = (None if limit.all_keys else alias, model if limit.per_model else None, place)
        limiter = self._limiters.get(key)
        if limiter is None:
            limiter = self._limiters[key] = self._made(key, limit)
            if limit.all_keys:
                self._of_all.add(limiter)
        return limiter

    def _made(self, key: tuple[str | None, str | None, _Place], limit: Limit) -> Limiter:
        owner, model, place = key
        if place.kind != "gateway_window" or limit.resource is None:
            return _made(limit, place.kind, -self._apart_ns)
        # A key's requests and tokens share one.
        own = replace(place, what="") if limit.name in ("requests", "tokens") else place
        window = self._windows.get((owner, model, own))
        if window is None:
            window = self._windows[owner, model, own] = GatewayWindow(limit.window_ns, -self._apart_ns)
        return GatewayLimit(limit.resource, limit.amount, window, name=limit.name)

    def _follow_clock(self) -> None:
        """Where the clock was set, windows on it begin when it says; what was used stays."""
        apart_ns = self._clocks_apart_ns()
        if abs(apart_ns - self._apart_ns) < _STEPPED_NS:
            return
        self._apart_ns = apart_ns
        for window in self._windows.values():
            window.phase_ns = -apart_ns
        for limiter in self._limiters.values():
            if isinstance(limiter, SlidingCounter) or (
                isinstance(limiter, FixedWindow) and limiter.phase_ns is not None
            ):
                limiter.phase_ns = -apart_ns


def _adjust(limiter: Limiter, limit: Limit) -> None:
    """The same limiter with what it has counted, as it is set now."""
    limiter.name = limit.name
    assert isinstance(limiter, FixedWindow | SlidingLog | SlidingCounter | TokenBucket | GatewayLimit | InFlight)
    limiter.limit = limit.amount
    if not isinstance(limiter, InFlight):
        limiter.window_ns = limit.window_ns
    if isinstance(limiter, TokenBucket):
        limiter.burst = limit.burst


def _made(limit: Limit, kind: str | None, phase_ns: int) -> Limiter:
    name, amount, window_ns = limit.name, limit.amount, limit.window_ns
    if limit.resource is None:
        return InFlight(amount, name=name)
    match kind:
        case "clock_window":
            return FixedWindow(limit.resource, amount, window_ns, phase_ns=phase_ns, name=name)
        case "sliding_log":
            return SlidingLog(limit.resource, amount, window_ns, name=name)
        case "sliding_counter":
            return SlidingCounter(limit.resource, amount, window_ns, phase_ns=phase_ns, name=name)
        case "token_bucket":
            return TokenBucket(limit.resource, amount, window_ns, burst=limit.burst, name=name)
        case _:
            return FixedWindow(limit.resource, amount, window_ns, name=name)
