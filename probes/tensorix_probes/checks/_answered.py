"""What any answer must be before a check looks into it: whole, allowed, paid for, and 200."""

from __future__ import annotations

from typing import Any

from tensorix_api.errors import STATUS_MEANING, ErrorKind, parse_error_body
from tensorix_probes.checks._promises import Judgement, Promise
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.result import State

__all__ = [
    "ANSWERED",
    "JSON_TYPE",
    "is_allowed",
    "is_answered",
    "is_limit_or_bill",
    "is_success",
    "judge_json_type",
    "judge_time",
    "said",
]

ANSWERED = (
    Promise("answered", "a whole answer came, in time", State.DOWN),
    Promise("key_is_accepted", "the key is taken: no 401 or 403", State.DOWN),
    Promise("credit_is_left", "no 402", State.PAYMENT),
    Promise("status_is_200", "the status is 200", State.DOWN),
    Promise("connects_quickly", "look-up, connection and handshake take at most slow.connect_s together"),
)
"""What all checks that ask something look at first."""

JSON_TYPE = Promise("content_type_is_json", "the content type is application/json")

_OURS = (ErrorKind.CANCELLED, ErrorKind.INTERNAL)
# What servers of this kind give as the type or the code of an error that came too late for its status.
_LIMIT = {"429", "rate_limit", "rate_limit_error", "rate_limit_exceeded", "rate_limit_reached", "too_many_requests"}
_BILL = {
    *("402", "payment_required", "billing_error", "billing_not_active", "billing_hard_limit_reached"),
    *("insufficient_quota", "insufficient_credits", "insufficient_balance"),
}


def said(judgement: Judgement, answer: Answer) -> str:
    """The status in words, and what the body says of it."""
    status = answer.status or 0
    if answer.failure is not None and answer.failure.kind is ErrorKind.UNEXPECTED_STATUS:
        return answer.failure.text
    meaning = STATUS_MEANING.get(status)
    told = str(status) + (f" ({meaning})" if meaning else "")
    message = None if status == 200 else parse_error_body(answer.body).message
    return f"{told}: {judgement.quote(message)}" if message else told


def is_answered(judgement: Judgement, answer: Answer) -> bool:
    """Whether the answer is whole. What ended by our own doing, and a 429, say nothing of the server."""
    failure = answer.failure
    if failure is not None and failure.kind in _OURS:
        judgement.inconclusive = f"{failure.kind}: {failure.text}"
        return False
    if answer.status == 429:
        judgement.inconclusive = f"limited: {said(judgement, answer)}"
        return False
    # What a 402 means is plain without its body, and where a redirect leads nobody goes.
    if failure is not None and answer.status != 402 and failure.kind is not ErrorKind.UNEXPECTED_STATUS:
        after = "" if answer.status is None else f" after status {answer.status}"
        judgement.judge("answered", False, f"{failure.kind} in phase {failure.phase}{after}: {failure.text}")
        return False
    judgement.judge("answered", True)
    return True


def is_limit_or_bill(judgement: Judgement, error: Any) -> bool:
    """Whether an error that came under status 200 says of itself that it is a 429 or a 402, and is taken for one."""
    given = [error.get("code"), error.get("type")] if isinstance(error, dict) else []
    words = {str(one).lower() for one in given if isinstance(one, str) or type(one) is int}
    # A quota that is used up is told as a limit by some, and yet no waiting helps.
    if words & _BILL:
        judgement.judge("credit_is_left", False, f"an error under status 200: {judgement.quote(error)}")
        return True
    if words & _LIMIT:
        judgement.inconclusive = f"limited: an error under status 200: {judgement.quote(error)}"
        return True
    return False


def is_allowed(judgement: Judgement, answer: Answer) -> bool:
    """Whether the key was taken, and is paid for."""
    allowed = judgement.judge("key_is_accepted", answer.status not in (401, 403), said(judgement, answer))
    return allowed and judgement.judge("credit_is_left", answer.status != 402, said(judgement, answer))


def is_success(judgement: Judgement, answer: Answer, most_connect_s: float | None) -> bool:
    """Whether it is whole, allowed, paid for and 200. Then also looks whether the connection was made quickly."""
    if not (is_answered(judgement, answer) and is_allowed(judgement, answer)):
        return False
    if not judgement.judge("status_is_200", answer.status == 200, f"expected 200, got {said(judgement, answer)}"):
        return False
    phases = answer.phases
    if phases.connect_ns is not None:
        took_ns = sum(part or 0 for part in (phases.dns_ns, phases.connect_ns, phases.tls_ns))
        judge_time(judgement, "connects_quickly", took_ns, most_connect_s)
    return True


def judge_json_type(judgement: Judgement, answer: Answer) -> None:
    """Whether the content type says what the body is; one made for a kind of JSON (`…+json`) does."""
    given = next((text for name, text in answer.headers if name.lower() == "content-type"), None)
    bare = (given or "").partition(";")[0].strip().lower()
    held = bare == "application/json" or bare.endswith("+json")
    judgement.judge(JSON_TYPE.name, held, f"content-type is {judgement.quote(given) or 'empty'}")


def judge_time(judgement: Judgement, name: str, took_ns: int | None, most_s: float | None) -> None:
    """Whether something took no longer than it may; nothing where no bound is set or it did not come about."""
    if took_ns is None or most_s is None:
        return
    judgement.judge(name, took_ns <= most_s * 1e9, f"took {took_ns / 1e9:.3f} s, slow beyond {most_s:g} s")
