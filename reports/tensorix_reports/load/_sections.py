"""What the page of a load test shows: its sections, and the figures at the top."""

from __future__ import annotations

from tensorix_reports.limiting._rate_limit import RateLimitReport
from tensorix_reports.load._goals import GoalsReport
from tensorix_reports.load._latency import LatencyReport
from tensorix_reports.page._html import Section
from tensorix_reports.page._tables import Cell, number

__all__ = ["SECTIONS", "tiles_of"]

SECTIONS = (
    Section(
        "Requests and latency",
        ("objectives", "outcomes", "latency", "steps", "latency-whole", "schedule", "rates", "throughput", "tokens"),
    ),
    Section("Rate limits", ("limits", "windows", "episodes", "waits")),
    Section(
        "Pictures",
        (),
        ("rates", "ttft", "latency", "chunks", "remaining_requests", "remaining_tokens", "concurrency", "client"),
    ),
    Section("Distributions", (), ("ecdf-ttft", "ecdf-itl", "ecdf-e2e")),
    Section(
        "The same, parted",
        ("by-model", "by-endpoint", "by-prompt-length", "by-user-class", "by-key", "by-worker"),
    ),
    Section("Details", ("failures", "headers", "retry-after", "minutes", "trust", "settings")),
)


def tiles_of(latency: LatencyReport, limits: RateLimitReport, goals: GoalsReport) -> list[tuple[str, Cell]]:
    """The few figures that stand at the top."""
    totals = limits.totals
    tiles = [
        ("requests sent", Cell(f"{totals['sent']:,}")),
        ("succeeded", Cell(f"{totals['success']:,}")),
        ("throttled (429)", Cell(f"{totals['throttled']:,}")),
        ("failed", Cell(f"{totals['failed']:,}", tone="problem" if totals["failed"] else None)),
        *goals.tiles(),
    ]
    firsts = [row for row in latency.rows if row.quantity == "TTFT"]
    for row in firsts:
        if row.figures[50.0].value is not None:
            tail = row.figures[95.0].value
            detail = "too few for the p95" if tail is None else f"p95 {number(tail, 'ms')}"
            if len(firsts) > 1:
                detail = f"{detail}; {row.request.removeprefix('chat, streamed, ')}"
            tiles.append(("TTFT, median", Cell(number(row.figures[50.0].value, "ms"), detail)))
            break
    sources = {row.token_source for row in latency.throughput}
    if len(sources) == 1 and all(row.a_second is not None for row in latency.throughput):
        total = sum(row.a_second or 0.0 for row in latency.throughput)
        tiles.append(("output tokens/s", Cell(number(total), f"by {sources.pop()}")))
    return tiles
