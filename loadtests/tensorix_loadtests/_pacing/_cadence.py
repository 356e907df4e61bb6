"""When the next may go so that a rate is kept."""

from __future__ import annotations

__all__ = ["Cadence"]


class Cadence:
    """Spaces what is taken by what it costs: GCRA (ITU-T I.371) where the cost falls due after the taking.

    With `due_ns` the theoretical arrival time, one may go from `due_ns - credit_ns` on, whatever it costs, and then
    moves it on by its cost. So what comes late may make up for `credit_ns` of it, and no more.
    """

    __slots__ = ("credit_ns", "due_ns", "unit_ns")

    def __init__(self, unit_ns: float, credit_ns: float) -> None:
        """`unit_ns` is how long a unit takes to be earned."""
        self.unit_ns = unit_ns
        self.credit_ns = credit_ns
        self.due_ns = 0.0

    def wait_ns(self, now_ns: int) -> int:
        """How long until one may go."""
        return max(0, int(self.due_ns - self.credit_ns) + 1 - now_ns) if self.due_ns > now_ns + self.credit_ns else 0

    def take(self, now_ns: int, units: float) -> None:
        """One goes."""
        self.due_ns = max(self.due_ns, float(now_ns)) + units * self.unit_ns

    def correct(self, units: float) -> None:
        """What was taken has cost so much more than it was thought to, below 0 less."""
        self.due_ns += units * self.unit_ns
