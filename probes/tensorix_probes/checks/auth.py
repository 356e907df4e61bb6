"""Whether the good key is taken and a bad one refused as documented.

Hourly where nothing else is set: an address that many bad keys come from may be shut out.
"""

from __future__ import annotations

from tensorix_api.limiters import Cost
from tensorix_probes.check import Check, Context, Finding
from tensorix_probes.checks._answered import ANSWERED, is_answered, is_success, said
from tensorix_probes.checks._error_body import ERROR_BODY, judge_error_body
from tensorix_probes.checks._promises import Judgement, Promise
from tensorix_probes.exchange.answer import Answer

__all__ = ["BAD_KEY", "CHECK", "PROMISES"]

BAD_KEY = "sk-invalid"
"""Nobody's key, and plainly none: a word, and too short."""

PROMISES = (
    *ANSWERED,
    Promise("bad_key_is_refused", "a made-up key is refused"),
    Promise("refusal_is_401", "it is refused with 401"),
    ERROR_BODY,
    Promise("error_is_that_of_a_bad_key", "its type is authentication_error and its code invalid_api_key"),
)
_DOCUMENTED = {"type": "authentication_error", "code": "invalid_api_key"}


def _run(context: Context) -> Finding:
    target = context.target
    if target.api_key is None:
        return Finding(inconclusive="no key is set: there is none to be taken or refused")
    judgement = Judgement(PROMISES, target)
    models = context.earlier.get("models")
    # The same was asked, with the same key, a moment ago.
    good = models.answer if models is not None else None
    if good is None:
        good = context.ask("GET", "/models", kind="models")
    if not is_success(judgement, good, target.slow.connect_s):
        return judgement.finding(good)
    bad = context.ask("GET", "/models", kind="unauthorised", key=BAD_KEY)
    if is_answered(judgement, bad):
        _judge_refusal(judgement, bad)
    return judgement.finding(bad)


def _judge_refusal(judgement: Judgement, bad: Answer) -> None:
    status = bad.status or 0
    taken = "a made-up key was TAKEN, so anybody's may be" if 200 <= status < 300 else "a made-up key was not refused"
    if not judgement.judge(
        "bad_key_is_refused", 400 <= status < 500, f"{taken}: expected 401, got {said(judgement, bad)}"
    ):
        return
    judgement.judge("refusal_is_401", status == 401, f"expected 401, got {said(judgement, bad)}")
    if not (error := judge_error_body(judgement, bad)):
        return
    wrong = [
        f"{name} {judgement.quote(error.get(name), 60)} instead of {wanted}"
        for name, wanted in _DOCUMENTED.items()
        if error.get(name) != wanted
    ]
    judgement.judge("error_is_that_of_a_bad_key", not wrong, ", ".join(wrong))


CHECK = Check(name="auth", run=_run, most=lambda target: Cost(1, 0), lists_only=True, every_s=3600.0)
