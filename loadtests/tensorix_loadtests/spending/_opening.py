"""The gate that a plan asks for."""

from __future__ import annotations

from collections.abc import Sequence

from tensorix_api.secret import Secret
from tensorix_loadtests._pacing import KeyPace
from tensorix_loadtests.plan import LoadPlan
from tensorix_loadtests.spending._gate import SpendingGate
from tensorix_loadtests.spending._journal import Journal

__all__ = ["open_gate"]


def open_gate(
    plan: LoadPlan,
    keys: Sequence[tuple[Secret | None, str | None]],
    *,
    journal: Journal | None,
    share: tuple[int, int] = (0, 1),
    process_id: str = "0",
) -> SpendingGate:
    """The gate of the k-th of n processes; `keys` with their aliases, at least one (None where there is no key)."""
    limit_share = plan.spending.limit_share
    part, parts = share
    paces = []
    if limit_share is not None:
        paces = [KeyPace(plan.limits, limit_share, part=part, parts=parts) for _ in keys]
    return SpendingGate(plan.spending, keys, journal=journal, paces=paces, share=share, process_id=process_id)
