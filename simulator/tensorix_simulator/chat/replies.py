"""What a reply says and when: text, length and times of one chat completion, all from a seed.

A request draws from a generator of its own, seeded with the simulator's seed, the digest of its body and how often
that body came before. So the same requests get the same replies, in whatever order connections bring them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from tensorix_simulator.chat.parameters import ChatRequest
from tensorix_simulator.distributions import Distribution, Quantity
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["TOKENS", "Reply", "ReplyMaker"]

_TEXT = (
    "the a of to and in that is it for on with as at by from or an be this which one all would there their what so up "
    "out if about who get when make can like time no just him know take people into year your good some could them see "
    "other than then now look only come its over think also back after use two how our work first well way even new "
    "want because any these give day most us water light stone river field morning letter answer question number"
)
_WORDS = _TEXT.split()
# A prime number of tokens, so that steps through the cycle do not repeat within a reply of usual length.
_CYCLE = 4093
_MOST_BODIES = 100_000
_MOST_DRAWS = 1_000


def _make_tokens() -> tuple[str, ...]:
    generator = random.Random(20_26)  # noqa: S311 - text, not secrets
    return tuple(" " + generator.choice(_WORDS) for _ in range(_CYCLE))


TOKENS = _make_tokens()
"""The cycle that every text is a stretch of; each is one token and one chunk."""


@lru_cache(maxsize=64)
def _parsed(text: str, quantity: Quantity) -> Distribution:
    return Distribution.parse(text, quantity)


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion as it will be. Tokens are per choice; `finish_reason` is the same for all choices."""

    fails: bool
    """To be answered with an injected 500."""
    tokens: int
    reasoning_tokens: int
    finish_reason: str
    text_start: int
    ttft_ns: int
    next_gap_ns: Callable[[], float]

    def token(self, choice: int, index: int) -> int:
        """The index in `TOKENS` of a choice's token."""
        return (self.text_start + choice * 97 + index) % _CYCLE

    def text(self, choice: int, start: int, end: int) -> str:
        """The text of a choice's tokens from `start` up to `end`."""
        return "".join(TOKENS[self.token(choice, index)] for index in range(start, end))

    def rest_ns(self) -> int:
        """From the first token to the last; beyond 1,000 gaps by the mean of a thousand, to bound the work."""
        gaps = self.tokens - 1
        drawn = min(gaps, _MOST_DRAWS)
        if drawn <= 0:
            return 0
        return round(sum(self.next_gap_ns() for _ in range(drawn)) * (gaps / drawn))


class ReplyMaker:
    """Makes replies, and remembers how often each body came (up to 100,000 of them, then it forgets all)."""

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}

    def forget(self) -> None:
        """As if no request had come yet."""
        self._seen.clear()

    def make(self, settings: SimulatorSettings, body: bytes, request: ChatRequest) -> Reply:
        """The reply to a valid body."""
        digest = hashlib.blake2b(body, digest_size=16).digest()
        if len(self._seen) >= _MOST_BODIES:
            self._seen.clear()
        times = self._seen.get(digest, 0)
        self._seen[digest] = times + 1
        generator = random.Random(b"%d %d %s" % (settings.seed, times, digest))  # noqa: S311 - times and text

        # Everything is drawn in one order whatever the settings, so that changing one leaves the others' draws alone.
        fails = generator.random() < settings.error_rate
        text_start = generator.randrange(_CYCLE)
        ttft = _parsed(settings.ttft, "time").sampler(random.Random(generator.random()))()  # noqa: S311
        lengths = random.Random(generator.random())  # noqa: S311
        gaps = random.Random(generator.random())  # noqa: S311

        most = request.max_tokens or settings.default_max_tokens
        if settings.reply_tokens is None:
            tokens, finish = most, "length" if request.max_tokens else "stop"
        else:
            wanted = max(1, round(_parsed(settings.reply_tokens, "count").sampler(lengths)()))
            tokens, finish = min(wanted, most), "length" if wanted > most else "stop"
        reasoning = min(tokens, round(_parsed(settings.reasoning_tokens, "count").sampler(lengths)()))
        return Reply(
            fails=fails,
            tokens=tokens,
            reasoning_tokens=reasoning,
            finish_reason=finish,
            text_start=text_start,
            ttft_ns=round(ttft),
            next_gap_ns=_parsed(settings.between_tokens, "time").sampler(gaps),
        )
