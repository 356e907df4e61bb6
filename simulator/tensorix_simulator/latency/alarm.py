"""A job of the pacer that can be called off."""

from __future__ import annotations

from tensorix_simulator.latency.pacing import Job, Pacer

__all__ = ["Alarm"]


class Alarm:
    """Runs a job when it is due, unless it was cancelled: then it holds on to nothing while its time comes."""

    __slots__ = ("_job",)

    def __init__(self, pacer: Pacer, due_ns: int, job: Job) -> None:
        self._job: Job | None = job
        pacer.add(due_ns, self._ring)

    def _ring(self, due_ns: int) -> int | None:
        return None if self._job is None else self._job(due_ns)

    def cancel(self) -> None:
        """Run it no more."""
        self._job = None
