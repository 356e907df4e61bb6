"""The tables of the rate-limit report."""

from __future__ import annotations

from collections.abc import Sized
from datetime import UTC, datetime
from typing import Any

from tensorix_reports.limiting._rate_limit import HEADER_COLUMNS, RateLimitReport
from tensorix_reports.limiting._windows import WindowFit
from tensorix_reports.page._tables import Cell, Table, cell, facts_table, number, row_of, seconds

__all__ = ["limit_tables"]

# What a page holds of a table that grows with the run; a day has 1,440 windows.
_MOST_ROWS = 300


def limit_tables(report: RateLimitReport, *, traced: bool = False, complete: bool = True) -> list[Table]:
    """Windows, episodes, headers, Retry-After and the minutes of the clock.

    `traced`: the requests are spans, which do not tell all that the headers said; `complete`: all of the key's are
    there.
    """
    several = len(report.keys) > 1
    windows, episodes = [], []
    notes = []
    for key in report.keys:
        who = [key.key_alias or "no key"] if several else []
        notes.append(_fit_note(key.fit, key.models_counted))
        for count, window in enumerate(key.fit.windows, 1):
            whole = Cell("yes") if window.complete else Cell("no", window.why_incomplete, "muted")
            windows.append(
                row_of(
                    *who,
                    count,
                    Cell(f"{window.start_s:,.1f}", _clock(report.origin_unix_ns, window.start_s)),
                    seconds(window.end_s),
                    window.sent,
                    _used(window.passed, report.limit_requests),
                    window.refused,
                    window.other,
                    _used(window.tokens, report.limit_tokens),
                    window.bound_by,
                    whole,
                )
            )
        for count, episode in enumerate(key.episodes, 1):
            back = Cell("not seen", tone="muted") if episode.back_s is None else seconds(episode.back_s)
            episodes.append(
                row_of(
                    *who,
                    count,
                    seconds(episode.spent_s),
                    episode.sign,
                    seconds(episode.last_refused_s),
                    back,
                    seconds(episode.length_s),
                    episode.refused,
                )
            )
    if not complete:
        notes.append("These spans may be a share of what the key sent: then windows began elsewhere and held more.")
    first = ["key"] if several else []
    start = len(first)
    return [
        _allowed_table(report),
        Table(
            "windows",
            "The limiter's windows",
            [*first, "window", "from, s", "to, s", "sent", "200", "429", "other", "tokens", "bound by", "seen whole"],
            windows[:_MOST_ROWS],
            frozenset({*range(start, start + 8)}),
            " ".join([*dict.fromkeys(notes), *_more(windows, "windows")]) or None,
            "Not enough data: no window could be told.",
        ),
        Table(
            "episodes",
            "Times without budget",
            [*first, "time", "spent at, s", "sign", "last refusal, s", "back at, s", "length, s", "refused"],
            episodes[:_MOST_ROWS],
            frozenset({start, start + 1, start + 3, start + 4, start + 5, start + 6}),
            "Back means that a request passed: between it and the last refusal nobody asked, so the length is an upper "
            + " ".join(["bound.", *_more(episodes, "episodes")]),
            "The budget was never seen to run out.",
        ),
        _headers_table(report, traced),
        facts_table("retry-after", "Retry-After: said and true", _retry_facts(report), "No request was refused."),
        Table(
            "minutes",
            "By minute of the clock (UTC)",
            ["minute", "sent", "200", "429", "other"],
            [
                row_of(*(row[name] for name in ("minute", "sent", "status_200", "status_429", "other")))
                for row in report.minutes.head(_MOST_ROWS).to_dict("records")
            ],
            frozenset(range(1, 5)),
            "For comparison with a server's own log, so with the model list asked for before the run; the limiter need "
            + " ".join(["not count by the clock.", *_more(report.minutes, "minutes")]),
            "Not enough data: no request was sent.",
            folded=True,
        ),
    ]


def _more(rows: Sized, name: str) -> list[str]:
    """Where the rest of a long table is."""
    rest = len(rows) - _MOST_ROWS
    return [f"The first {_MOST_ROWS:,}; {rest:,} more are in {name}.csv."] if rest > 0 else []


_SOURCES = {
    "told": "told by the user",
    "headers": "stated by the server's headers",
    "documented": "documented by Tensorix",
    "assumed": "assumed",
    "measured": "measured: when the budget came back",
}


def _allowed_table(report: RateLimitReport) -> Table:
    window = None if report.window_s is None else f"{report.window_s:.3g} s"
    values = {"requests": report.limit_requests, "tokens": report.limit_tokens, "window": window}
    names = {"requests": "requests a window", "tokens": "tokens a window", "window": "length of a window"}
    rows = [
        row_of(names[name], value, _SOURCES.get(report.sources[name], "nobody said")) for name, value in values.items()
    ]
    note = "Told goes before stated, stated before documented. Against a limit that nobody said nothing is judged."
    return Table("limits", "What the key is allowed", ["what", "value", "from"], rows, frozenset({1}), note)


def _used(amount: int | None, limit: int | None) -> Cell:
    """An amount, and how much of the limit that is."""
    return Cell(cell(amount).text, f"{amount / limit:.0%} of the limit") if amount and limit else cell(amount)


def _clock(origin_unix_ns: int, at_s: float) -> str:
    """The time of day, to find the same moment in a server's own log."""
    return f"{datetime.fromtimestamp(origin_unix_ns / 1e9 + at_s, tz=UTC):%H:%M:%S.%f}"[:-3] + " UTC"


def _fit_note(fit: WindowFit, models_counted: bool) -> str:
    note = fit.how[0].upper() + fit.how[1:] + "."
    if fit.bracket_s is not None:
        note += f" Measured: between {fit.bracket_s[0]:.2f} and {fit.bracket_s[1]:.2f} s."
    if fit.fits is True:
        note += " The refusals agree with such windows."
    elif fit.fits is None and fit.windows:
        note += " Nothing was refused, so their edges are not confirmed."
    for doubt in fit.doubts[:3]:
        note += f" Does not fit: {doubt}."
    return note + ("" if models_counted else " Model lists are left out: nothing shows that the limiter counts them.")


def _headers_table(report: RateLimitReport, traced: bool) -> Table:
    missing = "not told" if traced else "missing"
    # The documented two always; another only where somebody sent it.
    shown = [name for name in HEADER_COLUMNS if name.startswith("remaining") or report.headers[name].any()]
    rows = []
    for row in report.headers.to_dict("records"):
        cells = []
        for name in shown:
            seen, total = int(row[name]), int(row["responses"])
            if seen == total:
                cells.append(Cell("on all", tone="good"))
            elif seen:
                cells.append(Cell(f"on {seen:,}", f"{missing} on {total - seen:,}", "notice"))
            else:
                cells.append(Cell(missing, tone="muted"))
        rows.append(row_of(row["kind"], str(row["status"]), int(row["responses"]), *cells))
    stated = [f"{value:,} requests" for value in report.stated_requests]
    stated += [f"{value:,} tokens" for value in report.stated_tokens]
    note = "The documentation names remaining requests and remaining tokens on every response, and no other."
    if stated:
        note += f" Limits stated by headers: {', '.join(stated)}."
    for anomaly, count in list(report.anomalies.items())[:5]:
        note += f" Odd on {count:,}: {anomaly}."
    never = [HEADER_COLUMNS[name] for name in HEADER_COLUMNS if name not in shown]
    if traced:
        note += " Spans do not tell of resets, and of an attempt that another followed only its Retry-After."
    elif never and rows:
        note += f" On no response: {', '.join(never)}."
    columns = ["response", "status", "responses", *(HEADER_COLUMNS[name] for name in shown)]
    empty = "Not enough data: no response arrived."
    return Table("headers", "Rate-limit headers, by kind of response", columns, rows, frozenset({1, 2}), note, empty)


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
        facts.append(("said more than a second longer than it took", retry.overstated))
        if retry.overstated:
            facts.append(("too long by, at most", number(retry.overstated_by_most_s, "s")))
    if retry.said:
        facts.append(("refused again after the wait that was said", retry.understated))
    return facts
