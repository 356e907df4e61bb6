"""Texts of the formats that JSON schemas name, all of them of nobody: example domains and documentation addresses."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping

from tensorix_simulator.chat.words import WORDS

__all__ = ["FORMATS"]


def _two(generator: random.Random, low: int, high: int) -> str:
    return f"{generator.randint(low, high):02}"


def _day(generator: random.Random) -> str:
    return f"20{_two(generator, 20, 30)}-{_two(generator, 1, 12)}-{_two(generator, 1, 28)}"


def _hour(generator: random.Random) -> str:
    return f"{_two(generator, 0, 23)}:{_two(generator, 0, 59)}:{_two(generator, 0, 59)}Z"


FORMATS: Mapping[str, Callable[[random.Random], str]] = {
    "date-time": lambda generator: f"{_day(generator)}T{_hour(generator)}",
    "date": _day,
    "time": _hour,
    "duration": lambda generator: f"PT{generator.randint(1, 59)}M",
    "email": lambda generator: f"{generator.choice(WORDS)}@example.com",
    "hostname": lambda generator: f"{generator.choice(WORDS)}.example.com",
    "ipv4": lambda generator: f"192.0.2.{generator.randint(1, 254)}",
    "ipv6": lambda generator: f"2001:db8::{generator.randint(1, 0xFFFF):x}",
    "uuid": lambda generator: str(uuid.UUID(int=generator.getrandbits(128), version=4)),
    "uri": lambda generator: f"https://example.com/{generator.choice(WORDS)}",
}
