"""What several tables of the uptime report have in common: names, instants, tones, and what a cut list says."""

from __future__ import annotations

from typing import Any

from tensorix_reports.page._tables import NOTHING, Cell
from tensorix_reports.uptime._words import clock, day

__all__ = ["MOST_ROWS", "TONES", "cut", "instant", "named", "sentences", "tone_of"]

MOST_ROWS = 200

TONES = {"up": "good", "degraded": "notice", "down": "problem", "payment": "problem", "inconclusive": "muted"}


def named(target: str, location: str | None, *, pooled: bool = False) -> Cell:
    """A target, and below it from where it was probed."""
    return Cell(target, "all locations" if pooled else location)


def tone_of(share: float | None, objective: float) -> str:
    """The tone of an availability beside its objective."""
    if share is None:
        return "muted"
    return "problem" if share < objective else "notice" if share < 1 else "good"


def instant(unix_ns: int | None) -> Cell:
    """An instant of UTC: the day, and the time below it."""
    return Cell(NOTHING, tone="muted") if unix_ns is None else Cell(day(unix_ns), clock(unix_ns)[11:])


def cut(rows: list[Any], what: str, where: str) -> str | None:
    """What to say below a table that shows only the latest of its rows."""
    return f"The latest {MOST_ROWS} of {len(rows):,} {what}; all are in {where}." if len(rows) > MOST_ROWS else None


def sentences(*parts: str | None) -> str | None:
    """The sentences that there are, as one text."""
    return " ".join(part for part in parts if part) or None
