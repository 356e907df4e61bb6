"""The most that a request can use, known before it is sent, and what it used, as far as that is known afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tensorix_api.budget import Spend
from tensorix_loadtests._call import Call
from tensorix_loadtests.plan._prices import Price
from tensorix_records import RequestRecord

__all__ = ["Unbounded", "Worst", "settled", "worst_of"]

# Refused before anything was made of it, whoever refused: nobody bills that. A 408 may come after the work was begun.
_UNBILLED = frozenset(range(300, 500)) - {408, 499}


class Unbounded(Exception):  # noqa: N818 - no error of ours: the caller makes a word of it
    """Nothing bounds what such a request may use; the message says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Worst:
    """The most that a request can use."""

    prompt_tokens: int = 0
    answer_tokens: int | None = 0
    """None: nothing bounds it, and nobody asked for a bound."""
    price: Price | None = None
    chat: bool = True

    @property
    def spend(self) -> Spend:
        """All of it."""
        answer = self.answer_tokens or 0
        money = self.price.most(self.prompt_tokens, answer) if self.price else 0.0
        return Spend(1, self.prompt_tokens + answer, _up(money))


def worst_of(call: Call, price: Price | None) -> Worst:
    """The worst case of a request. Raises Unbounded for a chat request whose answer, or prompt, has no bound.

    A token is at least a byte of what the model reads, so without a tokenizer the prompt counts as the bytes of the
    body: messages, tools and schemas, with the names around them in place of a template's own marks. Of what is only
    named there (a picture's address) the bytes say nothing. The answer counts as `max_tokens`, as often as `n` says.
    """
    if call.body is None:
        return Worst(chat=False)
    body = json.loads(call.body)
    if _names_other_contents(body):
        raise Unbounded("a message holds more than text, whose tokens cannot be known")
    bounds = _whole_numbers(body, "max_tokens", "max_completion_tokens")
    if not bounds:
        raise Unbounded("it has no max_tokens")
    answers = max(_whole_numbers(body, "n", "best_of"), default=1)
    return Worst(len(call.body), max(bounds) * answers, price)


def _whole_numbers(body: Mapping[str, Any], *names: str) -> list[int]:
    """The fields that are given. Servers read `5.0` and `"5"` as 5, and -1 as no bound at all: such are refused."""
    given = {name: body[name] for name in names if body.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Unbounded(f"its {name} is {value!r}, not a whole number from 1")
    return list(given.values())


def _names_other_contents(body: Mapping[str, Any]) -> bool:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return False
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(
        not isinstance(part, str) and (not isinstance(part, dict) or part.get("type") != "text") for part in parts
    )


def settled(record: RequestRecord, worst: Worst) -> tuple[Spend, Spend | None]:
    """What a request that has ended counts for, and what it used by the server's own word (None: it said nothing).

    A refusal (3xx, 4xx) costs nothing, nor does what never left this machine. A success costs what `usage` says. All
    else was perhaps worked on to the end, whoever saw it: a 5xx, a stream that broke or was cancelled, an answer
    without usage; it counts as the worst case.
    """
    request = Spend(1)
    if not worst.chat:
        return request, request
    if record.status is None and record.connection_reused is None:
        return request, request
    if record.status in _UNBILLED:
        return request, request
    if record.outcome != "success" or record.token_source != "usage":  # noqa: S105
        return worst.spend, None
    prompt = record.prompt_tokens or worst.prompt_tokens
    completion = record.completion_tokens or 0
    reasoning = record.reasoning_tokens or 0
    if reasoning > completion:
        # Such a server counts them apart.
        completion += reasoning
    money = 0.0
    if worst.price:
        money = worst.price.money(prompt, completion, cached=record.cached_tokens or 0, reasoning=reasoning)
    used = Spend(1, prompt + completion, _up(money))
    return used, used


def _up(money: float) -> float:
    """To a whole billionth, in which budgets count: up, but for the dust of binary fractions."""
    return math.ceil(money * 1e9 - 1e-3) / 1e9
