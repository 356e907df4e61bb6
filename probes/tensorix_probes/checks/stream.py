"""Whether a streamed completion is well-formed from its first chunk to [DONE], and how fast it comes.

Costs a few tokens.
"""

from __future__ import annotations

from tensorix_api.errors import ErrorKind
from tensorix_probes.check import Check, Context, Finding
from tensorix_probes.checks._answered import ANSWERED, is_limit_or_bill, is_success, judge_time
from tensorix_probes.checks._canary import (
    CANARY,
    NO_MODEL,
    Usage,
    Words,
    judge_identity,
    judge_usage,
    judge_words,
    most,
    question,
    spent,
)
from tensorix_probes.checks._promises import Judgement, Promise
from tensorix_probes.checks._stream_reading import Seen, read_events
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.result import State

__all__ = ["CHECK", "PROMISES"]

PROMISES = (
    *ANSWERED,
    Promise("is_streamed", "events came, as asked for, and not one JSON body", State.DOWN),
    Promise("no_error_event", "no error comes as an event in mid-stream", State.DOWN),
    Promise("chunks_are_json", "each event is a JSON object, or [DONE]", State.DOWN),
    Promise("tokens_came", "something was generated: content, reasoning or a call", State.DOWN),
    Promise("content_type_is_event_stream", "the content type is text/event-stream"),
    Promise("one_id", "all chunks have the same id"),
    Promise("one_model", "all chunks name the same model"),
    Promise("object_is_documented", 'each chunk says "object": "chat.completion.chunk"'),
    Promise("role_comes_first", "the first delta has the role assistant"),
    Promise("one_finish_reason", "there is one choice, it has one finish reason, and nothing is said after it"),
    Promise("done_comes_last", "the stream ends with [DONE]"),
    Promise("nothing_after_done", "nothing comes after [DONE]"),
    *CANARY,
    Promise("usage_is_that_of_chat", "as many prompt tokens as the check chat was told for the same prompt"),
    Promise("first_token_is_quick", "the first token came within slow.first_token_s"),
    Promise("gaps_are_short", "from the first token on no silence is longer than slow.gap_s"),
)


def _run(context: Context) -> Finding:
    target, model = context.target, context.model
    if model is None:
        return Finding(inconclusive=NO_MODEL)
    judgement = Judgement(PROMISES, target)
    body = question(target, model, stream=True, stream_options={"include_usage": True})
    answer = context.ask("POST", "/chat/completions", kind="stream", body=body, charged=most(target))
    seen = read_events(answer.events)
    usage = None
    if _is_readable(judgement, answer, seen, target.slow.connect_s):
        judgement.judge("tokens_came", seen.first_token_ns is not None, f"{seen.chunks} chunks, none with a token")
        _judge_form(judgement, answer, seen)
        judge_identity(judgement, answer, model, seen.first)
        usage = judge_usage(judgement, target, seen.usage)
        _compare(judgement, context, usage)
        reasons = [reason for given in seen.finish_reasons.values() for reason in given]
        judge_words(judgement, target, Words(seen.text, seen.reasoned, reasons[0] if reasons else None))
        judge_time(judgement, "first_token_is_quick", answer.phases.first_token_ns, target.slow.first_token_s)
        judge_time(judgement, "gaps_are_short", seen.largest_gap_ns, target.slow.gap_s)
    return judgement.finding(
        answer,
        spent=spent(target, answer, usage),
        figures=_figures(seen, usage),
        facts={"text": seen.text} | ({} if usage is None else {"usage": usage}),
    )


def _is_readable(judgement: Judgement, answer: Answer, seen: Seen, most_connect_s: float | None) -> bool:
    """Whether a whole stream came. What the exchange calls malformed, or an error, gets its own name here."""
    failure = answer.failure
    if answer.status == 200:
        if failure is not None and failure.kind is ErrorKind.MALFORMED and not (answer.events or answer.is_stream):
            return judgement.judge("is_streamed", False, failure.text)
        before = f"after {seen.chunks} chunks: "
        if seen.error is not None:
            if is_limit_or_bill(judgement, seen.error):
                return False
            return judgement.judge("no_error_event", False, before + judgement.quote(seen.error))
        if failure is not None and failure.kind is ErrorKind.ERROR_EVENT:
            return judgement.judge("no_error_event", False, before + failure.text)
        if seen.broken is not None:
            return judgement.judge("chunks_are_json", False, before + judgement.quote(seen.broken))
    if not is_success(judgement, answer, most_connect_s):
        return False
    for name in ("is_streamed", "no_error_event", "chunks_are_json"):
        judgement.judge(name, True)
    return True


def _judge_form(judgement: Judgement, answer: Answer, seen: Seen) -> None:
    given = next((text for name, text in answer.headers if name.lower() == "content-type"), None)
    judgement.judge("content_type_is_event_stream", answer.is_stream, f"content-type is {judgement.quote(given)}")
    judgement.judge("one_id", len(seen.ids) <= 1, f"{len(seen.ids)} ids: {_some(judgement, seen.ids)}")
    judgement.judge("one_model", len(seen.models) <= 1, f"{len(seen.models)} models: {_some(judgement, seen.models)}")
    named = seen.objects == {"chat.completion.chunk"}
    judgement.judge("object_is_documented", named, f"object is {_some(judgement, seen.objects)}")
    role = (seen.first_delta or {}).get("role")
    judgement.judge("role_comes_first", role == "assistant", f"role in the first delta: {judgement.quote(role, 40)}")
    counts = [len(given) for given in seen.finish_reasons.values()]
    said_on = ", and more was said after it" if seen.said_after_finish else ""
    told = f"{len(counts)} choices with {sum(counts)} finish reasons{said_on}"
    judgement.judge("one_finish_reason", counts == [1] and not said_on, told)
    judgement.judge("done_comes_last", seen.done, "the stream ended without [DONE]")
    judgement.judge("nothing_after_done", not seen.after_done, f"{seen.after_done} events came after [DONE]")


def _some(judgement: Judgement, names: set[str]) -> str:
    return ", ".join(judgement.quote(name, 60) or "empty" for name in sorted(names)[:3]) or "nothing"


def _compare(judgement: Judgement, context: Context, usage: Usage | None) -> None:
    chat = context.earlier.get("chat")
    unstreamed = chat.facts.get("usage") if chat is not None else None
    if usage is None or not isinstance(unstreamed, Usage):
        return
    detail = f"{usage.prompt} prompt tokens, and {unstreamed.prompt} of the same prompt when not streamed"
    judgement.judge("usage_is_that_of_chat", usage.prompt == unstreamed.prompt, detail)


def _figures(seen: Seen, usage: Usage | None) -> dict[str, float]:
    figures: dict[str, float] = {"chunks": seen.chunks}
    if seen.largest_gap_ns is not None:
        figures["largest_gap_s"] = seen.largest_gap_ns / 1e9
    if usage is None:
        return figures
    figures |= {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion}
    if seen.first_token_ns is not None and seen.last_token_ns is not None and usage.completion > 1:
        took_ns = seen.last_token_ns - seen.first_token_ns
        # Tokens that came in one read have no speed.
        if took_ns > 0:
            figures["tokens_per_second"] = (usage.completion - 1) * 1e9 / took_ns
    return figures


CHECK = Check(name="stream", run=_run, most=most, decides=True)
