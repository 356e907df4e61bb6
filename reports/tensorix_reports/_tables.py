"""The report's tables as words: the page, the Markdown report and the CSV files show the same ones."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tensorix_records.figures import Figure

from tensorix_reports._frames import RunFrames
from tensorix_reports._latency import PERCENTS, LatencyReport, Measured
from tensorix_reports._rate_limit import HEADER_COLUMNS, RateLimitReport

__all__ = ["Cell", "Table", "limit_tables", "latency_tables", "settings_table", "trust_table"]


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table: its text, a smaller line below it, and a tone (`muted`, `good`, `notice`, `problem`)."""

    text: str
    detail: str | None = None
    tone: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table in words. `numeric` names the columns whose cells are numbers."""

    id: str
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    numeric: frozenset[int] = frozenset()
    note: str | None = None
    empty: str = "Not enough data."
    folded: bool = field(default=False)
    """Shown closed on the page."""


def _cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell("–", tone="muted")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int):
        return Cell(f"{value:,}")
    return Cell(str(value))


def _row(*values: Any) -> list[Cell]:
    return [_cell(value) for value in values]


def number(value: float | None, unit: str = "") -> str:
    """A figure to three significant digits, or whole where it is large."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        text = f"{value:,.0f}"
    elif abs(value) >= 10:
        text = f"{value:.1f}"
    else:
        text = f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def _seconds(value: float | None) -> Cell:
    return Cell("–", tone="muted") if value is None else Cell(f"{value:,.1f}")


def _figure(figure: Figure) -> Cell:
    if figure.value is None:
        return Cell("–", _needs(figure), "muted")
    interval = None if figure.low is None else f"{number(figure.low)} to {number(figure.high)}"
    return Cell(number(figure.value), interval)


def _needs(figure: Figure) -> str:
    """How many samples are missing, where that is why a figure is withheld."""
    needed = re.search(r"needs ([\d,]+)", figure.withheld or "")
    if needed is None:
        return figure.withheld or "not enough data"
    return f"needs {int(needed[1].replace(',', '')) - figure.count:,} more"


def _measured_table(name: str, title: str, rows: Iterable[Measured], note: str, *, folded: bool = False) -> Table:
    columns = ["request", "what", "unit", "samples", *(f"p{percent:g}" for percent in PERCENTS), "least", "most"]
    cells = []
    for row in rows:
        detail = row.note
        if row.token_source:
            source = f"tokens by {row.token_source}"
            detail = source if detail is None else f"{detail}, {source}"
        figures = [_figure(row.figures[percent]) for percent in PERCENTS]
        least, most = Cell(number(row.least)), Cell(number(row.most))
        cells.append(_row(row.request, Cell(row.quantity, detail), row.unit, row.count, *figures, least, most))
    return Table(name, title, columns, cells, frozenset(range(3, len(columns))), note, _NO_SUCCESS, folded)


_NO_SUCCESS = "Not enough data: no request succeeded."


def latency_tables(report: LatencyReport) -> list[Table]:
    """Outcomes, percentiles, throughput and failures."""
    window = report.window
    note = f"Successes that started between {window.start_s:.1f} and {window.end_s:.1f} s ({window.why}): "
    note += f"{report.inside:,} requests inside, {report.outside:,} outside. Below each percentile its 95 % interval; "
    note += "a percentile with fewer than five samples beyond it is withheld."
    outcomes = Table(
        "outcomes",
        "Requests, and what became of them",
        ["request", "sent", "success", "throttled (429)", "failed", "cancelled by us", "error rate"],
        [
            _row(row["request"], *(int(row[name]) for name in ("sent", "success", "throttled", "failed", "cancelled")),
                 _error_rate(row["success"], row["failed"]))
            for row in report.outcomes.to_dict("records")
        ],
        frozenset(range(1, 7)),
        "Over the whole run. The error rate is failed / (success + failed): what was throttled or cancelled stands apart.",
        "Not enough data: no request was sent.",
    )
    throughput = Table(
        "throughput",
        "Output tokens a second, in all",
        ["request", "tokens counted by", "requests", "tokens", "a second", "busiest second"],
        [
            _row(row.request, row.token_source, row.requests, row.tokens, Cell(number(row.a_second)), Cell(number(row.peak_a_second)))
            for row in report.throughput
        ],
        frozenset(range(2, 6)),
        "Counted when they arrived: evenly between a request's first and last token.",
        "Not enough data: no reply's tokens were counted.",
    )
    failures = Table(
        "failures",
        "What did not succeed, by kind",
        ["outcome", "request", "kind", "in", "status", "count", "first, s", "last, s", "one of the messages"],
        [
            _row(Cell(failure.outcome, tone="problem" if failure.outcome == "failed" else "notice"), failure.request,
                 failure.kind.replace("_", " "), (failure.phase or "–").replace("_", " "),
                 None if failure.status is None else str(failure.status), failure.count,
                 _seconds(failure.first_s), _seconds(failure.last_s), failure.sample)
            for failure in report.failures
        ],
        frozenset(range(4, 8)),
        None,
        "Every request succeeded.",
    )
    tables = [outcomes, _measured_table("latency", "Latency", report.rows, note), throughput]
    if report.outside:
        whole = "The same over the whole run, the ramp included."
        tables.append(_measured_table("latency-whole", "Latency over the whole run", report.whole_run, whole, folded=True))
    return [*tables, failures]


def _error_rate(success: int, failed: int) -> Cell:
    judged = int(success) + int(failed)
    return Cell(f"{failed / judged:.1%}", tone="problem" if failed else None) if judged else _cell(None)


def limit_tables(report: RateLimitReport) -> list[Table]:
    """Windows, episodes, headers, Retry-After and the minutes of the clock."""
    several = len(report.keys) > 1
    windows, episodes = [], []
    notes = []
    for key in report.keys:
        who = [key.key_alias or "no key"] if several else []
        notes.append(_fit_note(key.fit, key.models_counted))
        for count, window in enumerate(key.fit.windows, 1):
            whole = Cell("yes") if window.complete else Cell("no", window.why_incomplete, "muted")
            windows.append(
                _row(*who, count, _seconds(window.start_s), _seconds(window.end_s), window.sent, window.passed,
                     window.refused, window.other, window.tokens, window.bound_by, whole)
            )
        for count, episode in enumerate(key.episodes, 1):
            back = Cell("not seen", tone="muted") if episode.back_s is None else _seconds(episode.back_s)
            episodes.append(
                _row(*who, count, _seconds(episode.spent_s), episode.sign, _seconds(episode.last_refused_s), back,
                     _seconds(episode.length_s), episode.refused)
            )
    first = ["key"] if several else []
    start = len(first)
    return [
        Table(
            "windows",
            "The limiter's windows",
            [*first, "window", "from, s", "to, s", "sent", "200", "429", "other", "tokens", "bound by", "seen whole"],
            windows,
            frozenset({*range(start, start + 8)}),
            " ".join(dict.fromkeys(notes)) or None,
            "Not enough data: no window could be told.",
        ),
        Table(
            "episodes",
            "When the budget ran out and came back",
            [*first, "time", "spent at, s", "sign", "last refusal, s", "back at, s", "length, s", "refused"],
            episodes,
            frozenset({start, start + 1, start + 3, start + 4, start + 5, start + 6}),
            "Back means that a request passed: between it and the last refusal nobody asked, so the length is an upper "
            "bound.",
            "The budget was never seen to run out.",
        ),
        _headers_table(report),
        _facts("retry-after", "Retry-After: said and true", _retry_facts(report), "No request was refused."),
        Table(
            "minutes",
            "By minute of the clock (UTC)",
            ["minute", "sent", "200", "429", "other"],
            [_row(*(row[name] for name in ("minute", "sent", "status_200", "status_429", "other")))
             for row in report.minutes.to_dict("records")],
            frozenset(range(1, 5)),
            "For comparison with a server's own log; the limiter need not count by the clock.",
            "Not enough data: no request was sent.",
            folded=True,
        ),
    ]


def _fit_note(fit: Any, models_counted: bool) -> str:
    note = fit.how[0].upper() + fit.how[1:] + "."
    if fit.bracket_s is not None:
        note += f" Measured: between {fit.bracket_s[0]:.2f} and {fit.bracket_s[1]:.2f} s."
    if fit.fits is True:
        note += " The refusals agree with such windows."
    elif fit.fits is None and fit.windows:
        note += " Nothing was refused, so their edges are not confirmed."
    for doubt in fit.doubts[:3]:
        note += f" Does not fit: {doubt}."
    return note + ("" if models_counted else " Model lists are left out: nothing shows that they count.")


def _headers_table(report: RateLimitReport) -> Table:
    rows = []
    for row in report.headers.to_dict("records"):
        cells = []
        for name in HEADER_COLUMNS:
            seen, total = int(row[name]), int(row["responses"])
            if seen == total:
                cells.append(Cell("on all", tone="good"))
            elif seen:
                cells.append(Cell(f"on {seen:,}", f"missing on {total - seen:,}", "notice"))
            else:
                cells.append(Cell("missing", tone="muted"))
        rows.append(_row(row["kind"], str(row["status"]), int(row["responses"]), *cells))
    stated = [f"{value:,} requests" for value in report.stated_requests]
    stated += [f"{value:,} tokens" for value in report.stated_tokens]
    note = "The documentation names remaining requests and remaining tokens on every response, and no other."
    if stated:
        told = [f"{report.limit_requests:,} requests"] if report.limit_requests is not None else []
        told += [f"{report.limit_tokens:,} tokens"] if report.limit_tokens is not None else []
        note += f" Limits stated by headers: {', '.join(stated)}; the run was told {' and '.join(told) or 'none'}."
    for anomaly, count in list(report.anomalies.items())[:5]:
        note += f" Odd on {count:,}: {anomaly}."
    columns = ["response", "status", "responses", *HEADER_COLUMNS.values()]
    empty = "Not enough data: no response arrived."
    return Table("headers", "Rate-limit headers, by kind of response", columns, rows, frozenset({1, 2}), note, empty)


def _facts(name: str, title: str, facts: list[tuple[str, Any]], empty: str, note: str | None = None) -> Table:
    return Table(name, title, ["what", "value"], [_row(*fact) for fact in facts], frozenset({1}), note, empty)


def _retry_facts(report: RateLimitReport) -> list[tuple[str, Any]]:
    retry = report.retry_after
    if not retry.refusals:
        return []
    facts: list[tuple[str, Any]] = [("refusals (429)", retry.refusals), ("of them with Retry-After", retry.said)]
    if retry.said:
        facts.append(("said, median", number(retry.said_median_s, "s")))
        facts.append(("followed by a success, to compare with", retry.compared))
    if retry.compared:
        facts.append(("true wait until a request passed, median, at most", number(retry.true_at_most_median_s, "s")))
        facts.append(("said longer than it took", retry.overstated))
        if retry.overstated:
            facts.append(("too long by, at most", number(retry.overstated_by_most_s, "s")))
    if retry.said:
        facts.append(("refused again after the wait that was said", retry.understated))
    return facts


def trust_table(report: LatencyReport) -> Table:
    """How far the figures can be trusted."""
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
        ("the run came to its own end", trust.ended),
        ("started, and no record" if trust.ended else "in flight at the end, and no record", trust.unfinished),
    ]
    note = "Lag is the program's reading of the clock minus the kernel's stamp of the same bytes. "
    note += f"Take with care: {'; '.join(trust.reasons)}." if trust.reasons else "Nothing speaks against the figures."
    if trust.level == "unknown":
        note = "The run holds nothing about the client's own lag."
    return _facts("trust", "How far to trust these figures", facts, "", note)


def _ms(value_ns: float | None) -> str | None:
    return None if value_ns is None else number(value_ns / 1e6, "ms")


def _pair(low_ns: float | None, high_ns: float | None) -> str | None:
    return None if low_ns is None or high_ns is None else f"{_ms(low_ns)}, {_ms(high_ns)}"


def _share(part: int, total: int) -> str | None:
    return f"{part:,} of {total:,} ({part / total:.1%})" if total else None


def _flat(prefix: str, value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    elif isinstance(value, (list, tuple)):
        text = ", ".join(str(item) for item in value[:5]) + (f", … ({len(value)} in all)" if len(value) > 5 else "")
        yield prefix, text
    elif value is not None:
        yield prefix, str(value)


def settings_table(frames: RunFrames) -> Table:
    """What was asked for, and where it ran: the manifest, flat."""
    manifest = {name: value for name, value in frames.manifest.items() if value is not None}
    rows = [_row(name, text if len(text) <= 300 else f"{text[:299]}…") for name, text in _flat("", manifest)]
    return Table("settings", "Settings", ["setting", "value"], rows, frozenset(), None, "The run has no manifest.")
