"""The questions beside the experiment: what else counts, how tokens are charged, whose budget it is.

Two parts: some are asked when the budget is whole, between chat requests whose headers say what remains; and some when
it is spent, between two refusals. Each record's scenario says which: `whole: models`, `spent: chat`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from tensorix_api.secret import Secret
from tensorix_experiments.limits._design import Send
from tensorix_experiments.limits._drive import Sending
from tensorix_experiments.limits._question import Question
from tensorix_records import RequestRecord
from tensorix_reports.limiter import LimiterFit
from tensorix_reports.limits import meaning_of

__all__ = ["side_questions"]

_ASKING = 400
"""Tokens that an answer of one or two may have: what is set aside for it stands out from what it uses."""
_SAY_LITTLE, _SAY_MUCH = "Say OK and nothing else.", "Count from 1 to 99."
_BALLAST = " Do not think of one two three four five six seven eight nine ten." * 3
"""Of some fifty tokens, so that whether a prompt is charged at all can be seen."""
_ANSWER = 60
_TWICE = 2
_LEAST_PAUSE_S = 1.0
"""Retry-After is in whole seconds: a shorter pause shows nothing of it."""
_MOST_TO_SPEND = 1_000
"""No budget larger than this is spent only to ask what else a spent one refuses."""


async def side_questions(
    sending: Sending,
    chat: Question,
    found: LimiterFit | None,
    *,
    second_key: Secret | None,
    tell: Callable[[Send], None],
) -> None:
    """Ask as much as the bounds allow. Nothing is asked where the experiment found no limit."""
    if found is None or not found.ranked:
        return
    meaning = meaning_of(found.ranked[0], second=found.second_limit)
    await _when_whole(sending, chat, meaning.burst, meaning.whole_after_s, tell)
    await _when_spent(sending, chat, meaning.burst, second_key, tell, wait_s=meaning.whole_after_s)


def _kinds(chat: Question) -> dict[str, Question]:
    return {
        "models": Question(asked="models"),
        "bad request": replace(chat, max_tokens=-1),
        "wrong key": replace(chat, key=Secret("sk-no-such-key-0000000000")),
        "stream": replace(chat, stream=True),
    }


async def _one(sending: Sending, question: Question, scenario: str) -> RequestRecord | None:
    reply = await sending.ask(question, scenario, judged=False)
    return None if reply is None or reply.record.outcome == "cancelled" else reply.record


async def _when_whole(
    sending: Sending, chat: Question, burst: int, wait_s: float, tell: Callable[[Send], None]
) -> None:
    asker = sending.asker
    kinds = _kinds(chat)
    # Each kind twice, a chat request before, between and behind.
    needed = len(kinds) * (_TWICE + 1) + 1
    tokens = needed * chat.most_tokens
    at_s = asker.now_s + 1.05 * wait_s
    if burst < needed or not sending.allowance.room_for(needed, tokens, at_s):
        return
    tell(Send(at_s=at_s, count=needed, why="asks what else counts, when the budget is whole"))
    await asyncio.sleep(max(0.0, at_s - asker.now_s))
    first = await _one(sending, chat, "whole: chat")
    if first is None or first.status != 200:
        return
    for name, question in kinds.items():
        for _ in range(_TWICE):
            await _one(sending, question, f"whole: {name}")
        await _one(sending, chat, "whole: chat")
    if first.remaining_tokens is not None and burst >= needed + 5:
        small = replace(chat, prompt=_SAY_LITTLE + _BALLAST)
        asking = replace(small, max_tokens=_ASKING)
        answering = replace(chat, prompt=_SAY_MUCH + _BALLAST, max_tokens=_ANSWER)
        parts = {"small": small, "asking": asking, "small again": small, "answering": answering, "small at last": small}
        if sending.allowance.room_for(len(parts), sum(part.most_tokens for part in parts.values()), asker.now_s):
            tell(Send(at_s=asker.now_s, count=len(parts), why="asks how tokens are charged"))
            for name, question in parts.items():
                await _one(sending, question, f"tokens: {name}")


async def _when_spent(
    sending: Sending,
    chat: Question,
    burst: int,
    second_key: Secret | None,
    tell: Callable[[Send], None],
    *,
    wait_s: float,
) -> None:
    kinds = _kinds(chat) | ({"second key": replace(chat, key=second_key)} if second_key is not None else {})
    most = burst + 2
    needed = most + 2 * len(kinds)
    if burst > _MOST_TO_SPEND or not sending.allowance.room_for(needed, needed * chat.most_tokens, sending.asker.now_s):
        return
    tell(Send(at_s=sending.asker.now_s, count=needed, why="spends the budget, to ask what else is refused then"))
    for _ in range(most):
        record = await _one(sending, chat, "spent: chat")
        if record is None:
            return
        if sending.is_refused(record):
            break
    else:
        return
    # A bucket drips: each is asked right behind a refusal, and refused chat must follow.
    for name, question in kinds.items():
        await _one(sending, question, f"spent: {name}")
        record = await _one(sending, chat, "spent: chat")
    await _halfway(sending, chat, record, wait_s, tell)


async def _halfway(
    sending: Sending, chat: Question, refused: RequestRecord | None, wait_s: float, tell: Callable[[Send], None]
) -> None:
    """Be refused once more when half of the wait is over: just after a window opened any constant is a true wait."""
    said_s = 0.0 if refused is None else (refused.retry_after_ns or 0) / 1e9
    pause_s = min(said_s, wait_s) / 2
    at_s = sending.asker.now_s + pause_s
    if pause_s < _LEAST_PAUSE_S or not sending.allowance.room_for(1, chat.most_tokens, at_s):
        return
    tell(Send(at_s=at_s, count=1, why=f"after {pause_s:.0f} s, halfway through the wait, whether Retry-After knows"))
    await asyncio.sleep(max(0.0, at_s - sending.asker.now_s))
    await _one(sending, chat, "spent: chat")
