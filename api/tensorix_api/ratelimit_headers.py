"""Rate-limit headers in every spelling that servers of this kind use, read with tolerance.

| spelling | headers |
| --- | --- |
| `api_key` | `x-ratelimit-api_key-{limit,remaining,reset}-{requests,tokens}`: Tensorix and LiteLLM gateways |
| `openai` | `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, reset as `1s`, `6m0s`, `17ms` |
| `scoped` | `x-ratelimit-SCOPE-{limit,remaining,reset}-{requests,tokens}` for another scope (a model, a team) |
| `ietf` | `RateLimit` with `RateLimit-Policy`, and the older drafts' `RateLimit-{Limit,Remaining,Reset}` |
| `plain` | `x-ratelimit-{limit,remaining,reset}`, for requests |

`Retry-After` comes as seconds or a date, `retry-after-ms` as Azure sends it, `reset_at` as LiteLLM does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["RateLimits", "parse_duration_ns", "read_rate_limits"]

_LARGEST = 2**63 - 1
_SCOPED = re.compile(r"x-ratelimit-(?:(?P<scope>.+)-)?(?P<what>limit|remaining|reset)-(?P<unit>requests|tokens)\Z")
_PLAIN = re.compile(r"(?P<family>x-)?ratelimit-(?P<what>limit|remaining|reset)\Z")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s|d)")
_PARAMETER = re.compile(r"(?<![a-z])([a-z]{1,20})\s*=\s*([^;,\s]+)")
_QUOTA_UNIT = re.compile(r'(?<![a-z])qu\s*=\s*"?([a-z-]+)')
_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
# The nearest to the documented spelling is believed first.
_RANK = {"api_key": 0, "openai": 1, "ietf": 2, "scoped": 3, "plain": 4}


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What a response said about limits; None where it said nothing that can be read.

    Resets and retry-after are nanoseconds from the response. `spelling` is a row of the module's table, `anomaly` what
    was odd, in words, None where nothing was.
    """

    limit_requests: int | None = None
    limit_tokens: int | None = None
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests_ns: int | None = None
    reset_tokens_ns: int | None = None
    retry_after_ns: int | None = None
    spelling: str | None = None
    anomaly: str | None = None


def parse_duration_ns(text: str, now_unix_ns: int) -> int | None:
    """A reset or wait as nanoseconds from now: `1s`, `6m0s`, `17ms`, seconds, a Unix time, or a date; else None.

    A bare number above 10⁹ is read as a Unix time in seconds, above 10¹² in milliseconds. What lies in the past is 0.
    """
    text = text.strip()
    if re.fullmatch(r"\d{1,18}(?:\.\d{1,18})?", text):
        number = float(text)
        if number >= 1e12:
            return _until(int(number * 1e6), now_unix_ns)
        if number >= 1e9:
            return _until(int(number * 1e9), now_unix_ns)
        return round(number * 1e9)
    if len(text) <= 60 and re.fullmatch(rf"(?:{_DURATION_PART.pattern})+", text):
        total = sum(float(number) * _UNIT_NS[unit] for number, unit in _DURATION_PART.findall(text))
        return round(total) if total <= _LARGEST else None
    moment = _parse_date(text)
    return None if moment is None else _until(round(moment.timestamp() * 1e9), now_unix_ns)


def _until(unix_ns: int, now_unix_ns: int) -> int | None:
    """A wait that a record can hold; None for one of centuries."""
    wait = max(0, unix_ns - now_unix_ns)
    return wait if wait <= _LARGEST else None


def _parse_date(text: str) -> datetime | None:
    """An HTTP date, ISO 8601, or LiteLLM's `2026-11-23 03:44:24 UTC`; taken as UTC where no zone is named."""
    # Here rather than above: it brings the socket module along, and most services never meet a date.
    from email.utils import parsedate_to_datetime

    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text.removesuffix(" UTC"))
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


class _Reading:
    """Gathers fields by spelling, and what was odd."""

    def __init__(self, now_unix_ns: int) -> None:
        self.now_unix_ns = now_unix_ns
        self.fields: dict[str, dict[str, int]] = {}
        self.sources: dict[tuple[str, str], tuple[str, str]] = {}
        self.odd: list[str] = []

    def put(self, spelling: str, field: str, name: str, text: str) -> None:
        """Take a header's text for a field; the first that can be read stays."""
        is_time = field.startswith("reset")
        fields = self.fields.setdefault(spelling, {})
        column = f"{field}_ns" if is_time else field
        for part in _parts(text, is_time=is_time):
            source = self.sources.get((spelling, field))
            if source is not None:
                # Another scope's header of the same kind is no contradiction.
                if source[0] == name and source[1] != part:
                    self.odd.append(f"{name} came twice with different values")
                continue
            value = self.number(field, name, part)
            if value is not None:
                fields[column] = value
                self.sources[spelling, field] = (name, part)

    def number(self, field: str, name: str, text: str) -> int | None:
        if not text:
            self.odd.append(f"{name} is empty")
            return None
        if field.startswith("reset"):
            value = parse_duration_ns(text, self.now_unix_ns)
            if value is None:
                self.odd.append(f"{name} is no time")
            return value
        if not re.fullmatch(r"[+-]?\d{1,30}(?:\.\d{1,30})?(?:[eE]\+?\d{1,2})?", text):
            self.odd.append(f"{name} is no number")
            return None
        value = int(text) if text.lstrip("+-").isdigit() else int(float(text))
        if abs(value) > _LARGEST:
            self.odd.append(f"{name} is too large")
            return None
        if value < 0:
            self.odd.append(f"{name} is negative")
        return value


def _parts(text: str, *, is_time: bool) -> list[str]:
    """The values of a header that a proxy may have joined from two; a date holds a comma of its own."""
    if is_time and not re.fullmatch(r"[\d.a-zµ\s]+(?:,[\d.a-zµ\s]+)+", text):
        return [text.strip()]
    return [part.strip() for part in text.split(",")]


def _read_ietf(reading: _Reading, texts: list[tuple[str, str]]) -> None:
    """`RateLimit: "default";r=50;t=30` with its policy (drafts 8 on), or `limit=100, remaining=50, reset=5` (6, 7).

    A policy's `qu` says what it counts; where none does, its name may. Of several for one unit the first is taken.
    """
    members = [(name, member) for name, text in texts for member in _members(text)]
    units = {}
    for name, member in members:
        if name == "ratelimit-policy" and (label := _label(member)) and (unit := _QUOTA_UNIT.search(member)):
            units[label] = unit[1]
    keys = {"r": "remaining", "t": "reset", "remaining": "remaining", "reset": "reset", "limit": "limit"}
    taken: dict[tuple[str, str], str] = {}
    for name, member in members:
        label = _label(member)
        unit_name = units.get(label, "tokens" if "token" in label else "requests")
        if unit_name not in ("requests", "tokens"):
            continue  # bytes, or requests at the same time
        known = {"q": "limit"} if name == "ratelimit-policy" else keys
        found = [(known[key], value) for key, value in _PARAMETER.findall(member) if key in known]
        if name == "ratelimit-policy" and not found and (number := re.match(r"\s*(\d{1,30})\s*;", member)):
            found = [("limit", number[1])]
        for what, value in found:
            # What belongs to another policy for the same unit is left alone.
            if taken.setdefault((what, unit_name), label) == label:
                reading.put("ietf", f"{what}_{unit_name}", name, value)


def _members(text: str) -> list[str]:
    """The members of a structured list, as far as it is worth reading."""
    return text[:1000].split(",")


def _label(member: str) -> str:
    """A policy's name, empty where it has none."""
    found = re.match(r'\s*"?([A-Za-z*][^";=,]*)"?\s*(?:;|\Z)', member)
    return found[1].strip().lower() if found else ""


def _without_policies(text: str) -> str:
    """A header's value without the policies that the older drafts let follow a limit: `100, 100;w=60`."""
    members = text.split(",")
    values = [member for member in members if ";" not in member]
    return ",".join(values or [members[0].partition(";")[0]])


def _read_header(reading: _Reading, name: str, text: str) -> None:
    if match := _SCOPED.match(name):
        scope = match["scope"]
        spelling = "openai" if scope is None else "api_key" if scope == "api_key" else "scoped"
        reading.put(spelling, f"{match['what']}_{match['unit']}", name, _without_policies(text))
    elif match := _PLAIN.match(name):
        value = _without_policies(text) if match["family"] else text.split(",")[0].split(";")[0]
        reading.put("plain" if match["family"] else "ietf", f"{match['what']}_requests", name, value)


def _read_retry_after(headers: dict[str, str], reading: _Reading) -> int | None:
    """The wait that was asked for: the finest unit first."""
    if (text := headers.get("retry-after-ms")) is not None:
        if re.fullmatch(r"\d{1,12}(?:\.\d{1,9})?", text.strip()):
            return round(float(text) * 1e6)
        reading.odd.append("retry-after-ms is no number")
    for name in ("retry-after", "reset_at"):
        if (text := headers.get(name)) is not None:
            waits = [parse_duration_ns(part, reading.now_unix_ns) for part in _parts(text, is_time=True)]
            if waits[0] is not None:
                return waits[0]
            reading.odd.append(f"{name} is negative" if text.strip().startswith("-") else f"{name} is no time")
    return None


def read_rate_limits(headers: Iterable[tuple[str, str]], now_unix_ns: int) -> RateLimits:
    """Read the limits from a response's headers (pairs; names in any case, repeated as they came). Never fails.

    `now_unix_ns` turns dates into waits; where the response has a `Date` header, dates are measured from that, so
    that a server's clock that is off does no harm.
    """
    pairs = [(name.lower(), text) for name, text in headers]
    last = dict(pairs)
    if (date := last.get("date")) and (moment := _parse_date(date)):
        now_unix_ns = round(moment.timestamp() * 1e9)
    reading = _Reading(now_unix_ns)
    for name, text in pairs:
        if "ratelimit" in name:
            _read_header(reading, name, text)
    _read_ietf(reading, [(name, text) for name, text in pairs if name in ("ratelimit", "ratelimit-policy")])
    retry_after_ns = _read_retry_after(last, reading)
    # An empty header of the documented spelling is still that spelling; one with values goes first.
    spelling = min(reading.fields, key=lambda name: (not reading.fields[name], _RANK[name]), default=None)
    values = reading.fields.get(spelling, {}) if spelling else {}
    anomaly = "; ".join(dict.fromkeys(reading.odd)) or None
    return RateLimits(**values, retry_after_ns=retry_after_ns, spelling=spelling, anomaly=anomaly)
