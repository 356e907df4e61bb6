"""What the master knows of one worker: who it is, how its clock goes, what it has brought, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tensorix_loadtests._distributed._clocks import ClockComparison

__all__ = ["Member", "Part"]


@dataclass(slots=True)
class Part:
    """A worker's part of one run. Instants are monotonic ns of the master."""

    process_id: str
    share: tuple[int, int]
    prepared: bool = False
    ready: bool = False
    refused: str | None = None
    writer: Any = None
    expected: int = 0
    """The number of the parcel that comes next."""
    records: int = 0
    """Of its records that are written."""
    started: int = 0
    finished: int = 0
    users: int = 0
    left: dict[str, float] = field(default_factory=dict)
    """Of its part of each cap."""
    said_ns: int | None = None
    """When it last said these numbers."""
    stopping: str | None = None
    words: str | None = None
    done: Mapping[str, Any] | None = None
    """Its last word: how many records there were."""
    missing: bool = False


@dataclass(slots=True)
class Member:
    """One worker process, from when it first said hello."""

    client_id: str
    index: int
    about: dict[str, Any]
    clock: ClockComparison = field(default_factory=ClockComparison)
    heard_ns: int = 0
    part: Part | None = None
    process: Any = None
    """Where this master started it: its process."""

    @property
    def name(self) -> str:
        """How people are told of it."""
        return f"worker {self.index + 1} (process {self.about.get('process')} on {self.about.get('host')})"
