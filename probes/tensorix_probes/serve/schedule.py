"""When each target is probed: absolute slots on the monotonic clock, whatever becomes of the time of day.

The standard library's `sched` waits on the clock that it is given. Schedulers that wait by the time of day stand still
for an hour where that is set back by one.
"""

from __future__ import annotations

import math
import random
import sched
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from tensorix_probes.settings import Target

__all__ = ["Schedule", "Slots", "slots_of"]

_FIRST_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The slots of one target, in seconds of the monotonic clock: `origin_s + k * interval_s`, moved by the jitter.

    The first round does not wait for its slot: it begins at `first_s`, soon after the start. The slots proper begin
    half an interval after that at the earliest.
    """

    name: str
    first_s: float
    origin_s: float
    interval_s: float
    jitter_s: float = 0.0

    def at(self, k: int) -> float:
        """The k-th slot from the origin. The jitter depends on the name and k alone."""
        if not self.jitter_s:
            return self.origin_s + k * self.interval_s
        share = random.Random(f"{self.name} {k}").random()  # noqa: S311 - spreads load, keeps no secret
        return self.origin_s + k * self.interval_s + share * min(self.jitter_s, self.interval_s)

    def after(self, now_s: float) -> float:
        """The first slot that is later than a time."""
        if now_s < self.first_s:
            return self.first_s
        # What comes right after the first round would ask twice for one interval.
        later = max(now_s, self.first_s + self.interval_s / 2)
        k = math.floor((later - self.origin_s) / self.interval_s)
        return next(slot for slot in map(self.at, (k - 1, k, k + 1, k + 2)) if slot > later)


def slots_of(target: Target, *, now_s: float, now_unix_s: float) -> Slots:
    """The slots of a target from now on (`now_s` on the monotonic clock).

    In the middle of an interval by the time of day at this instant, so that they are the same after a restart, and
    two locations can take turns by their offsets; from then on the time of day has no say. Where no offset is
    configured it follows from the name.
    """
    share = int.from_bytes(sha256(target.name.encode()).digest()[:6]) / 2**48
    offset = share * target.interval_s if target.offset_s is None else target.offset_s
    origin = now_s - now_unix_s % target.interval_s + offset
    first = now_s + share * min(target.interval_s / 2, _FIRST_WITHIN_S)
    return Slots(
        name=target.name, first_s=first, origin_s=origin, interval_s=target.interval_s, jitter_s=target.jitter_s
    )


class Schedule:
    """Calls what was added for a target at each of its slots, in a thread of its own (`run`).

    What is called has to return at once: it hands the slot to a worker. A slot that is already past is called all
    the same, late: whether it is missed is the worker's decision.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._wake = threading.Event()
        self._ended = False
        self._lock = threading.Lock()
        self._events: dict[str, sched.Event] = {}
        self._scheduler = sched.scheduler(monotonic_s, lambda seconds: None)

    def add(self, slots: Slots, begin: Callable[[float], None]) -> None:
        """Call `begin(slot)` at each slot from now on, in place of what was added under that name."""
        with self._lock:
            self._cancel(slots.name)
            self._enter(slots, begin, slots.after(self._monotonic_s()))
        self._wake.set()

    def _enter(self, slots: Slots, begin: Callable[[float], None], slot: float) -> None:
        def fire() -> None:
            with self._lock:
                if self._ended or self._events.get(slots.name) is not event:
                    return
                self._enter(slots, begin, slots.after(slot))
            begin(slot)

        event = self._events[slots.name] = self._scheduler.enterabs(slot, 0, fire)

    def remove(self, name: str) -> None:
        """Call no more for a name."""
        with self._lock:
            self._cancel(name)

    def _cancel(self, name: str) -> None:
        event = self._events.pop(name, None)
        if event is not None:
            try:
                self._scheduler.cancel(event)
            except ValueError:
                pass  # It is being called this very moment, and finds that it is no longer wanted.

    def next_slot(self, name: str) -> float | None:
        """When a name is called next; None where it is not."""
        event = self._events.get(name)
        return None if event is None else event.time

    def step(self) -> float | None:
        """Call what is due; seconds until there is more, None where nothing was added."""
        return self._scheduler.run(blocking=False)

    def run(self) -> None:
        """Call what is due until `end`."""
        while not self._ended:
            self._wake.wait(self.step())
            self._wake.clear()

    def end(self) -> None:
        """Call nothing any more; from any thread."""
        with self._lock:
            self._ended = True
            for name in list(self._events):
                self._cancel(name)
        self._wake.set()
