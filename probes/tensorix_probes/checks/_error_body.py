"""The documented form of an error's body: `{"error": {"message": …, "type": …, "code": …}}`."""

from __future__ import annotations

from tensorix_probes.checks._promises import Judgement, Promise
from tensorix_probes.exchange.answer import Answer

__all__ = ["ERROR_BODY", "judge_error_body"]

ERROR_BODY = Promise(
    "error_body_is_documented", "the body is an error object with a message and a type, and a code that is text"
)


def judge_error_body(judgement: Judgement, answer: Answer) -> dict[str, str]:
    """Look at an error's body. Returns the texts of its error object, whether all of it is as documented or not."""
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        got = judgement.quote(answer.body[:2_000].decode("utf-8", "replace")) or "no body"
        judgement.judge(ERROR_BODY.name, False, f'expected {{"error": {{…}}}}, got {got}')
        return {}
    wrong = [
        f"{name} is {judgement.quote(error.get(name), 60) or 'empty'}"
        for name in ("message", "type", "code")
        # Of codes only that of a bad key is documented: others may be left out.
        if not ((isinstance(value := error.get(name), str) and value) or (name == "code" and value is None))
    ]
    judgement.judge(ERROR_BODY.name, not wrong, f"expected message, type and code as text, but {', '.join(wrong)}")
    return {name: value for name, value in error.items() if isinstance(value, str)}
