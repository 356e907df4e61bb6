"""The pictures of the uptime report, all on one axis of UTC that the page zooms in all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import altair as alt
import pandas as pd

from tensorix_reports.page._picture import MOST_POINTS, Picture
from tensorix_reports.uptime._days import DAY_NS
from tensorix_reports.uptime._durations import QUANTITIES
from tensorix_reports.uptime._report import UptimeReport
from tensorix_reports.uptime._words import clock, day, length, percent

__all__ = ["pictures_of"]

# As in the other report: 3:1 against both grounds, told apart by lightness and words too.
_SERIES = ("#3a87c8", "#1f9d8a", "#9467c9", "#a0762b", "#c2588f", "#5f8f3d")
_DAYS = {
    "no failure": "#1f9d6a",
    "some failures": "#c9a227",
    "below the objective": "#d64550",
    "not known": "#858b94",
}
_STRETCHES = {"down": "#d64550", "unpaid": "#a0762b", "maintenance": "#9467c9", "not watched": "#858b94"}
_MS = 1_000_000
_LABELS = 110


def _x(field: str = "t") -> alt.X:
    scale = alt.Scale(type="utc", domainMin=alt.ExprRef("t0"), domainMax=alt.ExprRef("t1"), nice=False)
    return alt.X(f"{field}:T", scale=scale, axis=alt.Axis(title="UTC", tickCount=8))


def _rows(names: list[str]) -> alt.Y:
    axis = alt.Axis(title=None, minExtent=_LABELS, maxExtent=_LABELS, labelLimit=_LABELS - 6, grid=False, ticks=False)
    return alt.Y("series:N", axis=axis, scale=alt.Scale(domain=names), sort=names)


def _colour(field: str, colours: dict[str, str]) -> alt.Color:
    return alt.Color(f"{field}:N", scale=_scale(colours), legend=_legend())


def _scale(colours: dict[str, str]) -> alt.Scale:
    return alt.Scale(domain=list(colours), range=list(colours.values()))


def _legend() -> alt.Legend:
    return alt.Legend(title=None, orient="top", direction="horizontal", columns=0, labelLimit=220, symbolLimit=12)


def _finished(report: UptimeReport, layers: Iterable[alt.Chart], height: int, description: str) -> dict[str, Any]:
    chart = alt.layer(*layers).properties(width="container", height=height, description=description)
    edges = {"t0": report.since_unix_ns // _MS, "t1": report.until_unix_ns // _MS}
    chart = chart.add_params(*(alt.param(name=name, value=value) for name, value in edges.items()))
    spec: dict[str, Any] = chart.to_dict()
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def _calendar(report: UptimeReport) -> Picture:
    title = "Availability day by day"
    if not report.days:
        return Picture("calendar", title, "Not enough data: no target was probed in this time.")
    goals = {standing.target: standing.objective.availability for standing in report.standings}
    rows = []
    for row in report.days:
        share = row.counts.share.value
        word = "not known" if share is None else "no failure" if share == 1 else "some failures"
        if share is not None and share < goals[row.target]:
            word = "below the objective"
        text = "" if share is None else percent(share).removesuffix(" %")
        cells = {"series": row.target, "t": row.since_unix_ns // _MS, "t2": row.until_unix_ns // _MS, "word": word}
        cells |= {"day": day(row.since_unix_ns), "available": percent(share), "text": text[:5].rstrip(".")}
        cells |= {"down": row.counts.down, "conclusive": row.counts.conclusive, "unwatched": length(row.unknown_s)}
        rows.append(cells)
    data = pd.DataFrame(rows)
    names = report.targets
    tips = [alt.Tooltip("series:N", title="target"), alt.Tooltip("day:N"), alt.Tooltip("available:N")]
    tips += [
        alt.Tooltip("down:Q"),
        alt.Tooltip("conclusive:Q", format=","),
        alt.Tooltip("unwatched:N", title="not watched"),
    ]
    base = alt.Chart(alt.NamedData("rows"))
    days = {word: colour for word, colour in _DAYS.items() if word in set(data["word"])}
    cells = base.mark_rect(clip=True, stroke="white", strokeOpacity=0.35, strokeWidth=1).encode(
        x=_x(), x2="t2:T", y=_rows(names), color=_colour("word", days), tooltip=tips
    )
    # The share is written into the cells where they are wide enough for it.
    wide = alt.ExprRef(f"width * {DAY_NS // _MS} / (t1 - t0) > 25 ? 1 : 0")
    words = base.mark_text(clip=True, fontSize=8, color="white", opacity=wide, fontWeight="bold")
    text = words.transform_calculate(middle="(datum.t + datum.t2) / 2").encode(
        x=_x("middle"), y=_rows(names), text="text:N", tooltip=tips
    )
    caption = "Each cell is a day of UTC, all locations together. The table of days has the same figures as text."
    layers = [cells, text]
    return Picture("calendar", title, caption, _finished(report, layers, 24 * len(names) + 8, title), {"rows": data})


def _stretches(report: UptimeReport) -> Picture:
    title = "When it was down, and when nobody looked"
    if not report.now:
        return Picture("timeline", title, "Not enough data: no target was probed in this time.")

    def named(target: str, location: str | None) -> str:
        return target if location is None else f"{target} · {location}"

    rows: list[dict[str, Any]] = []

    def add(target: str, location: str | None, word: str, start: int, end: int, what: str) -> None:
        times = {"t": start // _MS, "t2": end // _MS, "from": clock(start), "lasted": length((end - start) / 1e9)}
        rows.append({"series": named(target, location), "word": word, **times, "what": what})

    for gap in report.gaps:
        add(gap.target, gap.location, "not watched", *gap.span, f"{gap.missed:,} probes missed")
    for one in report.maintenance:
        end = max(one.last_unix_ns, one.first_unix_ns + 1_000_000_000)
        add(one.target, one.location, "maintenance", one.first_unix_ns, end, one.name)
    for incident in report.incidents:
        for outage in incident.outages:
            end = report.until_unix_ns if outage.end_unix_ns is None else outage.end_unix_ns
            what = f"{outage.failed:,} failed: {outage.cause}"
            add(outage.target, outage.location, "down", outage.start_unix_ns, end, what)
    names = [named(now.target, now.location) for now in report.now]
    seen = {row["word"] for row in rows}
    columns = ["series", "word", "t", "t2", "from", "lasted", "what"]
    data = pd.DataFrame(rows[-MOST_POINTS:], columns=columns)
    if not rows:
        return Picture("timeline", title, "Nothing to draw: nothing was down, and somebody looked all the time.")
    tips = [alt.Tooltip("series:N", title="target"), alt.Tooltip("word:N", title="state"), alt.Tooltip("from:N")]
    tips += [alt.Tooltip("lasted:N"), alt.Tooltip("what:N")]
    colours = {word: colour for word, colour in _STRETCHES.items() if word in seen}
    colour = _colour("word", colours)
    # The stroke keeps an outage of one probe visible in a month.
    bars = (
        alt.Chart(alt.NamedData("rows"))
        .mark_bar(clip=True, strokeWidth=1.5)
        .encode(
            x=_x(),
            x2="t2:T",
            y=_rows(names),
            color=colour,
            stroke=alt.Stroke("word:N", scale=_scale(colours), legend=_legend()),
            tooltip=tips,
        )
    )
    caption = "From each first failed probe to the next good one. White is good; where nobody looked nothing is known."
    if len(rows) > MOST_POINTS:
        caption += f" {MOST_POINTS:,} of {len(rows):,} stretches are drawn."
    return Picture("timeline", title, caption, _finished(report, [bars], 20 * len(names) + 8, title), {"rows": data})


def _latency(report: UptimeReport, quantity: str, number: int) -> Picture | None:
    taken = [row for row in report.durations if row.quantity == quantity and row.p50_s is not None]
    if not taken:
        return None
    title = f"{quantity}, seconds"
    slowest: dict[tuple[str, str | None], float] = {}
    for row in taken:
        key = row.target, row.location
        slowest[key] = max(slowest.get(key, 0.0), row.p95_s or row.p50_s or 0.0)
    keys = sorted(
        sorted(slowest, key=lambda key: -slowest[key])[: len(_SERIES)], key=lambda key: (key[0], key[1] or "")
    )
    names = {key: key[0] if key[1] is None else f"{key[0]} · {key[1]}" for key in keys}
    rows = []
    for row in taken:
        if (row.target, row.location) not in names:
            continue
        for figure, value in (("p50", row.p50_s), ("p95", row.p95_s)):
            if value is not None:
                middle = min(row.start_unix_ns + report.step_ns // 2, report.until_unix_ns)
                cells = {"t": middle // _MS, "s": value, "figure": figure, "series": names[row.target, row.location]}
                when = day(row.start_unix_ns) if report.step_ns == DAY_NS else clock(row.start_unix_ns)[:16]
                rows.append({**cells, "when": when, "count": row.count})
    data = pd.DataFrame(rows)
    tips = [alt.Tooltip("series:N", title="target"), alt.Tooltip("when:N"), alt.Tooltip("figure:N")]
    tips += [alt.Tooltip("s:Q", title="seconds", format=".3f"), alt.Tooltip("count:Q", title="answers", format=",")]
    axis = alt.Axis(title=None, minExtent=_LABELS, maxExtent=_LABELS, tickCount=5)
    dash = alt.StrokeDash(
        "figure:N",
        scale=alt.Scale(domain=["p50", "p95"], range=[[1, 0], [5, 4]]),
        legend=alt.Legend(title=None, orient="top", symbolType="stroke"),
    )
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=_x(),
        y=alt.Y("s:Q", axis=axis, scale=alt.Scale(zero=True, nice=True)),
        color=_colour("series", dict(zip(names.values(), _SERIES, strict=False))),
    )
    lines = base.mark_line(strokeWidth=1.5, clip=True).encode(strokeDash=dash)
    points = base.mark_circle(size=26, clip=True).encode(tooltip=tips)
    step = "a day of UTC" if report.step_ns == DAY_NS else "an hour"
    caption = f"Of the good answers of {step}: half took no longer than the line, 95 % no longer than the dashed one."
    if len(slowest) > len(keys):
        caption += f" The slowest {len(keys)} of {len(slowest)} are drawn; the table has all."
    return Picture(f"latency-{number}", title, caption, _finished(report, [lines, points], 150, title), {"rows": data})


def pictures_of(report: UptimeReport) -> list[Picture]:
    """The pictures of an uptime report, top to bottom; one without data says so in its caption."""
    trends = [_latency(report, quantity.name, number) for number, quantity in enumerate(QUANTITIES, 1)]
    drawn = [picture for picture in trends if picture is not None]
    if not drawn:
        drawn = [Picture("latency-1", "Latency", "Not enough data: too few good answers for a median.")]
    return [_calendar(report), _stretches(report), *drawn]
