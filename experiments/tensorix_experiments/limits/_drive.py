"""Plays the actions of an experiment against a server: sends when it is time, and says what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from tensorix_api.errors import ErrorKind
from tensorix_experiments.limits._asking import Asker, Reply
from tensorix_experiments.limits._bounds import Allowance
from tensorix_experiments.limits._design import Answer, Send
from tensorix_experiments.limits._question import Question
from tensorix_records import RequestRecord
from tensorix_reports.limits import speaks_of_tokens

__all__ = ["Sending", "play"]

_PREPARE_S = 0.5
"""So long before a burst its connections are opened; what waits much longer the server may close."""
_MOST_FAILURES = 5
"""So many in a row without an answer, or with a 5xx, and the server is gone: nothing more is learnt from it."""
_UNAVAILABLE = 503
"""What some limiters refuse with, nginx's by default."""
_MOST_UNAVAILABLE = 1.2
"""In documented windows: nothing but 503 for so long is no limiter."""
_MOST_FOR_TOKENS = 4
"""So many in a row refused for tokens: the limit on requests is not the one that is met."""
_HOPELESS = {
    ErrorKind.AUTHENTICATION: "the key is refused",
    ErrorKind.PAYMENT: "the key is out of credit",
    ErrorKind.BAD_REQUEST: "the server does not take the request",
    ErrorKind.UNEXPECTED_STATUS: "the server does not answer as this API does",
}


@dataclass(slots=True)
class Sending:
    """How requests are sent and kept, and what stands against sending more."""

    asker: Asker
    allowance: Allowance
    keep: Callable[[RequestRecord], None]
    stopped: str | None = None
    """Why nothing more is sent, whatever the bounds say."""
    wrong: bool = False
    """Whether that is for what was asked: the key, the model, the address."""
    window_s: float = 60.0
    """As documented."""
    _failures: int = field(default=0)
    _passed: bool = field(default=False)
    _throttled: bool = field(default=False)
    """Whether anything was refused with 429."""
    _unavailable_since_s: float | None = field(default=None)
    _for_tokens: int = field(default=0)

    @property
    def may_go_on(self) -> bool:
        """Whether anything more may be sent."""
        return self.stopped is None and self.allowance.spent is None

    async def ask(self, question: Question, scenario: str, *, judged: bool = True) -> Reply | None:
        """Send one request within the bounds; None where they do not allow it.

        With `judged` an answer that no other can follow ends it all.
        """
        if self.stopped or not self.allowance.take(question.most_tokens, self.asker.now_s):
            return None
        reply = await self.asker.ask(question, scenario, most_s=self.allowance.until_s - self.asker.now_s)
        record = reply.record
        used = [tokens for tokens in (record.prompt_tokens, record.completion_tokens) if tokens is not None]
        free = record.status is not None and record.status >= 400
        self.allowance.settle(question.most_tokens, sum(used) if used else 0 if free else None)
        self.keep(record)
        if judged:
            self._judge(record)
        return reply

    def is_refused(self, record: RequestRecord) -> bool:
        """Whether a limiter may have refused it: with 429; or with 503, from a server that answers others and refuses
        none with 429.
        """
        if record.outcome == "throttled":
            return True
        return record.status == _UNAVAILABLE and self._passed and not self._throttled

    def _judge(self, record: RequestRecord) -> None:
        self._passed |= record.outcome == "success"
        self._throttled |= record.outcome == "throttled"
        if record.status != _UNAVAILABLE:
            self._unavailable_since_s = None
        elif self._unavailable_since_s is None:
            self._unavailable_since_s = self.asker.now_s
        said = f": {record.error_message}" if record.error_message else ""
        status = f" ({record.status})" if record.status else ""
        if record.outcome == "throttled" and speaks_of_tokens(record):
            self._for_tokens += 1
            if self._for_tokens >= _MOST_FOR_TOKENS:
                self.stopped = f"requests are refused for their tokens before any is for the number of requests{said}"
        elif record.outcome in ("success", "throttled"):
            self._failures = self._for_tokens = 0
        elif hopeless := _HOPELESS.get(ErrorKind(record.error_kind or ErrorKind.INTERNAL)):
            self.stopped, self.wrong = f"{hopeless}{status}{said}", True
        elif record.outcome == "failed":
            if self.is_refused(record):
                lasted_s = self.asker.now_s - (self._unavailable_since_s or 0.0)
                if lasted_s > _MOST_UNAVAILABLE * self.window_s:
                    self.stopped = (
                        f"it answered nothing but 503 for {lasted_s:.3g} s, longer than the window: it is down"
                    )
                return
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                self.stopped = (
                    f"{_MOST_FAILURES} requests in a row failed, the last with {record.error_kind}{status}{said}"
                )


def _answer(asker: Asker, record: RequestRecord, *, refused: bool) -> Answer:
    # A limit on tokens says nothing of the one that is looked for, and what failed may have been counted or not.
    decided = record.outcome == "success" or (refused and not speaks_of_tokens(record))
    return Answer(
        sent_s=asker.monotonic_s(record),
        seen_s=asker.monotonic_s(
            record, record.headers_at_ns if record.headers_at_ns is not None else record.end_at_ns
        ),
        passed=record.outcome == "success" if decided else None,
        remaining=record.remaining_requests if record.outcome == "success" else None,
    )


async def _send(sending: Sending, action: Send, question: Question, scenario: str) -> list[Answer]:
    """Do one action: so many at a time, until enough were sent or refused."""
    answers: list[Answer] = []
    begun = refused = 0

    async def one_after_the_other() -> None:
        nonlocal begun, refused
        while begun < action.count and refused < action.until_refused:
            begun += 1
            reply = await sending.ask(question, scenario)
            if reply is None or reply.record.outcome == "cancelled":
                return
            answers.append(_answer(sending.asker, reply.record, refused=sending.is_refused(reply.record)))
            # For tokens too: what is sent behind it is refused like it.
            refused += answers[-1].passed is False or reply.record.outcome == "throttled"

    await asyncio.gather(*(one_after_the_other() for _ in range(max(1, min(action.in_flight, action.count)))))
    return sorted(answers, key=lambda answer: answer.sent_s)


async def play(
    actions: Generator[Send, list[Answer], None],
    sending: Sending,
    question: Question,
    *,
    scenario: str = "limit",
    tell: Callable[[Send], None] = lambda action: None,
) -> None:
    """Play all actions, as far as the bounds allow; `tell` is told of each just before it is done.

    Where it ends early, `sending` says why.
    """
    asker, allowance = sending.asker, sending.allowance
    try:
        action = next(actions)
        while sending.may_go_on and allowance.allows(max(action.at_s, asker.now_s)):
            tell(action)
            await asyncio.sleep(max(0.0, action.at_s - _PREPARE_S - asker.now_s))
            await asker.network.prepare(min(action.in_flight, action.count))
            await asyncio.sleep(max(0.0, action.at_s - asker.now_s))
            action = actions.send(await _send(sending, action, question, scenario))
    except StopIteration:
        allowance.end_if_all_sent()
    finally:
        actions.close()
