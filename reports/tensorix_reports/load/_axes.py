"""What the pictures of a run have in common: one time axis, colours and shapes, and how they are put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from tensorix_reports.limiting._rate_limit import RateLimitReport

__all__ = [
    "COLOURS",
    "LEAST_MS",
    "SERIES",
    "Edges",
    "at_tooltip",
    "bin_s",
    "both",
    "colour_of",
    "edges_of",
    "finished",
    "time_axis",
    "time_range",
    "time_x",
    "top_legend",
    "value_y",
]

LEAST_MS = 0.01
"""Nothing below is told apart (two chunks of one read are nanoseconds apart); a logarithm needs something above 0."""

_MOST_EDGES = 100
_MOST_BARS = 300

# Each at least 3:1 against white and against the page's dark ground; shapes and words tell them apart as well.
COLOURS = {"success": "#3a87c8", "throttled": "#c77d0a", "failed": "#d64550", "cancelled": "#858b94"}
SERIES = ("#3a87c8", "#1f9d8a", "#9467c9", "#a0762b", "#c2588f", "#5f8f3d")


def time_axis(end_s: float) -> alt.Axis:
    if end_s <= 600:
        return alt.Axis(title="seconds since the start", tickCount=8)
    clock = "floor(datum.value / 60) + ':' + (datum.value % 60 < 10 ? '0' : '') + floor(datum.value % 60)"
    return alt.Axis(title="minutes:seconds since the start", tickCount=8, labelExpr=clock)


def time_range() -> alt.Scale:
    return alt.Scale(domainMin=alt.ExprRef("t0"), domainMax=alt.ExprRef("t1"), nice=False, zero=False)


def time_x(end_s: float) -> alt.X:
    return alt.X("t:Q", scale=time_range(), axis=time_axis(end_s))


def value_y(field: str, scale: alt.Scale | None = None, format_: str = ",~r") -> alt.Y:
    # One width for every picture's labels keeps the time axes exactly below each other. What is shown stands above
    # the picture, for a title beside the labels would run into long ones.
    axis = alt.Axis(title=None, minExtent=58, maxExtent=58, tickCount=5, format=format_)
    return alt.Y(f"{field}:Q", axis=axis, scale=scale if scale is not None else alt.Undefined)


def at_tooltip(name: str = "t") -> alt.Tooltip:
    return alt.Tooltip(f"{name}:Q", title="at, s", format=".3f")


def top_legend() -> alt.Legend:
    return alt.Legend(title=None, orient="top", direction="horizontal", columns=0, labelLimit=220, symbolLimit=12)


def colour_of(field: str, names: list[str], colours: list[str], *, legend: bool = True) -> alt.Color:
    scale = alt.Scale(domain=names, range=colours)
    return alt.Color(f"{field}:N", scale=scale, legend=top_legend() if legend else None)


@dataclass(frozen=True, slots=True)
class Edges:
    """A dashed rule where each of the limiter's windows began, to lay over a picture or under it."""

    chart: alt.Chart
    rows: pd.DataFrame


def edges_of(limits: RateLimitReport, end_s: float) -> Edges | None:
    rows = [
        {"t": window.start_s, "window": number, "passed": window.passed, "refused": window.refused}
        for key in limits.keys
        for number, window in enumerate(key.fit.windows, 1)
    ]
    if not limits.reached or not 0 < len(rows) <= _MOST_EDGES:
        return None
    tooltip = [at_tooltip(), alt.Tooltip("window:Q"), alt.Tooltip("passed:Q"), alt.Tooltip("refused:Q")]
    rule = alt.Chart(alt.NamedData("edges")).mark_rule(strokeDash=[3, 3], opacity=0.55, clip=True, color="#858b94")
    rule = rule.encode(x=time_x(end_s), tooltip=tooltip, size=alt.value(1.5))
    return Edges(rule, pd.DataFrame(rows).astype({"t": float}))


def both(rows: pd.DataFrame, edges: Edges | None) -> dict[str, pd.DataFrame]:
    rows = rows.reset_index(drop=True)
    return {"rows": rows} if edges is None else {"rows": rows, "edges": edges.rows}


def finished(layers: list[alt.Chart], end_s: float, height: int, description: str) -> dict[str, Any]:
    chart = alt.layer(*layers).properties(width="container", height=height, description=description)
    chart = chart.add_params(alt.param(name="t0", value=0), alt.param(name="t1", value=end_s))
    spec: dict[str, Any] = chart.to_dict()
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def bin_s(end_s: float) -> int:
    """Whole seconds a bar, so that no more bars are drawn than can be told apart."""
    return next(step for step in (1, 2, 5, 10, 30, 60, 300, 600, 3600, 86400, 10**9) if end_s / step <= _MOST_BARS)
