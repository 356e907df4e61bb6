"""The tables about the run itself: how far to trust it, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tensorix_reports.frames import RunFrames
from tensorix_reports.limiting._allowed import told_of
from tensorix_reports.load._latency import LatencyReport
from tensorix_reports.load._rates import Rate
from tensorix_reports.page._tables import Table, facts_table, number, row_of

__all__ = ["rates_table", "settings_table", "trust_table"]


def rates_table(rates: list[Rate]) -> Table:
    """Requests a second."""
    rows = [
        row_of(rate.what, None if rate.a_second is None else number(rate.a_second), rate.peak_a_second)
        for rate in rates
        if rate.what != "offered" or rate.peak_a_second is not None
    ]
    note = "Over the same stretch as the latencies, by when requests were sent; the busiest second is of the whole run."
    empty = "Not enough data: no request was sent."
    columns = ["requests", "a second", "busiest second"]
    return Table("rates", "Requests a second", columns, rows, frozenset({1, 2}), note, empty)


def trust_table(report: LatencyReport, *, traced: bool = False) -> Table:
    """How far the figures can be trusted. `traced`: the requests are spans, of a service that has no end to come to."""
    trust = report.trust
    stamps = ", ".join(f"{source} {count:,}" for source, count in trust.stamps.items())
    facts: list[tuple[str, Any]] = [
        ("receive stamps by", stamps or None),
        ("lag at the first token, samples", trust.lag_count),
        ("lag at the first token, p50 and p99", _pair(trust.lag_p50_ns, trust.lag_p99_ns)),
        ("largest lag of any chunk", _ms(trust.lag_max_ns)),
        ("first tokens that came in one read with later chunks", _share(trust.merged_first_reads, trust.first_tokens)),
        ("event loop late by, at most", _ms(trust.loop_lag_max_ns)),
        ("of a core, at the busiest second", None if trust.cpu_share_max is None else f"{trust.cpu_share_max:.0%}"),
        ("memory, at most", None if trust.rss_max_bytes is None else f"{trust.rss_max_bytes / 1e6:,.0f} MB"),
    ]
    if not traced:
        facts.append(("the run came to its own end", trust.ended))
        facts += [] if trust.ended else [("in flight when last heard of", trust.in_flight_last)]
        facts.append(("started by the last word of the client, and no record", trust.unfinished))
    note = "Lag is the program's reading of the clock minus the kernel's stamp of the same bytes. "
    note += f"Take with care: {'; '.join(trust.reasons)}." if trust.reasons else "Nothing speaks against the figures."
    if trust.level == "unknown":
        note = "The run holds nothing about the client's own lag."
    return facts_table("trust", "How far to trust these figures", facts, "", note)


def _ms(value_ns: float | None) -> str | None:
    if value_ns is None:
        return None
    return number(value_ns / 1e6, "ms") if value_ns >= 1e6 else f"{value_ns / 1e6:.2g} ms"


def _pair(low_ns: float | None, high_ns: float | None) -> str | None:
    return None if low_ns is None or high_ns is None else f"{_ms(low_ns)}, {_ms(high_ns)}"


def _share(part: int | None, total: int) -> str | None:
    return None if part is None else f"{part:,} of {total:,} ({part / total:.1%})"


def _flat(prefix: str, value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    elif isinstance(value, (list, tuple)):
        text = ", ".join(str(item) for item in value[:5]) + (f", … ({len(value)} in all)" if len(value) > 5 else "")
        yield prefix, text
    elif prefix.endswith("_unix_ns") and isinstance(value, int) and 0 < value < 2**62:
        stamp = datetime.fromtimestamp(value / 1e9, tz=UTC)
        yield prefix.removesuffix("_unix_ns"), f"{stamp:%Y-%m-%d %H:%M:%S} UTC"
    elif value is not None:
        yield prefix, str(value)


def settings_table(frames: RunFrames) -> Table:
    """What was asked for, and where it ran: the manifest, flat."""
    manifest = {name: value for name, value in frames.manifest.items() if value is not None}
    if frames.is_traced:
        # The rest is what the limiter is taken for until the spans show otherwise.
        told = told_of(frames.limits)
        manifest["limits"] = {name: value for name, value in frames.limits.items() if name in told}
    # An empty text or list is what nobody asked for.
    filled = ((name, text) for name, text in _flat("", manifest) if text)
    rows = [row_of(name, text if len(text) <= 300 else f"{text[:299]}…") for name, text in filled]
    return Table("settings", "Settings", ["setting", "value"], rows, frozenset(), None, "The run has no manifest.")
