"""What can become of a request, in the words of the record."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Outcome", "StreamOutcome"]

Outcome: TypeAlias = Literal["success", "throttled", "failed", "cancelled"]
StreamOutcome: TypeAlias = Literal["completed", "cut", "error_event", "malformed", "timeout", "cancelled"]
