"""The pictures of a search: each objective's figure against the load, with its bound and the knee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from tensorix_records.figures import Figure
from tensorix_records.judging import Standing
from tensorix_records.objectives import Objective
from tensorix_reports.page._picture import Picture

__all__ = ["Point", "pictures_of"]

_COLOURS = {"met": "#3a87c8", "broken": "#d64550"}
_UNITS = {"time": ("ms", 1e-6), "share": ("%", 100.0), "rate": ("a second", 1.0)}


@dataclass(frozen=True, slots=True)
class Point:
    """What an objective came to under a load."""

    load: float
    objective: Objective
    figure: Figure
    standing: Standing


def _x(unit: str) -> alt.X:
    scale = alt.Scale(domainMin=alt.ExprRef("t0"), domainMax=alt.ExprRef("t1"), nice=False, zero=False)
    return alt.X("t:Q", scale=scale, axis=alt.Axis(title=unit, tickCount=8))


def _y(field: str, *, log: bool) -> alt.Y:
    axis = alt.Axis(title=None, minExtent=58, maxExtent=58, tickCount=5, format=",~r")
    return alt.Y(f"{field}:Q", axis=axis, scale=alt.Scale(type="log", nice=True) if log else alt.Scale(zero=True))


def _picture(number: int, points: Sequence[Point], unit: str, knee: float | None) -> Picture:
    objective = points[0].objective
    name, scale = _UNITS[objective.kind]
    title = f"{objective.text}: {name} by load"
    rows: list[dict[str, Any]] = [
        {
            "t": one.load,
            "value": one.figure.value * scale,
            "low": (one.figure.value if one.figure.low is None else one.figure.low) * scale,
            "high": (one.figure.value if one.figure.high is None else one.figure.high) * scale,
            "standing": one.standing,
            "count": one.figure.count,
        }
        for one in points
        if one.figure.value is not None
    ]
    if not rows:
        return Picture(f"objective-{number}", title, "Not enough data: no step has a figure.")
    data = {"rows": pd.DataFrame(rows).astype({"t": float})}
    log = objective.kind == "time" and all(row["low"] > 0 for row in rows)
    # One legend for both channels: of two that differ Vega complains.
    legend = alt.Legend(title=None, orient="top", direction="horizontal", columns=0, labelLimit=220, symbolLimit=12)
    colour = alt.Color(
        "standing:N", scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())), legend=legend
    )
    shape = alt.Shape("standing:N", scale=alt.Scale(domain=list(_COLOURS), range=["circle", "cross"]), legend=legend)
    told = [
        alt.Tooltip("t:Q", title=unit, format=",.4~g"),
        alt.Tooltip("value:Q", title=name, format=",.4~g"),
        alt.Tooltip("low:Q", title="interval from", format=",.4~g"),
        alt.Tooltip("high:Q", title="to", format=",.4~g"),
        alt.Tooltip("count:Q", title="requests"),
    ]
    base = alt.Chart(alt.NamedData("rows"))
    layers = [
        base.mark_rule(clip=True, strokeWidth=2, opacity=0.6).encode(
            x=_x(unit), y=_y("low", log=log), y2="high:Q", color=colour, tooltip=told
        ),
        base.mark_point(filled=True, size=60, clip=True).encode(
            x=_x(unit),
            y=_y("value", log=log),
            color=colour,
            shape=shape,
            tooltip=told,
        ),
    ]
    data["bound"] = pd.DataFrame({"value": [float(objective.bound * scale)]})
    layers.append(
        alt.Chart(alt.NamedData("bound")).mark_rule(strokeDash=[6, 3], color="#a0762b").encode(y=_y("value", log=log))
    )
    if knee is not None:
        data["knee"] = pd.DataFrame({"t": [float(knee)]})
        rule = (
            alt.Chart(alt.NamedData("knee")).mark_rule(color="#1f9d8a", clip=True).encode(x=_x(unit), size=alt.value(2))
        )
        layers.append(rule)
    loads = [row["t"] for row in rows]
    low, high = min(loads), max(loads)
    margin = (high - low or high or 1.0) * 0.04
    caption = f"Each mark is a step, with its 95 % interval; dashed the bound, {objective.text}."
    caption += "" if knee is None else f" The upright line is the knee, {knee:g} {unit}."
    return Picture(f"objective-{number}", title, caption, _finished(layers, low - margin, high + margin, title), data)


def _finished(layers: list[Any], low: float, high: float, description: str) -> dict[str, Any]:
    chart = alt.layer(*layers).properties(width="container", height=240, description=description)
    chart = chart.add_params(alt.param(name="t0", value=low), alt.param(name="t1", value=high))
    spec: dict[str, Any] = chart.to_dict()
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def pictures_of(points: Sequence[Point], *, unit: str, knee: float | None) -> list[Picture]:
    """A picture for each objective."""
    texts = list(dict.fromkeys(one.objective.text for one in points))
    return [
        _picture(number, [one for one in points if one.objective.text == text], unit, knee)
        for number, text in enumerate(texts)
    ]
