"""What a plan's prompts come to, before any is sent: how many there are, how long, and the most that a request uses."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tensorix_loadtests.plan._prompting import Prompting
from tensorix_loadtests.prompts._entries import Entries
from tensorix_loadtests.prompts._lengths import Drawn
from tensorix_loadtests.prompts._script import Message, Script, estimated_tokens, user_message

if TYPE_CHECKING:
    from tensorix_loadtests.plan import LoadPlan

__all__ = ["Survey", "most_tokens_a_request", "survey"]

_CHARACTERS_PER_TOKEN = 2.5
_MARKS_TOKENS = 16
"""For the role and the marks around a message."""
_TOKENS_PER_WORD = 2
"""Of our words, at most, on average, in a vocabulary that is not ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the prompts of a plan come to. Tokens are estimates, but for the last, which is a bound."""

    prompts: int | None
    """Of a file or of the plan's texts; None: as many as there are requests."""
    conversations: bool
    most_turns: int
    least_prompt_tokens: int | None
    """Of a first turn; None, as are the next two, where a trace says it."""
    mean_prompt_tokens: float | None
    most_prompt_tokens: int | None
    mean_answer_tokens: float | None
    """The bounds on the answers, on average; None where one has none."""
    left_out: int
    """Conversations of the file in which nobody asks anything."""
    models: frozenset[str]
    """Those that the file names."""
    most_tokens_a_request: int | None
    """Prompt, with the answers before it, and answer; None where nothing bounds them."""


@dataclass(slots=True)
class _Seen:
    """What is found out of the scripts of a file or of some texts."""

    scripts: int = 0
    conversations: bool = False
    most_turns: int = 1
    least: int = 0
    most: int = 0
    total: int = 0
    bounds: int = 0
    bounded: int = 0
    left_out: int = 0
    models: frozenset[str] = frozenset()
    prompt_bound: int | None = 0
    """Of all that one script says, in all its turns."""
    bound: int = 0
    """The largest max_tokens that a script has of its own."""
    unbounded: int = 0
    """Scripts without one."""
    answers: int = 1
    """The largest `n`."""


def survey(plan: LoadPlan) -> Survey:
    """Go through all prompts of the plan. Raises SettingsError for a file that is wrong, with the file and the line.

    A file is read whole, but never held: `benchmarks/prompts.py` says how long that takes.
    """
    asked = plan.prompting
    seen = _of_file(asked, _state_of(asked.path)) if asked.path else _of_texts(plan.prompts)
    drawn = Drawn(asked.prompt_tokens) if asked.prompt_tokens else None
    answers = Drawn(asked.answer_tokens) if asked.answer_tokens else None
    traced = asked.path is None and plan.arrivals is not None and plan.arrivals.replay is not None
    begun = asked.shared_prefix_tokens or (8 if asked.unique else 0)
    lengths: tuple[int, float, int] | None = (seen.least + begun, seen.total / seen.scripts + begun, seen.most + begun)
    if drawn is not None:
        lengths = (drawn.least, drawn.mean, drawn.most)
    elif traced:
        lengths = None
    if seen.bounded == seen.scripts:
        mean_answer: float | None = seen.bounds / seen.bounded
    elif answers is not None:
        mean_answer = (seen.bounds + answers.mean * (seen.scripts - seen.bounded)) / seen.scripts
    else:
        mean_answer = None if plan.max_tokens is None else float(plan.max_tokens)
    turns = Drawn(asked.turns).most if asked.turns else seen.most_turns
    return Survey(
        prompts=seen.scripts if drawn is None and not traced else None,
        conversations=seen.conversations or asked.turns is not None,
        most_turns=turns,
        least_prompt_tokens=lengths[0] if lengths else None,
        mean_prompt_tokens=lengths[1] if lengths else None,
        most_prompt_tokens=lengths[2] if lengths else None,
        mean_answer_tokens=mean_answer,
        left_out=seen.left_out,
        models=seen.models,
        most_tokens_a_request=_bound(plan, seen, drawn, answers, turns, traced=traced),
    )


def most_tokens_a_request(plan: LoadPlan) -> int | None:
    """See `LoadPlan.most_tokens_a_request`."""
    return survey(plan).most_tokens_a_request


def _bound(
    plan: LoadPlan, seen: _Seen, drawn: Drawn | None, answers: Drawn | None, turns: int, *, traced: bool
) -> int | None:
    asked = plan.prompting
    answer = _most_answer(plan, seen, answers)
    if answer is None or seen.prompt_bound is None:
        return None
    # Tools, schemas and the like in the extra body are read by the model too.
    prompt = _of_body(plan.body)
    beginning = _TOKENS_PER_WORD * (asked.shared_prefix_tokens or (8 if asked.unique else 0))
    if traced:
        from tensorix_loadtests.schedules import survey as survey_of_schedule

        # One prompt of the trace, and as long an answer.
        most = survey_of_schedule(plan).most_tokens
        if most is not None:
            return prompt + beginning + _MARKS_TOKENS + _TOKENS_PER_WORD * most * turns
    if drawn is not None:
        prompt += (_TOKENS_PER_WORD * drawn.most + _MARKS_TOKENS) * turns
    elif asked.turns is not None and not seen.conversations:
        prompt += seen.prompt_bound * turns
    else:
        prompt += seen.prompt_bound
    many = plan.body.get("n", 1)
    copies = max(seen.answers, many if isinstance(many, int) else 1)
    # Only the first of several answers is carried into the next turn.
    return prompt + beginning + (turns - 1) * (answer + _MARKS_TOKENS) + answer * copies


def _most_answer(plan: LoadPlan, seen: _Seen, answers: Drawn | None) -> int | None:
    """The largest bound that an answer of the run has; None where one has none."""
    bounds = [plan.body.get("max_tokens"), plan.body.get("max_completion_tokens"), seen.bound or None]
    if seen.unbounded:
        bounds.append(answers.most if answers is not None else plan.max_tokens)
        if bounds[-1] is None and not any(isinstance(bound, int) for bound in bounds[:2]):
            return None
    known = [bound for bound in bounds if isinstance(bound, int)]
    return max(known) if known else None


def _of_texts(texts: tuple[str, ...]) -> _Seen:
    return _see((Script(opening=(user_message(text),)) for text in texts), _Seen())


def _state_of(path: str) -> tuple[int, int] | None:
    """What changes when a file does."""
    try:
        state = os.stat(path)  # noqa: PTH116 - the path is as the user wrote it
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=4)
def _of_file(asked: Prompting, state: tuple[int, int] | None) -> _Seen:
    """`state` is part of the cache's key: a plan is asked for its bound several times, a file read once."""
    path, format_ = asked.path, asked.format
    assert path is not None
    most_turns = Drawn(asked.turns).most if asked.turns else None
    with closing(Entries(path, format_, turns=asked.turns is not None)) as entries:
        seen = _see(entries, _Seen(), most_turns)
        seen.left_out = entries.left_out
    return seen


def _see(scripts: Iterable[Script], seen: _Seen, most_turns: int | None = None) -> _Seen:
    models: set[str] = set()
    for script in scripts:
        later = script.later if most_turns is None else script.later[: most_turns - 1]
        tokens = estimated_tokens(script.opening)
        seen.scripts += 1
        seen.least = tokens if seen.scripts == 1 else min(seen.least, tokens)
        seen.most = max(seen.most, tokens)
        seen.total += tokens
        seen.conversations |= script.conversation
        seen.most_turns = max(seen.most_turns, 1 + len(later))
        if seen.prompt_bound is not None:
            said = _bound_of((*script.opening, *later), script.body)
            seen.prompt_bound = None if said is None else max(seen.prompt_bound, said)
        own = script.max_tokens or script.body.get("max_completion_tokens")
        if isinstance(own, int):
            seen.bound = max(seen.bound, own)
            seen.bounds += own
            seen.bounded += 1
        else:
            seen.unbounded += 1
        if isinstance(many := script.body.get("n"), int):
            seen.answers = max(seen.answers, many)
        if script.model is not None:
            models.add(script.model)
    seen.models = frozenset(models)
    return seen


def _bound_of(messages: tuple[Message, ...], body: Mapping[str, Any]) -> int | None:
    """A generous bound on the tokens of messages; None where one holds more than text."""
    total = _of_body(body)
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            if any(not isinstance(part, Mapping) or part.get("type") != "text" for part in content):
                return None
            content = json.dumps(content, ensure_ascii=False)
        total += _tokens(content or "")
        if len(message) > len(("role", "content")):
            # Calls of tools, names and the like.
            rest = {name: item for name, item in message.items() if name not in ("role", "content")}
            total += _tokens(json.dumps(rest, ensure_ascii=False))
    return total


def _of_body(body: Mapping[str, Any]) -> int:
    texts = {name: value for name, value in body.items() if isinstance(value, str | list | dict)}
    return _tokens(json.dumps(texts, ensure_ascii=False)) if texts else 0


def _tokens(text: str) -> int:
    """A generous estimate, with 16 for the role and marks around a message.

    2.5 characters a token, fewer than any common tokenizer gives for prose; two tokens for a character outside ASCII.
    """
    if text.isascii():
        return math.ceil(len(text) / _CHARACTERS_PER_TOKEN) + _MARKS_TOKENS
    ascii_characters = len(text.encode("ascii", "ignore"))
    return math.ceil(ascii_characters / _CHARACTERS_PER_TOKEN) + 2 * (len(text) - ascii_characters) + _MARKS_TOKENS
