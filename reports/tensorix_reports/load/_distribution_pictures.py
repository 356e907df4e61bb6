"""Distributions: of each kind of request, the share that took no longer than so long (the empirical distribution)."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tensorix_records.timings import e2e_ns, itl_ns, ttft_ns
from tensorix_reports.frames import RunFrames, Window, kind_order
from tensorix_reports.load._axes import LEAST_MS, SERIES, colour_of, top_legend, value_y
from tensorix_reports.page._picture import Picture

__all__ = ["MOST_POINTS_A_LINE", "distribution_pictures", "thinned_ecdf"]

MOST_POINTS_A_LINE = 400
_MOST_LINES = 6
_QUANTITIES = (("ttft", "TTFT", ttft_ns), ("itl", "ITL", itl_ns), ("e2e", "E2E", e2e_ns))
_DASHES = ([1, 0], [6, 3], [2, 2])


def thinned_ecdf(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of the empirical distribution: order statistics, and the share of the values that are no larger.

    All of them, or 400 at equal steps of the share with both ends among them: each lies exactly on the distribution.
    """
    ordered = np.sort(values)
    places = np.arange(len(ordered))
    if len(ordered) > MOST_POINTS_A_LINE:
        places = np.linspace(0, len(ordered) - 1, MOST_POINTS_A_LINE).round().astype(np.int64)
    at = ordered[places]
    return at, np.searchsorted(ordered, at, side="right") / max(1, len(ordered))


def _lines(frames: RunFrames, window: Window, quantity: Any) -> list[tuple[str, NDArray[np.float64]]]:
    requests = frames.load
    at = requests.array("at_s")
    good = requests.codes("outcome").equal("success") & (at >= window.start_s) & (at <= window.end_s)
    mine = requests.of(good)
    values, kinds, sources = np.maximum(quantity(mine) / 1e6, LEAST_MS), mine.codes("kind"), mine.codes("token_source")
    several = quantity is itl_ns and len({*sources.codes[np.isfinite(values)].tolist()}) > 1
    found = []
    for kind in sorted(kinds.values, key=kind_order):
        # What is counted by usage and what by chunks is never pooled.
        for source in sources.values if several else [None]:
            chosen = kinds.equal(kind) & np.isfinite(values)
            part = values[chosen & sources.equal(source)] if several else values[chosen]
            if len(part) > 1:
                found.append((f"{kind}, by {source}" if several else str(kind), part))
    return found[:_MOST_LINES]


def distribution_pictures(frames: RunFrames, window: Window) -> list[Picture]:
    """TTFT, ITL and E2E of the successes in the window of the figures; those that nothing has are left out."""
    pictures = []
    for id_, words, quantity in _QUANTITIES:
        lines = _lines(frames, window, quantity)
        if lines:
            pictures.append(_picture(f"ecdf-{id_}", words, lines))
    return pictures


def _picture(id_: str, words: str, lines: list[tuple[str, NDArray[np.float64]]]) -> Picture:
    title = f"How {words} is distributed: the share of requests within so many ms"
    names = [name for name, _ in lines]
    parts = []
    for name, values in lines:
        at, share = thinned_ecdf(values)
        parts.append(pd.DataFrame({"ms": at, "share": share, "what": name}))
    rows = pd.concat(parts).reset_index(drop=True)
    base = alt.Chart(alt.NamedData("rows"))
    x = alt.X(
        "ms:Q",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(title="ms (logarithmic)", tickCount=8, format=",~r"),
    )
    y = value_y("share", alt.Scale(domain=[0, 1]), "~%")
    colour = colour_of("what", names, list(SERIES[: len(names)]))
    # The same legend as the colour's: Vega puts both into one, and complains where only one of them has one.
    dashes = alt.Scale(domain=names, range=[_DASHES[n % 3] for n in range(len(names))])
    dash = alt.StrokeDash("what:N", scale=dashes, legend=top_legend())
    tooltip = [
        alt.Tooltip("share:Q", title="share", format=".1%"),
        alt.Tooltip("ms:Q", title="within, ms", format=",.4~g"),
        alt.Tooltip("what:N", title="what"),
    ]
    line = base.mark_line(interpolate="step-after", strokeWidth=1.5).encode(x=x, y=y, color=colour, strokeDash=dash)
    points = base.mark_circle(size=14, opacity=0.6).encode(x=x, y=y, color=colour, tooltip=tooltip)
    chart = alt.layer(line, points).properties(width="container", height=160, description=title)
    spec: dict[str, Any] = chart.to_dict()
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    counts = ", ".join(f"{name}: {len(values):,}" for name, values in lines)
    caption = f"Successes in the same stretch as the latencies ({counts}). Not a picture over time: it is not zoomed."
    return Picture(id_, title, caption, spec, {"rows": rows})
