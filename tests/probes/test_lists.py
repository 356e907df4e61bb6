"""Whether lists of models are free, learnt from what remains."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tensorix_api.limiters import Cost, FixedWindow
from tensorix_api.ratelimit_headers import RateLimits
from tensorix_probes.limits.lists import lists_are_free
from tensorix_probes.limits.observation import Observation

SECOND = 10**9


def seen(kind: str, at_s: float, remaining: int | None) -> Observation:
    """A response that came at once."""
    at = round(at_s * SECOND)
    return Observation(
        kind=kind,
        sent_unix_ns=at,
        head_unix_ns=at,
        end_unix_ns=at,
        status=200,
        limits=RateLimits(remaining_requests=remaining),
        requests=1,
        sure=kind != "models",
        tokens=0,
        most_tokens=0,
    )


@pytest.mark.parametrize(
    ("remaining", "limit", "free"),
    [
        ([("models", None), ("chat", 59)], 60, True),
        ([("models", None), ("chat", 58)], 60, None),
        ([("models", None), ("chat", 59)], None, None),
        ([("models", 60), ("chat", 59), ("models", 59)], None, True),
        ([("models", 59), ("chat", 58), ("models", 57)], None, False),
        ([("models", 59), ("chat", 58)], 60, None),
        ([("chat", 59), ("stream", 58)], 60, None),
        ([], 60, None),
    ],
)
def test_what_shows_it(remaining: list[tuple[str, int | None]], limit: int | None, free: bool | None) -> None:
    """More than if it were counted shows that a list is free; less may be anybody's doing."""
    said = [seen(kind, 100 + number, left) for number, (kind, left) in enumerate(remaining)]
    assert lists_are_free(said, limit, 60.0) is free


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_it_is_right_beside_others_traffic(free: bool, seed: int) -> None:
    """After ten rounds over a fixed window, with others' requests in between, the majority is right."""
    chance, limiter, said = random.Random(seed), FixedWindow("requests", 60, 60 * SECOND), []
    for number in range(10):
        at_s = 60.0 * number + chance.random()
        for kind in ("models", "chat", "stream", "models"):
            at_s += 0.3
            if chance.random() < 0.2:
                limiter.charge(round(at_s * SECOND), Cost(1, 0))
            at_s += 0.3
            if kind != "models" or not free:
                limiter.charge(round(at_s * SECOND), Cost(1, 0))
            left = limiter.remaining(round(at_s * SECOND))["requests"]
            said.append(seen(kind, at_s, left))
    assert lists_are_free(said, 60, 60.0) is free


def test_what_a_bad_key_was_told_is_left_out() -> None:
    """The answer to another key says nothing of this one."""
    said = [replace(seen("models", 1, 60), kind="unauthorised"), seen("models", 2, 59), seen("chat", 3, 58)]
    assert lists_are_free(said, None, 60.0) is None
