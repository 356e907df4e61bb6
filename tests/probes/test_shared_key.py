"""A key of 60 requests a window that a load test uses as well: what becomes of the probes."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from tensorix_api import Secret
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.limits.keys import Keys
from tensorix_probes.memory import TargetMemory
from tensorix_probes.result import Round, State
from tensorix_probes.round import run_round
from tensorix_probes.settings import Budget, Headers, Target
from tensorix_simulator import Simulator

LIMIT = 60
CHECKS = ("tls", "models", "chat", "stream", "ratelimit")
MODEL = "deepseek/deepseek-chat-v3.1"


@dataclass(frozen=True)
class Load:
    """What a load test sent: how many, and how many of them were refused."""

    sent: int
    refused: int


def send(base_url: str, key: str, every_s: float, stop: threading.Event) -> Load:
    """Chat completions at a fixed rate, until it is told to stop."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 4}
    statuses: Counter[int] = Counter()
    due = time.monotonic()
    with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
        while not stop.wait(max(0.0, due - time.monotonic())):
            statuses[client.post(f"{base_url}/chat/completions", json=body).status_code] += 1
            due += every_s
    assert set(statuses) <= {200, 429}
    return Load(statuses.total(), statuses[429])


def share(simulator: Simulator, target: Target, a_window: int, rounds: int) -> tuple[list[Round], Load]:
    """Probe a target once a window, while its key gets so many requests a window from elsewhere."""
    window_s = target.headers.window_s
    assert target.api_key is not None
    stop, found = threading.Event(), list[Round]()
    key, memory, exchange = Keys([target]).of(target), TargetMemory(), Exchange(target)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(send, simulator.base_url, target.api_key.reveal(), window_s / a_window, stop)
        try:
            # The load has been under way for a whole window when the first probe comes.
            due = time.monotonic() + 1.1 * window_s
            for _ in range(rounds):
                stop.wait(max(0.0, due - time.monotonic()))
                found.append(run_round(target, exchange=exchange, key=key, memory=memory))
                due += window_s
        finally:
            stop.set()
        exchange.close()
        return found, load.result(60)


SLOW = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    ("limiter", "window_s", "rounds", "most"),
    [
        # In so short a window the load comes in bursts where the machine is busy, and of a few rounds one is many.
        pytest.param("fixed_window", 2.0, 6, 0.5, id="fixed windows of 2 s"),
        pytest.param("sliding_log", 6.0, 20, 0.9, id="sliding windows of 6 s", marks=SLOW),
        pytest.param("token_bucket", 6.0, 20, 0.9, id="a bucket that fills in 6 s", marks=SLOW),
        pytest.param("fixed_window", 60.0, 12, 0.9, id="fixed windows of a minute", marks=SLOW),
    ],
)
def test_a_key_that_a_load_test_uses_too(
    start: Callable[..., Simulator],
    target_at: Callable[..., Target],
    capsys: pytest.CaptureFixture[str],
    limiter: str,
    window_s: float,
    rounds: int,
    most: float,
) -> None:
    """At 55 of 60 nine in ten are conclusive (of the shortest windows half) and none is down; at 60 none is, and those
    skipped say so and count.
    """
    simulator = start(rpm=LIMIT, window_s=window_s, limiter=limiter)
    targets = {
        rate: target_at(
            simulator.base_url,
            name=f"at-{rate}",
            api_key=Secret(f"sk-shared-at-{rate}"),
            checks=CHECKS,
            headers=Headers(requests=LIMIT, window_s=window_s),
            budget=Budget(tokens_a_day=None),
        )
        for rate in (55, LIMIT)
    }
    with ThreadPoolExecutor(2) as pool:
        shared = {rate: pool.submit(share, simulator, target, rate, rounds) for rate, target in targets.items()}
        found = {rate: future.result() for rate, future in shared.items()}
    for rate, (seen, load) in found.items():
        states = Counter(str(one.state) for one in seen)
        others = [(one.cause, one.reason) for one in seen if one.state is not State.UP]
        with capsys.disabled():
            sys.stdout.write(f"\n{limiter}, {rate} of {LIMIT} in {window_s:g} s: {dict(states)}; {load}; {others}")
        assert load.sent >= most * rate * rounds
        assert states["down"] == 0
        assert sum(states.values()) == rounds
        assert [one.reason for one in seen if one.state is State.DEGRADED] == []
    conclusive = [one for one in found[55][0] if one.state.conclusive]
    assert len(conclusive) >= most * rounds
    for one in found[LIMIT][0]:
        if not one.state.conclusive:
            assert one.state is State.INCONCLUSIVE
            # Why it was skipped is told by the round, so that it can be counted by its cause. Or it was not skipped but
            # refused: what was remembered a moment ago was used by the load in the meantime.
            refused = one.cause is None and (one.reason or "").startswith("limited: 429")
            assert refused or one.cause in ("server_has_room", "budget_allows"), one.reason
            assert "remain" in (one.reason or "") or "429" in (one.reason or ""), one.reason
