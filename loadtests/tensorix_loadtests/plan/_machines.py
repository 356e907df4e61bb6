"""On how many processes and machines a run is spread."""

from __future__ import annotations

from dataclasses import dataclass

from tensorix_loadtests.plan._checks import positive, positive_int

__all__ = ["Machines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Worker processes, here and elsewhere. Without any the engine sends by itself."""

    processes: int = 0
    """Workers on this machine."""
    workers: int = 0
    """Workers on other machines to wait for."""
    bind: str = "127.0.0.1:0"
    """Where the master listens for its workers; port 0: any that is free."""
    wait_s: float = 60.0
    """How long it waits for them."""

    def __post_init__(self) -> None:
        for name, value in (("processes", self.processes), ("workers", self.workers)):
            if value != 0:
                positive_int(f"number of {name}", value)
        positive("wait for workers", self.wait_s)
