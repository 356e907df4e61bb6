"""What was found, in plain words: the headline, one paragraph, and a sentence a finding."""

from __future__ import annotations

import numpy as np

from tensorix_reports.frames import whole
from tensorix_reports.limiter import Fitted, Interval, Kind, LimiterFit
from tensorix_reports.limits._headers import HeaderAudit
from tensorix_reports.limits._report import KeyReport, LimitsReport
from tensorix_reports.limits._unavailable import UNAVAILABLE, unavailable
from tensorix_reports.page._statement import Standing, Statement, Verdict, counted
from tensorix_reports.page._tables import number

__all__ = ["KINDS", "interval", "verdict_of"]

KINDS: dict[Kind, str] = {
    "fixed_window": "fixed windows, each opened by the first request after the last",
    "clock_window": "fixed windows on the server's clock",
    "sliding_log": "a sliding log, in which each request counts for exactly a window",
    "sliding_counter": "a sliding counter, which weighs two windows of the clock",
    "token_bucket": "a token bucket, which refills all the time",
}
_SHORT: dict[Kind, str] = {
    "fixed_window": "a fixed window from the first request",
    "clock_window": "a window on the clock",
    "sliding_log": "a sliding log",
    "sliding_counter": "a sliding counter",
    "token_bucket": "a token bucket",
}


def interval(one: Interval, unit: str = "") -> str:
    """A value with its bounds, where these differ from it."""
    value = f"{one.value:.4g} {unit}".strip()
    if one.low == one.high:
        return value
    return f"{value} ({one.low:.4g} to {one.high:.4g})"


_WIDE = 1.05
"""Bounds that are further apart than this are said with the value."""


def _amount(fitted: Fitted) -> str:
    requests, window = round(fitted.limit.value), fitted.window_s
    text = f"{requests:,} request{'' if requests == 1 else 's'} in {window.value:.4g} s"
    if window.high > _WIDE * window.low:
        text += f" ({window.low:.3g} to {window.high:.3g} s)"
    return text + (f", at most {round(fitted.burst.value):,} at once" if fitted.burst is not None else "")


def _headline(report: LimitsReport) -> str:
    main = report.main
    if main is None:
        return "No request tells of a limit"
    fit, best = main.fit, main.best
    if fit.verdict == "no limit reached" or best is None:
        if main.refused_for_tokens:
            refused = counted(main.refused_for_tokens, "request")
            return f"A limit on tokens refused {refused}; none on requests was reached by {fit.requests:,}"
        return f"No limit was reached by {counted(fit.requests, 'request')}"
    if fit.verdict == "named":
        return f"{_amount(best)}: {_SHORT[best.kind]}"
    if fit.verdict == "cannot tell":
        names = [_SHORT[kind] for kind in fit.set_of_95]
        return f"About {_amount(best)}; it cannot be told from what was seen whether by {' or '.join(names)}"
    return f"None of the known kinds of limiter explains what was seen; the nearest is {_SHORT[best.kind]}"


def _how_far(main: KeyReport) -> str:
    evidence = main.key.evidence
    passed_s = evidence.sent_s[evidence.passed]
    refused = "none was refused for their number" if main.refused_for_tokens else "none was refused"
    text = f"{counted(len(passed_s), 'request')} passed and {refused}"
    if len(passed_s):
        length_s = float(passed_s.max() - passed_s.min())
        each = [(1.0, "a second"), (60.0, "a minute"), (3_600.0, "an hour")]
        most = [f"{main.key.most_in(seconds):,} within {name}" for seconds, name in each if seconds < length_s]
        whole_s = f"all within {max(length_s, 0.01):.2g} s" if length_s < 1 else f"in {length_s:,.1f} s"
        text += f", {whole_s}" + (f", at most {' and '.join(most)}" if most else "")
    text += ". The limit, if there is one, lies above that."
    if main.refused_for_tokens:
        return f"{text} Smaller requests, or a larger limit on tokens, would show it."
    return text


def _paragraph(main: KeyReport) -> str:
    best, meaning = main.best, main.meaning
    if best is None or meaning is None:
        return _how_far(main)
    what = f"{_amount(best)}, counted in {KINDS[best.kind]}"
    text = {
        "named": f"The key may send {what} ({best.probability:.0%} sure). ",
        "cannot tell": f"Most likely ({best.probability:.0%}) the key may send {what}; then what follows holds. ",
    }.get(
        main.fit.verdict,
        f"The nearest is {what}, and it explains {best.explained:.0%} of the decisions: what follows is a guess. ",
    )
    many = meaning.burst != 1
    text += (
        f"That is {number(meaning.rate_per_s)} requests a second for ever; {counted(meaning.burst, 'request')} at once "
    )
    text += f"{'are' if many else 'is'} safe after {meaning.whole_after_s:.4g} s without any. "
    text += f"One request in {meaning.pace_s:.3g} s is never refused. "
    # Where none was refused the fit says what is usual, and not what was seen.
    if main.fit.refused:
        text += (
            "Requests that are refused count too, so asking again and again makes the wait longer. "
            if best.counts_refused
            else "Requests that are refused do not count. "
        )
    if meaning.crossover_tokens is not None:
        text += (
            f"Requests of more than {meaning.crossover_tokens:,.0f} tokens in the mean meet the limit on tokens first. "
        )
    return text.strip()


def _status_statements(main: KeyReport) -> list[Statement]:
    """What a 503 is: a refusal, or trouble of the server's."""
    if main.key.refused_with == UNAVAILABLE:
        text = (
            "Requests over the limit are answered 503, not 429: they come beyond the limit and nowhere else, so the "
            "limiter refuses with them (nginx's limit_req does, unless limit_req_status is set). Clients take a 503 "
            "for an outage."
        )
        return [Statement("limit", "problem", "status", text)]
    count = int(unavailable(main.key).sum())
    if count < 2 or main.fit.refused:
        return []
    text = f"{counted(count, 'request')} got a 503, and no limit explains which: the server was overloaded or down."
    return [Statement("limit", "unknown", "status", text)]


def _fit_statements(main: KeyReport) -> list[Statement]:
    fit = main.fit
    found = [Statement("limit", "notice", "why", f"{line.rstrip('.')}.") for line in fit.why]
    if fit.verdict == "cannot tell" and fit.would_tell:
        found.append(Statement("limit", "unknown", "would tell", f"{fit.would_tell.rstrip('.')}."))
    if fit.second_limit is not None:
        requests, seconds = fit.second_limit
        text = f"Besides, no more than {counted(requests, 'request')} in {seconds:g} s."
        found.append(Statement("limit", "notice", "second limit", text))
    if fit.foreign_per_s is not None:
        text = f"Somebody else seems to send {number(fit.foreign_per_s)} requests a second on this key."
        found.append(Statement("limit", "problem", "not alone", text))
    if fit.changed_at_s is not None:
        text = f"The limit changed {fit.changed_at_s:,.1f} s after the run's start: what stands here is the one that "
        text += "explains the most."
        found.append(Statement("limit", "problem", "changed", text))
    if main.refused_for_tokens:
        were = "was" if main.refused_for_tokens == 1 else "were"
        text = f"{counted(main.refused_for_tokens, 'refusal')} spoke of tokens, and {were} left out of the fit."
        found.append(Statement("limit", "notice", "tokens", text))
    if main.key.left_out:
        text = (
            f"The fit rests on the first {len(main.key.evidence):,} requests; {main.key.left_out:,} more were left out."
        )
        found.append(Statement("limit", "notice", "cut", text))
    return found


def _odd(main: KeyReport, answered: list[HeaderAudit]) -> list[Statement]:
    odd = [one for one in answered if one.odd]
    if not odd:
        return []
    said = main.key.requests.codes("limit_anomaly")
    first = next(str(value) for value in said.values if value is not None)
    text = (
        f"{counted(sum(one.odd for one in odd), 'response')} ({'; '.join(f'{one.kind} {one.status}' for one in odd)}) "
    )
    text += f"said what no client can rely on: {first}."
    return [Statement("headers", "problem", "odd", text)]


def _header_statements(main: KeyReport) -> list[Statement]:
    answered = [one for one in main.headers if one.responses]
    found = _odd(main, answered)
    if not any(one.present or one.odd for one in answered):
        if answered:
            text = "No response said how many requests remain, though every response is documented to."
            found.append(Statement("headers", "problem", "absent", text))
    else:
        missing = [f"{one.kind} {one.status}" for one in answered if not one.present]
        if missing:
            text = f"How many requests remain is on no response of these kinds: {'; '.join(missing)}."
            found.append(Statement("headers", "problem", "absent", text))
    true, wrong = [one for one in answered if one.compared and not _is_wrong(one)], list(filter(_is_wrong, answered))
    if true:
        compared, equal = sum(one.compared for one in true), sum(one.equal for one in true)
        kinds = "; ".join(f"{one.kind} {one.status}" for one in true)
        text = f"What the header says is what the limiter has left, on {equal:,} of {compared:,} responses ({kinds})."
        found.append(Statement("headers", "good", "true", text))
    for one in wrong:
        text = f"On {one.compared - one.equal:,} of {one.compared:,} ({one.kind} {one.status}) the header is off by "
        text += f"{one.off_by:+g} in the median"
        text += f", as it was {number(one.late_s, 's')} before" if one.late_s is not None else ""
        found.append(Statement("headers", "problem", "wrong", f"{text}."))
    # What a header that is not true does from one response to the next tells of nobody.
    if any(one.off_by is not None and one.off_by > 0 for one in wrong):
        return found
    for rises in main.rises:
        if rises.unexplained:
            text = (
                f"What remains of the {rises.resource} rose {counted(rises.rises, 'time')}, {rises.unexplained:,} of "
            )
            found.append(Statement("headers", "notice", "rises", f"{text}these neither by refill nor by settling."))
        if rises.used_by_others > _A_FEW:
            text = f"{counted(rises.used_by_others, 'request')} went from what remains that are not ours."
            found.append(Statement("headers", "notice", "others", text))
    return found


_A_FEW = 2
"""At a window's edge, and at the beginning, when others may have asked before."""


def _is_wrong(one: HeaderAudit) -> bool:
    """Whether a kind of response lies: a few at a window's edge are the order of things, not the header's."""
    return one.compared - one.equal > max(1, 0.05 * one.compared)


def _retry_statement(main: KeyReport) -> list[Statement]:
    retry = main.retry
    if not retry.refusals:
        return []
    if not retry.said:
        return [Statement("retry-after", "notice", "retry-after", "No refusal said how long to wait.")]
    if not retry.compared:
        text = f"{counted(retry.said, 'refusal')} said how long to wait, and nothing is known to hold that against."
        return [Statement("retry-after", "unknown", "retry-after", text)]
    said = f"said {number(retry.said_median_s, 's')} where {number(retry.needed_median_s, 's')} were needed (medians)"
    standing: Standing
    if retry.too_early:
        standing, word, count = "problem", "too early", retry.too_early
        how = f"too early by {number(retry.too_early_by_s, 's')} at most"
    elif retry.too_late:
        standing, word, count = "notice", "too late", retry.too_late
        how = (
            f"overstated by {number(retry.too_late_by_s, 's')} in the median, {number(retry.too_late_by_most_s, 's')} "
        )
        how += "at most"
    else:
        standing, word, count = "good", "honest", retry.honest
        how = "honest, up to a second of rounding"
    text = f"{count:,} of {retry.compared:,} Retry-After are {how}; they {said}."
    return [Statement("retry-after", standing, word, text)]


def _meaning_statements(main: KeyReport) -> list[Statement]:
    meaning = main.meaning
    if meaning is None:
        return []
    found = [Statement("meaning", "notice", "pace", f"To stay within it: tensorix load {meaning.load_options}.")]
    if meaning.keys is not None:
        text = f"{number(meaning.want_per_s)} requests a second need {counted(meaning.keys, 'key')}, each kept to 95 %."
        found.append(Statement("meaning", "notice", "keys", text))
    for one in main.plan:
        text = f"Of {counted(one.requests, 'planned request')} {one.share:.1%} would be refused ({one.refused:,}"
        text += f", {one.for_tokens:,} of these for tokens" if one.for_tokens else ""
        text += f"), by {_SHORT[one.kind]}." if len(main.plan) > 1 else ")."
        found.append(Statement("meaning", "problem" if one.refused else "good", "plan", text))
    return found


def _experiment_statements(report: LimitsReport) -> list[Statement]:
    found = []
    if report.ended_early is not None:
        text = f"The experiment ended early: {report.ended_early.rstrip('.')}."
        found.append(Statement("experiment", "unknown", "ended early", text))
    status = report.frames.requests.array("status")
    failed = status >= 500
    if report.main is not None:
        failed &= status != report.main.key.refused_with
    if failed.any():
        text = f"{counted(int(failed.sum()), 'request')} got a 5xx; they are taken to have been counted."
        found.append(Statement("experiment", "notice", "failed", text))
    lost = int((~np.isfinite(report.frames.requests.array("status"))).sum())
    if lost:
        were = "was" if lost == 1 else "were"
        text = (
            f"{counted(lost, 'request')} {were} left without an answer; whether the limiter counted them is not known."
        )
        found.append(Statement("experiment", "notice", "no answer", text))
    spent = report.spent
    if spent:
        amounts = [counted(whole(spent.get(f"{name}s")) or 0, name) for name in ("request", "token")]
        text = f"{', '.join(amounts)}, {number(spent.get('seconds'), 's')}."
        found.append(Statement("experiment", "notice", "used", text))
    return found


def _beside_statements(report: LimitsReport) -> list[Statement]:
    found = []
    for one in report.beside:
        standing: Standing = "unknown" if one.answer == "unclear" else "notice"
        text = f"{one.question[0].upper()}{one.question[1:]} {one.answer[0].upper()}{one.answer[1:]}: {one.evidence}."
        found.append(Statement("beside", standing, "beside", text))
    return found


def _standing(fit: LimiterFit) -> tuple[Standing, str]:
    if fit.verdict == "named":
        return "good", "found"
    return ("unknown", fit.verdict) if fit.verdict != "no model fits" else ("problem", fit.verdict)


def verdict_of(report: LimitsReport) -> Verdict:
    """The headline, a paragraph, and what else was found."""
    main = report.main
    statements: list[Statement] = []
    if main is not None:
        standing, word = _standing(main.fit)
        statements.append(Statement("limit", standing, word, _paragraph(main)))
        statements += [
            *_status_statements(main),
            *_fit_statements(main),
            *_header_statements(main),
            *_retry_statement(main),
        ]
        statements += _meaning_statements(main)
    return Verdict(_headline(report), [*statements, *_beside_statements(report), *_experiment_statements(report)])
