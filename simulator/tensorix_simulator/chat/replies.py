"""What a reply says and when: texts, lengths and times of one chat completion, all from a seed.

A request draws from a generator of its own, seeded with the simulator's seed, the digest of what it asks for and how
often that came before. So the same requests get the same replies, in whatever order connections bring them, and
streamed the same as not: `stream` and `stream_options` are not in the digest. With `temperature: 0` or a `seed` of its
own a request gets the same text however often it came. Only ids are new each time.

How long a reply is: words are as many as `reply_tokens` says, or as `max_tokens` allows, or `default_max_tokens`. A
known answer, JSON and calls have a length of their own; all of them are cut at `max_tokens` (`finish_reason: length`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from tensorix_simulator.chat.answers import answer_to, configured_answer
from tensorix_simulator.chat.choices import Choice, spoken, texts, written
from tensorix_simulator.chat.json_values import value_for
from tensorix_simulator.chat.parameters import ChatRequest
from tensorix_simulator.chat.tools import call_deltas, calls_made
from tensorix_simulator.chat.words import CYCLE
from tensorix_simulator.distributions import Distribution, Quantity
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["Reply", "ReplyMaker"]

_MOST_BODIES = 100_000
_MOST_DRAWS = 1_000
# Choices of one reply are stretches of the same cycle, so far apart.
_APART = 97


@lru_cache(maxsize=64)
def _parsed(text: str, quantity: Quantity) -> Distribution:
    return Distribution.parse(text, quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One completion as it will be."""

    fails: bool
    """To be answered with an injected 500."""
    choices: tuple[Choice, ...]
    tokens: int
    """Of the longest choice."""
    ttft_ns: int
    next_gap_ns: Callable[[], float]

    def rest_ns(self) -> int:
        """From the first token to the last; beyond 1,000 gaps by the mean of a thousand, to bound the work."""
        gaps = self.tokens - 1
        drawn = min(gaps, _MOST_DRAWS)
        if drawn <= 0:
            return 0
        return round(sum(self.next_gap_ns() for _ in range(drawn)) * (gaps / drawn))


class _Draws:
    """What is drawn for a request, in one order whatever the settings: changing one leaves the others' draws alone."""

    __slots__ = ("chance", "content", "gaps", "length", "reasoning", "start", "ttft")

    def __init__(self, seed: int, times: int, digest: bytes) -> None:
        generator = random.Random(b"%d %d %s" % (seed, times, digest))  # noqa: S311 - times and text
        self.chance = generator.random()
        self.start = generator.randrange(CYCLE)
        self.ttft, self.gaps, self.length, self.reasoning, self.content = (generator.random() for _ in range(5))


def _seeded(seed: float | str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - times and text


def _known_answer(settings: SimulatorSettings, request: ChatRequest) -> str | None:
    if request.question is None or request.ignore_eos or request.min_tokens:
        return None
    answer = configured_answer(request.question, settings.answers)
    return answer_to(request.question) if answer is None and request.schema is None else answer


def _choice(settings: SimulatorSettings, request: ChatRequest, draws: _Draws, index: int) -> Choice:
    """One of the choices; each has a generator of its own."""
    start = draws.start + index * _APART
    own = _seeded(f"{draws.content} {index}")
    wanted = None
    if settings.reply_tokens is not None:
        wanted = _parsed(settings.reply_tokens, "count").sampler(_seeded(draws.length))() * request.length_scale
    thought = _parsed(settings.reasoning_tokens, "count").sampler(_seeded(draws.reasoning))()
    reasoning = max(0, round(thought * request.reasoning_scale))
    calls = own.random() < settings.tool_call_rate and not request.after_call

    most = min(request.max_tokens or request.room, request.room)
    room = max(0, most - reasoning)
    answer, tools = _known_answer(settings, request), request.tools
    if tools is not None and (tools.must or (calls and answer is None)):
        script = call_deltas(calls_made(tools, own), tools.legacy)
        finish = "function_call" if tools.legacy else "tool_calls"
        return written(start=start, reasoning=reasoning, script=script, finish=finish, most=most)
    if answer is None and request.schema is not None:
        answer = json.dumps(value_for(request.schema, own), ensure_ascii=False)
    if answer is not None:
        script = iter(texts(answer, request.stops, room))
        return written(start=start, reasoning=reasoning, script=script, finish="stop", most=most)

    if request.max_tokens is None:
        most = min(settings.default_max_tokens, request.room)
    if wanted is None or request.ignore_eos:
        tokens, finish = most, "length" if request.max_tokens or request.ignore_eos else "stop"
    else:
        length = max(1, round(wanted), request.min_tokens)
        tokens, finish = min(length, most), "length" if length > most else "stop"
    return spoken(
        start=start,
        tokens=tokens,
        reasoning=min(tokens, reasoning),
        finish=finish,
        stops=request.stops,
        not_before=request.min_tokens,
    )


class ReplyMaker:
    """Makes replies, and remembers how often each request came (up to 100,000 of them, then it forgets all)."""

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}

    def forget(self) -> None:
        """As if no request had come yet."""
        self._seen.clear()

    def make(self, settings: SimulatorSettings, request: ChatRequest) -> Reply:
        """The reply to a valid request."""
        digest = request.digest
        if len(self._seen) >= _MOST_BODIES:
            self._seen.clear()
        times = self._seen.get(digest, 0)
        self._seen[digest] = times + 1
        draws = said = _Draws(settings.seed, times, digest)
        if request.repeatable and times:
            said = _Draws(settings.seed, 0, digest)
        choices = tuple(_choice(settings, request, said, index) for index in range(request.n))
        return Reply(
            fails=draws.chance < settings.error_rate,
            choices=choices,
            tokens=max(choice.tokens for choice in choices),
            ttft_ns=round(_parsed(settings.ttft, "time").sampler(_seeded(draws.ttft))()),
            next_gap_ns=_parsed(settings.between_tokens, "time").sampler(_seeded(draws.gaps)),
        )
