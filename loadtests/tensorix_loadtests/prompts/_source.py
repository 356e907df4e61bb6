"""The prompts of a run, from its plan: the same for the same seed, in whatever processes they are sent."""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tensorix_loadtests.plan import LoadPlan
from tensorix_loadtests.prompts._entries import Entries
from tensorix_loadtests.prompts._lengths import Drawn
from tensorix_loadtests.prompts._prompt import Prompt
from tensorix_loadtests.prompts._script import (
    CountedBy,
    Message,
    Script,
    estimated_tokens,
    tokens_of_text,
    user_message,
)
from tensorix_loadtests.prompts._synthetic import blocks, generator, words

__all__ = ["UNIQUE_TOKENS", "Prompts", "source_of"]

UNIQUE_TOKENS = 8
"""Of a unique beginning: 80 random bits."""

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(slots=True)
class _Talk:
    """A conversation under way, or a single prompt."""

    number: int
    script: Script
    messages: list[Message]
    bounds: Iterator[int | None]
    model: str | None
    tokens: int
    counted_by: CountedBy
    user_id: int | None
    synthetic: bool
    turn: int = 1


class Prompts:
    """Gives one prompt after the other, and takes their answers where a conversation goes on with them.

    The n-th of a run is the same for the same plan, whichever process sends it: process k of n gives those with
    number % n == k, and a run that is resumed begins at `first`. Only a unique beginning (`Prompting.unique`) differs
    between runs, by their `salt`. A file is read as far as it is needed. Raises SettingsError for one that is wrong,
    here or where its wrong entry is come to. Not for several threads at once.
    """

    def __init__(self, plan: LoadPlan, *, share: tuple[int, int] = (0, 1), first: int = 0, salt: str = "") -> None:
        asked = self._asked = plan.prompting
        self._texts = plan.prompts
        self._salt = salt
        worker, workers = share
        self._numbers = itertools.count(first + (worker - first) % workers, workers)
        self._lengths = Drawn(asked.prompt_tokens) if asked.prompt_tokens else None
        self._answers = Drawn(asked.answer_tokens) if asked.answer_tokens else None
        self._turns = Drawn(asked.turns) if asked.turns else None
        self._prefixes = [
            words(asked.shared_prefix_tokens, generator("prefix", asked.seed, number))
            for number in range(asked.shared_prefixes if asked.shared_prefix_tokens else 0)
        ]
        self._models = list(plan.models)
        self._shares = list(itertools.accumulate(plan.models.values()))
        self._under_way: dict[str, _Talk] = {}
        self._of_users: dict[int, _Talk] = {}
        self._of_all: deque[_Talk] = deque()
        self._entries = Entries(asked.path, asked.format, turns=self._turns is not None) if asked.path else None

    def close(self) -> None:
        """Close the file."""
        if self._entries is not None:
            self._entries.close()

    def next(
        self,
        user_id: int | None = None,
        *,
        number: int | None = None,
        prompt_tokens: int | None = None,
        answer_tokens: int | None = None,
        hash_ids: Sequence[int] = (),
    ) -> Prompt:
        """The next prompt: a further turn of a conversation whose answer is there, else a new one.

        `user_id` in a closed loop: a user goes on with its own conversation; without one whoever asks takes the
        conversation that has waited longest. In an open loop a new prompt has the `number` of its arrival, and may have
        the lengths and hashes of a trace's: then it is synthetic, unless prompts come from a file.
        """
        talk = self._of_users.pop(user_id, None) if user_id is not None else None
        if talk is None and self._of_all and user_id is None:
            talk = self._of_all.popleft()
        if talk is None:
            number = next(self._numbers) if number is None else number
            talk = self._begin(number, user_id, prompt_tokens, answer_tokens, tuple(hash_ids))
        return self._prompt(talk)

    def answered(self, prompt: Prompt, text: str | None) -> None:
        """The answer to a prompt that wants it; a conversation without one (None, or empty) is over."""
        if not prompt.wants_answer or prompt.conversation_id is None:
            return
        talk = self._under_way.pop(prompt.conversation_id, None)
        if talk is None or not text:
            return
        following = talk.script.later[talk.turn - 1]
        talk.messages += [{"role": "assistant", "content": text}, following]
        asked = _words_of(following) if talk.synthetic else estimated_tokens([following])
        talk.tokens += tokens_of_text(text) + asked
        talk.counted_by = "bytes"
        talk.turn += 1
        if talk.user_id is None:
            self._of_all.append(talk)
        else:
            self._of_users[talk.user_id] = talk

    def _prompt(self, talk: _Talk) -> Prompt:
        script = talk.script
        wants = talk.turn <= len(script.later)
        identity = f"c{talk.number}" if script.conversation else None
        if wants and identity is not None:
            self._under_way[identity] = talk
        return Prompt(
            number=talk.number,
            messages=tuple(talk.messages),
            max_tokens=next(talk.bounds),
            model=talk.model,
            body=script.body,
            tokens=talk.tokens,
            counted_by=talk.counted_by,
            conversation_id=identity,
            turn=talk.turn if script.conversation else None,
            wants_answer=wants,
            user_id=talk.user_id,
        )

    def _begin(
        self,
        number: int,
        user_id: int | None,
        prompt_tokens: int | None,
        answer_tokens: int | None,
        hash_ids: tuple[int, ...],
    ) -> _Talk:
        turns = None if self._turns is None else self._turns(number, self._random("turns", number))
        counted_by: CountedBy = "bytes"
        if self._entries is not None:
            script = self._from_file(number, turns)
        elif self._lengths is not None or prompt_tokens is not None:
            script, counted_by = self._synthetic(number, turns, prompt_tokens, hash_ids), "words"
        else:
            script = self._from_texts(number, turns)
        messages = list(script.opening)
        beginning = self._beginning(number)
        if counted_by == "words":
            tokens = _words_of(messages[0])
            if self._asked.unique:
                messages[0] = _begun_anew(messages[0], beginning)
        else:
            tokens = estimated_tokens(messages)
            if beginning:
                messages[0] = _begun_with(messages[0], beginning)
                tokens += beginning.count(" ") + 1
        return _Talk(
            number,
            script,
            messages,
            self._bounds(number, script, answer_tokens),
            script.model or self._model(number),
            tokens,
            counted_by,
            user_id,
            counted_by == "words",
        )

    def _random(self, what: str, number: int) -> random.Random:
        return generator(what, self._asked.seed, number)

    def _from_texts(self, number: int, turns: int | None) -> Script:
        texts = self._texts
        asked = [user_message(texts[(number + turn) % len(texts)]) for turn in range(turns or 1)]
        return Script(opening=(asked[0],), later=tuple(asked[1:]), conversation=turns is not None)

    def _from_file(self, number: int, turns: int | None) -> Script:
        assert self._entries is not None
        script = self._entries.script(number)
        if turns is None:
            return script
        later = script.later[: turns - 1]
        if not script.conversation:
            # Lines and rows hold one question each: those that follow are the next turns.
            later = tuple(self._entries.script(number + turn).opening[-1] for turn in range(1, turns))
        return Script(
            opening=script.opening,
            later=later,
            conversation=True,
            max_tokens=script.max_tokens,
            model=script.model,
            body=script.body,
        )

    def _synthetic(
        self, number: int, turns: int | None, prompt_tokens: int | None, hash_ids: tuple[int, ...]
    ) -> Script:
        rng = self._random("prompt", number)

        def count() -> int:
            if prompt_tokens is not None:
                return max(1, prompt_tokens)
            assert self._lengths is not None
            return self._lengths(number, rng)

        first = count()
        if self._prefixes and not hash_ids:
            # They are a part of the prompt; one that is not longer is nothing else.
            prefix, begun = self._prefixes[self._prefix(number)], self._asked.shared_prefix_tokens
            text = f"{prefix} {words(first - begun, rng)}" if first > begun else _first_words(prefix, first)
        else:
            text = blocks(first, hash_ids, self._asked.seed, rng)
        asked = [user_message(text), *(user_message(words(count(), rng)) for _ in range(1, turns or 1))]
        return Script(opening=(asked[0],), later=tuple(asked[1:]), conversation=turns is not None)

    def _prefix(self, number: int) -> int:
        count = len(self._prefixes)
        return self._random("prefix of", number).randrange(count) if count > 1 else 0

    def _beginning(self, number: int) -> str:
        """What is put before a prompt; a synthetic one has its shared prefix already."""
        if self._asked.unique:
            return words(UNIQUE_TOKENS, generator("unique", self._salt, self._asked.seed, number))
        return self._prefixes[self._prefix(number)] if self._prefixes else ""

    def _bounds(self, number: int, script: Script, answer_tokens: int | None) -> Iterator[int | None]:
        """`max_tokens` of each turn: the file's own, else the trace's, else as drawn, else the plan's (None)."""
        if script.max_tokens is not None or "max_completion_tokens" in script.body:
            yield from itertools.repeat(script.max_tokens)
        if answer_tokens is not None:
            yield max(1, answer_tokens)
        if self._answers is None:
            yield from itertools.repeat(None)
            return
        rng = self._random("answer", number)
        while True:
            yield self._answers(number, rng)

    def _model(self, number: int) -> str | None:
        """By the models' shares. Multiples of the golden ratio fill the shares evenly, in each worker's part too."""
        if not self._models:
            return None
        at = (self._asked.seed + number) * _GOLDEN % 1.0 * self._shares[-1]
        return self._models[min(bisect_right(self._shares, at), len(self._models) - 1)]


def source_of(plan: LoadPlan) -> dict[str, Any]:
    """Where prompts come from, and how `prompt_tokens_planned` is counted (an estimate, always): for the manifest."""
    asked = plan.prompting
    traced = plan.arrivals is not None and plan.arrivals.replay is not None
    synthetic = asked.path is None and (asked.prompt_tokens is not None or traced)
    return {
        "source": "file" if asked.path else "synthetic" if synthetic else "texts",
        "tokens_counted_by": "words" if synthetic else "bytes",
        "tokens_estimated": True,
        "seed": asked.seed,
    }


def _first_words(text: str, count: int) -> str:
    return " ".join(text.split(" ", count)[:count])


def _words_of(message: Message) -> int:
    """Of a synthetic message: a single space stands before each word but the first."""
    spaces: int = message["content"].count(" ")
    return spaces + 1


def _begun_anew(message: Message, beginning: str) -> Message:
    """A synthetic prompt with its first words replaced: as long as before."""
    replaced = beginning.count(" ") + 1
    rest = message["content"].split(" ", replaced)
    return {**message, "content": " ".join([*beginning.split(" ")[: len(rest)], *rest[replaced:]])}


def _begun_with(message: Message, beginning: str) -> Message:
    """A message with some words before its text."""
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": beginning}, *content]}
    return {**message, "content": f"{beginning}\n\n{content or ''}"}
