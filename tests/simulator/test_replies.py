"""Replies from a seed: the same requests get the same texts, lengths and times, in whatever order they come."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tensorix_simulator import Simulator
from tensorix_simulator.chat.parameters import ChatRequest
from tensorix_simulator.chat.replies import Reply, ReplyMaker
from tensorix_simulator.settings import SimulatorSettings

Body = Callable[..., dict[str, Any]]
REQUEST = ChatRequest(model="m", stream=True, include_usage=False, n=1, max_tokens=20, prompt_tokens=5)
SETTINGS = SimulatorSettings(error_rate=0.1, reply_tokens="uniform(5, 30)", reasoning_tokens="uniform(0, 5)")


def shape(reply: Reply) -> tuple[Any, ...]:
    gaps = tuple(reply.next_gap_ns() for _ in range(5))
    return reply.fails, reply.tokens, reply.choices[0].message(), reply.ttft_ns, gaps


def replies(settings: SimulatorSettings, bodies: Sequence[bytes]) -> dict[bytes, list[tuple[Any, ...]]]:
    maker = ReplyMaker()
    made: dict[bytes, list[tuple[Any, ...]]] = {}
    for body in bodies:
        made.setdefault(body, []).append(shape(maker.make(settings, replace(REQUEST, digest=body))))
    return made


def test_order_does_not_matter() -> None:
    """300 requests, some of them repeated, in two orders: each gets what it got."""
    bodies = [b"%d" % (k % 200) for k in range(300)]
    shuffled = random.Random(1).sample(bodies, len(bodies))
    assert replies(SETTINGS, bodies) == replies(SETTINGS, shuffled)


def test_another_seed_gives_other_replies_and_a_repeated_body_too() -> None:
    """The seed decides, and asking the same twice does not get the same answer."""
    ours, others = replies(SETTINGS, [b"x", b"x"])[b"x"], replies(SimulatorSettings(seed=1), [b"x"])[b"x"]
    assert len({str(one) for one in (ours[0], ours[1], others[0])}) == 3


def test_one_setting_leaves_the_draws_of_the_others_alone() -> None:
    """A changed length or error rate changes no times and no text."""
    one = ReplyMaker().make(SETTINGS, REQUEST)
    other = ReplyMaker().make(SETTINGS.changed({"error_rate": 0.0, "reply_tokens": None}), REQUEST)
    assert (one.ttft_ns, one.choices[0].start) == (other.ttft_ns, other.choices[0].start)
    assert one.choices[0].reasoning_tokens == other.choices[0].reasoning_tokens
    assert [one.next_gap_ns() for _ in range(9)] == [other.next_gap_ns() for _ in range(9)]


def test_times_and_lengths_follow_their_distributions() -> None:
    """Over 4,000 requests: TTFT, gaps, lengths and the share of errors."""
    settings = SETTINGS.changed({"ttft": "gamma(200ms, 4)", "between_tokens": "exponential(10ms)"})
    maker = ReplyMaker()
    made = [maker.make(settings, replace(REQUEST, digest=b"%d" % k)) for k in range(4_000)]
    assert statistics.fmean(reply.ttft_ns for reply in made) == pytest.approx(200e6, rel=0.04)
    assert statistics.fmean(reply.next_gap_ns() for reply in made) == pytest.approx(10e6, rel=0.06)
    assert statistics.fmean(reply.fails for reply in made) == pytest.approx(0.1, rel=0.2)
    assert {reply.tokens for reply in made} == set(range(5, 21))
    assert {reply.choices[0].finish_reason for reply in made if reply.tokens < 20} == {"stop"}
    assert {reply.choices[0].finish_reason for reply in made if reply.tokens == 20} == {"length", "stop"}


def test_a_reply_that_is_not_streamed_takes_as_long_as_one_that_is() -> None:
    """Its rest is the sum of the gaps; for very long ones it is as near as the mean of a thousand of them."""
    settings = SimulatorSettings(between_tokens="uniform(10ms, 30ms)")
    long = ChatRequest(model="m", stream=False, include_usage=False, n=1, max_tokens=100_000, prompt_tokens=5)
    short_one, short_two = (ReplyMaker().make(settings, REQUEST) for _ in range(2))
    assert short_one.rest_ns() == pytest.approx(sum(short_two.next_gap_ns() for _ in range(19)), abs=1)
    assert ReplyMaker().make(settings, long).rest_ns() == pytest.approx(99_999 * 20e6, rel=0.03)


def test_two_simulators_of_one_seed_say_the_same(start: Callable[..., Simulator], body: Body) -> None:
    """Over the wire: the same requests, the same texts; after a reset too."""

    def ask(simulator: Simulator) -> list[Any]:
        headers = {"authorization": "Bearer sk-a"}
        with httpx.Client(base_url=simulator.base_url, headers=headers, trust_env=False) as client:
            answers = [client.post("/chat/completions", json=body(max_tokens=10)).json() for _ in range(5)]
        return [answer["choices"] for answer in answers]

    one, other = start(seed=7, reply_tokens="uniform(2, 9)"), start(seed=7, reply_tokens="uniform(2, 9)")
    first = ask(one)
    assert first == ask(other)
    assert ask(one) != first
    one.reset()
    assert ask(one) == first
