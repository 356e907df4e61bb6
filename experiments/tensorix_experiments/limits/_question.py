"""What is asked: the smallest requests of each kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tensorix_api.secret import Secret

__all__ = ["MOST_TOKENS", "Asked", "Question", "a_chat"]

Asked: TypeAlias = Literal["chat", "models"]

_PROMPT = "Hi"
MOST_TOKENS = 50
"""That a smallest request uses at most: a short prompt within whatever template a model puts around it, one token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request, apart from where it goes and from the key that it goes under."""

    asked: Asked = "chat"
    model: str | None = None
    stream: bool = False
    max_tokens: int = 1
    prompt: str = _PROMPT
    key: Secret | None = None
    """Another key than the experiment's; None: that one."""

    @property
    def most_tokens(self) -> int:
        """What it can use: a token is at least a byte."""
        return 0 if self.asked == "models" else MOST_TOKENS - 1 + len(self.prompt) - len(_PROMPT) + self.max_tokens

    @property
    def endpoint(self) -> str:
        """The path after the base URL."""
        return "/models" if self.asked == "models" else "/chat/completions"

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "GET" if self.asked == "models" else "POST"

    def body(self) -> bytes:
        """What is sent; empty for a list of models."""
        if self.asked == "models":
            return b""
        content = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.max_tokens,
            **({"stream": True} if self.stream else {}),
        }
        return json.dumps(content).encode()


def a_chat(model: str) -> Question:
    """The smallest chat request."""
    return Question(model=model)
