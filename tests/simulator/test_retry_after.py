"""What Retry-After says where a refusal is charged too: whoever comes back just then passes, and no second sooner."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tensorix_api.limiters import Cost
from tensorix_simulator.limits import admission
from tensorix_simulator.limits.admission import Admission
from tensorix_simulator.limits.ledger import Ledger
from tensorix_simulator.limits.limit_text import KINDS
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.styles.style import Refusal

S = 1_000_000_000
START_NS = 1_000_000 * S


class Door:
    """One simulator's admission, asked at times of one's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.settings = SimulatorSettings(retry_after="honest", count_refused=True, **settings)
        pacer: Any = None  # nothing waits here
        self._admission = Admission(self.settings, pacer)
        self._patch = monkeypatch
        self.ledger: Ledger | None = None

    def ask(self, alias: str, at_ns: int, cost: Cost) -> Refusal | None:
        """What a key's request is refused with; None where it passes."""
        clock = SimpleNamespace(monotonic_ns=lambda: at_ns, time=lambda: at_ns / 1e9)
        self._patch.setattr(admission, "time", clock)
        refusals: list[Refusal] = []
        exchange: Any = SimpleNamespace(settings=self.settings, refuse=refusals.append)

        def belongs_to(ledger: Ledger, _: object) -> None:
            exchange.ledger = self.ledger = ledger

        exchange.belongs_to = belongs_to
        passed: list[bool] = []
        self._admission.identify(exchange, alias)
        self._admission.ask(exchange, cost, None, lambda: passed.append(True))
        assert len(passed) + len(refusals) == 1
        return refusals[0] if refusals else None


def told_s(refusal: Refusal | None) -> int:
    assert refusal is not None
    return int(dict(refusal.headers or [])["retry-after"])


@pytest.mark.parametrize("resource", ["requests", "tokens"])
@pytest.mark.parametrize("refusals", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_coming_back_as_told_passes(monkeypatch: pytest.MonkeyPatch, kind: str, refusals: int, resource: str) -> None:
    """Of every kind, after any number of charged refusals; a second sooner, where it is told to wait longer, is not."""
    limits: dict[str, Any] = {"rpm": 3} if resource == "requests" else {"rpm": 4, "tpm": 30}
    cost = Cost(1, 10)
    door = Door(monkeypatch, **limits, window_s=6.0, limiter=kind)
    waits = []
    for alias, sooner in (("patient", 0), ("hasty", 1)):
        at_ns = START_NS
        # Where windows lie on the clock, the burst may come over an edge.
        while (refusal := door.ask(alias, at_ns, cost)) is None:
            at_ns += S // 10
        for _ in range(refusals - 1):
            at_ns += S // 10
            refusal = door.ask(alias, at_ns, cost) or refusal
        wait_s = told_s(refusal)
        waits.append(wait_s)
        if wait_s - sooner > 0:
            again = door.ask(alias, at_ns + (wait_s - sooner) * S, cost)
            assert (again is None) == (sooner == 0), (alias, wait_s)
    assert waits[0] == waits[1]


def test_a_charged_refusal_makes_the_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket of 3 in 6 s that refuses owes two units and not one; uncharged, the wait would be 2 s."""
    door = Door(monkeypatch, rpm=3, window_s=6.0, limiter="token_bucket")
    assert [door.ask("key", START_NS, Cost()) for _ in range(3)] == [None] * 3
    assert [told_s(door.ask("key", START_NS, Cost())) for _ in range(3)] == [4, 6, 8]


def test_the_limit_it_was_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named is what refused it, the last of these to open; the wait is that of all, the charged refusal's included."""
    door = Door(monkeypatch, rpm=3, window_s=60.0, more_limits=["1 requests/2s"])
    answers = []
    for _ in range(4):
        refusal = door.ask("key", START_NS, Cost())
        assert door.ledger is not None
        answers.append((refusal and told_s(refusal), door.ledger.over and door.ledger.over.name))
    # With the third request the 60 s are spent, though it was not refused for that.
    assert answers == [(None, None), (2, "1 requests/2s"), (60, "1 requests/2s"), (60, "requests")]


def test_a_limit_that_waiting_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request larger than a limit is told no time, charged or not."""
    door = Door(monkeypatch, rpm=3, tpm=30)
    for _ in range(5):
        refusal = door.ask("key", START_NS, Cost(1, 31))
        assert refusal is not None
        assert not refusal.headers
        assert door.ledger is not None
        assert door.ledger.over is not None
        assert door.ledger.over.name == "tokens"
