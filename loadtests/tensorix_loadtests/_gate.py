"""What stands before each request: whether it may be sent, with which key, and what it was set aside for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tensorix_api.secret import Secret
from tensorix_loadtests._call import Call
from tensorix_records import RequestRecord

__all__ = ["Closed", "Gate", "OpenGate", "Passed", "Wait"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A request may be sent, with this key. It is settled or released once."""

    key: Secret | None
    reserved_tokens: int | None = None
    """What was set aside, at worst."""
    ledger_remaining_requests: int | None = None
    ledger_remaining_tokens: int | None = None
    held: Any = None
    """What the gate itself remembers."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: ask again after so many seconds, or sooner when another request has ended."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Closed:
    """Never again: the run ends for this reason (a word for the manifest, a line for people)."""

    reason: str
    words: str | None = None


class Gate(Protocol):
    """Asked before each request, told after it. Times are its own affair (it is given a clock)."""

    def admit(self, call: Call, user_id: int) -> Passed | Wait | Closed: ...

    def settle(self, passed: Passed, record: RequestRecord) -> None: ...

    def release(self, passed: Passed) -> None:
        """It was never sent."""


class OpenGate:
    """Lets everything pass, with one key."""

    def __init__(self, key: Secret | None) -> None:
        self._passed = Passed(key=key)

    def admit(self, call: Call, user_id: int) -> Passed | Wait | Closed:
        """Always."""
        return self._passed

    def settle(self, passed: Passed, record: RequestRecord) -> None:
        """Nothing was set aside."""

    def release(self, passed: Passed) -> None:
        """Nothing was set aside."""
