"""What a report says otherwise where its requests are spans of a service in production, and not a load test's own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from tensorix_reports.frames import RunFrames, mapping, whole
from tensorix_reports.limiting._rate_limit import RateLimitReport
from tensorix_reports.page._statement import Statement, counted

__all__ = ["ended_here", "limit_of_a_share", "measured_in_the_service", "read_from", "share_seen"]

_ENDINGS = {"closed_early": "closed early", "abandoned": "abandoned", "cancelled": "cancelled"}
_FOUND = (
    ("other_spans", "of other work passed over"),
    ("doubles", "there twice"),
    ("unusable", "without usable ids or times"),
    ("without_call", "attempt without its call's span", "attempts without their call's span"),
    ("without_attempts", "call without the spans of all its attempts", "calls without the spans of all their attempts"),
    ("lines_skipped", "line that is cut or no OTLP left out", "lines that are cut or no OTLP left out"),
    ("files_cut", "compressed file cut", "compressed files cut"),
)
"""What was found in the files: the name of its count in the manifest, and words for one and, if others, several."""


def share_seen(frames: RunFrames) -> Statement:
    """How much of what was sent these spans are."""
    spans = mapping(frames.manifest.get("spans"))
    if frames.is_complete:
        text = "Spans of a service in production, every request of the key among them, as was said with --complete."
        return Statement("traces", "good", "complete", text)
    text = (
        "Spans of a service in production: every count, total and rate here is of these spans alone. Where traces are "
    )
    text += "sampled, or others use the key, more was sent."
    shares = mapping(spans.get("sampled"))
    if shares:
        kept = ", ".join(
            f"{_percent(share)} ({counted(whole(count) or 0, 'request')})" for share, count in shares.items()
        )
        text += f" Kept of all traces, by their trace state: {kept}."
    return Statement("traces", "notice", "a share", text)


def _percent(share: Any) -> str:
    try:
        return f"{100 * float(share):.3g} %"
    except ValueError:
        return str(share)


def limit_of_a_share(report: RateLimitReport) -> list[Statement]:
    """What spans show of the limits, where nobody said that they are all there are."""
    if not report.totals["sent"]:
        return [Statement("limit", "unknown", "not known", "There is no request, so nothing is known about the limit.")]
    least = []
    for unit in ("requests", "tokens"):
        left = report.remaining[f"remaining_{unit}"].to_numpy(float)
        if np.isfinite(left).any():
            least.append(f"{int(np.nanmin(left)):,} {unit}")
    tail = f" The least that remained by the headers: {' and '.join(least)}." if least else ""
    if not report.reached:
        return [Statement("limit", "notice", "not reached", f"No request was refused for its rate (429).{tail}")]
    refused = counted(report.totals["throttled"], "request")
    text = (
        f"{refused} of {report.totals['sent']:,} refused for the rate (429). What a window lets through is not judged: "
    )
    return [Statement("limit", "notice", "reached", f"{text}these spans may be a share of what the key sent.{tail}")]


def ended_here(frames: RunFrames) -> list[Statement]:
    """The requests that the service itself gave up."""
    ended = frames.load.of(frames.load.codes("outcome").equal("cancelled"))
    if not len(ended):
        return []
    counts = ended["stream_outcome"].fillna("cancelled").value_counts()
    kinds = ", ".join(f"{int(count):,} {_ENDINGS.get(str(name), str(name))}" for name, count in counts.items())
    text = (
        f"{counted(len(ended), 'request')} ended by the service before the answer was whole: {kinds}. They are neither "
    )
    return [Statement("cancelled", "notice", "cancelled", f"{text}successes nor failures, and in no latency.")]


def measured_in_the_service() -> Statement:
    """Whose clock the times are of."""
    text = "Times are taken in the service, from the call until it reads each chunk: the opening of a connection, its "
    return Statement("client", "notice", "its own", f"{text}client library's work and its own delays are in them.")


def read_from(frames: RunFrames) -> Statement:
    """What the files held."""
    if not frames.ended:
        text = "The reading of the files was cut short: a part of the spans is missing. Make the run again."
        return Statement("run", "problem", "incomplete", text)
    spans = mapping(frames.manifest.get("spans"))
    files = frames.manifest.get("files")
    first, last = (datetime.fromtimestamp(frames.origin_unix_ns / 1e9 + at, tz=UTC) for at in (0.0, frames.end_s))
    number = len(files) if isinstance(files, list) else 0
    text = f"{counted(whole(spans.get('spans')) or 0, 'span')} in {counted(number, 'file')}"
    text += f", from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC by the clocks of the services' hosts"
    told = [
        f"{count:,} {words[0] if count == 1 else words[-1]}"
        for name, *words in _FOUND
        if (count := whole(spans.get(name)))
    ]
    text += f"; {', '.join(told)}." if told else "."
    wrong = frames.findings[:1]
    damaged = bool(wrong or spans.get("lines_skipped") or spans.get("files_cut") or spans.get("unusable"))
    if wrong:
        text += f" The run's folder is damaged: {wrong[0]}"
    return Statement("run", "notice" if damaged else "good", "with gaps" if damaged else "read", text)
