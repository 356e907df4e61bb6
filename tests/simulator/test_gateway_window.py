"""Windows as LiteLLM's gateway counts them, beside an oracle that keeps named entries which expire, as it does."""

from __future__ import annotations

import random

import pytest

from tensorix_api.limiters import AllOf, Cost, Grant
from tensorix_simulator.limits.gateway_window import GatewayLimit, GatewayWindow
from tensorix_simulator.limits.key_limits import KeyLimits
from tensorix_simulator.settings import SimulatorSettings

_S = 1_000_000_000


class _Entries:
    """What is kept under a name for a time. A new value does not make an entry last longer."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, int]] = {}

    def get(self, name: str, now_ns: int) -> int | None:
        value, until_ns = self._kept.get(name, (0, -1))
        return None if now_ns > until_ns else value

    def put(self, name: str, value: int, now_ns: int, length_ns: int) -> None:
        _, until_ns = self._kept.get(name, (0, -1))
        self._kept[name] = (value, until_ns if now_ns <= until_ns else now_ns + length_ns)


class _Gateway:
    """Counts first and looks then; a request that is over the limit stays counted."""

    def __init__(self, rpm: int, tpm: int, seconds: int) -> None:
        self.limits = {"requests": rpm, "tokens": tpm}
        self.seconds = seconds
        self._entries = _Entries()

    def _put(self, name: str, value: int, now_ns: int) -> None:
        self._entries.put(name, value, now_ns, self.seconds * _S)

    def ask(self, now_ns: int, tokens: int) -> str | None:
        """What refuses a request, or None."""
        counted = self._entries.get("requests", now_ns)
        if counted is not None and counted > self.limits["requests"]:
            return "requests"
        start = self._entries.get("start", now_ns)
        if start is None or now_ns // _S - start >= self.seconds:
            self._put("requests", 0, now_ns)
            self._put("tokens", 0, now_ns)
            self._put("start", now_ns // _S, now_ns)
        requests = (self._entries.get("requests", now_ns) or 0) + 1
        self._put("requests", requests, now_ns)
        if requests > self.limits["requests"]:
            return "requests"
        used = self._entries.get("tokens", now_ns) or 0
        if used + tokens > self.limits["tokens"]:
            return "tokens"
        self._put("tokens", used + tokens, now_ns)
        return None

    def left(self, now_ns: int) -> dict[str, int]:
        """As the headers of an admitted request have it."""
        counts = {name: self._entries.get(name, now_ns) or 0 for name in self.limits}
        return {name: max(0, limit - counts[name]) for name, limit in self.limits.items()}

    def settle(self, now_ns: int, reserved: int, actual: int) -> None:
        used = self._entries.get("tokens", now_ns)
        if used is not None:
            self._put("tokens", used + actual - reserved, now_ns)


def _limits(rpm: int, tpm: int, seconds: int, phase_ns: int = 0) -> AllOf:
    window = GatewayWindow(seconds * _S, phase_ns)
    return AllOf([GatewayLimit("requests", rpm, window), GatewayLimit("tokens", tpm, window)])


def _ask(limits: AllOf, now_ns: int, tokens: int) -> tuple[str | None, Grant | None]:
    """As the simulator does where refused requests count."""
    decision = limits.admit(now_ns, Cost(1, tokens))
    if not decision.admitted:
        limits.charge(now_ns, Cost(1, 0))
    return decision.binding, decision.grant


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("rpm", "tpm", "seconds"), [(3, 1_000, 5), (20, 9_000, 7), (1, 300, 1), (20, 10**9, 3)])
def test_ten_thousand_arrivals_are_decided_as_the_gateway_does(rpm: int, tpm: int, seconds: int, seed: int) -> None:
    """Decisions, what refused and what is left are the oracle's, with settlements up to two windows late."""
    chance = random.Random(seed * 1_000 + rpm)
    limits, gateway = _limits(rpm, tpm, seconds, phase_ns=-17 * _S), _Gateway(rpm, tpm, seconds)
    now_ns, running, seen = 1_000 * _S + chance.randrange(_S), list[tuple[int, Grant, int, int]](), set[str | None]()
    for _ in range(10_000):
        now_ns += chance.choice((0, 1, chance.randrange(_S // 20), chance.randrange(_S), _S - now_ns % _S))
        for late in [one for one in running if one[0] <= now_ns]:
            running.remove(late)
            _, grant, reserved, actual = late
            limits.settle(now_ns, grant, Cost(1, actual))
            gateway.settle(now_ns, reserved, actual)
        tokens = chance.choice((1, 30, 300, 900, 5_000))
        refused, grant_now = _ask(limits, now_ns, tokens)
        assert refused == gateway.ask(now_ns, tokens)
        seen.add(refused)
        if grant_now is not None:
            assert dict(limits.remaining(now_ns)) == gateway.left(now_ns)
            running.append(
                (now_ns + chance.randrange(2 * seconds * _S), grant_now, tokens, chance.randrange(2 * tokens))
            )
    assert {None, "requests"} <= seen
    assert ("tokens" in seen) == (tpm < 10**9)


def test_a_window_is_over_when_the_clock_has_turned_as_often_as_it_has_seconds() -> None:
    """Opened at 0.8 s, a window of five seconds is over at 5.0 s; what opens then is forgotten after 5.8 s."""
    limits = _limits(3, 1_000, 5)
    at = int(0.8 * _S)
    assert _ask(limits, at, 1)[0] is None
    assert limits.remaining(5 * _S - 1)["requests"] == 2
    assert limits.remaining(5 * _S)["requests"] == 3
    assert _ask(limits, 5 * _S, 1)[0] is None
    assert limits.remaining(at + 5 * _S)["requests"] == 2
    assert limits.remaining(at + 5 * _S + 1)["requests"] == 3


def test_a_refused_request_makes_the_wait_as_long_as_the_window() -> None:
    """After a 429 the counts hold for the whole window from its first request, not to the clock's second."""
    limits = _limits(1, 1_000, 5)
    at = int(0.8 * _S)
    assert [_ask(limits, at + i, 1)[0] for i in range(2)] == [None, "requests"]
    assert limits.earliest(at + 2, Cost(1, 1)) == at + 5 * _S + 1
    assert _ask(limits, at + 5 * _S, 1)[0] == "requests"
    assert _ask(limits, at + 5 * _S + 1, 1)[0] is None


def test_what_is_given_back_after_an_edge_makes_more_than_the_limit() -> None:
    """A reservation that is settled in the next window lowers what that one has used."""
    limits = _limits(3, 1_000, 5)
    _, grant = _ask(limits, 0, 900)
    assert grant is not None
    assert _ask(limits, 6 * _S, 100)[0] is None
    limits.settle(6 * _S, grant, Cost(1, 100))
    assert limits.remaining(6 * _S)["tokens"] == 1_700


def test_a_keys_requests_and_tokens_share_a_window_and_change_with_the_settings() -> None:
    """A refusal for tokens burns a request; another limit holds at once and what was used stays."""
    settings = SimulatorSettings(rpm=3, tpm=100, window_s=5, limiter="gateway_window")
    keys = KeyLimits(settings, clocks_apart_ns=lambda: 0)
    assert [_ask(keys.of("one"), 0, tokens)[0] for tokens in (50, 60, 50, 1)] == [None, "tokens", None, "requests"]
    assert _ask(keys.of("another"), 0, 100)[0] is None
    keys.change(settings.changed({"rpm": 10, "tpm": 200}))
    assert dict(keys.of("one").remaining(0)) == {"requests": 6, "tokens": 100}
    keys.change(settings.changed({"rpm": None}))
    assert _ask(keys.of("one"), 1, 1)[0] == "tokens"
    keys.forget()
    assert dict(keys.of("one").remaining(1)) == {"tokens": 100}
