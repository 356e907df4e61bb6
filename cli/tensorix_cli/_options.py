"""How options are written on the command line: durations, headers, bodies and mixes, from text to values."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tensorix_api.durations import nanoseconds
from tensorix_api.errors import SettingsError

__all__ = ["body", "duration", "header", "mix", "prompts"]

_MOST_LEVELS = 100


def duration(text: str) -> float:
    """Seconds of `90`, `90s`, `1.5m`, `2min`, `1h30m` or `500ms`. Raises SettingsError for anything else, and for 0."""
    text = text.strip().lower()
    plain = re.fullmatch(r"[0-9]+(\.[0-9]+)?", text)
    seconds = float(text) if plain else float(nanoseconds(text) or 0) / 1e9
    if not seconds:
        raise SettingsError(f"{text!r} is no length of time above 0: write it like 90s, 1.5m or 1h30m (ns to d)")
    return seconds


def header(text: str) -> tuple[str, str]:
    """The name and value of `Name: value`. The value may be a secret: no error repeats it."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise SettingsError("a --header is not of the form 'Name: value'")
    return name.strip(), value.strip()


def body(text: str) -> dict[str, Any]:
    """The object that the JSON `text` is."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"--body is no JSON: {error}") from None
    except RecursionError:
        value = None
        deep = True
    else:
        deep = _is_deep(value)
    if deep:
        raise SettingsError(f"--body is nested too deep: write no more than {_MOST_LEVELS} levels")
    if not isinstance(value, dict):
        raise SettingsError("""--body is no JSON object: write it like '{"top_p": 0.9}'""")
    return value


def _is_deep(value: Any) -> bool:
    """Whether there are more levels than whoever copies and writes the value can be trusted with."""
    level = [value]
    for _ in range(_MOST_LEVELS + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
    return bool(level)


def mix(text: str) -> dict[str, float]:
    """The shares of `chat-streamed=6,models=1`; names are checked where the plan is made."""
    shares = {}
    for part in text.split(","):
        kind, equals, share = part.partition("=")
        try:
            shares[kind.strip()] = float(share) if equals else 1.0
        except ValueError:
            raise SettingsError(f"the share in --mix {part!r} is no number: write it like models=1") from None
    return shares


def prompts(texts: list[str], files: list[Path]) -> tuple[str, ...]:
    """The prompts given as text, then those of the files: each non-empty line of a file is one prompt."""
    collected = list(texts)
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise SettingsError(f"the prompt file {path} is no UTF-8 text") from None
        except OSError as error:
            raise SettingsError(f"the prompt file {path} cannot be read: {error.strerror}") from None
        lines = [line.strip() for line in lines if line.strip()]
        if not lines:
            raise SettingsError(f"the prompt file {path} is empty: write one prompt a line")
        collected += lines
    return tuple(collected)
