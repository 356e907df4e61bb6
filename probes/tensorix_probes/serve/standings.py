"""Metrics of what all targets share: how the history does, and how much of each key's budget is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tensorix_probes.keeping import Keeper
from tensorix_probes.limits.keys import Keys

__all__ = ["BudgetMetrics", "HistoryMetrics", "notices_of", "standing_of"]


class HistoryMetrics(Collector):
    """How the keeping of rounds does."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        standing = self._keeper.standing()
        name = "tensorix_probe_history"
        yield GaugeMetricFamily(f"{name}_queued", "Rounds that wait to be written.", value=standing.queued)
        yield CounterMetricFamily(f"{name}_written", "Rounds that were written.", value=standing.written)
        yield CounterMetricFamily(f"{name}_lost", "Rounds that found no room to wait any more.", value=standing.lost)
        failing = float(standing.error is not None)
        yield GaugeMetricFamily(f"{name}_failing", "1: the history could not be written last time.", value=failing)


class BudgetMetrics(Collector):
    """What the probes of each key may use; what they used is `tensorix_probe_spent_total`."""

    def __init__(self, keys: Callable[[], Keys], unix_ns: Callable[[], int]) -> None:
        self._keys, self._unix_ns = keys, unix_ns

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        used = GaugeMetricFamily(
            "tensorix_probe_budget_used_ratio",
            "How much of a key's budget is used: of its share of the rate limit, and of its cap a day.",
            labels=("key", "budget"),
        )
        shares: dict[tuple[str, str], float] = {}
        for alias, memory in self._keys().by_alias():
            now = memory.ledger.standing(self._unix_ns())
            for budget, part, whole in (
                ("requests_share", now.requests_a_minute, now.requests_allowed),
                ("tokens_share", now.tokens_a_minute, now.tokens_allowed),
                ("tokens_a_day", now.tokens_today, now.tokens_a_day),
                ("cost_a_day", now.cost_today, now.cost_a_day),
            ):
                if whole and part is not None:
                    # One key of two servers has two ledgers: the fuller one is shown.
                    which = alias or "none", budget
                    shares[which] = max(part / whole, shares.get(which, 0.0))
        for labels, share in shares.items():
            used.add_metric(labels, share)
        yield used


def standing_of(keeper: Keeper | None) -> dict[str, Any] | None:
    """How the keeping does, as JSON takes it; None where nothing is kept."""
    if keeper is None:
        return None
    now = keeper.standing()
    return {"queued": now.queued, "written": now.written, "lost": now.lost, "error": now.error}


def notices_of(history: dict[str, Any] | None) -> list[str]:
    """What whoever looks at the page should know of the history."""
    if history is None or history["error"] is None:
        return []
    lost = f", {history['lost']} are lost" if history["lost"] else ""
    return [f"The history cannot be written: {history['error']}. {history['queued']} rounds wait{lost}."]
