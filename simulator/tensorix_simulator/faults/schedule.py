"""Outages: new connections are refused, and those that are open reset, by the schedule that is set."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from tensorix_simulator.faults.fault_text import Fault, FaultKind
from tensorix_simulator.latency.pacing import Pacer

__all__ = ["Door", "Outages"]


class Door(Protocol):
    """By which connections come in."""

    def refuse(self) -> None:
        """From now on new connections are refused."""
        ...

    def admit(self) -> None:
        """They are accepted again."""
        ...

    def reset_connections(self) -> None:
        """Reset those that are open."""
        ...


class Outages:
    """Keeps the door as the faults in force want it. They may be changed at any time, which holds at once."""

    def __init__(self, pacer: Pacer, door: Door, tell: Callable[[str, int, Fault], None]) -> None:
        """`tell` is called with `begin` or `end`, the instant, and the fault."""
        self._pacer = pacer
        self._door = door
        self._tell = tell
        self._faults: tuple[Fault, ...] = ()
        self._since_ns = 0
        self._active: tuple[Fault, ...] = ()
        self._version = 0

    def set(self, faults: tuple[Fault, ...], since_ns: int) -> None:
        """Other faults, or times that count from another instant."""
        self._faults, self._since_ns = faults, since_ns
        # The heap of times cannot be searched: jobs of before find that they are old.
        self._version += 1
        self._look()

    def _look(self) -> None:
        elapsed_ns = time.monotonic_ns() - self._since_ns
        before, self._active = self._active, tuple(fault for fault in self._faults if fault.holds(elapsed_ns))
        if self._active and not before:
            self._door.refuse()
        begun = [fault for fault in self._active if fault not in before]
        if any(fault.kind is FaultKind.OUTAGE for fault in begun):
            self._door.reset_connections()
        if before and not self._active:
            self._door.admit()
        now_ns = time.monotonic_ns()
        for fault in before:
            if fault not in self._active:
                self._tell("end", now_ns, fault)
        for fault in begun:
            self._tell("begin", now_ns, fault)
        self._plan(elapsed_ns)

    def _plan(self, elapsed_ns: int) -> None:
        """Look again when one of them begins or ends."""
        times = [when for fault in self._faults for when in (fault.from_ns, fault.to_ns) if when is not None]
        coming = [when for when in times if when > elapsed_ns]
        if not coming:
            return
        version = self._version

        def turn(_: int) -> None:
            if version == self._version:
                self._look()

        self._pacer.add(self._since_ns + min(coming), turn)
