"""What the headers of a response say of a key's limits, by the mode that is set."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from tensorix_api.limiters import Resource
from tensorix_simulator.http.wire import Headers

__all__ = ["AnswerKind", "documented_headers"]


class AnswerKind(StrEnum):
    """What a response is, as far as its headers depend on it."""

    COMPLETION = "completion"
    STREAM = "stream"
    MODELS = "models"
    REFUSED = "refused"
    """A 429."""
    ERROR = "error"


def documented_headers(remaining: Mapping[Resource, int]) -> Headers:
    """Both, on every response of a key that is known."""
    return [(f"x-ratelimit-api_key-remaining-{resource}", str(left)) for resource, left in remaining.items()]
