"""The check of the rate-limit headers: each mode and lie of the simulator, and headers that no simulator sends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread
from typing import Any, ClassVar

import pytest

from tensorix_api.ratelimit_headers import read_rate_limits
from tensorix_probes.checks.ratelimit import PROMISES
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.limits.keys import Keys
from tensorix_probes.limits.observation import Observation
from tensorix_probes.limits.retry_after import retry_after_is_honest
from tensorix_probes.memory import TargetMemory
from tensorix_probes.result import ProbeResult, State
from tensorix_probes.round import run_round
from tensorix_probes.settings import BUILT_IN_CHECKS, Budget, Headers, Target
from tensorix_simulator import Simulator

Play = Callable[..., list[ProbeResult]]
CHECKS = ("models", "chat", "stream", "errors", "ratelimit")


@pytest.fixture
def play() -> Play:
    """What the check says in each of some rounds of a target."""

    def play_it(target: Target, rounds: int = 1) -> list[ProbeResult]:
        key, memory, found = Keys([target]).of(target), TargetMemory(), []
        for _ in range(rounds):
            exchange = Exchange(target)
            result = run_round(target, exchange=exchange, key=key, memory=memory).results[-1]
            exchange.close()
            assert result.check == "ratelimit"
            assert {one.name for one in result.assertions} <= {promise.name for promise in PROMISES}
            assert {one.detail is None for one in result.failed} <= {False}
            found.append(result)
        return found

    return play_it


@pytest.fixture
def target(target_at: Callable[..., Target]) -> Callable[..., Target]:
    def make(base_url: str, **fields: Any) -> Target:
        return target_at(base_url, **{"checks": CHECKS, "budget": Budget(share=1.0), **fields})

    return make


def failed(result: ProbeResult) -> list[str]:
    return [one.name for one in result.failed]


def present(*kinds: str) -> list[str]:
    return [f"headers_present_on_{kind}" for kind in kinds]


@pytest.mark.parametrize("headers", ["documented", "openai"])
@pytest.mark.parametrize("limiter", ["fixed_window", "clock_window", "sliding_log", "sliding_counter", "token_bucket"])
@pytest.mark.parametrize("charging", ["actual", "reserve", "prompt"])
def test_a_true_server(
    borrow: Callable[..., Simulator],
    target: Callable[..., Target],
    play: Play,
    headers: str,
    limiter: str,
    charging: str,
) -> None:
    """Whatever way it counts: up, in one round and in more, and the figures say what remains."""
    simulator = borrow(headers=headers, limiter=limiter, charging=charging, count_bad_requests=charging == "reserve")
    results = play(target(simulator.base_url), rounds=3)
    assert [(result.state, failed(result)) for result in results] == [(State.UP, [])] * 3
    assert results[0].figures["remaining_requests"] in (57, 58, 59)
    assert results[-1].figures["foreign_requests"] == results[-1].figures["foreign_tokens"] == 0
    assert results[-1].figures["own_requests"] == 6


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"headers": "none"}, present("chat", "stream", "models", "bad_request")),
        ({"headers": "litellm"}, present("stream", "models", "bad_request")),
        ({"header_lie": "late"}, ["remaining_agrees_with_ledger"]),
        ({"header_lie": "stuck"}, ["remaining_falls_with_use"]),
        ({"header_lie": "negative"}, ["remaining_is_not_negative"]),
        ({"headers": "openai", "header_lie": "late"}, ["remaining_agrees_with_ledger"]),
        ({"headers": "openai", "header_lie": "stuck"}, ["remaining_falls_with_use"]),
        ({"headers": "openai", "header_lie": "negative"}, ["remaining_is_not_negative"]),
    ],
    ids=str,
)
def test_what_one_round_finds(
    borrow: Callable[..., Simulator],
    target: Callable[..., Target],
    play: Play,
    settings: dict[str, str],
    names: list[str],
) -> None:
    """Headers that are missing by kind of response, and each lie: degraded by its name, after the first round."""
    [result] = play(target(borrow(**settings).base_url))
    assert (result.state, failed(result)) == (State.DEGRADED, names)
    assert result.reason


def test_kinds_that_are_accepted_without(
    borrow: Callable[..., Simulator], target: Callable[..., Target], play: Play
) -> None:
    """A gateway that says nothing on streams is up where the configuration expects it on chat completions only."""
    simulator = borrow(headers="litellm")
    [result] = play(target(simulator.base_url, headers=Headers(expected_on=("chat",))))
    assert (result.state, failed(result)) == (State.UP, [])
    assert result.figures["limit_requests"] == 60


def test_a_limit_that_is_not_the_one_expected(
    borrow: Callable[..., Simulator], target: Callable[..., Target], play: Play
) -> None:
    """What a header states against what the configuration tells."""
    simulator = borrow(headers="openai", rpm=100)
    [result] = play(target(simulator.base_url, headers=Headers(requests=60, tokens=2_000_000)))
    assert failed(result) == ["limit_is_as_expected"]
    assert result.reason == "100 requests, not 60"


def test_more_than_is_told_remains(borrow: Callable[..., Simulator], target: Callable[..., Target], play: Play) -> None:
    """A server that names no limit, but says that more remains than the configuration tells."""
    simulator = borrow(rpm=100)
    [result] = play(target(simulator.base_url, headers=Headers(requests=60)))
    assert failed(result) == ["remaining_within_limit"]
    assert "98 requests remain of 60 (told)" in (result.failed[0].detail or "")


def test_remaining_is_not_judged_where_that_is_not_wanted(
    borrow: Callable[..., Simulator], target: Callable[..., Target], play: Play
) -> None:
    """`judge_remaining = false` leaves presence and form to be judged, and the ledger out of it."""
    simulator = borrow(header_lie="stuck")
    [result] = play(target(simulator.base_url, headers=Headers(judge_remaining=False)))
    assert (result.state, failed(result)) == (State.UP, [])


def test_other_users_of_the_key(borrow: Callable[..., Simulator], target: Callable[..., Target], play: Play) -> None:
    """Another target's requests with the same key, unseen by this one, are foreign use and no fault."""
    simulator = borrow()
    here = target(simulator.base_url)
    key, memory = Keys([here]).of(here), TargetMemory()
    for _ in range(4):
        result = run_round(here, exchange=Exchange(here), key=key, memory=memory).results[-1]
        assert (result.state, failed(result)) == (State.UP, [])
        play(here)
    assert result.figures["foreign_requests"] == 3 * 2


def test_a_first_round_of_all_checks_fits_the_share(
    borrow: Callable[..., Simulator], target: Callable[..., Target]
) -> None:
    """With 3 requests of 60 a minute nothing is skipped: lists that show themselves that they are free cost none."""
    simulator = borrow()
    here = target(simulator.base_url, checks=BUILT_IN_CHECKS, budget=Budget())
    found = run_round(here, exchange=Exchange(here), key=Keys([here]).of(here), memory=TargetMemory())
    assert {result.check: str(result.state) for result in found.results} == dict.fromkeys(BUILT_IN_CHECKS, "up")
    assert found.spent.requests == 3


def test_nothing_to_read(target: Callable[..., Target], play: Play) -> None:
    """A server that is not there leaves nothing to be judged: inconclusive, with the reason."""
    [result] = play(target("http://127.0.0.1:1/v1"))
    assert result.state is State.INCONCLUSIVE
    assert result.reason == "no answer came in this round whose headers could be looked at"


class Written(BaseHTTPRequestHandler):
    """Answers rightly, with headers on limits that a test writes."""

    headers_of: ClassVar[Callable[[int], list[tuple[str, str]]]]
    numbers: ClassVar[Iterator[int]]

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in type(self).headers_of(next(self.numbers)):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        listed = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]}
        self._answer(200, "application/json", json.dumps(listed).encode())

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        usage = {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13}
        base = {"id": "chatcmpl-1", "created": 1, "model": "m"}
        if "messages" not in asked:
            error = {"message": "no messages", "type": "invalid_request_error", "code": None}
            self._answer(400, "application/json", json.dumps({"error": error}).encode())
        elif asked.get("stream"):
            chunk: dict[str, Any] = {**base, "object": "chat.completion.chunk"}
            texts = [
                {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "42"}}]},
                {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                {**chunk, "choices": [], "usage": usage},
            ]
            events = [f"data: {json.dumps(text)}\n\n" for text in texts]
            self._answer(200, "text/event-stream", "".join([*events, "data: [DONE]\n\n"]).encode())
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"}
            reply = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
            self._answer(200, "application/json", json.dumps(reply).encode())

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def written() -> Iterator[Callable[[Callable[[int], list[tuple[str, str]]]], str]]:
    """Starts a server whose nth response (from 0) has the headers that a function gives; its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(headers_of: Callable[[int], list[tuple[str, str]]]) -> str:
        handler = type("Handler", (Written,), {"headers_of": staticmethod(headers_of), "numbers": count()})
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


REQUESTS, TOKENS = "x-ratelimit-api_key-remaining-requests", "x-ratelimit-api_key-remaining-tokens"


@pytest.mark.parametrize(
    ("value", "name", "says"),
    [
        ("", "headers_are_numbers", f"{REQUESTS} is empty"),
        ("plenty", "headers_are_numbers", f"{REQUESTS} is no number"),
        ("9" * 40, "headers_are_numbers", f"{REQUESTS}"),
        ("-5", "remaining_is_not_negative", "-5 requests remain"),
        ("61", "remaining_within_limit", "61 requests remain of 60 (told)"),
        ("59", "remaining_falls_with_use", "59 of 60 requests remain"),
        ("41", "remaining_falls_with_use", "41 of 60 requests remain"),
    ],
)
def test_headers_that_are_wrong(
    written: Callable[..., str], target: Callable[..., Target], play: Play, value: str, name: str, says: str
) -> None:
    """Empty, no number, too large, negative, above the limit, never moving: named within six rounds."""
    base_url = written(lambda nth: [(REQUESTS, value), (TOKENS, "1999000")])
    results = play(target(base_url, model="m", headers=Headers(requests=60)), rounds=6)
    assert results[-1].state is State.DEGRADED
    # What is wrong and never moves is both.
    assert failed(results[-1]) in ([name], [name, "remaining_falls_with_use"])
    assert says in (results[-1].failed[0].detail or "")


def test_a_header_that_comes_twice(written: Callable[..., str], target: Callable[..., Target], play: Play) -> None:
    """Twice the same is nothing; twice with different values is named, and the first is believed."""
    same = written(lambda nth: [(REQUESTS, str(60 - nth))] * 2 + [(TOKENS, "1999000")])
    other = written(lambda nth: [(REQUESTS, str(60 - nth)), (REQUESTS, "7"), (TOKENS, "1999000")])
    [fine], [twice] = play(target(same, model="m")), play(target(other, model="m"))
    assert (fine.state, failed(fine)) == (State.UP, [])
    assert failed(twice) == ["headers_are_numbers"]
    assert twice.reason == f"{REQUESTS} came twice with different values"


def test_one_of_two_headers_is_missing(written: Callable[..., str], target: Callable[..., Target], play: Play) -> None:
    """Where others say what remains of tokens, a response without is named; where none does, there may be no limit."""
    some = written(lambda nth: [(REQUESTS, str(60 - nth))] + [(TOKENS, "1999000")] * (nth != 2))
    none = written(lambda nth: [(REQUESTS, str(60 - nth))])
    [missing], [fine] = play(target(some, model="m")), play(target(none, model="m"))
    assert failed(missing) == present("stream")
    assert "what remains of tokens on a streamed completion" in (missing.reason or "")
    assert failed(fine) == []


def test_a_header_never_shows_the_key(written: Callable[..., str], target: Callable[..., Target], play: Play) -> None:
    """A server that puts the key into a header's name or value gets it nowhere."""
    base_url = written(lambda nth: [("x-ratelimit-sk-test-of-the-probes-remaining-requests", "sk-test-of-the-probes")])
    [result] = play(target(base_url, model="m"))
    assert result.state is State.DEGRADED
    assert "sk-test-of-the-probes" not in json.dumps(result.to_dict())


def test_refusals(start: Callable[..., Simulator], target: Callable[..., Target], play: Play) -> None:
    """A 429 with nothing left is nothing odd; one that says that enough remains is told, and is inconclusive."""
    simulator = start(rpm=1, retry_after="honest")
    here = target(simulator.base_url, headers=Headers(requests=1), checks=("chat", "ratelimit"))
    assert [(result.state, failed(result)) for _ in range(2) for result in play(here)] == [(State.UP, [])] * 2
    assert [line["status"] for line in simulator.truth("end")] == [200, 429]
    simulator.change(rpm=60, faults=["status 429"])
    [result] = play(target(simulator.base_url, checks=("chat", "ratelimit")))
    assert (result.state, failed(result)) == (State.INCONCLUSIVE, ["limited_only_without_budget"])


def seen(at_s: float, status: int, remaining: int | None = None, retry_after: int | None = None) -> Observation:
    """An answer at a time, and what it says of requests."""
    headers = {"x-ratelimit-api_key-remaining-requests": remaining, "retry-after": retry_after}
    at_ns = int((1_000 + at_s) * 10**9)
    limits = read_rate_limits([(name, str(value)) for name, value in headers.items() if value is not None], at_ns)
    times = {"sent_unix_ns": at_ns, "head_unix_ns": at_ns + 10**6, "end_unix_ns": at_ns + 2 * 10**6}
    served = status == 200
    kind = "chat" if served else "throttled"
    return Observation(
        kind=kind, status=status, limits=limits, requests=1, sure=served, tokens=0, most_tokens=9, **times
    )


@pytest.mark.parametrize(
    ("later", "held"),
    [
        ([seen(61, 200)], None),
        ([seen(30, 404), seen(61, 200)], None),
        ([seen(58.5, 429, 0), seen(61, 200)], None),
        ([seen(30, 429, 0)], None),
        ([seen(30, 429, 0), seen(61, 200)], True),
        ([seen(30, 404, 0), seen(61, 404, 1)], True),
        ([seen(30, 200)], False),
        ([seen(30, 404, 1), seen(61, 200)], False),
    ],
)
def test_a_retry_after_is_honest_only_where_something_came_in_between(
    later: list[Observation], held: bool | None
) -> None:
    """What nobody tried before the time that it names is not judged: it may be far too long."""
    assert retry_after_is_honest([seen(0, 429, 0, 60), *later], 60 * 10**9).held is held
