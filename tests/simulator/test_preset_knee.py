"""The presets that are kinds of model: each has a knee, and where it is said to be."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from statistics import fmean

import pytest

from tensorix_simulator.chat.parameters import ChatRequest, read_chat_request
from tensorix_simulator.chat.replies import ReplyMaker
from tensorix_simulator.latency.batch import Batch, Generation
from tensorix_simulator.latency.modes import batch_model
from tensorix_simulator.settings import SimulatorSettings

S = 1e9
KNEES_PER_S = {"fast-chat": 19.3, "large-chat": 2.3, "reasoning": 0.73}
PROMPT_TOKENS = 500


@dataclass
class Served:
    """A request's times, in s."""

    at: float
    first: float = 0.0
    last: float = 0.0


def offer(settings: SimulatorSettings, per_s: float, seconds: float) -> tuple[float, float, float, float]:
    """Poisson arrivals in virtual time: arrivals and replies a second, mean time to the first token, and the share
    turned away; over the second half, when the queue is as long as it gets.
    """
    batch: Batch[Served] = Batch(batch_model(settings), settings.slots, settings.queue, settings.seed)
    replies, generator = ReplyMaker(), random.Random(4)
    body = json.dumps(
        {"model": settings.models[0], "messages": [{"role": "user", "content": "Say something."}]}
    ).encode()
    request = read_chat_request(body, settings)
    assert isinstance(request, ChatRequest)
    done: list[Served] = []
    came = refused = 0

    def until(now_ns: float) -> None:
        while batch.next_ns is not None and batch.next_ns <= now_ns:
            end_s = batch.next_ns / S
            for generation in batch.step():
                generation.owner.first = generation.owner.first or end_s
                if not generation.tokens_left:
                    generation.owner.last = end_s
                    done.append(generation.owner)

    now_s = 0.0
    while (now_s := now_s + generator.expovariate(per_s)) < seconds:
        until(now_s * S)
        tokens = replies.make(settings, request).tokens
        admitted = batch.arrive(Generation(Served(now_s), round(now_s * S), PROMPT_TOKENS, tokens))
        if now_s >= seconds / 2:
            came += 1
            refused += not admitted
    until(seconds * S)
    counted = [one for one in done if one.last >= seconds / 2]
    return (
        came / (seconds / 2),
        len(counted) / (seconds / 2),
        fmean(one.first - one.at for one in counted),
        refused / came,
    )


@pytest.mark.parametrize("preset", KNEES_PER_S)
def test_a_preset_has_a_knee(preset: str) -> None:
    """Up to 70 % of the knee all that is offered is served, with first tokens within 0.2 s on average; beyond
    it no more is served however much comes, first tokens take seconds, and some are turned away.
    """
    settings = SimulatorSettings.from_dict({"presets": [preset]})
    knee_per_s = KNEES_PER_S[preset]
    seconds = 1_000 / knee_per_s
    low, below, above, far = (offer(settings, load * knee_per_s, seconds) for load in (0.3, 0.7, 1.3, 2.0))
    for offered, served, ttft, refused in (low, below):
        assert served == pytest.approx(offered, rel=0.05)
        assert ttft < 0.2
        assert refused == 0
    for offered, served, ttft, refused in (above, far):
        assert offered > 1.2 * knee_per_s
        # Of some 500 replies the mean length, by which this goes, is known to 3 % (one standard error).
        assert served == pytest.approx(knee_per_s, rel=0.1)
        assert ttft > 4
        assert refused > 0.1


def test_a_reasoning_reply_ends_with_an_answer() -> None:
    """Of 1,000 replies hardly one is all reasoning."""
    settings = SimulatorSettings.from_dict({"presets": ["reasoning"]})
    body = json.dumps({"model": settings.models[0], "messages": [{"role": "user", "content": "Why?"}]}).encode()
    request = read_chat_request(body, settings)
    assert isinstance(request, ChatRequest)
    maker = ReplyMaker()
    choices = [maker.make(settings, request).choices[0] for _ in range(1_000)]
    assert sum(choice.reasoning_tokens == choice.tokens for choice in choices) < 20
    assert all(choice.reasoning_tokens > 0 for choice in choices)
