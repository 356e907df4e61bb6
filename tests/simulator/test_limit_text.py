"""Limits as they are written, and the limiters that are made of them."""

from __future__ import annotations

from typing import Any

import pytest

from tensorix_api.errors import SettingsError
from tensorix_api.limiters import AllOf, Cost, FixedWindow, InFlight, SlidingCounter, SlidingLog, TokenBucket
from tensorix_simulator.limits.key_limits import KeyLimits
from tensorix_simulator.limits.limit_text import Limit, read_limit
from tensorix_simulator.limits.rate_headers import duration
from tensorix_simulator.settings import SimulatorSettings

S = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("2 requests/1s", {"resource": "requests", "amount": 2, "window_ns": S}),
        ("2 requests/min", {"resource": "requests", "amount": 2, "window_ns": 60 * S}),
        ("2 requests/1m30s", {"resource": "requests", "amount": 2, "window_ns": 90 * S}),
        (" 1  request / s ", {"name": "1 request / s", "resource": "requests", "amount": 1, "window_ns": S}),
        (
            "100000 tokens/1d clock_window",
            {"resource": "tokens", "amount": 100_000, "window_ns": 86_400 * S, "kind": "clock_window"},
        ),
        ("8 in flight", {"resource": None, "amount": 8}),
        ("8 in flight all keys", {"resource": None, "amount": 8, "all_keys": True}),
        ("30 requests/60s per model", {"resource": "requests", "amount": 30, "window_ns": 60 * S, "per_model": True}),
        ("600 requests/1m all keys", {"resource": "requests", "amount": 600, "window_ns": 60 * S, "all_keys": True}),
        (
            "1_000 tokens/0.5s all keys burst 20 per model",
            {
                "resource": "tokens",
                "amount": 1000,
                "window_ns": S // 2,
                "kind": "token_bucket",
                "burst": 20,
                "per_model": True,
                "all_keys": True,
            },
        ),
        (
            "5 requests/250ms sliding_log",
            {"resource": "requests", "amount": 5, "window_ns": S // 4, "kind": "sliding_log"},
        ),
    ],
)
def test_a_limit_is_read(text: str, limit: dict[str, Any]) -> None:
    """Amount, window, kind, burst and scope, the words after the window in any order."""
    assert read_limit(text) == Limit(**{"name": text, **limit})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("soon", "write '2 requests/1s'"),
        ("2 requests", "write '2 requests/1s'"),
        ("2 requests/1y", "write '2 requests/1s'"),
        ("-2 requests/1s", "write '2 requests/1s'"),
        ("2 requests/1s, per model", "write '2 requests/1s'"),
        ("2 requests/1s per modelx", "write '2 requests/1s'"),
        ("2 requests/1s leaky_bucket", "token_bucket"),
        ("2 requests/1s per model per model", "once"),
        ("2 requests/1s burst 2 burst 3", "once"),
        ("0 requests/1s", "from 1 to"),
        ("2 requests/1s burst 0", "from 1 to"),
        ("2 requests/1us", "from 1ms to 366d"),
        ("2 requests/1w", "ns, us, ms, s, m or min, h, d"),
        ("2 requests/0.5ms", "from 1ms to 366d"),
        ("2 requests/400d", "from 1ms to 366d"),
        ("8 in flight sliding_log", "no window"),
        ("8 in flight burst 2", "no window"),
        ("2 requests/1s fixed_window burst 3", "only a token_bucket"),
        ("9" * 5000 + " requests/1s", "write '2 requests/1s'"),
    ],
)
def test_what_is_no_limit_is_told_the_forms(text: str, why: str) -> None:
    """A wrong text is refused in one short line that names the setting and says what may be written."""
    with pytest.raises(SettingsError) as caught:
        SimulatorSettings(more_limits=("8 in flight", text))
    message = str(caught.value)
    assert "'more_limits'" in message
    assert why in message
    assert "'8 in flight'" in message
    assert "\n" not in message
    assert len(message) < 600


def kinds(together: AllOf) -> list[type]:
    return [type(limiter) for limiter in together.limiters]


@pytest.mark.parametrize(
    ("limiter", "kind"),
    [
        ("fixed_window", FixedWindow),
        ("clock_window", FixedWindow),
        ("sliding_log", SlidingLog),
        ("sliding_counter", SlidingCounter),
        ("token_bucket", TokenBucket),
    ],
)
def test_the_setting_says_the_kind(limiter: str, kind: type) -> None:
    """Of rpm, tpm and every further limit that names none of its own."""
    limits = KeyLimits(
        SimulatorSettings(limiter=limiter, more_limits=("2 requests/1s", "9 in flight", "5 tokens/1s burst 5"))
    )
    assert kinds(limits.of("key-1")) == [kind, kind, kind, InFlight, TokenBucket]


def test_a_burst_is_the_buckets_capacity() -> None:
    """Of rpm by `burst`, of tpm by `burst_tokens`, of another limit by its own."""
    settings = SimulatorSettings(
        limiter="token_bucket", burst=3, burst_tokens=70, more_limits=("9 requests/1s burst 2",)
    )
    requests, tokens, more = KeyLimits(settings).of("key-1").limiters
    assert [next(iter(limiter.standing(0).values())).limit for limiter in (requests, tokens, more)] == [3, 70, 2]


@pytest.mark.parametrize(("limiter", "left"), [("clock_window", [0, 5, 5]), ("sliding_counter", [0, 0, 2])])
def test_clock_windows_begin_on_the_clocks_minute(limiter: str, left: list[int]) -> None:
    """With a clock 7.25 s ahead of the one that times requests, the minute turns at 52.75 s, and again 60 s later."""
    for edge_ns in (211 * S // 4, 211 * S // 4 + 60 * S):
        limits = KeyLimits(SimulatorSettings(rpm=5, tpm=None, limiter=limiter), lambda: 29 * S // 4)
        key = limits.of("key-1")
        key.charge(edge_ns - 1, Cost(5, 0))
        assert [key.remaining(at_ns)["requests"] for at_ns in (edge_ns - 1, edge_ns, edge_ns + 30 * S)] == left


def test_clock_windows_follow_a_clock_that_is_set() -> None:
    """The clock is put forward by 20 s: the minute turns 20 s earlier; what was used stays until then."""
    apart = [0]
    limits = KeyLimits(SimulatorSettings(rpm=5, limiter="clock_window"), lambda: apart[0])
    limits.of("key-1").charge(10 * S, Cost(2, 0))
    apart[0] = 20 * S
    key = limits.of("key-1")
    assert key.remaining(40 * S - 1)["requests"] == 3
    assert key.remaining(40 * S)["requests"] == 5


def test_scopes() -> None:
    """A limit per model is one a key and model, of all keys one for all, of both one a model; else one a key."""
    texts = ("5 requests/1s", "5 requests/1s per model", "5 requests/1s all keys", "5 requests/1s per model all keys")
    limits = KeyLimits(SimulatorSettings(rpm=None, tpm=None, more_limits=texts))
    own, model, shared, shared_model = limits.of("key-1", "a").limiters
    assert limits.of("key-1").limiters == (own, shared)
    other = limits.of("key-1", "b").limiters
    assert [one is two for one, two in zip((own, model, shared, shared_model), other, strict=True)] == [
        True, False, True, False,
    ]  # fmt: skip
    other = limits.of("key-2", "a").limiters
    assert [one is two for one, two in zip((own, model, shared, shared_model), other, strict=True)] == [
        False, False, True, True,
    ]  # fmt: skip
    assert limits.shared_of("key-1", "a") == {shared, shared_model}


def test_what_a_change_keeps() -> None:
    """What was used stays where the kind does, whatever the amount, and of rpm the window; another kind begins anew."""
    settings = SimulatorSettings(rpm=10, tpm=None, more_limits=("5 requests/1s", "50 requests/1d", "4 in flight"))
    limits = KeyLimits(settings)
    running = limits.of("key-1").admit(0, Cost(3, 0))
    assert running.grant is not None

    def left() -> list[int]:
        key = limits.of("key-1")
        assert all(isinstance(limiter, FixedWindow | SlidingLog | InFlight) for limiter in key.limiters)
        return [
            limiter.limit - limiter.running if isinstance(limiter, InFlight) else limiter.remaining(5)["requests"]
            for limiter in key.limiters
            if isinstance(limiter, FixedWindow | SlidingLog | InFlight)
        ]

    assert left() == [7, 2, 47, 3]
    limits.change(settings.changed({"rpm": 20, "window_s": 30, "more_limits": ["40 requests/1d", "9 in flight"]}))
    assert left() == [17, 37, 8]
    limits.change(
        settings.changed({"limiter": "sliding_log", "more_limits": ["6 requests/1d fixed_window", "9 in flight"]})
    )
    assert left() == [10, 3, 8]
    limits.change(settings)
    assert left() == [10, 5, 47, 3]
    limits.forget()
    assert left() == [10, 5, 50, 3], "what is in flight is so, whatever is forgotten"


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (1, "1ms"),
        (16_000_001, "17ms"),
        (999 * 10**6 + 1, "1s"),
        (S, "1s"),
        (8_640 * 10**6, "8.64s"),
        (59_999 * 10**6 + 1, "1m0s"),
        (86_400 * 10**6, "1m26.4s"),
        (360 * S, "6m0s"),
        (3600 * S, "1h0m0s"),
        (86_400 * S + 1, "24h0m0.001s"),
    ],
)
def test_durations_as_openai_writes_them(ns: int, text: str) -> None:
    """`17ms`, `8.64s`, `6m0s`: rounded up to ms, so that who comes back then is not too early."""
    assert duration(ns) == text


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("limiter", "leaky_bucket", "fixed_window, clock_window, sliding_log, sliding_counter, token_bucket"),
        ("burst", 0, "from 1 to 10**12, or null for rpm"),
        ("burst_tokens", 1.5, "from 1 to 10**12, or null for tpm"),
        ("more_limits", "2 requests/1s", "a list of limits: '2 requests/1s'"),
        ("more_limits", [2], "a list of limits: '2 requests/1s'"),
        ("over_limit", "wait", "refuse, delay"),
        ("longest_delay_s", -1, "from 0 to"),
        ("retry_after", "sometimes", "none, honest, fixed60"),
        ("headers", "ietf", "documented, litellm, openai, none"),
        ("header_lie", "early", "late, negative, stuck, null"),
    ],
)
def test_a_wrong_setting_of_limits_is_named(name: str, value: Any, allowed: str) -> None:
    """With what it may be."""
    with pytest.raises(SettingsError) as caught:
        SimulatorSettings.from_dict({name: value})
    assert repr(name) in str(caught.value)
    assert allowed in str(caught.value)
