"""The most that an experiment may use: asked before each request, so that it is never more."""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorix_api.errors import SettingsError

__all__ = ["Allowance", "Bounds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What was announced. Raises SettingsError, in one line."""

    requests: int
    seconds: float
    tokens: int

    def __post_init__(self) -> None:
        if self.requests < 1 or self.tokens < 1 or not self.seconds > 0:
            raise SettingsError("an experiment needs a request, a token and some time at least")


@dataclass(slots=True)
class Allowance:
    """What is left of the bounds; times on the caller's clock, in seconds."""

    bounds: Bounds
    began_s: float
    requests: int = 0
    """Sent, those under way included."""
    tokens: int = 0
    """Used by those that have ended, or as many as they may have used where the server did not say."""
    held_tokens: int = 0
    """Of those under way, the most that they can use."""
    under_way: int = 0
    dearer: int = 0
    """Tokens that a request has used beyond the most it was thought to: a template may be long."""
    spent: str | None = field(default=None)
    """Which bound was met, in words."""

    @property
    def until_s(self) -> float:
        """When it has to be over."""
        return self.began_s + self.bounds.seconds

    def take(self, tokens: int, now_s: float) -> bool:
        """Set one request aside, with the most that it can use; False, from then on, where a bound is met."""
        if self.spent is None:
            if self.requests >= self.bounds.requests:
                self.spent = self._all_sent
            elif self._tokens_with(1, tokens) > self.bounds.tokens:
                self.spent = f"the {self.bounds.tokens:,} tokens that it might use may be used"
            else:
                self.allows(now_s)
        if self.spent is not None:
            return False
        self.requests += 1
        self.under_way += 1
        self.held_tokens += tokens
        return True

    def allows(self, at_s: float) -> bool:
        """Whether something may still be sent at an instant."""
        if self.spent is None and at_s > self.until_s:
            self.spent = f"the {_minutes(self.bounds.seconds)} that it might take are over"
        return self.spent is None

    def end_if_all_sent(self) -> None:
        """Where the last request was sent, what else would have been asked was not."""
        if self.spent is None and self.requests >= self.bounds.requests:
            self.spent = self._all_sent

    @property
    def _all_sent(self) -> str:
        return f"all of the {self.bounds.requests:,} requests that it might send are sent"

    def room_for(self, requests: int, tokens: int, now_s: float) -> bool:
        """Whether so many requests more, and so many tokens, would stay within the bounds."""
        return (
            self.spent is None
            and self.requests + requests <= self.bounds.requests
            and self._tokens_with(requests, tokens) <= self.bounds.tokens
            and now_s < self.until_s
        )

    def _tokens_with(self, requests: int, tokens: int) -> int:
        """What may be used in all with so many requests more, of so many tokens."""
        return self.tokens + self.held_tokens + tokens + (self.under_way + requests) * self.dearer

    def settle(self, held: int, used: int | None) -> None:
        """Put what a request used in place of what was set aside; None: nobody said, so all of it."""
        self.under_way -= 1
        self.held_tokens -= held
        self.dearer = max(self.dearer, 0 if used is None else used - held)
        self.tokens += held if used is None else used


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} s"
