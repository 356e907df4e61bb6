"""The memory of each key, shared by the targets that use it, and the limits that the key has as far as is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tensorix_probes.limits.key_memory import KeyMemory
from tensorix_probes.limits.ledger import Ledger
from tensorix_probes.limits.observation import Observation
from tensorix_probes.settings import Target

__all__ = ["Keys", "Limit", "known_limit"]

_DOCUMENTED_REQUESTS = 60
"""A minute and key, by Tensorix's API overview."""
_DOCUMENTED_TOKENS = 2_000_000
_HOST = "tensorix.ai"

Source: TypeAlias = Literal["told", "stated", "documented", "assumed", "seen"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A key's limit of one resource, and who says so: the configuration, a header, or the documentation.

    `assumed`: nobody does, so the documented one is taken; `seen`: more than that was once seen to remain.
    """

    amount: int
    source: Source

    @property
    def is_known(self) -> bool:
        """Whether a server can be held to it."""
        return self.source not in ("assumed", "seen")


def known_limit(
    target: Target, observations: Sequence[Observation], what: Literal["requests", "tokens"]
) -> tuple[Limit, int | None]:
    """What is known of a limit, and what the server's newest header states of it (None: nothing)."""
    told = target.headers.requests if what == "requests" else target.headers.tokens
    documented = _DOCUMENTED_REQUESTS if what == "requests" else _DOCUMENTED_TOKENS
    own = [one.limits for one in observations if one.kind != "unauthorised"]
    stated = next(
        (value for limits in reversed(own) if (value := getattr(limits, f"limit_{what}")) is not None and value > 0),
        None,
    )
    if told is not None:
        return Limit(told, "told"), stated
    if stated is not None:
        return Limit(stated, "stated"), stated
    if _is_tensorix(target):
        return Limit(documented, "documented"), stated
    seen = max((getattr(limits, f"remaining_{what}") or 0 for limits in own), default=0)
    return Limit(seen, "seen") if seen > documented else Limit(documented, "assumed"), stated


def _is_tensorix(target: Target) -> bool:
    host = target.server.host.lower()
    return host == _HOST or host.endswith("." + _HOST)


class Keys:
    """The keys of some targets: those of one server and key share one memory, and the tightest of their budgets.

    A target without a key shares with the others of its server that have none.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        before: Keys | None = None,
    ) -> None:
        """`before` are those of a configuration that was replaced: what their keys used stays used."""
        self._users: dict[tuple[str, str | None], list[Target]] = {}
        self._place: dict[str, tuple[str, str | None]] = {}
        for target in targets:
            self._place[target.name] = place = _place(target)
            self._users.setdefault(place, []).append(target)
        self._memories: dict[tuple[str, str | None], KeyMemory] = {
            place: _memory(users, monotonic_ns, before._memories.get(place) if before else None)
            for place, users in self._users.items()
        }

    def of(self, target: Target) -> KeyMemory:
        """The memory of a target's key, its ledger brought up to what headers have said of the limits since."""
        place = self._place[target.name]
        memory = self._memories[place]
        memory.ledger.limit(*_limits(self._users[place], memory.observations))
        return memory

    def by_alias(self) -> list[tuple[str | None, KeyMemory]]:
        """Each key's memory with its alias (None: no key), once a server and key."""
        return [(alias, memory) for (_, alias), memory in self._memories.items()]

    def by_users(self) -> list[tuple[str, list[str], KeyMemory]]:
        """Each key's alias, the targets that share its ledger, and its memory; without those that have no key."""
        return [
            (place[1], [target.name for target in users], self._memories[place])
            for place, users in self._users.items()
            if place[1] is not None
        ]


def _place(target: Target) -> tuple[str, str | None]:
    """The server and the key: one word may be a key of two servers."""
    server = target.server
    return (_HOST if _is_tensorix(target) else f"{server.host}:{server.port}".lower()), target.key_alias


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _limits(users: Sequence[Target], observations: Sequence[Observation]) -> tuple[int, int]:
    """The least of what is known by the users of a key: somebody may have told one target only."""
    requests = [known_limit(target, observations, "requests")[0] for target in users]
    tokens = [known_limit(target, observations, "tokens")[0] for target in users]
    return _tightest(requests), _tightest(tokens)


def _tightest(limits: Sequence[Limit]) -> int:
    told = [limit.amount for limit in limits if limit.source == "told"]
    return min(told or [limit.amount for limit in limits])


def _memory(users: Sequence[Target], monotonic_ns: Callable[[], int], before: KeyMemory | None) -> KeyMemory:
    budgets = [target.budget for target in users]
    share = min(budget.share for budget in budgets)
    tokens_a_day = _least(budget.tokens_a_day for budget in budgets)
    cost_a_day = _least(budget.cost_a_day for budget in budgets)
    window_s = max(target.headers.window_s for target in users)
    observations = before.observations if before else []
    requests, tokens = _limits(users, observations)
    ledger = Ledger(
        requests=requests,
        tokens=tokens,
        window_s=window_s,
        share=share,
        tokens_a_day=None if tokens_a_day is None else int(tokens_a_day),
        cost_a_day=cost_a_day,
        monotonic_ns=monotonic_ns,
    )
    if before is not None:
        ledger.take_over(before.ledger)
    return KeyMemory(ledger, observations)
