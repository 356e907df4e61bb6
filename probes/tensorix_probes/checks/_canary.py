"""The question whose answer is known: what is sent, what it may cost, and how the answer is judged, streamed or not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tensorix_api.limiters import Cost
from tensorix_probes.checks._promises import Judgement, Promise
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.result import Spent
from tensorix_probes.settings import Target

__all__ = [
    "CANARY",
    "NO_MODEL",
    "Usage",
    "Words",
    "judge_identity",
    "judge_usage",
    "judge_words",
    "most",
    "question",
    "spent",
]

CANARY = (
    Promise("id_is_given", "the answer has an id"),
    Promise("created_is_plausible", "created is a Unix time in whole seconds, within a day of ours"),
    Promise(
        "model_is_the_one_asked", "it names the model that was asked; a provider before it or a date after it is let be"
    ),
    Promise("finish_reason_is_known", "stop, length, tool_calls, content_filter or function_call"),
    Promise("usage_is_given", "usage has prompt_tokens, completion_tokens and total_tokens, as whole numbers"),
    Promise("usage_is_plausible", "no count is over 64 times the most that the request should take"),
    Promise("usage_adds_up", "prompt and completion tokens make the total"),
    Promise("usage_is_within_max_tokens", "no more completion tokens than max_tokens"),
    Promise("answer_is_expected", "the answer to the canary's prompt, at temperature 0, holds canary.expect"),
)
"""What is looked at in a chat completion, streamed or not."""

NO_MODEL = "no model is known to ask: set model, or let the check of the models find the first"

_FINISH_REASONS = ("stop", "length", "tool_calls", "content_filter", "function_call")
_DAY_S = 86_400
_OVERHEAD_TOKENS = 64
"""What a chat template may put around a prompt."""
_PLAUSIBLE = 64
"""Times the most: room for prompts that a server puts before ours, and for reasoning that heeds no max_tokens."""
_LOOKED_AT = 100_000
"""Characters of an answer that the expression is tried on."""


def _limit_name(target: Target) -> str:
    return "max_completion_tokens" if "max_completion_tokens" in target.canary.body else "max_tokens"


def _max_tokens(target: Target) -> int:
    given = target.canary.body.get(_limit_name(target), target.canary.max_tokens)
    return given if isinstance(given, int) else target.canary.max_tokens


def question(target: Target, model: str, **more: Any) -> dict[str, Any]:
    """The request's body. What the configuration adds goes over what is here."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": target.canary.prompt}],
        "temperature": 0,
        # Models that reason refuse the old name where they know the new one.
        _limit_name(target): target.canary.max_tokens,
        **target.canary.body,
        **more,
    }


def most(target: Target) -> Cost:
    """The most that it can take: a token has a byte at least."""
    prompt = json.dumps(question(target, "")["messages"], ensure_ascii=False).encode("utf-8", "replace")
    return Cost(1, len(prompt) + _OVERHEAD_TOKENS + _max_tokens(target))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them."""

    prompt: int
    completion: int
    total: int


def spent(target: Target, answer: Answer, usage: Usage | None) -> Spent:
    """What it took. Where a model may have worked and no usage says how much: the most. Requests the round counts."""
    prices = target.prices
    if usage is not None:
        cost = (
            None
            if prices is None
            else (usage.prompt * prices.prompt_per_million + usage.completion * prices.completion_per_million) / 1e6
        )
        return Spent(tokens=usage.prompt + usage.completion, cost=cost)
    if answer.phases.send_ns is None or answer.status not in (None, 200):
        return Spent()
    tokens = most(target).tokens
    dearest = None if prices is None else max(prices.prompt_per_million, prices.completion_per_million)
    return Spent(tokens=tokens, cost=None if dearest is None else tokens * dearest / 1e6)


def judge_identity(judgement: Judgement, answer: Answer, asked: str, body: Mapping[str, Any]) -> None:
    """Look at what an answer, or a chunk of one, says of itself: id, time and model."""
    identity, created, model = body.get("id"), body.get("created"), body.get("model")
    judgement.judge(
        "id_is_given", isinstance(identity, str) and identity != "", f"id is {_quoted(judgement, identity)}"
    )
    now_s = answer.started_unix_ns // 10**9
    plausible = type(created) is int and abs(created - now_s) <= _DAY_S
    judgement.judge(
        "created_is_plausible",
        plausible,
        f"created is {_quoted(judgement, created)}, and it is {now_s} in Unix seconds",
    )
    same = isinstance(model, str) and _bare(model) == _bare(asked)
    judgement.judge("model_is_the_one_asked", same, f"asked {asked}, got an answer of {_quoted(judgement, model)}")


def _quoted(judgement: Judgement, value: Any) -> str:
    return judgement.quote(value, 100) or "empty"


def _bare(model: str) -> str:
    """A model's name without its provider, its variant and a date or `latest` after it."""
    name = re.split(r"[:@]", model.lower().rpartition("/")[2])[0]
    return re.sub(r"-(\d{4}-?\d{2}-?\d{2}|\d{4}|latest)$", "", name)


def judge_usage(judgement: Judgement, target: Target, usage: Any) -> Usage | None:
    """Look at the usage; returns it where it is whole, and may be true."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    counts = [
        count for name in names if isinstance(usage, dict) and type(count := usage.get(name)) is int and count >= 0
    ]
    whole = len(counts) == len(names)
    if not judgement.judge("usage_is_given", whole, f"expected {', '.join(names)}, got {judgement.quote(usage)}"):
        return None
    bound = _PLAUSIBLE * most(target).tokens
    beyond = f"{judgement.quote(usage)}, and over {bound:,} tokens are not believed: charged as the most"
    if not judgement.judge("usage_is_plausible", max(counts) <= bound, beyond):
        return None
    prompt, completion, total = counts
    judgement.judge("usage_adds_up", prompt + completion == total, f"{prompt} + {completion} is not {total} tokens")
    limit = _max_tokens(target)
    beyond = f"{completion} completion tokens, of {limit} that were allowed"
    judgement.judge("usage_is_within_max_tokens", completion <= limit, beyond)
    return Usage(prompt, completion, total)


@dataclass(frozen=True, slots=True)
class Words:
    """What a model said."""

    text: str
    reasoned: bool
    """Whether reasoning came, too."""
    finish_reason: Any


def judge_words(judgement: Judgement, target: Target, words: Words) -> None:
    """Look at why the answer ended, and whether it is the one that is expected."""
    reason = words.finish_reason
    known = isinstance(reason, str) and reason in _FINISH_REASONS
    judgement.judge("finish_reason_is_known", known, f"finish_reason is {_quoted(judgement, reason)}")
    text, thinking = _without_thoughts(words.text.strip())
    if not text and (words.reasoned or thinking) and reason == "length":
        why = f"only reasoning came within {_max_tokens(target)} tokens: raise canary.max_tokens"
        judgement.judge("answer_is_expected", None, why)
        return
    expected = target.canary.expect
    held = bool(text) if expected is None else re.search(expected, text[:_LOOKED_AT]) is not None
    cut = f", cut at {_max_tokens(target)} tokens (canary.max_tokens)" if reason == "length" else ""
    wanted = "any text" if expected is None else f"what /{expected}/ finds"
    judgement.judge("answer_is_expected", held, f"expected {wanted}, got {_quoted(judgement, text)}{cut}")


def _without_thoughts(text: str) -> tuple[str, bool]:
    """An answer without the reasoning that some models write into it, and whether there was any."""
    if not text.startswith("<think>"):
        return text, False
    return text.partition("</think>")[2].strip(), True
