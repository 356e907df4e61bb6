"""The figures of a run that are compared, each with what every slice of its window adds to them.

A figure is a percentile of a quantity, or one sum over another (a mean, a share, a rate). Both can be drawn anew from
slices of neighbours, all figures of a run from the same draw: so what depends on what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tensorix_records import Run
from tensorix_records.columns import RecordColumns
from tensorix_records.judging import COLUMNS, good_requests, quantity_of_each
from tensorix_records.objectives import Criterion
from tensorix_records.steady import Steady, without_preflight
from tensorix_records.timings import itl_ns, output_tokens_in, start_unix_ns
from tensorix_reports.frames import kind_of, kind_order

__all__ = ["PERCENTS", "SPEED", "Key", "Kind", "Loaded", "Measure", "load", "measures_of"]

PERCENTS = (50.0, 90.0, 95.0, 99.0)
Kind: TypeAlias = Literal["time", "share", "rate"]
Key: TypeAlias = tuple[str, str, str]
"""What is asked (a kind of request, with its model where several; `all`), the name of the quantity, the statistic."""

_Floats: TypeAlias = NDArray[np.float64]
SPEED = "tokens_a_second_of_a_user"
_TIMES = ("ttft", "ttfo", "e2e", "ttft_from_intended", "from_intended")


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of one run. Times are ns, shares of 1, rates a second."""

    key: Key
    kind: Kind
    value: float
    count: int
    """Requests behind it."""
    ordered: _Floats | None
    """The sorted samples of a percentile; None for one sum over another."""
    probability: float
    above: _Floats
    """By slice: samples at or below the percentile; or the upper sum."""
    below: _Floats
    """By slice: samples; or the lower sum."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The requests of a run's steady state, as the comparison needs them."""

    run: Run
    steady: Steady
    load: Any
    """All requests but the preflight, whenever they started, in the order of their starts."""
    inside: Any
    kinds: NDArray[np.object_]
    """Of each row of `inside`."""
    models: NDArray[np.object_]
    findings: list[str] = field(default_factory=list)
    """What was wrong with the files of records, and was left out."""

    @property
    def token_sources(self) -> tuple[str, ...]:
        """How tokens were counted."""
        return tuple(sorted({str(one) for one in self.inside.column("token_source").unique().to_pylist() if one}))


def load(run: Run) -> Loaded:
    """Read what a comparison needs of a run."""
    records = RecordColumns(run)
    table = without_preflight(records.table((*COLUMNS, "model_requested")).sort_by("start_unix_ns"))
    steady = Steady.of(table, run.events())
    inside = table.filter(pa.array(steady.window.contains(start_unix_ns(table))))
    pairs = list(zip(inside.column("endpoint").to_pylist(), inside.column("stream").to_pylist(), strict=True))
    named = {pair: kind_of(*pair) for pair in set(pairs)}
    kinds = np.array([named[pair] for pair in pairs], dtype=object)
    models = np.array([one or "model unknown" for one in inside.column("model_requested").to_pylist()], dtype=object)
    return Loaded(run, steady, table, inside, kinds, models, records.findings)


def _sums(slices: NDArray[np.int64], weights: Any, number: int) -> _Floats:
    return np.bincount(slices, weights=np.asarray(weights, dtype=float), minlength=number).astype(float)


def _of_values(
    what: str, name: str, kind: Kind, values: _Floats, slices: NDArray[np.int64], number: int, percents: Sequence[float]
) -> Iterator[Measure]:
    known = np.isfinite(values)
    values, slices = values[known], slices[known]
    if not values.size:
        return
    ordered, sampled = np.sort(values), _sums(slices, np.ones(values.size), number)
    for percent in percents:
        value = float(np.percentile(ordered, percent))
        within = _sums(slices, values <= value, number)
        yield Measure((what, name, f"p{percent:g}"), kind, value, values.size, ordered, percent / 100, within, sampled)
    sums = _sums(slices, values, number)
    yield Measure((what, name, "mean"), kind, float(values.mean()), values.size, None, 0.0, sums, sampled)


def _groups(loaded: Loaded) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    success = np.array(loaded.inside.column("outcome").to_pylist(), dtype=object) == "success"
    several = len(set(loaded.models[success & (loaded.kinds != "models")])) > 1
    for kind in sorted(set(loaded.kinds), key=kind_order):
        mine = success & (loaded.kinds == kind)
        if not several or kind == "models":
            yield str(kind), mine
            continue
        for model in sorted(set(loaded.models[mine])):
            yield f"{kind}, {model}", mine & (loaded.models == model)


def _quantity(table: Any, name: str) -> _Floats:
    if name != "ttft_from_intended":
        return quantity_of_each(table, name)
    return quantity_of_each(table, "ttft") + quantity_of_each(table, "schedule_delay")


def _latencies(
    loaded: Loaded, slices: NDArray[np.int64], number: int, percents: Mapping[str, Sequence[float]]
) -> Iterator[Measure]:
    sources = np.array(loaded.inside.column("token_source").to_pylist(), dtype=object)
    groups = list(_groups(loaded))
    # What objectives are about: successful chat of every sort together.
    chat = np.logical_or.reduce([mine for name, mine in groups if name != "models"] or [np.zeros(len(sources), bool)])
    groups.append(("all", chat))
    for what, mine in groups:
        table = loaded.inside.filter(pa.array(mine))
        for name in _TIMES:
            wanted = (*PERCENTS, *percents.get(name, ())) if what == "all" else PERCENTS
            yield from _of_values(
                what, name, "time", _quantity(table, name), slices[mine], number, tuple(dict.fromkeys(wanted))
            )
        for source in sorted({str(one) for one in sources[mine] if one}):
            # Never pooled: tokens that the server told and chunks that were counted are two things.
            part = mine & (sources == source)
            counted = loaded.inside.filter(pa.array(part))
            itl = itl_ns(counted)
            wanted = (*PERCENTS, *percents.get("itl", ())) if what == "all" else PERCENTS
            named = f"{what}, tokens by {source}"
            yield from _of_values(named, "itl", "time", itl, slices[part], number, wanted)
            yield from _of_values(named, SPEED, "rate", _speed(counted, itl), slices[part], number, PERCENTS)


def _speed(table: Any, itl: _Floats) -> _Floats:
    """Tokens a second as one user sees them: 1 / ITL, or of replies that are not streamed tokens / E2E."""
    speed = np.full(itl.size, np.nan)
    if np.isfinite(itl).any():
        np.divide(1e9, itl, out=speed, where=itl > 0)
        return speed
    tokens = np.array([np.nan if one is None else one for one in table.column("completion_tokens").to_pylist()], float)
    e2e = quantity_of_each(table, "e2e")
    np.divide(tokens * 1e9, e2e, out=speed, where=e2e > 0)
    return speed


def _ratio(name: str, kind: Kind, above: _Floats, below: _Floats, count: int) -> Iterator[Measure]:
    if below.sum() > 0:
        value = float(above.sum() / below.sum())
        statistic = "share" if kind == "share" else "a second"
        yield Measure(("all", name, statistic), kind, value, count, None, 0.0, above, below)


def _totals(
    loaded: Loaded, slices: NDArray[np.int64], number: int, edges: NDArray[np.int64], good: Sequence[Criterion]
) -> Iterator[Measure]:
    outcome = np.array(loaded.inside.column("outcome").to_pylist(), dtype=object)
    by = {one: _sums(slices, outcome == one, number) for one in ("success", "failed", "throttled")}
    sent, lengths = _sums(slices, np.ones(outcome.size), number), np.diff(edges) / 1e9
    ended = by["success"] + by["failed"]
    yield from _ratio("error_rate", "share", by["failed"], ended, int(ended.sum()))
    tried = ended + by["throttled"]
    yield from _ratio("throttled_rate", "share", by["throttled"], tried, int(tried.sum()))
    if good:
        chat = (outcome == "success") & (loaded.kinds != "models")
        meets, _ = good_requests(loaded.inside.filter(pa.array(chat)), good)
        met, of = _sums(slices[chat], meets, number), _sums(slices[chat], np.ones(int(chat.sum())), number)
        yield from _ratio("good_share", "share", met, of, int(of.sum()))
        yield from _ratio("goodput", "rate", met, lengths, int(met.sum()))
    for name, counts in (("sent", sent), ("successful", by["success"]), *((n, by[n]) for n in ("throttled", "failed"))):
        yield from _ratio(name, "rate", counts, lengths, int(counts.sum()))
    sources = loaded.token_sources
    if len(sources) == 1 and lengths.sum() > 0:
        # In the slice in which a request began, as a stream reaches into many; their sum is of those that arrived.
        tokens = [one or 0 for one in loaded.inside.column("completion_tokens").to_pylist()]
        begun = _sums(slices, tokens, number)
        if begun.sum() > 0:
            begun *= output_tokens_in(loaded.load, loaded.steady.window) / begun.sum()
            yield from _ratio("output_tokens", "rate", begun, lengths, len(loaded.inside))


def measures_of(
    loaded: Loaded, number: int, good: Sequence[Criterion] = (), percents: Mapping[str, Sequence[float]] | None = None
) -> dict[Key, Measure]:
    """All figures of a run, its window cut into `number` slices of equal length in time.

    `percents` are further percentiles of all chat that somebody asked for, by the name of the quantity.
    """
    window = loaded.steady.window
    edges = np.linspace(window.start_unix_ns, window.end_unix_ns, number + 1).astype(np.int64)
    slices = np.clip(np.searchsorted(edges, start_unix_ns(loaded.inside), side="right") - 1, 0, number - 1)
    found = [
        *_latencies(loaded, slices, number, percents or {}),
        *_totals(loaded, slices, number, edges, good),
    ]
    return {one.key: one for one in found}
