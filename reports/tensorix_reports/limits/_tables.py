"""The tables of the limits: the kinds by how well they explain what was seen, the audits, what it means."""

from __future__ import annotations

from typing import Any

from tensorix_reports.limits._report import KeyReport, LimitsReport
from tensorix_reports.limits._words import KINDS, interval
from tensorix_reports.page._tables import Cell, Table, facts_table, number, row_of

__all__ = ["tables_of"]


def _ranked(main: KeyReport) -> Table:
    rows = [
        row_of(
            KINDS[one.kind],
            Cell(f"{one.probability:.1%}", tone="good" if one.kind in main.fit.set_of_95 else "muted"),
            f"{one.explained:.1%}",
            interval(one.limit),
            interval(one.window_s),
            None if one.phase_s is None else interval(one.phase_s),
            None if one.burst is None else interval(one.burst),
            one.counts_refused,
        )
        for one in main.fit.ranked
    ]
    columns = ["kind", "probability", "explains", "requests", "window, s", "begins at, s", "burst", "counts refused"]
    note = (
        "Values with the interval that holds 95 % of the probability. Explained is the share of the decisions that a "
    )
    note += "kind predicts, each from what had been seen before it."
    return Table("kinds", "Kinds of limiter", columns, rows, frozenset(range(1, 7)), note, "No limit was reached.")


def _headers(main: KeyReport) -> Table:
    rows = []
    for one in main.headers:
        present = (
            Cell("on all", tone="good") if one.present == one.responses else Cell(f"on {one.present:,}", tone="notice")
        )
        rows.append(
            row_of(
                one.kind,
                str(one.status),
                one.responses,
                present if one.present else Cell("missing", tone="problem"),
                one.odd or None,
                "on all" if one.tokens_present == one.responses else f"on {one.tokens_present:,}",
                f"{one.equal:,} of {one.compared:,}" if one.compared else None,
                None if one.off_by is None else f"{one.off_by:+g}",
                number(one.late_s, "s"),
            )
        )
    columns = [
        "response",
        "status",
        "responses",
        "remaining requests",
        "odd",
        "remaining tokens",
        "true",
        "off by",
        "late by",
    ]
    note = (
        "True: equal to what the fitted limiter has left after our own requests, as far as requests in flight leave it "
    )
    note += "open. Late by: so long ago what it says was true."
    return Table("audit", "Is what remains told, and is it true?", columns, rows, frozenset(range(1, 9)), note)


def _rises(main: KeyReport) -> Table:
    rows = [
        row_of(one.resource, one.rises, one.by_refill, one.by_settling, one.unexplained, one.used_by_others)
        for one in main.rises
    ]
    columns = ["of", "rises", "by refill", "by settling", "unexplained", "used by others"]
    note = "From one response to the next, of those under way with no other."
    return Table(
        "rises", "Why what remains rises", columns, rows, frozenset(range(1, 6)), note, "No header told it twice."
    )


def _retry(main: KeyReport) -> Table:
    retry = main.retry
    facts: list[tuple[str, Any]] = []
    if retry.refusals:
        facts = [("refusals", retry.refusals), ("with Retry-After", retry.said), ("compared", retry.compared)]
    if retry.compared:
        facts += [
            ("said, median", number(retry.said_median_s, "s")),
            ("needed, median", number(retry.needed_median_s, "s")),
            ("too early", retry.too_early),
            ("honest, up to a second of rounding", retry.honest),
            ("too late", retry.too_late),
            ("too early by, at most", number(retry.too_early_by_s, "s")),
            ("too late by, median", number(retry.too_late_by_s, "s")),
            ("too late by, at most", number(retry.too_late_by_most_s, "s")),
        ]
    return facts_table("retry", "Retry-After: said and needed", facts, "No request was refused.")


def _meaning(main: KeyReport) -> list[Table]:
    meaning = main.meaning
    if meaning is None:
        return []
    facts: list[tuple[str, Any]] = [
        ("requests a second, for ever", number(meaning.rate_per_s)),
        ("largest burst that is safe", meaning.burst),
        ("after so long without a request", f"{meaning.whole_after_s:.4g} s"),
        ("one request in", f"{meaning.pace_s:.3g} s"),
        ("options of tensorix load", meaning.load_options),
        ("tokens in the same window", meaning.token_limit),
        ("tokens a request above which these bind", number(meaning.crossover_tokens)),
    ]
    if meaning.keys is not None:
        facts += [("wished, requests a second", number(meaning.want_per_s)), ("keys for that", meaning.keys)]
    tables = [facts_table("meaning", "What it means", facts, "")]
    if meaning.binding:
        rows = [
            row_of(f"{one.mean_tokens:,.0f}", one.charging, f"{one.charged:,.0f}", one.by, number(one.rate_per_s))
            for one in meaning.binding
        ]
        columns = ["tokens a request, mean", "charging", "charged", "binds", "requests/s"]
        note = "Half of a request's tokens are taken to be its answer."
        tables.append(Table("binding", "Which limit binds", columns, rows, frozenset({0, 2, 4}), note, folded=True))
    return tables


def _beside(report: LimitsReport) -> list[Table]:
    if not report.beside:
        return []
    rows = [row_of(one.question, one.answer, one.evidence) for one in report.beside]
    return [Table("beside", "Asked besides", ["question", "answer", "evidence"], rows)]


def _steps(report: LimitsReport) -> list[Table]:
    steps = report.frames.of("step")
    if not steps:
        return []
    rows = [row_of(number(step["at_s"], "s"), str(step.get("why", "")), step.get("at_most")) for step in steps]
    return [Table("actions", "What was sent, and why", ["at", "why", "at most"], rows, frozenset({0, 2}), folded=True)]


def tables_of(report: LimitsReport) -> list[Table]:
    """In the order of the Markdown report."""
    main = report.main
    if main is None:
        return _steps(report)
    audits = [_headers(main), _rises(main), _retry(main)]
    return [_ranked(main), *_meaning(main), *audits, *_beside(report), *_steps(report)]
