"""The tables of the latency report."""

from __future__ import annotations

from collections.abc import Iterable

from tensorix_records.figures import Figure
from tensorix_reports.load._axes import LEAST_MS
from tensorix_reports.load._failures import Failure
from tensorix_reports.load._latency import PERCENTS, LatencyReport, Measured
from tensorix_reports.load._schedule import schedule_table
from tensorix_reports.page._tables import NOTHING, Cell, Table, cell, figure_cell, number, row_of, seconds

__all__ = ["latency_tables"]


def _needs(figure: Figure) -> str:
    """How many samples are missing, where that is why a figure is withheld."""
    if figure.needed is None:
        return figure.withheld or "not enough data"
    return f"needs {figure.needed - figure.count:,} more"


def _measured_table(name: str, title: str, rows: Iterable[Measured], note: str, *, folded: bool = False) -> Table:
    columns = ["request", "what", "samples", *(f"p{percent:g}" for percent in PERCENTS), "least", "most"]
    cells = []
    for row in rows:
        detail = row.note
        if row.token_source:
            source = f"tokens by {row.token_source}" if detail is None else f"by {row.token_source}"
            detail = source if detail is None else f"{detail}, {source}"
        figures = [_figure(row.figures[percent], row.unit) for percent in PERCENTS]
        least, most = (Cell(_size(one, row.unit)) for one in (row.least, row.most))
        cells.append(row_of(_request(row.request), Cell(_named(row), detail), row.count, *figures, least, most))
    return Table(name, title, columns, cells, frozenset(range(2, len(columns))), note, _NO_SUCCESS, folded)


def _request(name: str) -> Cell:
    """The model, where it is named, below the kind: beside it the table would be too wide."""
    for kind in ("chat, streamed", "chat, not streamed"):
        if name.startswith(f"{kind}, "):
            return Cell(kind, name.removeprefix(f"{kind}, "))
    return Cell(name)


def _size(value: float | None, unit: str) -> str:
    """Less than a hundredth of a millisecond is below what is measured."""
    return "< 0.01" if unit == "ms" and value is not None and 0 <= value < LEAST_MS else number(value)


def _named(row: Measured) -> str:
    return row.quantity if row.unit in row.quantity else f"{row.quantity}, {row.unit}"


_NO_SUCCESS = "Not enough data: no request succeeded."


def latency_tables(report: LatencyReport) -> list[Table]:
    """Outcomes, percentiles, throughput and failures."""
    window = report.window
    note = f"Successes that started between {window.start_s:.1f} and {window.end_s:.1f} s ({window.why}): "
    note += f"{report.inside:,} requests inside, {report.outside:,} outside. Below each percentile its 95 % interval; "
    note += "a percentile with fewer than five samples beyond it is withheld."
    if report.other_models:
        note += f" Of many models those with most answers have rows of their own; {report.other_models:,} share one."
    trust = report.trust
    merged, firsts = trust.merged_first_reads, trust.first_tokens
    if merged and merged > 0.05 * firsts:
        note += f" {merged:,} of {firsts:,} first tokens came in one read with later ones: the gaps within a read are "
        note += "not the server's, so ITL, ICL and a user's tokens/s look quicker than they are."
    outcomes = Table(
        "outcomes",
        "Requests, and what became of them",
        ["request", "sent", "success", "throttled (429)", "failed", "cancelled by us", "error rate"],
        [
            row_of(
                row["request"],
                *(int(row[name]) for name in ("sent", "success", "throttled", "failed", "cancelled")),
                _error_rate(row["success"], row["failed"]),
            )
            for row in report.outcomes.to_dict("records")
        ],
        frozenset(range(1, 7)),
        "Over the whole run. Error rate: failed / (success + failed); what was throttled or cancelled stands apart.",
        "Not enough data: no request was sent.",
    )
    throughput = Table(
        "throughput",
        "Output tokens a second, in all",
        ["request", "tokens counted by", "requests", "tokens", "a second", "busiest second"],
        [
            row_of(
                row.request,
                row.token_source,
                row.requests,
                row.tokens,
                *map(figure_cell, (row.a_second, row.peak_a_second)),
            )
            for row in report.throughput
        ],
        frozenset(range(2, 6)),
        "A request's tokens are spread over the time from its first to its last, and count where they fall.",
        "Not enough data: no reply's tokens were counted.",
    )
    failures = Table(
        "failures",
        "What did not succeed, by kind",
        ["outcome", "request", "kind", "in", "status", "count", "first, s", "last, s", "one of the messages"],
        [
            row_of(
                Cell(failure.outcome, tone="problem" if failure.outcome == "failed" else "notice"),
                failure.request,
                failure.kind.replace("_", " "),
                (failure.phase or NOTHING).replace("_", " "),
                None if failure.status is None else str(failure.status),
                failure.count,
                seconds(failure.first_s),
                seconds(failure.last_s),
                Cell(failure.sample or NOTHING, _example(failure)),
            )
            for failure in report.failures
        ],
        frozenset(range(4, 8)),
        None,
        "Every request succeeded.",
    )
    tables = [outcomes, _measured_table("latency", "Latency", report.rows, note), throughput]
    if report.outside:
        whole = "The same over the whole run, the ramp included."
        title = "Latency over the whole run"
        tables.append(_measured_table("latency-whole", title, report.whole_run, whole, folded=True))
    if report.schedule is not None:
        tables.append(schedule_table(report.schedule))
    return [*tables, failures]


def _example(failure: Failure) -> str:
    """Where to find the request of the sample."""
    told = [f"at {failure.sample_at_s:,.1f} s"]
    told += [] if failure.sample_took_ms is None else [f"took {number(failure.sample_took_ms, 'ms')}"]
    ids = {"request": failure.sample_request_id, "response": failure.sample_response_id, "by": failure.sample_process}
    return ", ".join(told + [f"{name} {id_}" for name, id_ in ids.items() if id_])


def _error_rate(success: int, failed: int) -> Cell:
    judged = int(success) + int(failed)
    return Cell(f"{failed / judged:.1%}", tone="problem" if failed else None) if judged else cell(None)


def _figure(figure: Figure, unit: str) -> Cell:
    if figure.value is None:
        return Cell(NOTHING, _needs(figure), "muted")
    interval = None
    if figure.low is not None and figure.high is not None:
        interval = f"{_size(figure.low, unit)} to {_size(figure.high, unit)}"
    return Cell(_size(figure.value, unit), interval)
