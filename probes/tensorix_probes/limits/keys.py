"""The memory of each key, shared by the targets that use it."""

from __future__ import annotations

from collections.abc import Sequence

from tensorix_probes.limits.ledger import Ledger
from tensorix_probes.memory import KeyMemory
from tensorix_probes.settings import Target

__all__ = ["Keys"]


class Keys:
    """The keys of some targets."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._of = {
            target.key_alias or target.name: KeyMemory(
                Ledger(requests=target.headers.requests, tokens=target.headers.tokens)
            )
            for target in targets
        }

    def of(self, target: Target) -> KeyMemory:
        """The memory of a target's key."""
        return self._of[target.key_alias or target.name]
