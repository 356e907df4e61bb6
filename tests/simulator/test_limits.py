"""Limits over sockets: exactly what is allowed passes, and the rest is told so."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tensorix_api.limiters import Cost, FixedWindow, Limiter, SlidingCounter, SlidingLog, TokenBucket
from tensorix_simulator import Simulator

S = 1_000_000_000

Body = Callable[..., dict[str, Any]]
Truth = Callable[..., list[dict[str, Any]]]


@pytest.mark.parametrize("times", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_sixty_at_once(
    start: Callable[..., Simulator], connect: Any, wire_request: Callable[..., bytes], body: Body, times: int
) -> None:
    """On a fresh key of 60 RPM, 96 requests through 16 connections at once: exactly 60 get 200, the rest 429."""
    simulator = start()
    wires = [connect(simulator) for _ in range(16)]
    for k in range(times):
        data = wire_request(body(max_tokens=1, stream=k % 2 == 0), key=f"sk-fresh-{k}")
        for _ in range(6):
            for wire in wires:
                wire.send(data)
        answers = [wire.read_response() for wire in wires for _ in range(6)]
        assert Counter(status for status, _, _ in answers) == {200: 60, 429: 36}
        if k % 2 == 0:
            # A stream's headers are sent with the decision: each of the 60 sees one less than the one before.
            left = sorted(int(headers["x-ratelimit-api_key-remaining-requests"]) for _, headers, _ in answers)
            assert left == [0] * 36 + list(range(60))


@pytest.mark.parametrize(
    ("limiter", "passing"),
    [("clock_window", 60), ("sliding_log", 60), ("sliding_counter", 60), ("token_bucket", 60), ("burst", 25)],
)
def test_sixty_at_once_by_each_kind(
    start: Callable[..., Simulator],
    connect: Any,
    wire_request: Callable[..., bytes],
    body: Body,
    limiter: str,
    passing: int,
) -> None:
    """So it is with every kind of limiter; a bucket of a smaller burst lets pass as many as that."""
    changes = {"limiter": "token_bucket", "burst": passing} if limiter == "burst" else {"limiter": limiter}
    # A window so long that nothing flows back, and none on the clock ends, while this runs.
    simulator = start(window_s=1e6, **changes)
    wires = [connect(simulator) for _ in range(16)]
    for k in range(5):
        data = wire_request(body(max_tokens=1, stream=k % 2 == 0), key=f"sk-{limiter}-{k}")
        for wire in wires:
            wire.send(data * 6)
        statuses = [wire.read_response()[0] for wire in wires for _ in range(6)]
        assert Counter(statuses) == {200: passing, 429: 96 - passing}


def test_sixty_at_once_from_threads(borrow: Callable[..., Simulator], body: Body) -> None:
    """The same from a client with threads, as users' own scripts have."""
    simulator = borrow()
    headers = {"authorization": "Bearer sk-threads"}
    limits = httpx.Limits(max_connections=16)
    with httpx.Client(base_url=simulator.base_url, headers=headers, limits=limits, trust_env=False) as client:

        def ask(_: int) -> int:
            return client.post("/chat/completions", json=body(max_tokens=1)).status_code

        with ThreadPoolExecutor(16) as pool:
            assert Counter(pool.map(ask, range(80))) == {200: 60, 429: 20}


class Key:
    """One key's client: statuses and headers of the requests it sends."""

    def __init__(self, simulator: Simulator, key: str, body: Body) -> None:
        self.body = body
        headers = {"authorization": f"Bearer {key}"}
        self.client = httpx.Client(base_url=simulator.base_url, headers=headers, trust_env=False)

    def ask(self, **parameters: Any) -> httpx.Response:
        return self.client.post("/chat/completions", json=self.body(**parameters))

    def status(self, **parameters: Any) -> int:
        return self.ask(**parameters).status_code

    def models(self) -> int:
        return self.client.get("/models").status_code


@pytest.fixture
def key(body: Body) -> Iterator[Callable[..., Key]]:
    keys: list[Key] = []

    def make(simulator: Simulator, name: str = "sk-key") -> Key:
        keys.append(Key(simulator, name, body))
        return keys[-1]

    yield make
    for made in keys:
        made.client.close()


def test_each_key_has_limits_of_its_own(borrow: Callable[..., Simulator], key: Callable[..., Key]) -> None:
    """One key's spent limit is no other key's."""
    simulator = borrow(rpm=1)
    assert [key(simulator, name).status() for name in ("sk-a", "sk-a", "sk-b", "sk-b")] == [200, 429, 200, 429]


def test_the_error_of_a_429(borrow: Callable[..., Simulator], key: Callable[..., Key]) -> None:
    """An error object, both headers, and no Retry-After: the documentation names none."""
    simulator = borrow(rpm=1, tpm=500)
    client = key(simulator)
    client.ask()
    response = client.ask()
    assert response.status_code == 429
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert response.headers["x-ratelimit-api_key-remaining-requests"] == "0"
    assert response.headers["x-ratelimit-api_key-remaining-tokens"] == "493"
    assert "retry-after" not in response.headers


def test_retry_after_when_set(borrow: Callable[..., Simulator], key: Callable[..., Key]) -> None:
    """Honest: whole seconds until the window ends; fixed: always 60."""
    simulator = borrow(rpm=1, window_s=20, retry_after="honest")
    client = key(simulator)
    client.ask()
    assert client.ask().headers["retry-after"] in ("19", "20")
    simulator.change(retry_after="fixed60")
    assert client.ask().headers["retry-after"] == "60"


def test_who_comes_back_when_told_passes(
    borrow: Callable[..., Simulator], key: Callable[..., Key], truth_since: Truth
) -> None:
    """An honest Retry-After holds."""
    simulator = borrow(rpm=1, window_s=0.9, retry_after="honest")
    client = key(simulator)
    client.ask()
    assert client.ask().headers["retry-after"] == "1"
    refused_ns = truth_since(simulator, "arrival")[-1]["ledger_ns"]
    time.sleep(max(0.0, refused_ns / 1e9 + 1 - time.monotonic()))
    assert client.status() == 200


@pytest.mark.parametrize(
    "limiter",
    [
        lambda phase_ns: FixedWindow("requests", 2, 5 * S),
        lambda phase_ns: FixedWindow("requests", 2, 5 * S, phase_ns=phase_ns),
        lambda phase_ns: SlidingLog("requests", 2, 5 * S),
        lambda phase_ns: SlidingCounter("requests", 2, 5 * S, phase_ns=phase_ns),
        lambda phase_ns: TokenBucket("requests", 2, 5 * S),
    ],
    ids=["fixed_window", "clock_window", "sliding_log", "sliding_counter", "token_bucket"],
)
def test_an_honest_retry_after_is_the_limiters(
    borrow: Callable[..., Simulator],
    key: Callable[..., Key],
    truth_since: Truth,
    limiter: Callable[[int], Limiter],
    request: pytest.FixtureRequest,
) -> None:
    """With every kind it is the time at which a limiter of the same history would let it pass, in whole seconds."""
    simulator = borrow(rpm=2, tpm=None, window_s=5, retry_after="honest", limiter=request.node.callspec.id)
    client = key(simulator)
    told = None
    while told is None:
        told = client.ask().headers.get("retry-after")
    [begun] = simulator.truth("start")
    oracle = limiter(begun["monotonic_ns"] - begun["unix_ns"])
    for line in truth_since(simulator, "arrival"):
        decision = oracle.admit(line["ledger_ns"], Cost(1, 0))
        assert decision.admitted == (line["status"] == 200)
    assert decision.retry_at_ns is not None
    assert int(told) == math.ceil((decision.retry_at_ns - line["ledger_ns"]) / 1e9)


def test_the_window_ends_when_the_truth_says(
    borrow: Callable[..., Simulator], key: Callable[..., Key], truth_since: Truth
) -> None:
    """No request passes between the last of the limit and the end of the window, and one does after it."""
    simulator = borrow(rpm=2, window_s=0.5)
    client = key(simulator)
    deadline = time.monotonic() + 1.6
    while time.monotonic() < deadline:
        client.ask(max_tokens=1)
    decided = [(line["decided_ns"], line["decision"]) for line in truth_since(simulator, "arrival")]
    admitted = [at_ns for at_ns, decision in decided if decision == "admitted"]
    assert {decision for _, decision in decided} == {"admitted", "refused_requests"}
    assert len(admitted) in (6, 7, 8)
    for first, third in zip(admitted[::2], admitted[2::2], strict=False):
        # Up to a ms between charging and writing the line.
        assert third - first > 0.499e9
        assert not [at_ns for at_ns, decision in decided if decision != "admitted" and first + 0.51e9 < at_ns < third]


@pytest.mark.parametrize(
    ("charging", "left", "statuses"),
    [
        ("actual", [993, 986, 979], [200, 200, 200]),
        ("reserve", [993, 986, 979], [200, 200, 200]),
        ("prompt", [996, 992, 988], [200, 200, 200]),
    ],
)
def test_tokens_are_charged_by_policy(
    borrow: Callable[..., Simulator], key: Callable[..., Key], charging: str, left: list[int], statuses: list[int]
) -> None:
    """A prompt of 4 tokens and 3 generated: what remains after each reply."""
    client = key(borrow(rpm=None, tpm=1000, charging=charging))
    answers = [client.ask() for _ in range(3)]
    assert [answer.status_code for answer in answers] == statuses
    assert [int(answer.headers["x-ratelimit-api_key-remaining-tokens"]) for answer in answers] == left


def test_a_reservation_is_seen_on_a_stream_and_settled_after_it(
    borrow: Callable[..., Simulator], key: Callable[..., Key]
) -> None:
    """The stream's headers show max_tokens taken off; the next response shows what was really used."""
    client = key(borrow(rpm=None, tpm=1000, charging="reserve", reply_tokens="10"))
    stream = client.ask(stream=True, max_tokens=500)
    assert stream.headers["x-ratelimit-api_key-remaining-tokens"] == str(1000 - 4 - 500)
    assert client.ask(n=0).headers["x-ratelimit-api_key-remaining-tokens"] == str(1000 - 4 - 10)


def test_token_limits_bind(borrow: Callable[..., Simulator], key: Callable[..., Key], truth_since: Truth) -> None:
    """Reserved, a request too large for what is left is refused and a smaller one passes; used, it overdraws once."""
    simulator = borrow(tpm=100, charging="reserve", reply_tokens="1")
    client = key(simulator)
    assert [client.status(max_tokens=most) for most in (97, 90, 92, 5)] == [429, 200, 429, 200]
    refusals = [line for line in truth_since(simulator, "arrival") if line["status"] == 429]
    assert {line["decision"] for line in refusals} == {"refused_tokens"}
    other = key(borrow(tpm=100), "sk-other")
    assert [other.status(max_tokens=200), other.status(max_tokens=1)] == [200, 429]


def test_what_counts_by_default(borrow: Callable[..., Simulator], key: Callable[..., Key]) -> None:
    """Only chat completions that were admitted: no models, no 400s, no refusals."""
    client = key(borrow(rpm=2))
    assert [client.models(), client.status(n=0), client.status(), client.models(), client.status()] == [
        200, 400, 200, 200, 200,
    ]  # fmt: skip
    assert [client.models(), client.status(n=0), client.status()] == [200, 400, 429]


def test_what_counts_can_be_set(borrow: Callable[..., Simulator], key: Callable[..., Key]) -> None:
    """Models and 400s can count, and are then refused when the limit is spent; refusals can overdraw it."""
    client = key(borrow(rpm=3, count_models=True, count_bad_requests=True))
    assert [client.models(), client.status(n=0), client.status()] == [200, 400, 200]
    assert [client.models(), client.status(n=0), client.status()] == [429, 429, 429]
    simulator = borrow(rpm=1, count_refused=True)
    client = key(simulator)
    assert [client.status() for _ in range(4)] == [200, 429, 429, 429]
    simulator.change(rpm=4)
    assert client.status() == 429
    simulator.change(rpm=6)
    assert client.status() == 200


def test_a_500_counts_as_a_request_without_tokens(borrow: Callable[..., Simulator], key: Callable[..., Key]) -> None:
    """An injected error is documented-style, and its share is the one set."""
    client = key(borrow(rpm=None, tpm=10_000, error_rate=0.25, seed=3, charging="reserve"))
    answers = [client.ask(user=str(k)) for k in range(100)]
    failed = [answer for answer in answers if answer.status_code == 500]
    assert 10 <= len(failed) <= 40
    assert {answer.json()["error"]["type"] for answer in failed} == {"server_error"}
    assert int(answers[-1].headers["x-ratelimit-api_key-remaining-tokens"]) == 10_000 - 7 * (100 - len(failed))
