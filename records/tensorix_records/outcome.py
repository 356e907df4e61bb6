"""What can become of a request, in the words of the record."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Outcome", "StreamOutcome"]

Outcome: TypeAlias = Literal["success", "throttled", "failed", "cancelled"]
StreamOutcome: TypeAlias = Literal[
    "completed", "closed_early", "abandoned", "cut", "error_event", "malformed", "timeout", "cancelled"
]
"""What was closed early or abandoned, its reader ended: such requests are `cancelled`, as all that end from this end.

They are no failure of the server's; and no success either, since what was not read to its end has no whole time.
"""
