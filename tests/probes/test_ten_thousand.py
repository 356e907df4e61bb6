"""A healthy server, with jitter and one answer in fifty slow within its objective: many real probes, none down."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tensorix_api import Secret
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.limits.keys import Keys
from tensorix_probes.memory import TargetMemory
from tensorix_probes.result import Round, State
from tensorix_probes.round import run_round
from tensorix_probes.settings import Budget, Headers, Slow, Target
from tensorix_simulator import Simulator

_TARGETS = 5
_SLOW_S = 0.4


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(150, id="few"),
        pytest.param(10_000, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(1_800)]),
    ],
)
def test_none_of_many_probes_is_down(
    count: int,
    start: Callable[..., Simulator],
    target_at: Callable[..., Target],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each round of all checks is up: two in a hundred completions wait 0.4 s, and slow is what takes over 5 s."""
    simulator = start(
        ttft="lognormal(10ms, 0.6)",
        between_tokens="lognormal(2ms, 0.5)",
        faults=[f"stall {_SLOW_S}s before first token, rate 2%, on chat"],
        rpm=1_000_000,
        tpm=1_000_000_000,
    )
    target = target_at(
        simulator.base_url,
        headers=Headers(requests=1_000_000, tokens=1_000_000_000),
        budget=Budget(tokens_a_day=None),
        slow=Slow(chat_s=5.0, first_token_s=5.0, gap_s=5.0),
    )
    # Each a key of its own: what one has used is no riddle to the others.
    targets = [replace(target, name=f"t{nth}", api_key=Secret(f"sk-of-target-{nth}")) for nth in range(_TARGETS)]
    began = time.monotonic()
    with ThreadPoolExecutor(_TARGETS) as pool:
        seen = [one for part in pool.map(lambda one: _rounds(one, count // _TARGETS), targets) for one in part]
    took_s = time.monotonic() - began
    states = Counter(str(one.state) for one in seen)
    waits = [
        result.phases.first_token_ns / 1e9
        for one in seen
        for result in one.results
        if result.check == "stream" and result.phases.first_token_ns is not None
    ]
    slow = sum(wait > _SLOW_S for wait in waits) / len(waits)
    checks = sum(len(one.results) for one in seen)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(seen)} rounds of {checks} checks in {took_s:.0f} s: {dict(states)}; "
            f"{slow:.1%} of the streams slow, the slowest first token after {max(waits):.2f} s\n"
        )
    assert {one.reason for one in seen if one.state is not State.UP} == set()
    assert states == {"up": count // _TARGETS * _TARGETS}
    assert len(waits) == len(seen)
    if count > 1_000:
        assert 0.01 < slow < 0.03


def _rounds(target: Target, count: int) -> list[Round]:
    """Rounds of a target, one after the other, with what is known of it and its key."""
    key, memory, exchange = Keys([target]).of(target), TargetMemory(), Exchange(target)
    try:
        return [run_round(target, exchange=exchange, key=key, memory=memory) for _ in range(count)]
    finally:
        exchange.close()
