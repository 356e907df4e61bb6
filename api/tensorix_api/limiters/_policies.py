"""What the documentation leaves open: how many tokens a request is charged, and which requests are charged at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Charging", "Counting"]


class Charging(StrEnum):
    """How many tokens a request is charged: what is reserved before it runs and what it is settled to afterwards.

    The documentation names a limit on tokens and no rule; all three are found in gateways.
    """

    ACTUAL = "actual"
    """Nothing beforehand, prompt and completion afterwards: requests in flight can overdraw the limit together."""
    RESERVE = "reserve"
    """The prompt and the most that may be generated beforehand, what was generated afterwards."""
    PROMPT = "prompt"
    """The prompt, beforehand; what is generated is free."""

    def reserved(self, prompt_tokens: int, max_completion_tokens: int) -> int:
        """Tokens to reserve; `max_completion_tokens` counts every reply where several are asked for."""
        match self:
            case Charging.ACTUAL:
                return 0
            case Charging.RESERVE:
                return prompt_tokens + max_completion_tokens
            case Charging.PROMPT:
                return prompt_tokens

    def settled(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Tokens that the request has cost in the end."""
        return prompt_tokens if self is Charging.PROMPT else prompt_tokens + completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """Which requests are charged besides the chat completions that were admitted.

    The documentation does not say. LiteLLM, whose header names it shares, counts a 400 and not `/models`.
    """

    refused: bool = False
    """A request that the limiter refused (429)."""
    bad_requests: bool = False
    """A chat completion refused for its parameters (400)."""
    models: bool = False
    """`GET /models`."""
