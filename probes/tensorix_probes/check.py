"""What a check is: one signature for those that come with the toolkit and for users' own.

A check of one's own is a `Check` that an installed package names under the entry point group `tensorix_probes.checks`,
and that a target lists among its `checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tensorix_api.limiters import Cost
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.limits.observation import Observation
from tensorix_probes.result import Assertion, Phases, Spent
from tensorix_probes.settings import Target

__all__ = ["Check", "Context", "Finding"]


class Context(Protocol):
    """What a check is given: whom it asks, how it asks, and what came before."""

    @property
    def target(self) -> Target:
        """Whom it is about."""
        ...

    @property
    def model(self) -> str | None:
        """The model that is asked: the target's, or the first that was listed; None where none is known."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """What the configuration says under the check's own name."""
        ...

    @property
    def memory(self) -> dict[str, Any]:
        """What the check keeps from one run to the next: JSON values only, since the history keeps them too."""
        ...

    @property
    def earlier(self) -> Mapping[str, Finding]:
        """What the checks before it found in this round, by name."""
        ...

    @property
    def observations(self) -> list[Observation]:
        """What responses said about the key's limits, oldest first: of this round and of those before it."""
        ...

    def now_unix_ns(self) -> int:
        """The time of day."""
        ...

    def ask(
        self,
        method: str,
        path: str,
        *,
        kind: str,
        body: Any = None,
        key: str | None = None,
        charged: Cost | None = None,
    ) -> Answer:
        """Make one request of the target and wait for all of its answer; a failure is an answer, too.

        `path` comes after the base URL: `/models`. `kind` is one of `settings.RESPONSE_KINDS` where the answer is to
        be looked at by the rate-limit check, else any word. `key` replaces the target's key. `charged` is what the
        ledger takes it for (default: one request and no tokens, or none for a `GET` where the headers have shown that
        lists are free).
        """
        ...

    def handshake(self) -> Answer:
        """Connect, and with https shake hands, and hang up without a request."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check returns. Its state follows from the assertions: the worst `otherwise` of those that do not hold.

    `inconclusive` says why nothing can be said; it is overruled by an assertion that does not hold.
    """

    assertions: tuple[Assertion, ...] = ()
    answer: Answer | None = None
    """The answer that it rests on: its phases, status and error become the result's."""
    phases: Phases | None = None
    """Instead of the answer's."""
    figures: Mapping[str, float] = field(default_factory=dict)
    inconclusive: str | None = None
    spent: Spent = Spent()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For the checks after it (`usage`, `text`); not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check: what it is called, what it may use at most, and what it does."""

    name: str
    run: Callable[[Context], Finding]
    most: Callable[[Target], Cost] = lambda target: Cost(0, 0)
    """The most that one run can be charged; reserved before it runs."""
    decides: bool = False
    """Whether the target's availability rests on it: where it can say nothing, the round can say nothing either."""
    lists_only: bool = False
    """It asks for nothing but lists (`GET`), which cost it nothing once the headers have shown that they are free."""
    reads_only: bool = False
    """It asks nothing itself, so it runs even where a check above it failed."""
    every_s: float | None = None
    """How far apart its runs are at least where the configuration does not say; None: it runs in each round."""
