"""The master compares the clocks of its workers with its own, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent

from tensorix_loadtests._distributed import _wire as wire
from tensorix_loadtests._distributed._clocks import Offset
from tensorix_loadtests._distributed._member import Member, Part
from tensorix_loadtests._distributed._members import Members

__all__ = ["ClockWatch"]

# Exchanges of a comparison of clocks, how far apart, and when it is made again.
_EXCHANGES = 8
_BETWEEN_S = 0.02
_AGAIN_S = 10.0


class ClockWatch:
    """Goes on in the background until it is closed. `on_compared` is told of each worker's part what was found."""

    def __init__(self, members: Members, on_compared: Callable[[Part, Offset], None]) -> None:
        self._members = members
        self._on_compared = on_compared
        self._waiting: dict[tuple[str, int], int] = {}
        self._number = 0
        members.listen(wire.CLOCK, self._on_clock)
        self._comparing = gevent.spawn(self._compare)

    def close(self) -> None:
        """Compare no more."""
        self._comparing.kill()

    def offset(self, member: Member) -> int:
        """What is taken off a worker's Unix times: 0 where its clock is ours, or cannot be told from it."""
        if self._members.me["boot"] and member.about.get("boot") == self._members.me["boot"]:
            return 0
        best = member.clock.best(time.time_ns())
        return best.offset_ns if best is not None and best.is_told_apart else 0

    def _on_clock(self, member: Member, data: Mapping[str, Any]) -> None:
        answered = time.time_ns()
        asked = self._waiting.pop((member.client_id, int(data["number"])), None)
        if asked is not None:
            member.clock.add(asked, int(data["heard"]), int(data["replied"]), answered)

    def _compare(self) -> None:
        """Compare the clock of each worker: when it has come, and again and again."""
        while True:
            fresh = [member for member in self._members.all() if not member.clock.exchanges]
            for member in fresh or self._members.all():
                for _ in range(_EXCHANGES):
                    self._number += 1
                    self._waiting[member.client_id, self._number] = time.time_ns()
                    self._members.send(wire.CLOCK, {"number": self._number}, member)
                    gevent.sleep(_BETWEEN_S)
            if not fresh:
                for member, part in self._members.parts():
                    if (offset := member.clock.best(time.time_ns())) is not None:
                        self._on_compared(part, offset)
            # Questions whose answers were lost.
            for key in [key for key, asked in self._waiting.items() if time.time_ns() - asked > 60e9]:
                del self._waiting[key]
            pause = time.monotonic() + (_AGAIN_S if self._members.all() else 0.1)
            while time.monotonic() < pause and all(member.clock.exchanges for member in self._members.all()):
                gevent.sleep(0.1)
            gevent.sleep(0.02)
