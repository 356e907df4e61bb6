"""A picture: its specification, and its rows apart from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tensorix_reports.page._inert import inert

__all__ = ["MOST_POINTS", "Picture", "thinned", "thinned_places"]

_MOST_NAMES = 8
MOST_POINTS = 2_000
"""A picture shows no more points than this, about two for each of its pixels across; the tables rest on all of them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: what it shows, and the specification, or why there is none."""

    id: str
    title: str
    caption: str
    spec: dict[str, Any] | None = None
    """None where there is not enough data; `caption` then says what is missing."""
    data: dict[str, pd.DataFrame] = field(default_factory=dict)
    """The rows that `spec` names, apart from it: the page packs them, and validating a row at a time takes seconds."""

    @property
    def zoomed(self) -> bool:
        """Whether the page zooms it with the others: it is, where its range is the two parameters `t0` and `t1`."""
        return any(one["name"] == "t0" for one in (self.spec or {}).get("params", ()))

    @property
    def alternative(self) -> str:
        """The picture in words, for who does not see it: what it shows, and how far its marks reach."""
        facts = []
        for name, frame in self.data.items():
            facts.append(f"{name}: {len(frame):,} marks")
            for column in frame:
                values = frame[column]
                if values.dtype.kind in "if":
                    if values.notna().any():
                        facts.append(f"{column} from {float(values.min()):,.6g} to {float(values.max()):,.6g}")
                elif 1 <= values.nunique() <= _MOST_NAMES:
                    counts = values.astype(str).value_counts().items()
                    facts.append(f"{column}: " + ", ".join(f"{inert(str(text))} ({count:,})" for text, count in counts))
        return f"{self.title}. {self.caption} In it {'; '.join(facts)}."

    def whole(self) -> dict[str, Any]:
        """The specification with its rows inside, as any Vega-Lite tool takes it."""
        rows = {name: _plain(frame).to_dict("records") for name, frame in self.data.items()}
        return {**(self.spec or {}), "datasets": rows}

    def packed(self) -> dict[str, Any]:
        """The rows by column, each text once: a third of the size."""
        return {name: {str(column): _column(frame[column]) for column in frame} for name, frame in self.data.items()}


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    rounded = frame.round({name: 4 for name in frame.columns if frame[name].dtype == np.float64})
    plain = rounded.astype(object).where(rounded.notna(), None)
    return plain.map(lambda value: inert(value) if isinstance(value, str) else value)


def _column(values: pd.Series) -> dict[str, Any]:
    if values.dtype == np.float64:
        numbers = [None if np.isnan(value) else round(value, 4) for value in values.tolist()]
        return {"values": [int(value) if value is not None and value.is_integer() else value for value in numbers]}
    if values.dtype.kind == "i":
        return {"values": values.tolist()}
    codes, texts = pd.factorize(values.astype(object))
    return {"texts": [inert(str(text)) for text in texts], "codes": codes.tolist()}


def thinned(frame: pd.DataFrame, value: str, most: int = MOST_POINTS) -> pd.DataFrame:
    """At most `most` rows of a frame ordered by `at_s`, spread over time, each stretch with its extremes.

    Half of the rows are the largest and smallest `value` of equal stretches of rows, the rest every n-th row.
    """
    return frame if len(frame) <= most else frame.iloc[thinned_places(frame[value].to_numpy(float), most)]


def thinned_places(values: NDArray[np.float64], most: int = MOST_POINTS) -> NDArray[np.int64]:
    """The places of those rows, of a column in the order of time."""
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 4 + 1).astype(np.int64)
    kept: list[int] = []
    for start, end in pairwise(edges.tolist()):
        kept += [start + int(np.argmin(values[start:end])), start + int(np.argmax(values[start:end]))]
    kept += np.linspace(0, len(values) - 1, most - len(kept)).astype(np.int64).tolist()
    return np.unique(kept)
