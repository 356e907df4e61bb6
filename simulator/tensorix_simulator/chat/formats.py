"""Texts of the formats that JSON schemas name, all of them of nobody: example domains and documentation addresses."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from tensorix_simulator.chat.words import WORDS

__all__ = ["FORMATS"]


def _moment(generator: random.Random) -> str:
    return f"{datetime(2020, 1, 1) + timedelta(seconds=generator.randrange(10**8)):%Y-%m-%dT%H:%M:%SZ}"


FORMATS: Mapping[str, Callable[[random.Random], str]] = {
    "date-time": _moment,
    "date": lambda generator: _moment(generator)[:10],
    "time": lambda generator: _moment(generator)[11:],
    "duration": lambda generator: f"PT{generator.randint(1, 59)}M",
    "email": lambda generator: f"{generator.choice(WORDS)}@example.com",
    "hostname": lambda generator: f"{generator.choice(WORDS)}.example.com",
    "ipv4": lambda generator: f"192.0.2.{generator.randint(1, 254)}",
    "ipv6": lambda generator: f"2001:db8::{generator.randint(1, 0xFFFF):x}",
    "uuid": lambda generator: str(uuid.UUID(int=generator.getrandbits(128), version=4)),
    "uri": lambda generator: f"https://example.com/{generator.choice(WORDS)}",
}
