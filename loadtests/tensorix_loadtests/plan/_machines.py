"""On how many processes and machines a run is spread."""

from __future__ import annotations

from dataclasses import dataclass

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan._checks import positive, positive_int

__all__ = ["Machines"]

_LOCAL = "127.0.0.1:0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Worker processes, here and elsewhere. Without any the engine sends by itself.

    Users, the number of requests, schedules, caps and shares of limits are divided among them, so that the whole is
    what was asked for. Raises SettingsError, in one line, for a value that cannot be used.
    """

    processes: int = 0
    """Workers on this machine."""
    workers: int = 0
    """Workers on other machines to wait for."""
    bind: str = ""
    """Where the master listens for them, HOST:PORT, with port 0 any that is free; empty: on this machine only."""
    wait_s: float = 60.0
    """How long it waits for them."""

    def __post_init__(self) -> None:
        for name, value in (("processes", self.processes), ("workers", self.workers)):
            if value != 0:
                positive_int(f"number of {name}", value)
        positive("wait for workers", self.wait_s)
        if self.workers and not self.bind:
            raise SettingsError("workers of other machines need an address to reach: give --bind 0.0.0.0:5557, say")
        _ = self.address

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, colon, port = (self.bind or _LOCAL).rpartition(":")
        if not colon or not host.strip("[]") or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise SettingsError(f"{self.bind!r} is no address to listen on: write HOST:PORT, as 0.0.0.0:5557")
        return host.strip("[]"), int(port)
