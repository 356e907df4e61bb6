"""The pictures of a run as Vega-Lite specifications on one time axis: seconds since the run's start.

Every picture takes its time range from two parameters, `t0` and `t1`, so that the page can zoom all of them at once.
The same specification gives the page's picture and, with no browser, PNG and SVG.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from tensorix_reports.frames import RunFrames, kind_order
from tensorix_reports.limiting._rate_limit import RateLimitReport
from tensorix_reports.page._picture import Picture, thinned, thinned_places

__all__ = ["pictures_of"]

_MOST_EDGES = 100
_MOST_BARS = 300

# Each at least 3:1 against white and against the page's dark ground; shapes and words tell them apart as well.
_COLOURS = {"success": "#3a87c8", "throttled": "#c77d0a", "failed": "#d64550", "cancelled": "#858b94"}
_SERIES = ("#3a87c8", "#1f9d8a", "#9467c9", "#a0762b", "#c2588f", "#5f8f3d")


def _axis(end_s: float) -> alt.Axis:
    if end_s <= 600:
        return alt.Axis(title="seconds since the start", tickCount=8)
    clock = "floor(datum.value / 60) + ':' + (datum.value % 60 < 10 ? '0' : '') + floor(datum.value % 60)"
    return alt.Axis(title="minutes:seconds since the start", tickCount=8, labelExpr=clock)


def _range() -> alt.Scale:
    return alt.Scale(domainMin=alt.ExprRef("t0"), domainMax=alt.ExprRef("t1"), nice=False, zero=False)


def _x(end_s: float) -> alt.X:
    return alt.X("t:Q", scale=_range(), axis=_axis(end_s))


def _y(field: str, scale: alt.Scale | None = None, format_: str = ",~r") -> alt.Y:
    # One width for every picture's labels keeps the time axes exactly below each other. What is shown stands above
    # the picture, for a title beside the labels would run into long ones.
    axis = alt.Axis(title=None, minExtent=58, maxExtent=58, tickCount=5, format=format_)
    return alt.Y(f"{field}:Q", axis=axis, scale=scale if scale is not None else alt.Undefined)


def _time(name: str = "t") -> alt.Tooltip:
    return alt.Tooltip(f"{name}:Q", title="at, s", format=".3f")


def _legend() -> alt.Legend:
    return alt.Legend(title=None, orient="top", direction="horizontal", columns=0, labelLimit=220, symbolLimit=12)


def _colour(field: str, names: list[str], colours: list[str], *, legend: bool = True) -> alt.Color:
    scale = alt.Scale(domain=names, range=colours)
    return alt.Color(f"{field}:N", scale=scale, legend=_legend() if legend else None)


@dataclass(frozen=True, slots=True)
class _Edges:
    """A dashed rule where each of the limiter's windows began, to lay over a picture or under it."""

    chart: alt.Chart
    rows: pd.DataFrame


def _edges(limits: RateLimitReport, end_s: float) -> _Edges | None:
    rows = [
        {"t": window.start_s, "window": number, "passed": window.passed, "refused": window.refused}
        for key in limits.keys
        for number, window in enumerate(key.fit.windows, 1)
    ]
    if not limits.reached or not 0 < len(rows) <= _MOST_EDGES:
        return None
    tooltip = [_time(), alt.Tooltip("window:Q"), alt.Tooltip("passed:Q"), alt.Tooltip("refused:Q")]
    rule = alt.Chart(alt.NamedData("edges")).mark_rule(strokeDash=[3, 3], opacity=0.55, clip=True, color="#858b94")
    rule = rule.encode(x=_x(end_s), tooltip=tooltip, size=alt.value(1.5))
    return _Edges(rule, pd.DataFrame(rows).astype({"t": float}))


def _both(rows: pd.DataFrame, edges: _Edges | None) -> dict[str, pd.DataFrame]:
    rows = rows.reset_index(drop=True)
    return {"rows": rows} if edges is None else {"rows": rows, "edges": edges.rows}


def _finished(layers: list[alt.Chart], end_s: float, height: int, description: str) -> dict[str, Any]:
    chart = alt.layer(*layers).properties(width="container", height=height, description=description)
    chart = chart.add_params(alt.param(name="t0", value=0), alt.param(name="t1", value=end_s))
    spec: dict[str, Any] = chart.to_dict()
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def _latency(frames: RunFrames, end_s: float, edges: _Edges | None) -> Picture:
    """Every request's latency: TTFT where there is one, else the whole time."""
    requests, title = frames.load, "Latency of each request, ms"
    outcome, kinds, first = requests.codes("outcome"), requests.codes("kind"), requests.array("first_token_at_ns")
    success, failed = outcome.equal("success"), outcome.equal("failed")
    took = np.where(success & np.isfinite(first), first, requests.array("end_at_ns"))
    drawable = np.flatnonzero((success | failed) & (took > 0))
    if len(drawable) < 2:
        return Picture("latency", title, "Not enough data: fewer than two requests were answered.")
    places = drawable[thinned_places(took[drawable])]
    what = [
        "failed after"
        if failed[at]
        else f"{'TTFT' if np.isfinite(first[at]) else 'E2E'}: {kinds.values[kinds.codes[at]]}"
        for at in places.tolist()
    ]
    points = pd.DataFrame({"at_s": requests.array("at_s")[places], "ms": took[places] / 1e6, "what": what})
    order = [f"{name}: {kind}" for kind in sorted(kinds.values, key=kind_order) for name in ("TTFT", "E2E")]
    order.append("failed after")
    names = list(dict.fromkeys(name for name in order if name in set(points["what"])))
    colours = [_COLOURS["failed"] if name == "failed after" else _SERIES[i % 6] for i, name in enumerate(names)]
    shapes = [
        "cross" if name == "failed after" else ("circle", "square", "triangle-up")[i % 3]
        for i, name in enumerate(names)
    ]
    data = points.rename(columns={"at_s": "t"})
    marks = (
        alt.Chart(alt.NamedData("rows"))
        .mark_point(filled=True, size=26, opacity=0.75, clip=True)
        .encode(
            x=_x(end_s),
            y=_y("ms", alt.Scale(type="log", nice=True)),
            color=_colour("what", names, colours),
            shape=alt.Shape("what:N", scale=alt.Scale(domain=names, range=shapes), legend=_legend()),
            tooltip=[_time(), alt.Tooltip("ms:Q", title="ms", format=",.1f"), alt.Tooltip("what:N", title="what")],
        )
    )
    caption = "Each point is a request, at the second it started; time to the first token where the reply was streamed."
    if len(points) < len(drawable):
        caption += f" {len(points):,} of {len(drawable):,} are drawn, the extremes of every stretch among them."
    layers = [marks] if edges is None else [edges.chart, marks]
    return Picture("latency", title, caption, _finished(layers, end_s, 240, f"{title}, over time"), _both(data, edges))


def _bin_s(end_s: float) -> int:
    """Whole seconds a bar, so that no more bars are drawn than can be told apart."""
    return next(step for step in (1, 2, 5, 10, 30, 60, 300, 600, 3600, 86400, 10**9) if end_s / step <= _MOST_BARS)


def _rates(limits: RateLimitReport, end_s: float, edges: _Edges | None) -> Picture:
    title = "Requests a second, by what became of them"
    seconds = limits.seconds
    if not limits.totals["sent"]:
        return Picture("rates", title, "Not enough data: no request was sent.")
    step = _bin_s(end_s)
    outcomes = [name for name in _COLOURS if seconds[name].any()]
    grouped = seconds.groupby(seconds["second"] // step * step)[outcomes].sum()
    long = grouped.reset_index().melt("second", var_name="outcome", value_name="requests")
    long = long[long["requests"] > 0]
    long["rate"] = long["requests"] / step
    long["order"] = long["outcome"].map(list(_COLOURS).index)
    data = long.rename(columns={"second": "t"})
    data["t2"] = data["t"] + step
    bars = (
        alt.Chart(alt.NamedData("rows"))
        .mark_bar(clip=True, binSpacing=1)
        .encode(
            x=alt.X("t:Q", bin="binned", scale=_range(), axis=_axis(end_s)),
            x2="t2:Q",
            y=_y("rate"),
            color=_colour("outcome", outcomes, [_COLOURS[name] for name in outcomes]),
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("t:Q", title="from, s"),
                alt.Tooltip("t2:Q", title="to, s"),
                alt.Tooltip("outcome:N"),
                alt.Tooltip("requests:Q", format=","),
                alt.Tooltip("rate:Q", title="a second", format=",.2f"),
            ],
        )
    )
    layers = [bars] if edges is None else [bars, edges.chart]
    caption = f"By the second they were sent in{'' if step == 1 else f', {step} s a bar'}."
    if edges is not None:
        caption += " Dashed: where a window of the limiter began."
    return Picture("rates", title, caption, _finished(layers, end_s, 180, title), _both(data, edges))


def _remaining(limits: RateLimitReport, unit: str, end_s: float, edges: _Edges | None) -> Picture:
    title = f"Remaining {unit}, as the responses said"
    column = f"remaining_{unit}"
    told = limits.remaining[limits.remaining[column].notna()]
    if not len(told):
        return Picture(column, title, f"Not enough data: no response said how many {unit} remain.")
    shown = thinned(
        told.sort_values("told_s", kind="stable")[["told_s", column, "key_alias", "kind", "status"]], column
    )
    data = shown.rename(columns={"told_s": "t", column: "left"}).reset_index(drop=True)
    data["key_alias"] = data["key_alias"].fillna("no key").astype(str)
    names = sorted(data["key_alias"].unique())[: len(_SERIES)]
    base = alt.Chart(alt.NamedData("rows"))
    colour = _colour("key_alias", names, list(_SERIES[: len(names)]), legend=len(names) > 1)
    tooltip = [
        _time(),
        alt.Tooltip("left:Q", title=f"{unit} left", format=","),
        alt.Tooltip("kind:N", title="response"),
        alt.Tooltip("status:Q"),
        alt.Tooltip("key_alias:N", title="key"),
    ]
    # A budget that hardly moves would be a flat line on an axis from zero.
    from_zero = float(told[column].min()) < 0.5 * float(told[column].max()) or unit == "requests"
    y = _y("left", alt.Scale(zero=from_zero, nice=True), "~s" if unit == "tokens" else ",~r")
    line = base.mark_line(interpolate="step-after", strokeWidth=1.5, clip=True, opacity=0.6).encode(
        x=_x(end_s), y=y, color=colour
    )
    points = base.mark_circle(size=22, clip=True).encode(x=_x(end_s), y=y, color=colour, tooltip=tooltip)
    layers = [line, points] if edges is None else [edges.chart, line, points]
    caption = "Each point is a response that carried the header, at the second it arrived."
    if not from_zero:
        caption += " The axis does not begin at zero."
    if limits.remaining_is_reduced:
        caption += " Of each second and key the least is drawn."
    elif len(shown) < len(told):
        caption += f" {len(shown):,} of {len(told):,} are drawn."
    return Picture(column, title, caption, _finished(layers, end_s, 150, title), _both(data, edges))


def _concurrency(frames: RunFrames, end_s: float) -> Picture:
    title = "Users, and requests in flight"
    parts = []
    for name, column in (("users", "users"), ("in flight", "in_flight")):
        events = [event for event in frames.of("second") if isinstance(event.get(column), (int, float))]
        if name == "users" and not events:
            events = [{**event, "users": event.get("count")} for event in frames.of("users")]
        rows = {round(event["at_s"], 2): 0.0 for event in events}
        for event in events:
            rows[round(event["at_s"], 2)] += float(event[column] or 0)
        parts.append(pd.DataFrame({"at_s": list(rows), "count": list(rows.values()), "what": name}))
    points = pd.concat([part for part in parts if len(part)] or [pd.DataFrame()])
    if len(points) < 2:
        return Picture("concurrency", title, "Not enough data: the run did not record its users each second.")
    data = thinned(points.sort_values("at_s", kind="stable"), "count").rename(columns={"at_s": "t"})
    base = alt.Chart(alt.NamedData("rows"))
    colour = _colour("what", ["users", "in flight"], [_SERIES[2], _SERIES[1]])
    tooltip = [_time(), alt.Tooltip("what:N"), alt.Tooltip("count:Q", format=",")]
    line = base.mark_line(interpolate="step-after", strokeWidth=1.5, clip=True).encode(
        x=_x(end_s), y=_y("count"), color=colour
    )
    points_layer = base.mark_circle(size=18, clip=True).encode(
        x=_x(end_s), y=_y("count"), color=colour, tooltip=tooltip
    )
    return Picture(
        "concurrency",
        title,
        "As the client counted them, once a second.",
        _finished([line, points_layer], end_s, 120, title),
        _both(data, None),
    )


def pictures_of(frames: RunFrames, limits: RateLimitReport) -> list[Picture]:
    """The pictures of a run, top to bottom; one without data says so in its caption."""
    end_s = max(1.0, float(np.ceil(frames.end_s * 10) / 10))
    edges = _edges(limits, end_s)
    return [
        _latency(frames, end_s, edges),
        _rates(limits, end_s, edges),
        _remaining(limits, "requests", end_s, edges),
        _remaining(limits, "tokens", end_s, edges),
        # Spans hold neither users nor a count each second.
        *([] if frames.is_traced else [_concurrency(frames, end_s)]),
    ]
