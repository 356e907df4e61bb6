"""What one response said about a key's limits, beside what we know that the request took."""

from __future__ import annotations

from dataclasses import dataclass

from tensorix_api.ratelimit_headers import RateLimits

__all__ = ["Observation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One response. Times are ns of Unix time."""

    kind: str
    """One of `settings.RESPONSE_KINDS`, or `error`."""
    sent_unix_ns: int
    head_unix_ns: int
    """When the response's head was there: what it says is of some time between the two."""
    end_unix_ns: int
    """When it was over: tokens are settled no earlier."""
    status: int
    limits: RateLimits
    requests: int
    """What the request counts as, by what is documented: a chat completion 1; unsure ones (`/models`, errors) 1 too."""
    sure: bool
    """Whether it is sure that the server counts it: only for what it let through to a model."""
    tokens: int | None
    """As the server's usage says; None where it did not."""
    most_tokens: int
    """What may have been reserved for it: the prompt and `max_tokens`."""
    clocks_apart_ns: int = 0
    """How far the clock of these times was ahead of one that does not jump: set, it changes nothing in between."""
