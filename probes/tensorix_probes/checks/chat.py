"""Whether a chat completion comes, is what is documented, and holds the expected answer. Costs a few tokens."""

from __future__ import annotations

from typing import Any

from tensorix_probes.check import Check, Context, Finding
from tensorix_probes.checks._answered import (
    ANSWERED,
    JSON_TYPE,
    is_limit_or_bill,
    is_success,
    judge_json_type,
    judge_time,
)
from tensorix_probes.checks._canary import (
    CANARY,
    NO_MODEL,
    Words,
    judge_identity,
    judge_usage,
    judge_words,
    most,
    question,
    spent,
)
from tensorix_probes.checks._promises import Judgement, Promise
from tensorix_probes.result import State

__all__ = ["CHECK", "PROMISES"]

PROMISES = (
    *ANSWERED,
    Promise("body_is_a_completion", "the body is JSON with choices, each with a message", State.DOWN),
    JSON_TYPE,
    Promise("object_is_documented", 'the body says "object": "chat.completion"'),
    Promise(
        "choice_is_documented", "there is one choice, of index 0, whose message has the role assistant and content"
    ),
    *CANARY,
    Promise("answer_is_quick", "the whole took at most slow.chat_s"),
)


def _run(context: Context) -> Finding:
    target, model = context.target, context.model
    if model is None:
        return Finding(inconclusive=NO_MODEL)
    judgement = Judgement(PROMISES, target)
    body = question(target, model)
    answer = context.ask("POST", "/chat/completions", kind="chat", body=body, charged=most(target))
    if not is_success(judgement, answer, target.slow.connect_s):
        return judgement.finding(answer, spent=spent(target, answer, None))
    reply = answer.json()
    choices = _choices_of(reply)
    if choices is None:
        if isinstance(reply, dict) and is_limit_or_bill(judgement, reply.get("error")):
            return judgement.finding(answer)
        got = judgement.quote(reply if reply is not None else answer.body[:2_000].decode("utf-8", "replace"))
        judgement.judge("body_is_a_completion", False, f"expected a chat completion, got {got or 'no body'}")
        return judgement.finding(answer, spent=spent(target, answer, None))
    judgement.judge("body_is_a_completion", True)
    judge_json_type(judgement, answer)
    is_named = reply.get("object") == "chat.completion"
    judgement.judge("object_is_documented", is_named, f"object is {judgement.quote(reply.get('object'))}")
    words = _judge_choices(judgement, choices)
    judge_identity(judgement, answer, model, reply)
    usage = judge_usage(judgement, target, reply.get("usage"))
    judge_words(judgement, target, words)
    judge_time(judgement, "answer_is_quick", answer.phases.total_ns, target.slow.chat_s)
    return judgement.finding(
        answer,
        spent=spent(target, answer, usage),
        figures={} if usage is None else {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion},
        facts={"text": words.text} | ({} if usage is None else {"usage": usage}),
    )


def _choices_of(reply: Any) -> list[dict[str, Any]] | None:
    """The choices of a chat completion; None where it is none."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices:
        return None
    fine = all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices)
    return choices if fine else None


def _judge_choices(judgement: Judgement, choices: list[dict[str, Any]]) -> Words:
    first = choices[0]
    message = first["message"]
    content = message.get("content")
    # Some servers give a list of parts.
    text = content if isinstance(content, str) else _joined(content)
    called = bool(message.get("tool_calls") or message.get("function_call") or message.get("refusal"))
    reasoned = any(isinstance(message.get(name), str) and message[name] for name in ("reasoning_content", "reasoning"))
    wrong = []
    if len(choices) != 1:
        wrong.append(f"{len(choices)} choices")
    if first.get("index") != 0:
        wrong.append(f"index is {judgement.quote(first.get('index'), 40)}")
    if message.get("role") != "assistant":
        wrong.append(f"role is {judgement.quote(message.get('role'), 40)}")
    if not isinstance(content, str) and not (content is None and (called or reasoned)):
        wrong.append(f"content is {judgement.quote(content, 80)}")
    judgement.judge("choice_is_documented", not wrong, f"expected one choice of the assistant's: {', '.join(wrong)}")
    return Words(text, reasoned, first.get("finish_reason"))


def _joined(parts: Any) -> str:
    if not isinstance(parts, list):
        return ""
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


CHECK = Check(name="chat", run=_run, most=most, decides=True)
