"""Another machine's real-time clock compared with this one's, by messages there and back as NTP does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["ClockComparison", "Offset"]

# Two quartz clocks that nobody disciplines part by at most about this; so an older comparison is worth less.
_DRIFT = 50e-6
_KEPT = 64


@dataclass(frozen=True, slots=True)
class Offset:
    """Their clock minus ours, in ns, and by how much that may be wrong."""

    offset_ns: int
    uncertainty_ns: int

    @property
    def is_told_apart(self) -> bool:
        """Whether the clocks surely differ: what may as well be none is not corrected."""
        return abs(self.offset_ns) > self.uncertainty_ns


@dataclass(slots=True)
class ClockComparison:
    """Of many exchanges the one with the shortest way counts; half of that way bounds its error (RFC 5905, section 8).

    An older one counts as less certain by 50 µs a second. Instants are Unix ns: `asked` and `answered` by this clock,
    `heard` and `replied` by the other.
    """

    exchanges: int = 0
    _kept: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def add(self, asked: int, heard: int, replied: int, answered: int) -> None:
        """Take an exchange; one whose clocks were set meanwhile, so that it took no time at all, says nothing."""
        way = (answered - asked) - (replied - heard)
        if way < 0 or answered < asked or replied < heard:
            return
        self.exchanges += 1
        self._kept.append((answered, ((heard - asked) + (replied - answered)) // 2, (way + 1) // 2))

    def best(self, now: int) -> Offset | None:
        """The offset at `now`; None before the first exchange."""
        if not self._kept:
            return None

        def uncertainty(one: tuple[int, int, int]) -> int:
            return one[2] + int(abs(now - one[0]) * _DRIFT)

        tightest = min(self._kept, key=uncertainty)
        return Offset(tightest[1], uncertainty(tightest))
