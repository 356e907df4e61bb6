"""How single settings are written in a configuration: from what TOML gives to values, or a line on how to write them.

A parser takes a value of any type, and raises WrongValueError with what is wrong with it and what would be right. No
message repeats a value that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime, time
from difflib import get_close_matches
from fractions import Fraction
from ipaddress import ip_address
from typing import Any

from tensorix_api import Settings
from tensorix_api.durations import UNITS, nanoseconds
from tensorix_api.errors import SettingsError

__all__ = [
    "NONE",
    "WrongValueError",
    "base_url",
    "choice",
    "clock",
    "day",
    "duration",
    "flag",
    "listening_host",
    "moment",
    "name",
    "number",
    "regex",
    "share",
]
__all__ += ["shown", "similar", "text", "unlike_a_key", "whole", "written"]


class WrongValueError(ValueError):
    """A value that a setting cannot have: what is wrong with it and what would be right."""


NONE = "none"
"""Where a setting may be left empty; TOML has no null."""

_KEY_LIKE = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_+=-]{20,}")


def unlike_a_key(name: str) -> str:
    """A name as a message repeats it."""
    return "…" if len(name) > 80 or _KEY_LIKE.fullmatch(name) else name


def shown(value: object) -> str:
    """A value as a message repeats it: short, and nothing that looks like a key."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"a text of {len(value)} characters" if len(value) > 80 or _KEY_LIKE.fullmatch(value) else repr(value)
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return value.isoformat() if isinstance(value, date | time) else repr(value)


def similar(word: str, known: Collection[str]) -> str:
    """`: did you mean 'x'?`, or what there is to choose from."""
    close = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"


def _quoted_number(value: object) -> str:
    """What to add where a number was put in quotes."""
    return ": write it without quotes" if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9._]+\s*", value) else ""


def _seconds(value: object) -> float | None:
    exact = nanoseconds(value.strip()) if isinstance(value, str) else None
    # What is beyond is no length of time that anybody means, and more than 64 bits of ns.
    return None if exact is None or exact > 2**62 else float(exact / 10**9)


def duration(*, least: float = 0.001, most: float = 3650 * 86_400.0, none: bool = False) -> Callable[[Any], Any]:
    """Seconds of `5s` or `1m30s`, from `least` to `most`; with `none` also the text `none`."""

    def parse(value: Any) -> float | None:
        if none and value == NONE:
            return None
        seconds = _seconds(value)
        if seconds is None:
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            # Which unit was meant nobody knows.
            hint = 'write it with its unit, like "100ms", "5s"' if plain else f"write it like 5s or 1m30s ({UNITS})"
            raise WrongValueError(f"{shown(value)} is no length of time: {hint}{', or none' if none else ''}")
        if not least <= seconds <= most:
            raise WrongValueError(f"{shown(value)} is out of range: from {written(least)} to {written(most)}")
        return seconds

    return parse


def written(seconds: float) -> str:
    """A length of time as people write it: `1m30s`, `250ms`."""
    if seconds == 0:
        return "0s"
    left, parts = round(seconds * 1e6), []
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)):
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts + ([f"{left}us"] if left else []))


def share(*, below_one: bool = False) -> Callable[[Any], float]:
    """A share above 0, of `5%` or 0.05; up to 1, or below it."""

    def parse(value: Any) -> float:
        found = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if isinstance(value, str) and (percent := re.fullmatch(r"\s*([0-9]{1,3}(?:\.[0-9]{1,12})?)\s*%\s*", value)):
            found = float(Fraction(percent[1]) / 100)
        if found is None:
            raise WrongValueError(f'{shown(value)} is no share: write it like "99.5%" or 0.995')
        if not (0 < found < 1 or (found == 1 and not below_one)):
            raise WrongValueError(f"{shown(value)} is out of range: above 0%, {'below' if below_one else 'up to'} 100%")
        return float(found)

    return parse


def whole(least: int, most: int = 10**12, *, none: bool = False) -> Callable[[Any], int | None]:
    """A whole number."""

    def parse(value: Any) -> int | None:
        if none and value == NONE:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise WrongValueError(
                f"{shown(value)} is no whole number{', nor none' if none else ''}{_quoted_number(value)}"
            )
        if not least <= value <= most:
            raise WrongValueError(f"{value} is out of range: from {least} to {most}")
        return value

    return parse


def number(*, above: float | None = None, none: bool = False) -> Callable[[Any], float | None]:
    """A number from 0, or above one."""

    def parse(value: Any) -> float | None:
        if none and value == NONE:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise WrongValueError(f"{shown(value)} is no number{', nor none' if none else ''}{_quoted_number(value)}")
        low = value < 0 if above is None else value <= above
        if low or not value <= 1e12:
            raise WrongValueError(
                f"{value} is out of range: {'from 0' if above is None else f'above {above:g}'} to 1e12"
            )
        return float(value)

    return parse


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise WrongValueError(f"{shown(value)} is neither true nor false (without quotes)")
    return value


def text(*, most: int = 10_000, none: bool = False) -> Callable[[Any], str | None]:
    """A text that is not empty."""

    def parse(value: Any) -> str | None:
        if none and value == NONE:
            return None
        if not isinstance(value, str):
            raise WrongValueError(f"{shown(value)} is no text: put it in quotes")
        if not value.strip():
            raise WrongValueError("it is empty" + (": write none, or leave it out" if none else ": write a text"))
        if len(value) > most:
            raise WrongValueError(f"it has {len(value)} characters: at most {most}")
        return value

    return parse


def name(value: Any) -> str:
    """A name that metrics, pages and rows can hold."""
    found = text(most=100)(value)
    assert found is not None
    if not re.fullmatch(r"[A-Za-z0-9_./-]+", found):
        raise WrongValueError(f"{shown(value)} is no name: letters, digits and - _ . / only")
    return found


def listening_host(value: Any) -> str:
    """An address or name to listen on, right in its form."""
    found = str(text(most=253)(value))
    try:
        ip_address(found)
    except ValueError:
        label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
        # What ends in a number is an address or nothing.
        if not re.fullmatch(rf"({label}\.)*(?![0-9]+$){label}", found):
            raise WrongValueError(
                f"{shown(value)} is no address or name of this machine: "
                "write it like 127.0.0.1, ::1, 0.0.0.0 or localhost"
            ) from None
    return found


def choice(known: Callable[[], Sequence[str]], noun: str) -> Callable[[Any], str]:
    """One of the words that `known` gives."""

    def parse(value: Any) -> str:
        if isinstance(value, str) and value in known():
            return value
        hint = similar(value, known()) if isinstance(value, str) else f"choose from {', '.join(known())}"
        raise WrongValueError(f"{shown(value)} is no {noun}: {hint}")

    return parse


def base_url(value: Any) -> str:
    """A server's address up to `/v1`, without anything secret in it."""
    if not isinstance(value, str):
        raise WrongValueError(f"{shown(value)} is no text: put it in quotes")
    if "@" in value:
        raise WrongValueError("the base URL holds a user or password: name the key with key_env or key_file instead")
    if "?" in value or "#" in value:
        raise WrongValueError("the base URL has a query or fragment: give only the address up to /v1")
    if _KEY_LIKE.fullmatch(value):
        raise WrongValueError("this is no http(s) address: write it like https://api.tensorix.ai/v1")
    try:
        return Settings(base_url=value).base_url
    except SettingsError as error:
        raise WrongValueError(str(error)) from None


def regex(value: Any) -> str | None:
    """A regular expression of Python's, or `none`."""
    found = text(none=True)(value)
    if found is None:
        return None
    try:
        re.compile(found)
    except (re.error, OverflowError, RecursionError) as error:
        raise WrongValueError(f"{shown(value)} is no regular expression: {error}") from None
    return found


def moment(value: Any) -> datetime:
    """A time of day with its zone."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        why = "has no zone" if isinstance(value, datetime) else "is no time with a zone"
        raise WrongValueError(f"{shown(value)} {why}: write it without quotes, like 2026-11-30T02:00:00Z or …+01:00")
    return value


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def day(value: Any) -> int:
    """A day of the week, 0 for Monday."""
    return _DAYS.index(choice(lambda: _DAYS, "day")(value.lower() if isinstance(value, str) else value))


def clock(value: Any) -> float:
    """Seconds after midnight of `02:30`, up to `24:00`."""
    parsed = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", value) if isinstance(value, str) else None
    if isinstance(value, time) and not value.tzinfo and not value.microsecond:
        return value.hour * 3600.0 + value.minute * 60 + value.second
    seconds = int(parsed[1]) * 3600.0 + int(parsed[2]) * 60 if parsed and int(parsed[2]) < 60 else 1e9
    if seconds > 86_400:
        raise WrongValueError(f'{shown(value)} is no time of day: write it like "02:30" (UTC)')
    return seconds
