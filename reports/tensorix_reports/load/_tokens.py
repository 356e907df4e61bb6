"""What a run used: tokens by model and by who counted them, what was set aside for them, and what they cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorix_reports.frames import Requests, RunFrames, mapping, smallest
from tensorix_reports.page._statement import counted
from tensorix_reports.page._tables import Table, number, row_of

__all__ = ["Cost", "Reserved", "TokenReport", "TokenRow", "token_tables", "tokens_of"]

_MOST_ROWS = 20
_KINDS = ("prompt", "completion", "reasoning", "cached")


@dataclass(frozen=True, slots=True)
class TokenRow:
    """The tokens of one model by one way to count. None where nobody said any."""

    model: str
    token_source: str
    """`usage` or `chunks`."""
    requests: int
    prompt: int | None
    completion: int | None
    """Reasoning is among it where the server counts it so."""
    reasoning: int | None
    cached: int | None
    """Among the prompt's."""
    cost: float | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the requests cost by the prices that were given, in their currency."""

    requests: int
    """Requests of which a cost is known."""
    total: float
    """No more than this was spent: where the server did not say what a request used, the most that it can be."""
    by_usage: float
    """Of that, what the server's own count says."""
    at_most: float
    """The rest: an upper bound."""
    per_success: float | None
    """The total over the successful chat requests; None where there is none."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was set aside for requests before they went out, and what those used of which the server told."""

    requests: int
    reserved_tokens: int
    used_tokens: int

    @property
    def share(self) -> float | None:
        """Used of what was set aside."""
        return self.used_tokens / self.reserved_tokens if self.reserved_tokens else None


@dataclass(frozen=True, slots=True)
class TokenReport:
    """Tokens and cost, over the whole run."""

    rows: list[TokenRow]
    more_rows: int
    """Models that have no row, as others used more."""
    cost: Cost | None
    """None where the run was given no prices."""
    reserved: Reserved | None
    """None where nothing was set aside."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "more_rows": self.more_rows,
            "cost": None if self.cost is None else asdict(self.cost),
            "reserved": None if self.reserved is None else asdict(self.reserved) | {"share": self.reserved.share},
        }


def _sums(values: NDArray[np.float64], parts: list[NDArray[np.int64]]) -> list[int | None]:
    """The sum of each part, None where nothing of it is known."""
    known = [values[part][np.isfinite(values[part])] for part in parts]
    # As integers: a sum of floats loses the last digits of what a server exaggerated.
    return [int(part.sum()) if len(part) else None for part in known]


def tokens_of(frames: RunFrames) -> TokenReport:
    """What the requests of the load used, over the whole run, whatever became of them."""
    requests = frames.load
    source, model = requests.codes("token_source"), requests.codes("model_requested")
    known = np.flatnonzero(source.codes >= 0)
    # One number for each pair; in so few bytes the sort is a radix sort, and keeps the order of time.
    ways, pairs = len(source.values), (len(model.values) + 1) * len(source.values)
    pair = smallest((model.codes[known].astype(np.int64) + 1) * ways + source.codes[known], pairs)
    order = np.argsort(pair, kind="stable")
    edges = np.searchsorted(pair[order], np.arange(pairs + 1, dtype=np.int64))
    parts = [(one, known[order[edges[one] : edges[one + 1]]]) for one in np.flatnonzero(np.diff(edges)).tolist()]
    # A column at a time: all of them at once would be the most memory that a report needs.
    sums = {kind: _sums(requests.array(f"{kind}_tokens"), [mine for _, mine in parts]) for kind in _KINDS}
    usage, cost = source.equal("usage"), requests.array("cost")
    rows = []
    for place, (one, mine) in enumerate(parts):
        code, way = one // ways - 1, one % ways
        money = cost[mine][np.isfinite(cost[mine])]
        rows.append(
            TokenRow(
                model="model unknown" if code < 0 else str(model.values[code])[:200],
                token_source=str(source.values[way]),
                requests=len(mine),
                **{kind: found[place] for kind, found in sums.items()},
                cost=float(money.sum()) if len(money) else None,
            )
        )
    rows.sort(key=lambda row: (-(row.prompt or 0) - (row.completion or 0), row.model, row.token_source))
    success = requests.codes("outcome").equal("success") & ~requests.codes("kind").equal("models")
    return TokenReport(
        rows=rows[:_MOST_ROWS],
        more_rows=max(0, len(rows) - _MOST_ROWS),
        cost=_cost(cost, usage, int(np.count_nonzero(success))),
        reserved=_reserved(requests, usage),
    )


def _cost(cost: NDArray[np.float64], usage: NDArray[np.bool_], successes: int) -> Cost | None:
    known = np.isfinite(cost)
    if not known.any():
        return None
    total, by_usage = float(cost[known].sum()), float(cost[known & usage].sum())
    return Cost(
        requests=int(np.count_nonzero(known)),
        total=total,
        by_usage=by_usage,
        at_most=float(cost[known & ~usage].sum()),
        per_success=total / successes if successes else None,
    )


def _reserved(requests: Requests, usage: NDArray[np.bool_]) -> Reserved | None:
    reserved = requests.array("reserved_tokens")
    used = requests.array("prompt_tokens") + requests.array("completion_tokens")
    told = usage & (reserved > 0) & np.isfinite(reserved) & np.isfinite(used)
    if not told.any():
        return None
    return Reserved(int(np.count_nonzero(told)), int(reserved[told].sum()), int(used[told].sum()))


def _money(value: float | None) -> str | None:
    return None if value is None else f"{value:,.6g}"


def token_tables(report: TokenReport, frames: RunFrames) -> list[Table]:
    """The tokens, and the prices where they were given; nothing where no token was counted."""
    if not report.rows and report.cost is None:
        return []
    priced = report.cost is not None
    rows = [
        row_of(
            row.model,
            row.token_source,
            row.requests,
            *(getattr(row, kind) for kind in _KINDS),
            *([_money(row.cost)] if priced else []),
        )
        for row in report.rows
    ]
    columns = ["model", "counted by", "requests", *_KINDS, *(["cost"] if priced else [])]
    notes = ["Over the whole run, whatever became of the requests. Reasoning is among the completion's tokens where"]
    notes.append("the server counts it so, cached tokens are among the prompt's.")
    if report.more_rows:
        notes.append(f"{counted(report.more_rows, 'model')} that used less are not listed.")
    if (cost := report.cost) is not None:
        notes.append(f"In all {_money(cost.total)}, in the money of the prices")
        notes[-1] += "." if not cost.at_most else f": {_money(cost.by_usage)} by the server's count, and at most "
        notes[-1] += "" if not cost.at_most else f"{_money(cost.at_most)} of requests of which it did not say."
        if cost.per_success is not None:
            notes.append(f"A successful chat request costs {_money(cost.per_success)}.")
        notes += _prices(frames)
    if (reserved := report.reserved) is not None:
        notes.append(
            f"Set aside before they went out: {reserved.reserved_tokens:,} tokens; used: {reserved.used_tokens:,}"
            f" ({number(100 * (reserved.share or 0.0))} %)."
        )
    numeric = frozenset(range(2, len(columns)))
    title = "Tokens and cost" if priced else "Tokens"
    return [Table("tokens", title, columns, rows, numeric, " ".join(notes), "No reply's tokens were counted.", True)]


def _prices(frames: RunFrames) -> list[str]:
    prices = mapping(mapping(frames.asked.get("spending")).get("prices"))
    told = []
    for model, price in list(prices.items())[:_MOST_ROWS]:
        costs = [f"{kind} {value:g}" for kind in _KINDS if isinstance(value := mapping(price).get(kind), (int, float))]
        told.append(
            f"{'any other model' if model == '*' and len(prices) > 1 else 'any model' if model == '*' else model}"
        )
        told[-1] += f" {', '.join(costs)}"
    return [f"Prices of a million tokens: {'; '.join(told)}."] if told else []
