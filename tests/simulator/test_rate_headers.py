"""What the headers say of limits: each mode on each kind of response, as raw lines, and each lie."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tensorix_api.ratelimit_headers import read_rate_limits
from tensorix_simulator import Simulator

Body = Callable[..., dict[str, Any]]
Raw = Callable[..., bytes]

KINDS = ("stream", "whole", "models", "bad", "unauthorised", "refused")
ABOUT_LIMITS = re.compile(r"(x-)?ratelimit|retry-after|rate_limit_type|reset_at", re.IGNORECASE)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One for all tests of this module: each has a key of its own."""
    with Simulator(rpm=2, tpm=1000, ttft="1ms", between_tokens="1ms") as simulator:
        yield simulator
        assert simulator.complaints() == ""


class Asker:
    """Sends one key's requests over one connection, and keeps the header lines about limits as they came."""

    def __init__(self, wire: Any, raw: Raw, body: Body, key: str) -> None:
        self._wire, self._raw, self._body, self._key = wire, raw, body, key

    def ask(self, kind: str) -> tuple[int, list[str]]:
        """Status and raw header lines of a response; "refused" needs a limit that is spent."""
        match kind:
            case "models" | "unauthorised":
                key = "sk-invalid" if kind == "unauthorised" else self._key
                self._wire.send(self._raw(method="GET", path="/v1/models", key=key))
            case _:
                body = self._body(n=0) if kind == "bad" else self._body(stream=kind == "stream")
                self._wire.send(self._raw(body, key=self._key))
        status, *lines = self._wire.read_until(b"\r\n\r\n").decode().split("\r\n")
        length = next((int(line.split()[1]) for line in lines if line.startswith("content-length:")), None)
        if length is None:
            self._wire.read_until(b"\r\n0\r\n\r\n")
        elif length:
            self._wire.read_exactly(length)
        return int(status.split()[1]), [line for line in lines if ABOUT_LIMITS.match(line)]


@pytest.fixture
def asker(simulator: Simulator, connect: Any, wire_request: Raw, body: Body) -> Callable[[str], Asker]:
    return lambda key: Asker(connect(simulator), wire_request, body, key)


def documented(requests: int, tokens: int) -> list[str]:
    return [
        f"x-ratelimit-api_key-remaining-requests: {requests}",
        f"x-ratelimit-api_key-remaining-tokens: {tokens}",
    ]


def of_each(asker: Asker) -> dict[str, list[str]]:
    answers = {kind: asker.ask(kind) for kind in KINDS}
    assert [status for status, _ in answers.values()] == [200, 200, 200, 400, 401, 429]
    return {kind: lines for kind, (_, lines) in answers.items()}


def test_as_documented(simulator: Simulator, asker: Callable[[str], Asker]) -> None:
    """What remains, on every response of a known key, a stream's from before its tokens are charged; no more."""
    simulator.change(headers="documented", retry_after="none")
    assert of_each(asker("sk-documented")) == {
        "stream": documented(1, 1000),
        "whole": documented(0, 986),
        "models": documented(0, 986),
        "bad": documented(0, 986),
        "unauthorised": [],
        "refused": documented(0, 986),
    }


def test_none(simulator: Simulator, asker: Callable[[str], Asker]) -> None:
    """Not one header about limits; a Retry-After only where that is set."""
    simulator.change(headers="none", retry_after="none")
    assert of_each(asker("sk-none")) == {kind: [] for kind in KINDS}
    simulator.change(retry_after="fixed60")
    assert of_each(asker("sk-none-60")) == {kind: ["retry-after: 60"] if kind == "refused" else [] for kind in KINDS}


def test_as_openai(simulator: Simulator, asker: Callable[[str], Asker]) -> None:
    """Limit, what remains and time to the full limit, in OpenAI's spelling; it is what `tensorix_api` reads."""
    simulator.change(headers="openai", retry_after="honest")
    before_ns = time.monotonic_ns()
    answers = of_each(asker("sk-openai"))
    took_ns = time.monotonic_ns() - before_ns
    assert answers.pop("unauthorised") == []
    remaining = {"stream": (1, 1000), "whole": (0, 986), "models": (0, 986), "bad": (0, 986), "refused": (0, 986)}
    for kind, lines in answers.items():
        requests, tokens = remaining[kind]
        assert lines[:4] == [
            "x-ratelimit-limit-requests: 2",
            "x-ratelimit-limit-tokens: 1000",
            f"x-ratelimit-remaining-requests: {requests}",
            f"x-ratelimit-remaining-tokens: {tokens}",
        ]
        said = read_rate_limits(
            [(name, value) for name, _, value in (line.partition(": ") for line in lines)], time.time_ns()
        )
        assert said.reset_requests_ns is not None
        assert 60e9 - took_ns <= said.reset_requests_ns <= 60e9
        assert said.reset_tokens_ns == (0 if kind == "stream" else said.reset_requests_ns)
        assert said.anomaly is None
        assert said.retry_after_ns == (60_000_000_000 if kind == "refused" else None)


def test_as_litellm(simulator: Simulator, asker: Callable[[str], Asker]) -> None:
    """Only whole completions say what remains, and the limits; a 429 says which limit it was and when to come back."""
    simulator.change(headers="litellm", retry_after="none")
    answers = of_each(asker("sk-litellm"))
    assert {line.split(": ")[0] for line in answers["whole"]} == {
        f"x-ratelimit-api_key-{what}-{resource}"
        for what in ("remaining", "limit")
        for resource in ("requests", "tokens")
    }
    assert "x-ratelimit-api_key-remaining-requests: 0" in answers["whole"]
    assert "x-ratelimit-api_key-limit-requests: 2" in answers["whole"]
    assert "x-ratelimit-api_key-limit-tokens: 1000" in answers["whole"]
    assert [line.split(": ")[0] for line in answers["refused"]] == ["retry-after", "rate_limit_type", "reset_at"]
    assert answers["refused"][:2] == ["retry-after: 60", "rate_limit_type: requests"]
    at = datetime.strptime(answers["refused"][2], "reset_at: %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    assert abs(at.timestamp() - time.time() - 60) < 10
    assert [answers[kind] for kind in ("stream", "models", "bad", "unauthorised")] == [[], [], [], []]


@pytest.mark.parametrize(
    ("headers", "name"),
    [("documented", "x-ratelimit-api_key-remaining"), ("openai", "x-ratelimit-remaining")],
)
@pytest.mark.parametrize(
    ("lie", "requests", "tokens"),
    [
        (None, [3, 2, 2, 1], [993, 986, 986, 986]),
        ("late", [4, 3, 2, 2], [1000, 993, 986, 986]),
        ("negative", [-1, -2, -2, -3], [-7, -14, -14, -14]),
        ("stuck", [3, 3, 3, 3], [993, 993, 993, 993]),
    ],
)
def test_lies(
    simulator: Simulator,
    asker: Callable[[str], Asker],
    headers: str,
    name: str,
    lie: str | None,
    requests: list[int],
    tokens: list[int],
) -> None:
    """Of two whole completions, a list of models and a stream: what each says remains; all else stays true."""
    simulator.change(headers=headers, header_lie=lie, rpm=4)
    answers = [asker(f"sk-{headers}-{lie}").ask(kind)[1] for kind in ("whole", "whole", "models", "stream")]
    other = asker(f"sk-{headers}-{lie}-other").ask("whole")[1]
    simulator.change(header_lie=None, rpm=2)

    def said(resource: str, lines: list[str]) -> int:
        [value] = [line.split(": ")[1] for line in lines if line.startswith(f"{name}-{resource}:")]
        return int(value)

    assert [said("requests", lines) for lines in answers] == requests
    assert [said("tokens", lines) for lines in answers] == tokens
    assert (said("requests", other), said("tokens", other)) == (requests[0], tokens[0]), "each key has its own"
    if headers == "openai":
        assert [line for line in answers[3] if "limit-requests" in line] == ["x-ratelimit-limit-requests: 4"]


@pytest.mark.parametrize("style", ["tensorix", "litellm"])
def test_litellms_429_by_window_and_by_what_is_set(
    simulator: Simulator, asker: Callable[[str], Asker], style: str
) -> None:
    """In either style each header comes once: the window's length, or what `retry_after` says, and the limit."""

    def refused(key: str, **settings: Any) -> list[str]:
        simulator.change(headers="litellm", style=style, **settings)
        one = asker(f"sk-{style}-{key}")
        while (answer := one.ask("whole"))[0] != 429:
            pass
        return [line for line in answer[1] if not line.startswith("reset_at: ")]

    requests, tokens = "rate_limit_type: requests", "rate_limit_type: tokens"
    try:
        assert refused("window", retry_after="none", window_s=7.5) == ["retry-after: 8", requests]
        assert refused("60", retry_after="fixed60") == [requests, "retry-after: 60"]
        assert refused("honest", retry_after="honest", window_s=3600) in (
            [requests, f"retry-after: {seconds}"] for seconds in range(3590, 3601)
        )
        assert refused("tokens", retry_after="none", window_s=60, rpm=9, tpm=10) == ["retry-after: 60", tokens]
        other = refused("other", rpm=None, tpm=None, more_limits=["1 requests/2h"])
        assert other == ["retry-after: 7200", requests]
    finally:
        simulator.change(style="tensorix", retry_after="none", window_s=60, rpm=2, tpm=1000, more_limits=[])


def test_a_lie_about_litellms_headers(simulator: Simulator, asker: Callable[[str], Asker]) -> None:
    """What is late there is behind by one response of those that say anything."""
    simulator.change(headers="litellm", header_lie="late", rpm=9)
    key = asker("sk-litellm-late")
    answers = [key.ask(kind)[1] for kind in ("whole", "stream", "models", "whole")]
    simulator.change(header_lie=None, rpm=2)
    assert [[line for line in lines if "remaining-requests" in line] for lines in answers] == [
        ["x-ratelimit-api_key-remaining-requests: 9"],
        [],
        [],
        ["x-ratelimit-api_key-remaining-requests: 8"],
    ]


def test_a_truth_is_told_again(simulator: Simulator, asker: Callable[[str], Asker]) -> None:
    """The truth never lies, whatever the headers say; and a lie that is put back begins anew."""
    simulator.change(headers="documented", header_lie="stuck", rpm=5)
    key = asker("sk-stuck")
    assert [key.ask("whole")[1][0][-1] for _ in range(2)] == ["4", "4"]
    simulator.change(header_lie=None)
    assert key.ask("whole")[1][0][-1] == "2"
    simulator.change(header_lie="stuck")
    assert [key.ask("whole")[1][0][-1] for _ in range(2)] == ["1", "1"]
    simulator.change(header_lie=None, rpm=2)
    assert [line["remaining_requests"] for line in simulator.truth("arrival")[-5:]] == [4, 3, 2, 1, 0]
