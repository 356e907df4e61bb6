"""What a run showed, in a few plain sentences, each with a word for its standing. Nothing is claimed on too little."""

from __future__ import annotations

from collections import Counter

from tensorix_reports.frames import PREFLIGHT, RunFrames
from tensorix_reports.limiting._rate_limit import KeyLimits, RateLimitReport
from tensorix_reports.limiting._windows import LimiterWindow
from tensorix_reports.load._goals import GoalsReport
from tensorix_reports.load._latency import LatencyReport
from tensorix_reports.load._schedule import schedule_statements
from tensorix_reports.load._traces import ended_here, limit_of_a_share, measured_in_the_service, read_from, share_seen
from tensorix_reports.page._statement import Statement, Verdict, counted

__all__ = ["verdict_of"]

_REASONS = {
    "requests": "all requests were made",
    "duration": "the time was over",
    "schedule": "every scheduled request was sent and answered",
    "schedule_broken": "its trace could not be read to the end",
    "budget": "a cap on what it may spend was reached",
    "unbounded": "a request had no bound that its cap could be kept with",
    "interrupted": "it was interrupted",
    "stopped": "it was stopped",
    "brake": "a brake ended it",
    "defect": "a user's task failed before it could send",
    "unauthorised": "the key was refused",
    "payment": "the key is out of credit",
    "refused": "the server has no such model",
    "write_failed": "its records could not be written",
    "workers_lost": "no worker was left",
}
_STOPPED = (
    "unauthorised",
    "payment",
    "refused",
    "write_failed",
    "defect",
    "brake",
    "schedule_broken",
    "workers_lost",
    "unbounded",
)


_NO_GOALS = GoalsReport(None)


def _run(frames: RunFrames, latency: LatencyReport) -> Statement:
    trust = latency.trust
    if not frames.ended:
        text = "The run has no end: it was killed, or is still going. Up to its last second may be missing."
        if trust.in_flight_last is not None:
            were = "request was" if trust.in_flight_last == 1 else "requests were"
            text += (
                f" {trust.in_flight_last:,} {were} in flight when it was last heard of, at {trust.heard_until_s:.1f} s."
            )
        else:
            text += " How many requests were in flight is not known."
        return Statement("run", "problem", "incomplete", text)
    reason = str(frames.manifest.get("end_reason") or "").strip()
    known = _REASONS.get(reason, reason or "the run does not say why")
    lost = [str(text) for text in frames.manifest.get("losses") or ()]
    resumed = len(frames.manifest.get("resumed") or ())
    # An engine that was killed leaves its files so; the one that resumed the run has put them together.
    damage = [text for text in frames.findings if text not in lost and not (resumed and " was not closed: " in text)]
    if lost and not damage:
        text = f"The run ended ({known}), but without all of what its workers did: {lost[0]}"
        more = len(lost) - 1
        return Statement("run", "problem", "worker lost", text + (f" (and {more} more)." if more else "."))
    if damage:
        text = f"The run ended ({known}), but its folder is damaged: {damage[0]}"
        more = len(frames.findings) - 1
        return Statement("run", "problem", "damaged", text + (f" (and {more} more)." if more else "."))
    text = f"The run ended in order after {frames.end_s:,.1f} s: {known}."
    if trust.unfinished:
        text += f" {counted(trust.unfinished, 'request')} started and left no record."
    said = [str(event["words"]) for event in frames.of("stop") if event.get("words")]
    if reason in ("brake", "budget", "unbounded") and said:
        text += f" {said[-1][:300].rstrip('.')}."
    if resumed:
        times = "once" if resumed == 1 else f"{resumed:,} times"
        text += f" It was resumed {times}: rates over the whole count the pauses."
    stopped = reason in _STOPPED
    return Statement("run", "problem" if stopped else "good", "stopped" if stopped else "complete", text)


def _limit(report: RateLimitReport) -> list[Statement]:
    if not report.totals["sent"]:
        return [Statement("limit", "unknown", "not known", "No request was sent, so nothing is known about the limit.")]
    if not report.reached:
        text = "No request was refused for its rate (429)"
        known = [window for key in report.keys for window in key.fit.windows]
        most = max((window.passed for window in known), default=0)
        if report.limit_requests and most > report.limit_requests:
            text += f", though {most:,} passed in one window: more than the limit of {report.limit_requests:,}"
        elif report.limit_requests and known:
            text += f"; the most that passed in one window is {most:,} of {report.limit_requests:,}"
        elif known:
            text += f"; the most that passed in one window is {most:,}, and what the limit is nobody said"
        return [Statement("limit", "notice", "not reached", text + ".")]
    return [statement for key in report.keys for statement in _limit_of_key(report, key)]


def _limit_of_key(report: RateLimitReport, key: KeyLimits) -> list[Statement]:
    windows = [window for window in key.fit.windows if window.complete]
    spent = [window for window in key.fit.windows if window.refused]
    who = f" (key {key.key_alias})" if len(report.keys) > 1 and key.key_alias else ""
    if not spent:
        if not key.fit.windows and key.episodes:
            return [Statement("limit", "notice", "reached", f"Requests were refused (429){who}; {key.fit.how}.")]
        return []
    bounds = {window.bound_by for window in spent}
    refused = sum(window.refused for window in spent)
    what = {"requests": "the request limit", "tokens": "the token limit"}.get(
        bounds.pop() or "" if len(bounds) == 1 else "", "a limit (which one is not clear)"
    )
    back = sum(1 for episode in key.episodes if episode.back_s is not None)
    text = f"The run ran into {what}{who}: {counted(refused, 'request')} refused with 429, the budget spent "
    text += f"{counted(len(key.episodes), 'time')} and seen to come back {counted(back, 'time')}."
    return [Statement("limit", "notice", "reached", text), _against_limit(report, key, windows)]


def _against_limit(report: RateLimitReport, key: KeyLimits, windows: list[LimiterWindow]) -> Statement:
    length = f"{key.fit.window_s:g} s"
    full = [window.passed for window in windows if window.refused]
    if key.fit.fits is False:
        text = f"The refusals do not agree with fixed windows of {length} from the first request: {key.fit.doubts[0]}."
        return Statement("windows", "problem", "do not fit", text)
    if not full:
        text = f"No window of {length} was both spent and seen whole, so what a window lets through is not known."
        return Statement("windows", "unknown", "too short", text)
    low, high = min(full), max(full)
    passed = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    text = f"{passed} requests passed per window of {length} ({counted(len(full), 'spent window')} seen whole)"
    limit = report.limit_requests
    said = {"headers": " that headers state", "documented": " that is documented"}.get(report.sources["requests"], "")
    if {window.bound_by for window in windows if window.refused} == {"tokens"}:
        return Statement("windows", "notice", "by tokens", f"{text}, bound by tokens rather than requests.")
    if limit is None:
        text += "; what the limit is nobody said, so this is held against none."
        return Statement("windows", "notice", "measured", text)
    if low == high == limit:
        return Statement("windows", "good", "as allowed", f"{text}, exactly the limit of {limit:,}{said}.")
    spent_whole = [window for window in windows if window.refused]
    if all(window.passed <= limit <= window.passed + window.other for window in spent_whole):
        text += f"; with those that failed otherwise they come to the limit of {limit:,}{said}."
        return Statement("windows", "good", "as allowed", text)
    if high > limit:
        return Statement("windows", "problem", "over", f"{text}: more than the limit of {limit:,}{said}.")
    return Statement("windows", "notice", "below", f"{text}, below the limit of {limit:,}{said}.")


def _length(report: RateLimitReport) -> list[Statement]:
    if report.window_s is None or report.window_s == 60:
        return []
    word = "shortened" if report.window_s < 60 else "lengthened"
    how = "as its refusals show" if report.sources["window"] == "measured" else "as the run was told"
    text = f"The limiter counts in windows of {report.window_s:.3g} s in this run, not in the documented minute, {how}."
    return [Statement("window", "notice", word, text)]


def _failures(report: RateLimitReport, latency: LatencyReport) -> Statement:
    failed, passed = report.totals["failed"], report.totals["success"]
    judged = failed + passed
    if not judged:
        return Statement("failures", "unknown", "none judged", "No request succeeded or failed on its own account.")
    if not failed:
        return Statement(
            "failures", "good", "no failures", f"None of {counted(judged, 'request')} failed (429s apart)."
        )
    counts: Counter[str] = Counter()
    for failure in latency.failures:
        if failure.outcome == "failed" and failure.request != PREFLIGHT:
            counts[failure.kind.replace("_", " ")] += failure.count
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common(3))
    more = "" if len(counts) <= 3 else ", …"
    text = f"{failed:,} of {counted(judged, 'request')} failed ({failed / judged:.1%}): {kinds}{more}."
    return Statement("failures", "problem", "failures", text)


def _cancelled(report: RateLimitReport) -> list[Statement]:
    """Said where there are any: neither a success nor the server's failure, they would be missed in both."""
    if not (cancelled := report.totals["cancelled"]):
        return []
    text = f"{counted(cancelled, 'request')} cancelled from this end, in flight when the run was cut short."
    return [Statement("cancelled", "notice", "cancelled", text)]


def _latency(latency: LatencyReport) -> list[Statement]:
    found = []
    for row in latency.rows:
        if row.quantity != "TTFT" and not (row.quantity == "E2E" and row.request == "chat, not streamed"):
            continue
        middle, tail = row.figures[50.0], row.figures[95.0]
        if middle.value is None:
            text = f"{row.quantity} ({row.request}): only {counted(row.count, 'sample')}, too few for a median."
            found.append(Statement("latency", "unknown", "too few", text))
            continue
        text = f"{row.quantity} ({row.request}): half within {middle.value:,.0f} ms"
        text += f", 95 % within {tail.value:,.0f} ms" if tail.value is not None else ", too few for the p95"
        found.append(Statement("latency", "good", "measured", f"{text} ({counted(row.count, 'request')})."))
    return found


def _client(latency: LatencyReport) -> Statement:
    trust = latency.trust
    if trust.saturated:
        text = f"The client itself was a bottleneck: {'; '.join(trust.reasons)}. What helps: "
        text += "; ".join(dict.fromkeys(cause["advice"] for cause in trust.saturated)) + "."
        return Statement("client", "problem", "saturated", text)
    if trust.reasons:
        return Statement("client", "problem", "with care", f"Take the figures with care: {'; '.join(trust.reasons)}.")
    if trust.level == "unknown":
        return Statement("client", "unknown", "not known", "The run holds nothing about the client's own lag.")
    text = "The client kept up"
    if trust.lag_p99_ns is not None:
        text += f": it saw 99 % of first tokens within {trust.lag_p99_ns / 1e6:.2f} ms of their arrival"
    if set(trust.stamps) == {"kernel"}:
        text += ", and arrivals are stamped by the kernel"
    return Statement("client", "good", "trusted", text + ".")


def _headline(frames: RunFrames, statements: list[Statement]) -> str:
    words = {statement.topic: statement for statement in reversed(statements)}
    if words["run"].word == "stopped":
        return f"The run was stopped: {_REASONS.get(str(frames.manifest.get('end_reason')), 'see below')}"
    if frames.is_traced:
        return _headline_of_traces(words)
    limit, windows = words.get("limit"), words.get("windows")
    if limit is None or limit.standing == "unknown":
        return "Nothing was measured: no request was sent"
    if windows is not None and windows.standing in ("good", "problem"):
        outcome = {"as allowed": "Limit reached and kept", "over": "More passed than the limit allows"}
        headline = outcome.get(windows.word, "Limit reached, in a way that fixed windows do not explain")
    else:
        headline = "Limit reached" if limit.word == "reached" else "Limit not reached"
    if words["failures"].word == "failures":
        headline += ", with failures"
    if words["client"].word == "saturated":
        headline += ", measured by a saturated client"
    if words["run"].word == "worker lost":
        headline += ", without all of its workers"
    return headline + ("" if frames.ended else " (incomplete run)")


def _headline_of_traces(words: dict[str, Statement]) -> str:
    windows, limit = words.get("windows"), words.get("limit")
    known = {"as allowed": "limit reached and kept", "over": "more passed than the limit allows"}
    reached = "limit reached" if limit is not None and limit.word == "reached" else "no request was refused"
    headline = f"Production traces: {known.get(windows.word, reached) if windows is not None else reached}"
    return headline + (", with failures" if words["failures"].word == "failures" else "")


def verdict_of(
    frames: RunFrames, latency: LatencyReport, limits: RateLimitReport, goals: GoalsReport = _NO_GOALS
) -> Verdict:
    """The verdict of a run from its reports; what it was asked to reach stands first."""
    if frames.is_traced:
        statements = [
            share_seen(frames),
            *([*_limit(limits), *_length(limits)] if frames.is_complete else limit_of_a_share(limits)),
            _failures(limits, latency),
            *ended_here(frames),
            *_latency(latency),
            measured_in_the_service(),
            read_from(frames),
        ]
        return Verdict(_headline(frames, statements), statements)
    statements = [
        *goals.statements(),
        *_limit(limits),
        *_length(limits),
        _failures(limits, latency),
        *_cancelled(limits),
        *_latency(latency),
        *schedule_statements(latency.schedule),
        _client(latency),
        _run(frames, latency),
    ]
    # A client that was the bottleneck measured itself, and one that was lost did not: that comes before all figures.
    statements.sort(key=lambda statement: statement.word not in ("saturated", "worker lost"))
    headline = _headline(frames, statements)
    return Verdict(f"{goals.headline}. {headline}" if goals.headline else headline, statements)
