"""When the next may go so that a rate is kept."""

from __future__ import annotations

__all__ = ["Cadence"]


class Cadence:
    """Spaces what is taken by what it costs: GCRA (ITU-T I.371) whose cost falls due after the taking.

    One may go from `due_ns` on, whatever it costs, and moves that on by its cost. What goes late makes the next ones
    go sooner, until `late_ns` are made up for; what was never late earns nothing, so that nothing begins with a burst.
    """

    __slots__ = ("_due_ns", "late_ns", "unit_ns")

    def __init__(self, unit_ns: float, late_ns: float) -> None:
        """`unit_ns` is how long a unit takes to be earned."""
        self.unit_ns = unit_ns
        self.late_ns = late_ns
        self._due_ns: float | None = None

    def wait_ns(self, now_ns: int) -> int:
        """How long until one may go."""
        return 0 if self._due_ns is None else max(0, round(self._due_ns) - now_ns)

    def behind_ns(self, now_ns: int) -> float:
        """For how long one might have gone."""
        return 0.0 if self._due_ns is None else max(0.0, now_ns - self._due_ns)

    def take(self, now_ns: int, units: float) -> None:
        """One goes."""
        due_ns = now_ns if self._due_ns is None else max(self._due_ns, now_ns - self.late_ns)
        self._due_ns = due_ns + units * self.unit_ns

    def begin(self, at_ns: int) -> None:
        """The first goes then, not before."""
        if self._due_ns is None:
            self._due_ns = at_ns

    def correct(self, units: float) -> None:
        """What was taken has cost so much more than it was thought to, below 0 less."""
        if self._due_ns is not None:
            self._due_ns += units * self.unit_ns
