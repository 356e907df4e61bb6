"""Rounds by state over a window that moves, in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tensorix_probes.result import State

__all__ = ["WINDOWS", "Tallies", "Tally"]

WINDOWS = (("1 h", 3_600.0, 60), ("24 h", 86_400.0, 96), ("30 d", 30 * 86_400.0, 720))
"""The windows of the status page: name, seconds, and in how many pieces they are kept."""


@dataclass(slots=True)
class Tally:
    """Counts of rounds over the last `window_s` seconds, exact to a piece of it."""

    window_s: float
    pieces: int
    _counts: dict[int, Counter[State]] = field(default_factory=dict)

    def add(self, at_s: float, state: State, count: int = 1, *, now_s: float | None = None) -> None:
        """Count rounds at a time, which may be past; what fell out of the window by `now_s` is forgotten."""
        piece = self._piece(at_s)
        if piece not in self._counts:
            oldest = self._piece(at_s if now_s is None else now_s) - self.pieces
            self._counts = {number: counts for number, counts in self._counts.items() if number > oldest}
            if piece <= oldest:
                return
            self._counts[piece] = Counter()
        self._counts[piece][state] += count

    def _piece(self, at_s: float) -> int:
        return int(at_s // (self.window_s / self.pieces))

    def counts(self, now_s: float) -> Counter[State]:
        """What is known of the window that ends now."""
        oldest = self._piece(now_s) - self.pieces
        return sum((counts for number, counts in self._counts.items() if number > oldest), Counter[State]())


@dataclass(slots=True)
class Tallies:
    """All the windows of one target. Rounds in maintenance are not for it."""

    windows: dict[str, Tally] = field(
        default_factory=lambda: {name: Tally(seconds, pieces) for name, seconds, pieces in WINDOWS}
    )

    def add(self, at_s: float, state: State, count: int = 1, *, now_s: float | None = None) -> None:
        """Count rounds in each window."""
        for tally in self.windows.values():
            tally.add(at_s, state, count, now_s=now_s)
