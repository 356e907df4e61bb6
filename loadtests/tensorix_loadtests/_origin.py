"""Where a request comes from: what its record repeats of the plan."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Origin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the plan knows of a request beforehand; instants are monotonic ns."""

    scenario: str | None = None
    user_ready_ns: int | None = None
    """From when on the user was free to make it."""
    held_ns: int | None = None
    """How long the gate held it back."""
    intended_ns: int | None = None
    """When the schedule wanted it sent; None in a closed loop."""
    schedule_index: int | None = None
    step_id: int | None = None
    conversation_id: str | None = None
    turn: int | None = None
    logical_id: str | None = None
    """The same for all attempts of one request that is retried."""
    attempt: int = 1
    reserved_tokens: int | None = None
    ledger_remaining_requests: int | None = None
    ledger_remaining_tokens: int | None = None
