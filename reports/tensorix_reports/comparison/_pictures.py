"""The pictures of a comparison: the ratios with their intervals, and how the latencies of each run are spread."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from tensorix_reports.comparison._compare import Comparison
from tensorix_reports.comparison._words import figure_name, run_names
from tensorix_reports.page._picture import Picture

__all__ = ["pictures_of"]

_COLOURS = ("#3a87c8", "#c77d0a", "#1f9d8a", "#9467c9", "#d64550", "#858b94")
_STEPS = 200
_LEGEND = alt.Legend(title=None, orient="top", direction="horizontal", columns=0, labelLimit=220, symbolLimit=12)


def _finished(layers: list[Any], height: int, description: str) -> dict[str, Any]:
    chart = alt.layer(*layers).properties(width="container", height=height, description=description)
    spec: dict[str, Any] = chart.to_dict()
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def _ratios(comparison: Comparison, run: int) -> Picture:
    name, title = f"ratios-{run}", f"Ratio of each figure to the baseline's: {run_names(comparison)[run]}"
    rows: list[dict[str, Any]] = [
        {
            "figure": figure_name(one),
            "ratio": one.ratio,
            "low": max(one.ratio_low, 0.02),
            "high": min(one.ratio_high, 50.0),
            "standing": "differs" if one.shown else "no difference shown",
        }
        for one in comparison.rows[run - 1]
        if one.ratio is not None and one.ratio > 0 and one.ratio_low is not None and one.ratio_high is not None
    ]
    if not rows:
        return Picture(name, title, "Not enough data: no figure has a ratio with an interval.")
    y = alt.Y("figure:N", sort=None, axis=alt.Axis(title=None, labelLimit=260))
    # Nice ends of a logarithmic axis are powers of ten, between which a change of 10 % would be no wider than its mark.
    ends = [min(1.0, *(row["low"] for row in rows)) / 1.05, max(1.0, *(row["high"] for row in rows)) * 1.05]
    axis = alt.Axis(title="times the baseline", format=".3~g", tickCount=6)
    x = alt.X("low:Q", scale=alt.Scale(type="log", domain=ends, nice=False), axis=axis)
    words = ["differs", "no difference shown"]
    colour = alt.Color("standing:N", scale=alt.Scale(domain=words, range=["#d64550", "#858b94"]), legend=_LEGEND)
    shape = alt.Shape("standing:N", scale=alt.Scale(domain=words, range=["diamond", "circle"]), legend=_LEGEND)
    told = [
        alt.Tooltip("figure:N"),
        alt.Tooltip("ratio:Q", format=".4f"),
        alt.Tooltip("low:Q", title="from", format=".4f"),
        alt.Tooltip("high:Q", title="to", format=".4f"),
    ]
    base = alt.Chart(alt.NamedData("rows"))
    layers = [
        alt.Chart(alt.NamedData("one")).mark_rule(strokeDash=[6, 3], color="#858b94").encode(x=alt.X("low:Q")),
        base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q", y=y, color=colour, tooltip=told),
        base.mark_point(filled=True, size=60).encode(x=alt.X("ratio:Q"), y=y, color=colour, shape=shape, tooltip=told),
    ]
    caption = (
        "Each line is the interval of a ratio: 95 % for all of them at once. One that holds 1 shows no difference."
    )
    spec = _finished(layers, max(120, 18 * len(rows)), title)
    return Picture(name, title, caption, spec, {"rows": pd.DataFrame(rows), "one": pd.DataFrame({"low": [1.0]})})


def _spread(comparison: Comparison) -> Picture:
    what = comparison.sampled.upper()
    title = f"{what}: share of requests that took no longer, by ms"
    names = run_names(comparison)
    shares = np.linspace(0.0, 1.0, _STEPS + 1)
    parts = [
        pd.DataFrame({"ms": np.quantile(samples, shares) / 1e6, "share": shares, "run": name})
        for name, samples in zip(names, comparison.samples, strict=True)
        if samples.size > 1
    ]
    if not parts:
        return Picture("spread", title, "Not enough data: fewer than two requests were answered.")
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows["ms"] > 0].reset_index(drop=True)
    dashes = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4], [1, 3]]
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=alt.X("ms:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(title="ms", format=",~r")),
        y=alt.Y("share:Q", axis=alt.Axis(title=None, format="%", minExtent=58, maxExtent=58)),
        color=alt.Color("run:N", scale=alt.Scale(domain=names, range=list(_COLOURS[: len(names)])), legend=_LEGEND),
    )
    line = base.mark_line(interpolate="step-after", strokeWidth=2).encode(
        strokeDash=alt.StrokeDash("run:N", scale=alt.Scale(domain=names, range=dashes[: len(names)]), legend=_LEGEND),
    )
    # A line knows one place only, its first: unseen points along it tell of the others.
    points = base.mark_circle(size=70, opacity=0).encode(
        tooltip=[
            alt.Tooltip("run:N", title="run"),
            alt.Tooltip("share:Q", title="share", format=".1%"),
            alt.Tooltip("ms:Q", title="within, ms", format=",.4~g"),
        ],
    )
    caption = "A line further to the right is slower. Of all successful chat in the steady state."
    return Picture("spread", title, caption, _finished([line, points], 260, title), {"rows": rows})


def pictures_of(comparison: Comparison) -> list[Picture]:
    """The forest of ratios of each run, and the distributions over each other."""
    return [*(_ratios(comparison, run) for run in range(1, len(comparison.runs))), _spread(comparison)]
