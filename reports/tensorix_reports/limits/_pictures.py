"""The evidence as a picture: each request on a time line, passed or refused, under what the limiter had left."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from tensorix_reports.limits._report import KeyReport
from tensorix_reports.page._picture import Picture, thinned

__all__ = ["pictures_of"]

_NAMES = {"passed": "#3a87c8", "refused": "#c77d0a", "refused for tokens": "#d64550"}
_SHAPES = {"passed": "circle", "refused": "cross", "refused for tokens": "triangle-up"}

_LINE = "#1f9d8a"


def _x() -> alt.X:
    scale = alt.Scale(domainMin=alt.ExprRef("t0"), domainMax=alt.ExprRef("t1"), nice=False, zero=False)
    return alt.X("t:Q", scale=scale, axis=alt.Axis(title="seconds since the start", tickCount=8))


def _y() -> alt.Y:
    return alt.Y("left:Q", axis=alt.Axis(title=None, minExtent=58, maxExtent=58, tickCount=5, format=",~r"))


def _legend() -> alt.Legend:
    return alt.Legend(title=None, orient="top", direction="horizontal", columns=0, labelLimit=220, symbolLimit=12)


def pictures_of(main: KeyReport, end_s: float) -> list[Picture]:
    """One picture of the main key."""
    title = "Each request, and what the limiter had left"
    key, run = main.key, main.run
    drawn = key.counted | key.refused | key.refused_for_tokens
    if not drawn.any():
        return [Picture("evidence", title, "Not enough data: no request tells of a limit.")]
    what = np.where(key.refused_for_tokens, "refused for tokens", np.where(key.refused, "refused", "passed"))
    at_s = (key.sent_s + key.seen_s) / 2 if run is None else run.at_s
    said = key.requests.array("remaining_requests")
    rows = pd.DataFrame({"at_s": at_s, "what": what, "said": said})
    rows["left"] = np.arange(len(rows), dtype=float) if run is None else run.remaining
    rows["expected"] = "" if run is None else np.where(run.passes, "passes", "is refused")
    rows = rows[drawn].sort_values("at_s", kind="stable").reset_index(drop=True)
    count = len(rows)
    if run is None:
        # Nothing was fitted: how many had passed by then.
        rows["left"] = (rows["what"] == "passed").cumsum().astype(float)
    rows = thinned(rows, "left").rename(columns={"at_s": "t"})
    names = [name for name in _NAMES if name in set(rows["what"])]
    y_title = "requests left" if run is not None else "passed so far"
    tooltip = [
        alt.Tooltip("t:Q", title="at, s", format=".3f"),
        alt.Tooltip("what:N"),
        alt.Tooltip("left:Q", title=y_title, format=",.0f"),
        alt.Tooltip("said:Q", title="by its header", format=",.0f"),
        alt.Tooltip("expected:N", title="by the limiter it"),
    ]
    points = (
        alt.Chart(alt.NamedData("rows"))
        .mark_point(filled=True, size=34, opacity=0.85, clip=True)
        .encode(
            x=_x(),
            y=_y(),
            color=alt.Color(
                "what:N", scale=alt.Scale(domain=names, range=[_NAMES[n] for n in names]), legend=_legend()
            ),
            shape=alt.Shape(
                "what:N", scale=alt.Scale(domain=names, range=[_SHAPES[n] for n in names]), legend=_legend()
            ),
            tooltip=tooltip,
        )
    )
    line = (
        alt.Chart(alt.NamedData("rows"))
        .mark_line(interpolate="step-after", clip=True, opacity=0.6, color=_LINE, strokeWidth=1.5)
        .encode(x=_x(), y=_y())
    )
    if run is None:
        caption = "Each mark is a request, as high as the number that had passed by then. No limiter was fitted."
    else:
        surprising = int((run.passes[drawn] == key.refused[drawn]).sum())
        caption = (
            "Each mark is a request, as high as the requests that the fitted limiter had left after it (the line). "
        )
        caption += f"It says otherwise than what came of {surprising:,} of {count:,}."
    if len(rows) < count:
        caption += f" {len(rows):,} of {count:,} are drawn."
    data = rows[["t", "left", "what", "said", "expected"]].reset_index(drop=True)
    return [Picture("evidence", title, caption, _finished([line, points], end_s, title), {"rows": data})]


def _finished(layers: list[Any], end_s: float, description: str) -> dict[str, Any]:
    chart = alt.layer(*layers).properties(width="container", height=280, description=description)
    chart = chart.add_params(alt.param(name="t0", value=0), alt.param(name="t1", value=end_s))
    spec: dict[str, Any] = chart.to_dict()
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec
