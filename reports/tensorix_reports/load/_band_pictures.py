"""Pictures of how a figure goes over time: percentiles of each stretch, and what the client said of itself."""

from __future__ import annotations

from collections.abc import Iterable

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tensorix_records.figures import NEEDED_BEYOND
from tensorix_records.gaps import gap_percentile_ns
from tensorix_reports.frames import RunFrames
from tensorix_reports.load._axes import (
    LEAST_MS,
    SERIES,
    at_tooltip,
    bin_s,
    both,
    colour_of,
    finished,
    time_x,
    top_legend,
    value_y,
)
from tensorix_reports.page._picture import Picture

__all__ = ["chunk_bands", "client_health", "ttft_bands"]

_PERCENTS = (50.0, 90.0, 99.0)
_MOST_STRETCHES = 120
_AIM = 60
"""A stretch is so long that it has about this many samples, if the run has them."""
_SHAPES = ("circle", "square", "triangle-up")
_DASHES = ([1, 0], [6, 3], [2, 2])


def _lines(
    rows: pd.DataFrame, names: list[str], end_s: float, id_: str, title: str, caption: str, unit: str
) -> Picture:
    """Lines with a mark at each stretch; told apart by colour, dash and shape."""
    colours = [SERIES[place % len(SERIES)] for place in range(len(names))]
    base = alt.Chart(alt.NamedData("rows"))
    x, y = time_x(end_s), value_y("value", alt.Scale(type="log", nice=True))
    colour = colour_of("what", names, colours)
    dashes = [_DASHES[place % len(_DASHES)] for place in range(len(names))]
    shapes = [_SHAPES[place % len(_SHAPES)] for place in range(len(names))]
    line = base.mark_line(strokeWidth=1.5, clip=True).encode(
        x=x,
        y=y,
        color=colour,
        strokeDash=alt.StrokeDash("what:N", scale=alt.Scale(domain=names, range=dashes), legend=top_legend()),
    )
    tooltip = [at_tooltip(), alt.Tooltip("what:N"), alt.Tooltip("value:Q", title=unit, format=",.4~g")]
    if "count" in rows:
        tooltip.append(alt.Tooltip("count:Q", title="samples", format=","))
    shape = alt.Shape("what:N", scale=alt.Scale(domain=names, range=shapes), legend=top_legend())
    marks = base.mark_point(filled=True, size=26, clip=True).encode(
        x=x, y=y, color=colour, shape=shape, tooltip=tooltip
    )
    return Picture(id_, title, caption, finished([line, marks], end_s, 180, title), both(rows, None))


def _stretch_s(samples: int, end_s: float) -> int:
    """How long a stretch is: whole seconds, with enough samples, and no more stretches than can be told apart."""
    wanted = max(end_s / _MOST_STRETCHES, _AIM * end_s / max(1, samples), 1.0)
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400)
    return next((step for step in steps if step >= wanted), int(np.ceil(wanted)))


def _enough(count: int, percent: float) -> bool:
    return round(count * min(percent, 100 - percent) / 100, 6) >= NEEDED_BEYOND


def ttft_bands(frames: RunFrames, end_s: float) -> Picture:
    """TTFT's percentiles of each stretch that has the samples for them."""
    title = "TTFT over time, ms: half, 90 % and 99 % within"
    requests = frames.load
    first = requests.array("first_token_at_ns")
    streamed = requests.codes("outcome").equal("success") & requests.codes("stream").equal(True)
    good = streamed & np.isfinite(first) & (first > 0)
    at, ms = requests.array("at_s")[good], first[good] / 1e6
    step = _stretch_s(len(ms), end_s)
    rows = _percentiles(np.floor(at / step).astype(np.int64), ms, step) if len(ms) else None
    if rows is None:
        return Picture("ttft", title, "Not enough data: no stretch has ten streamed replies.")
    names = [f"p{percent:g}" for percent in _PERCENTS if f"p{percent:g}" in set(rows["what"])]
    caption = f"Of the replies that were streamed, by when they were asked for, in stretches of {step:,} s. "
    caption += "A percentile is drawn where five samples lie beyond it; below stands each request."
    return _lines(rows, names, end_s, "ttft", title, caption, "ms")


def _percentiles(stretch: NDArray[np.int64], values: NDArray[np.float64], step: int) -> pd.DataFrame | None:
    """Of values in the order of time."""
    starts = np.flatnonzero(np.diff(stretch, prepend=stretch[0] - 1))
    rows = []
    for number, part in zip(stretch[starts].tolist(), np.split(values, starts[1:]), strict=True):
        wanted = [percent for percent in _PERCENTS if _enough(len(part), percent)]
        found = np.percentile(part, wanted).tolist() if wanted else []
        rows += [
            (number * step + step / 2, f"p{percent:g}", value, len(part))
            for percent, value in zip(wanted, found, strict=True)
        ]
    return _frame(rows)


def _frame(rows: list[tuple[float, str, float, int]]) -> pd.DataFrame | None:
    return pd.DataFrame(rows, columns=["t", "what", "value", "count"]) if rows else None


def chunk_bands(frames: RunFrames, end_s: float) -> Picture:
    """The gaps between chunks, from their histogram."""
    title = "Gaps between chunks (ICL) over time, ms: half, 90 % and 99 % within"
    if frames.gaps is None:
        return Picture("chunks", title, "Not enough data: the run kept no gaps between chunks.")
    second = frames.gaps.column("second_unix").to_numpy() - frames.origin_unix_ns / 1e9
    buckets, counts = (frames.gaps.column(name).to_numpy() for name in ("bucket", "count"))
    step = _stretch_s(int(counts.sum()), end_s)
    # A second that began before the run's is its first.
    stretch = np.floor(np.maximum(second, 0.0) / step).astype(np.int64)
    order = np.argsort(stretch, kind="stable")
    found, starts = np.unique(stretch[order], return_index=True)
    rows = []
    for number, part in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
        total = int(counts[part].sum())
        for percent in _PERCENTS:
            value = gap_percentile_ns(buckets[part], counts[part], percent) if _enough(total, percent) else None
            if value is not None:
                rows.append((min(number * step + step / 2, end_s), f"p{percent:g}", max(value / 1e6, LEAST_MS), total))
    frame = _frame(rows)
    if frame is None:
        return Picture("chunks", title, "Not enough data: too few gaps between chunks.")
    names = [f"p{percent:g}" for percent in _PERCENTS if f"p{percent:g}" in set(frame["what"])]
    caption = f"Within 0.8 %, of all streams that succeeded, by when the later chunk came, in stretches of {step:,} s."
    if (frame["value"] <= LEAST_MS).any():
        caption += f" What is below {LEAST_MS:g} ms came in one read: it is drawn at {LEAST_MS:g}."
    return _lines(frame, names, end_s, "chunks", title, caption, "ms")


_HEALTH = (("loop_lag_max_ns", "event loop late"), ("dispatch_delay_p99_ns", "own dispatch late, p99"))


def _worst(events: Iterable[dict[str, object]], name: str, step: int) -> dict[int, float]:
    """The largest value of each stretch, over all processes."""
    found: dict[int, float] = {}
    for event in events:
        value, at = event.get(name), event["at_s"]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < np.inf:
            assert isinstance(at, float)
            place = int(at // step)
            found[place] = max(found.get(place, 0.0), float(value))
    return found


def client_health(frames: RunFrames, end_s: float) -> Picture:
    """How late the client itself was, each second: what would be in the figures if it were more."""
    title = "The client's own lateness, ms"
    # Of a run of several processes the workers send, and the master only writes.
    events = frames.of("worker_second") or frames.of("second")
    step = bin_s(end_s)
    rows = [
        (min(place * step + step / 2, end_s), words, value / 1e6)
        for name, words in _HEALTH
        for place, value in sorted(_worst(events, name, step).items())
    ]
    if len(rows) < 2:
        return Picture("client", title, "Not enough data: the run did not record its client's health each second.")
    names = [words for _, words in _HEALTH if any(row[1] == words for row in rows)]
    caption = "The worst of each stretch and of all processes, as the client measured it. Receive stamps of the kernel "
    caption += "are not late with it."
    frame = pd.DataFrame(rows, columns=["t", "what", "value"])
    return _lines(frame, names, end_s, "client", title, caption, "ms")
