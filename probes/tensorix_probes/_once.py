"""One round of a target, or of each target of a configuration."""

from __future__ import annotations

from tensorix_probes.result import ProbeResult
from tensorix_probes.settings import Target

__all__ = ["run_once"]


def run_once(target: Target) -> list[ProbeResult]:
    """Run all checks of a target once and return what they found, in the order in which they ran.

    Nothing is kept: for a schedule, a ledger over several processes or a history, use `tensorix probe`.
    """
    raise NotImplementedError
