"""The pictures of a run as Vega-Lite specifications on one time axis: seconds since the run's start.

Every picture takes its time range from two parameters, `t0` and `t1`, so that the page can zoom all of them at once.
The same specification gives the page's picture and, with no browser, PNG and SVG.
"""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from tensorix_reports.frames import RunFrames, kind_order
from tensorix_reports.limiting._rate_limit import RateLimitReport
from tensorix_reports.load._axes import (
    COLOURS,
    SERIES,
    Edges,
    at_tooltip,
    bin_s,
    both,
    colour_of,
    edges_of,
    finished,
    time_axis,
    time_range,
    time_x,
    top_legend,
    value_y,
)
from tensorix_reports.load._band_pictures import chunk_bands, client_health, ttft_bands
from tensorix_reports.page._picture import Picture, thinned, thinned_places

__all__ = ["pictures_of"]


def _latency(frames: RunFrames, end_s: float, edges: Edges | None) -> Picture:
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
    colours = [COLOURS["failed"] if name == "failed after" else SERIES[i % 6] for i, name in enumerate(names)]
    shapes = [
        "cross" if name == "failed after" else ("circle", "square", "triangle-up")[i % 3]
        for i, name in enumerate(names)
    ]
    data = points.rename(columns={"at_s": "t"})
    marks = (
        alt.Chart(alt.NamedData("rows"))
        .mark_point(filled=True, size=26, opacity=0.75, clip=True)
        .encode(
            x=time_x(end_s),
            y=value_y("ms", alt.Scale(type="log", nice=True)),
            color=colour_of("what", names, colours),
            shape=alt.Shape("what:N", scale=alt.Scale(domain=names, range=shapes), legend=top_legend()),
            tooltip=[at_tooltip(), alt.Tooltip("ms:Q", title="ms", format=",.1f"), alt.Tooltip("what:N", title="what")],
        )
    )
    caption = "Each point is a request, at the second it started; time to the first token where the reply was streamed."
    if len(points) < len(drawable):
        caption += f" {len(points):,} of {len(drawable):,} are drawn, the extremes of every stretch among them."
    layers = [marks] if edges is None else [edges.chart, marks]
    return Picture("latency", title, caption, finished(layers, end_s, 240, f"{title}, over time"), both(data, edges))


def _rates(limits: RateLimitReport, end_s: float, edges: Edges | None) -> Picture:
    title = "Requests a second, by what became of them"
    seconds = limits.seconds
    if not limits.totals["sent"]:
        return Picture("rates", title, "Not enough data: no request was sent.")
    step = bin_s(end_s)
    outcomes = [name for name in COLOURS if seconds[name].any()]
    grouped = seconds.groupby(seconds["second"] // step * step)[outcomes].sum()
    long = grouped.reset_index().melt("second", var_name="outcome", value_name="requests")
    long = long[long["requests"] > 0]
    long["rate"] = long["requests"] / step
    long["order"] = long["outcome"].map(list(COLOURS).index)
    data = long.rename(columns={"second": "t"})
    data["t2"] = data["t"] + step
    bars = (
        alt.Chart(alt.NamedData("rows"))
        .mark_bar(clip=True, binSpacing=1)
        .encode(
            x=alt.X("t:Q", bin="binned", scale=time_range(), axis=time_axis(end_s)),
            x2="t2:Q",
            y=value_y("rate"),
            color=colour_of("outcome", outcomes, [COLOURS[name] for name in outcomes]),
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
    offered = seconds["offered"].groupby(seconds["second"] // step * step).sum(min_count=1).dropna()
    if len(offered):
        # In the middle of its bar, where its mark stands over it.
        due = pd.DataFrame({"t": offered.index.to_numpy(float) + step / 2, "rate": offered.to_numpy(float) / step})
        told = [at_tooltip(), alt.Tooltip("rate:Q", title="offered, a second", format=",.2f")]
        line = alt.Chart(alt.NamedData("offered")).mark_line(
            color=SERIES[2], strokeWidth=1.5, clip=True, point={"color": SERIES[2], "size": 14}
        )
        layers.append(line.encode(x=time_x(end_s), y=value_y("rate"), tooltip=told))
        caption += " The line is what the schedule offered: what was due, a second."
    if edges is not None:
        caption += " Dashed: where a window of the limiter began."
    rows = both(data, edges) | ({"offered": due} if len(offered) else {})
    return Picture("rates", title, caption, finished(layers, end_s, 180, title), rows)


def _ledger(frames: RunFrames, unit: str) -> pd.DataFrame:
    """What the client's own count said was left, as each request was sent."""
    load = frames.load
    left = load.array(f"ledger_remaining_{unit}")
    known = np.flatnonzero(np.isfinite(left))
    places = known[thinned_places(left[known])] if len(known) else known
    return pd.DataFrame({"t": load.array("at_s")[places], "left": left[places]})


def _remaining(frames: RunFrames, limits: RateLimitReport, unit: str, end_s: float, edges: Edges | None) -> Picture:
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
    names = sorted(data["key_alias"].unique())[: len(SERIES)]
    base = alt.Chart(alt.NamedData("rows"))
    colour = colour_of("key_alias", names, list(SERIES[: len(names)]), legend=len(names) > 1)
    tooltip = [
        at_tooltip(),
        alt.Tooltip("left:Q", title=f"{unit} left", format=","),
        alt.Tooltip("kind:N", title="response"),
        alt.Tooltip("status:Q"),
        alt.Tooltip("key_alias:N", title="key"),
    ]
    # A budget that hardly moves would be a flat line on an axis from zero.
    from_zero = float(told[column].min()) < 0.5 * float(told[column].max()) or unit == "requests"
    y = value_y("left", alt.Scale(zero=from_zero, nice=True), "~s" if unit == "tokens" else ",~r")
    line = base.mark_line(interpolate="step-after", strokeWidth=1.5, clip=True, opacity=0.6).encode(
        x=time_x(end_s), y=y, color=colour
    )
    points = base.mark_circle(size=22, clip=True).encode(x=time_x(end_s), y=y, color=colour, tooltip=tooltip)
    layers = [line, points] if edges is None else [edges.chart, line, points]
    caption = "Each point is a response that carried the header, at the second it arrived."
    rows = both(data, edges)
    ledger = _ledger(frames, unit)
    if len(ledger):
        rows["ledger"] = ledger
        own = alt.Chart(alt.NamedData("ledger")).mark_line(
            interpolate="step-after",
            strokeDash=[4, 3],
            color=SERIES[2],
            clip=True,
            point={"color": SERIES[2], "size": 12},
        )
        said = [at_tooltip(), alt.Tooltip("left:Q", title=f"{unit} left by the client's own count", format=",")]
        layers.append(own.encode(x=time_x(end_s), y=y, tooltip=said))
        caption += " Dashed: what the client's own count said was left as it sent a request."
    if not from_zero:
        caption += " The axis does not begin at zero."
    if limits.remaining_is_reduced:
        caption += " Of each second and key the least is drawn."
    elif len(shown) < len(told):
        caption += f" {len(shown):,} of {len(told):,} are drawn."
    return Picture(column, title, caption, finished(layers, end_s, 150, title), rows)


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
    colour = colour_of("what", ["users", "in flight"], [SERIES[2], SERIES[1]])
    tooltip = [at_tooltip(), alt.Tooltip("what:N"), alt.Tooltip("count:Q", format=",")]
    line = base.mark_line(interpolate="step-after", strokeWidth=1.5, clip=True).encode(
        x=time_x(end_s), y=value_y("count"), color=colour
    )
    points_layer = base.mark_circle(size=18, clip=True).encode(
        x=time_x(end_s), y=value_y("count"), color=colour, tooltip=tooltip
    )
    return Picture(
        "concurrency",
        title,
        "As the client counted them, once a second.",
        finished([line, points_layer], end_s, 120, title),
        both(data, None),
    )


def pictures_of(frames: RunFrames, limits: RateLimitReport) -> list[Picture]:
    """The pictures of a run over time, top to bottom; one without data says so in its caption."""
    end_s = max(1.0, float(np.ceil(frames.end_s * 10) / 10))
    edges = edges_of(limits, end_s)
    return [
        _rates(limits, end_s, edges),
        ttft_bands(frames, end_s),
        _latency(frames, end_s, edges),
        # Spans hold neither gaps nor users nor a count each second.
        *([] if frames.is_traced else [chunk_bands(frames, end_s)]),
        _remaining(frames, limits, "requests", end_s, edges),
        _remaining(frames, limits, "tokens", end_s, edges),
        *([] if frames.is_traced else [_concurrency(frames, end_s), client_health(frames, end_s)]),
    ]
