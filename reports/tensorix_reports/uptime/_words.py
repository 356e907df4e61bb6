"""How the uptime report writes times, lengths and shares."""

from __future__ import annotations

from datetime import UTC, datetime
from math import floor

from tensorix_reports.page._tables import NOTHING

__all__ = ["clock", "counted", "day", "failed", "length", "minutes", "percent", "place", "rate", "seen_from"]


def _utc(unix_ns: int) -> datetime:
    return datetime.fromtimestamp(unix_ns // 1_000_000_000, tz=UTC)


def clock(unix_ns: int | None) -> str:
    """An instant in UTC, to the second."""
    return NOTHING if unix_ns is None else f"{_utc(unix_ns):%Y-%m-%d %H:%M:%S}"


def day(unix_ns: int) -> str:
    """A day of UTC."""
    return f"{_utc(unix_ns):%Y-%m-%d}"


def length(seconds: float | None) -> str:
    """A length of time in its two largest units: `3 h 5 min`."""
    if seconds is None:
        return NOTHING
    if seconds < 0:
        return f"\N{MINUS SIGN}{length(-seconds)}"
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def minutes(value: float) -> str:
    """A number of minutes as a length of time."""
    return length(value * 60)


def percent(share: float | None, digits: int = 3) -> str:
    """A share, never rounded up: 100 % is said of nothing less."""
    if share is None:
        return NOTHING
    # A little is added so that 0.999 stays 99.9 % and does not become 99.899 %.
    text = f"{floor(share * 100 * 10**digits + 1e-6) / 10**digits:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.')} %".replace("-", "\N{MINUS SIGN}")


def rate(value: float | None) -> str:
    """A burn rate."""
    if value is None:
        return NOTHING
    return f"{value:,.1f}\N{MULTIPLICATION SIGN}" if value < 100 else f"{value:,.0f}\N{MULTIPLICATION SIGN}"


def counted(number: int, noun: str) -> str:
    """`1 probe`, `2 probes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def place(location: str | None) -> str:
    """A location that may have no name."""
    return NOTHING if location is None else location


def failed(cause: str | None) -> str:
    """The assertion that decided (`check.assertion`), so that its name does not read as its opposite."""
    return "cause not known" if cause in (None, "not known") else f"{cause} failed"


def seen_from(target: str, location: str | None, *, several: bool = True) -> str:
    """A target and, where there are several locations, from which it was seen."""
    return f"{target}, from {location}" if location is not None and several else target
