"""The same requests by model, endpoint, length of the prompt, user class, key and worker: counts, outcomes, latency."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tensorix_records.figures import Figure, percentiles
from tensorix_reports.frames import OUTCOMES, PREFLIGHT, Requests, RunFrames, Window, kind_order, smallest
from tensorix_reports.load._prompt_bands import prompt_bands
from tensorix_reports.page._tables import NOTHING, Cell, Table, number, row_of

__all__ = ["Breakdown", "BreakdownRow", "breakdown_tables", "breakdowns_of"]

_PERCENTS = (50.0, 95.0)
_MOST_ROWS = 20
_FEWEST_VALUES = 5
_LONGEST = 200
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """The requests of one kind that share a value. Times are milliseconds, of successes only."""

    request: str
    value: str
    values: int
    """How many values are in it: 1, or all of the others."""
    sent: int
    outcomes: dict[str, int]
    ttft: dict[float, Figure] | None
    """By percent; None where no reply was streamed."""
    e2e: dict[float, Figure]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        figures = {"ttft_ms": self.ttft, "e2e_ms": self.e2e}
        return {
            **{name: getattr(self, name) for name in ("request", "value", "values", "sent")},
            **self.outcomes,
            **{
                name: None if of is None else {f"p{percent:g}": asdict(figure) for percent, figure in of.items()}
                for name, of in figures.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One way to part the requests that started in the window of the figures."""

    by: str
    """`model`, `endpoint`, `prompt length`, `user class`, `key` or `worker`."""
    rows: list[BreakdownRow]
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"by": self.by, "rows": [row.to_dict() for row in self.rows]}


@dataclass(frozen=True, slots=True)
class _Seen:
    """The requests of the window: arrays of one length."""

    kind: NDArray[Any]
    """Numbers of `kinds`."""
    kinds: list[str]
    outcome: NDArray[np.int8]
    """Numbers of `OUTCOMES`."""
    first_ms: NDArray[np.float64]
    """NaN but for successes that were streamed."""
    whole_ms: NDArray[np.float64]
    """NaN but for successes."""


def _coded(requests: Requests, name: str) -> tuple[NDArray[Any], list[str]]:
    """Each text as a number, -1 for none, and the texts."""
    coded = requests.codes(name)
    return coded.codes, [str(text) for text in coded.values]


def _seen(requests: Requests) -> _Seen:
    kind, kinds = _coded(requests, "kind")
    outcome, outcomes = _coded(requests, "outcome")
    # The last is that of none.
    numbers = [OUTCOMES.index(name) if name in OUTCOMES else -1 for name in outcomes] + [-1]
    outcome = np.array(numbers, dtype=np.int8)[outcome]
    success = outcome == OUTCOMES.index("success")
    first = np.where(success & requests.codes("stream").equal(True), requests.array("first_token_at_ns"), np.nan)
    whole = np.where(success, requests.array("end_at_ns"), np.nan)
    return _Seen(kind, kinds, outcome, first / 1e6, whole / 1e6)


def _figures(values: NDArray[np.float64]) -> dict[float, Figure]:
    return percentiles(values, _PERCENTS)


def _row(seen: _Seen, mine: NDArray[np.int64], request: str, value: str, values: int) -> BreakdownRow:
    counts = np.bincount(seen.outcome[mine] + 1, minlength=len(OUTCOMES) + 1)[1:]
    first = seen.first_ms[mine]
    return BreakdownRow(
        request=request,
        value=value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…",
        values=values,
        sent=len(mine),
        outcomes={name: int(count) for name, count in zip(OUTCOMES, counts, strict=True)},
        ttft=_figures(first) if np.isfinite(first).any() else None,
        e2e=_figures(seen.whole_ms[mine]),
    )


def _rows(
    seen: _Seen, codes: NDArray[Any], texts: list[str], where: NDArray[np.bool_], *, ordered: bool = False
) -> list[BreakdownRow]:
    """A row a kind and value, the most frequent values first unless their own order is theirs; the rest as one."""
    counts = np.bincount(codes[where].astype(np.int64) + 1, minlength=len(texts) + 1)
    # Of none, which is -1, the place is the last.
    counts, texts = np.roll(counts, -1), [*texts, UNKNOWN]
    present = [index for index in range(len(texts)) if counts[index]]
    if not ordered:
        present.sort(key=lambda index: (index == len(texts) - 1, -counts[index], texts[index]))
    sent = np.bincount(seen.kind[where], minlength=len(seen.kinds))
    kinds = sorted(np.flatnonzero(sent).tolist(), key=lambda number: kind_order(seen.kinds[number]))
    most = max(_FEWEST_VALUES, _MOST_ROWS // max(1, len(kinds)))
    shown = present if len(present) <= most else sorted(present, key=lambda index: -counts[index])[: most - 1]
    shown = [index for index in present if index in set(shown)]
    # What is not shown is one more group, behind all that are.
    groups = len(shown) + 1
    group = np.full(len(texts), len(shown))
    group[shown] = np.arange(len(shown))
    names, left = [texts[index] for index in shown], len(present) - len(shown)
    place = np.zeros(len(seen.kinds), dtype=np.int64)
    place[kinds] = np.arange(len(kinds))
    cells = len(kinds) * groups
    cell = smallest(place, cells + 1)[seen.kind] * smallest(np.array(groups), cells + 1)
    cell += smallest(group, cells + 1)[codes]
    cell[~where] = cells
    # Stable, so that each cell stays in the order of time, as its intervals need it; of so few bytes a radix sort.
    order = np.argsort(cell, kind="stable")
    edges = np.searchsorted(cell[order], np.arange(cells + 1))
    rows = []
    for one in np.flatnonzero(np.diff(edges)).tolist():
        kind, at = seen.kinds[kinds[one // groups]], one % groups
        value, values = (names[at], 1) if at < len(shown) else (f"{left:,} others", left)
        rows.append(_row(seen, order[edges[one] : edges[one + 1]], kind, value, values))
    return rows


def _workers(requests: Requests) -> tuple[NDArray[Any], list[str]]:
    codes, processes = _coded(requests, "process_id")
    host, hosts = _coded(requests, "host")
    if len(hosts) < 2:
        return codes, processes
    pairs = codes.astype(np.int64) * (len(hosts) + 1) + np.where(host < 0, len(hosts), host)
    pairs[codes < 0] = -1
    both, known = pd.factorize(pairs)
    hosts = [*hosts, "an unknown host"]
    texts = [
        UNKNOWN if pair < 0 else f"{processes[pair // len(hosts)]} on {hosts[pair % len(hosts)]}" for pair in known
    ]
    return np.where(pairs < 0, -1, both), texts


_COLUMNS = (
    ("model", "model_requested", True),
    ("endpoint", "endpoint", False),
    ("user class", "user_class", False),
    ("key", "key_alias", False),
)
"""What it is called, its column, and whether it says nothing of a list of models."""


def _parted(
    requests: Requests, chat: NDArray[np.bool_]
) -> Iterator[tuple[str, NDArray[Any], list[str], NDArray[np.bool_], bool, str | None]]:
    everything = np.ones(len(chat), dtype=bool)
    for by, column, only_chat in _COLUMNS:
        codes, texts = _coded(requests, column)
        yield by, codes, texts, chat if only_chat else everything, False, None
    bands = prompt_bands(requests.array("prompt_tokens"), requests.array("prompt_chars"), chat)
    yield "prompt length", bands.codes, bands.names, chat, True, bands.note
    codes, texts = _workers(requests)
    yield "worker", codes, texts, everything, False, None


def breakdowns_of(frames: RunFrames, window: Window) -> list[Breakdown]:
    """Each way to part the requests in which there is more than one value, among those that started in the window."""
    requests = frames.requests
    requests = requests.of(~requests.codes("kind").equal(PREFLIGHT) & window.holds(requests.array("at_s")))
    if not len(requests):
        return []
    seen = _seen(requests)
    chat = np.array([not name.startswith("models") for name in seen.kinds])[seen.kind]
    found = []
    for by, codes, texts, where, ordered, note in _parted(requests, chat):
        if np.count_nonzero(np.bincount(codes[where & (codes >= 0)])) > 1:
            found.append(Breakdown(by, _rows(seen, codes, texts, where, ordered=ordered), note))
    return found


_HEADS = ("sent", "success", "429", "failed", "cancelled", "TTFT p50, ms", "TTFT p95, ms", "E2E p50, ms", "E2E p95, ms")


def _cell(figures: dict[float, Figure] | None, percent: float) -> Cell:
    figure = None if figures is None else figures[percent]
    if figure is None or figure.value is None:
        return Cell(NOTHING, tone="muted")
    return Cell(number(figure.value))


def breakdown_tables(breakdowns: list[Breakdown]) -> list[Table]:
    """A table a breakdown, folded on the page; the intervals are in `summary.json`."""
    tables = []
    for one in breakdowns:
        several = len({row.request for row in one.rows}) > 1
        start = 2 if several else 1
        rows = [
            row_of(
                row.value,
                *([row.request] if several else []),
                row.sent,
                *(row.outcomes[name] for name in OUTCOMES),
                *(_cell(figures, percent) for figures in (row.ttft, row.e2e) for percent in _PERCENTS),
            )
            for row in one.rows
        ]
        note = "Requests that started in the same stretch as the latencies. " + (one.note or "")
        heads = [one.by, *(["request"] if several else []), *_HEADS]
        tables.append(
            Table(
                f"by-{one.by.replace(' ', '-')}",
                f"By {one.by}",
                heads,
                rows,
                frozenset(range(start, len(heads))),
                note.strip(),
                folded=True,
            )
        )
    return tables
