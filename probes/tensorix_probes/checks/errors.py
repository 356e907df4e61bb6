"""How a request is refused that cannot be right. Hourly where nothing else is set; each run takes one request."""

from __future__ import annotations

from tensorix_api.limiters import Cost
from tensorix_probes.check import Check, Context, Finding
from tensorix_probes.checks._answered import ANSWERED, is_allowed, is_answered, said
from tensorix_probes.checks._error_body import ERROR_BODY, judge_error_body
from tensorix_probes.checks._promises import Judgement, Promise

__all__ = ["CHECK", "PROMISES"]

PROMISES = (
    *(promise for promise in ANSWERED if promise.name in ("answered", "key_is_accepted", "credit_is_left")),
    Promise("mistake_gets_400", "a request without messages is answered with 400"),
    ERROR_BODY,
)


def _run(context: Context) -> Finding:
    judgement = Judgement(PROMISES, context.target)
    # Of all mistakes the one that no server can take for a request and let a model work on.
    body = {"max_tokens": 1} | ({} if context.model is None else {"model": context.model})
    answer = context.ask("POST", "/chat/completions", kind="bad_request", body=body, charged=Cost(1, 0))
    if is_answered(judgement, answer) and is_allowed(judgement, answer):
        detail = f"a request without messages: expected 400, got {said(judgement, answer)}"
        if judgement.judge("mistake_gets_400", answer.status == 400, detail):
            judge_error_body(judgement, answer)
    return judgement.finding(answer)


CHECK = Check(name="errors", run=_run, most=lambda target: Cost(1, 0), every_s=3600.0)
