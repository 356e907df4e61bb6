"""What one run of `tensorix probe once` found, as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tensorix_probes.result import Round, Spent, worst
from tensorix_probes.settings import Configuration

__all__ = ["FORMAT", "as_json", "document"]

FORMAT = 1
"""Raised when a reader of the last could go wrong; names that are added do not count."""


def document(
    rounds: Sequence[Round], configuration: Configuration, *, exit_status: int | None = None
) -> dict[str, Any]:
    """The rounds with all of their results. Times are ns, of Unix time where the name says so."""
    spent = sum((one.spent for one in rounds), Spent())
    started = min((one.started_unix_ns for one in rounds), default=0)
    return {
        "format": FORMAT,
        "started": datetime.fromtimestamp(started / 1e9, UTC).isoformat(timespec="milliseconds"),
        "location": configuration.location,
        "state": str(worst(one.state for one in rounds)),
        "exit_status": exit_status,
        "spent": {"requests": spent.requests, "tokens": spent.tokens, "cost": spent.cost},
        "rounds": [one.to_dict() for one in rounds],
    }


def as_json(rounds: Sequence[Round], configuration: Configuration, *, exit_status: int | None = None) -> str:
    """The document as text."""
    return json.dumps(document(rounds, configuration, exit_status=exit_status), indent=2, ensure_ascii=False)
