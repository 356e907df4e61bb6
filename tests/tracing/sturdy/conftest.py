"""The ways a service calls the API, each with the same answer every time, and programs that run in a process each."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tensorix_simulator import Simulator
from tensorix_tracing import instrument

# With a temperature of 0 the simulator says the same each time.
PARAMETERS: dict[str, Any] = {
    "model": "z-ai/glm-5",
    "messages": [{"role": "user", "content": "Say something."}],
    "max_tokens": 4,
    "temperature": 0,
}


def call_openai(simulator: Simulator, options: dict[str, Any] | None) -> list[str]:
    """What a whole and a streamed call say; `options` are for `instrument`, None leaves the client bare."""
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test") as client:
        if options is not None:
            instrument(client, **options)
        whole = client.chat.completions.create(**PARAMETERS).choices[0].message.content
        chunks = client.chat.completions.create(**PARAMETERS, stream=True)
        return [whole or "", "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)]


async def _call_asynchronously(simulator: Simulator, options: dict[str, Any] | None) -> list[str]:
    async with openai.AsyncOpenAI(base_url=simulator.base_url, api_key="sk-test") as client:
        if options is not None:
            instrument(client, **options)
        whole = (await client.chat.completions.create(**PARAMETERS)).choices[0].message.content
        chunks = await client.chat.completions.create(**PARAMETERS, stream=True)
        return [whole or "", "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])]


def call_openai_async(simulator: Simulator, options: dict[str, Any] | None) -> list[str]:
    """The same, asynchronously."""
    return asyncio.run(_call_asynchronously(simulator, options))


def call_httpx(simulator: Simulator, options: dict[str, Any] | None) -> list[str]:
    """The same with httpx alone: the bytes' text, without what differs from call to call."""
    with httpx.Client(base_url=simulator.base_url, headers={"authorization": "Bearer sk-test"}) as client:
        if options is not None:
            instrument(client, **options)
        whole = client.post("/chat/completions", json=PARAMETERS).json()["choices"]
        with client.stream("POST", "/chat/completions", json={**PARAMETERS, "stream": True}) as response:
            lines = [line.partition('"choices"')[2] for line in response.iter_lines()]
        return [str(whole), "\n".join(lines)]


@pytest.fixture(params=[call_openai, call_openai_async, call_httpx])
def call(request: pytest.FixtureRequest) -> Callable[[Simulator, dict[str, Any] | None], list[str]]:
    """One of the ways: openai's client, its asynchronous one, httpx alone."""
    way: Callable[[Simulator, dict[str, Any] | None], list[str]] = request.param
    return way


@pytest.fixture
def parameters() -> dict[str, Any]:
    """The parameters of a call that says the same each time."""
    return dict(PARAMETERS)


_PRELUDE = '''
import faulthandler, gc, os, sys, threading, time, traceback
faulthandler.dump_traceback_later(50, exit=True)
import httpx, openai
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from tensorix_tracing import instrument, uninstrument
from tensorix_tracing._watch import OPEN

base_url = sys.argv[1]
asked = {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 8}

class Kept(SpanProcessor):
    """What began and what ended."""
    def __init__(self):
        self.started, self.ended = [], []
    def on_start(self, span, parent_context=None):
        self.started.append(span)
    def on_end(self, span):
        self.ended.append(span)
    def outcomes(self):
        return [span.attributes.get("tensorix.stream.outcome") for span in self.ended]

def provide():
    """A provider and what it keeps."""
    kept, provider = Kept(), TracerProvider()
    provider.add_span_processor(kept)
    return kept, provider
'''


@pytest.fixture
def program(subprocess_environment: dict[str, str], simulator: Simulator) -> Callable[..., str]:
    """Runs Python, after the prelude, in a process of its own: what it printed. It is to end well and in silence.

    `sys.argv[1]` is the simulator's base URL. `before` comes ahead of the prelude.
    """

    def run(text: str, *, before: str = "", prelude: bool = True, python: str | Path = sys.executable) -> str:
        whole = before + (_PRELUDE if prelude else "") + text
        done = subprocess.run(
            [python, "-W", "error", "-c", whole, simulator.base_url],
            env={**subprocess_environment, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=110,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
        return done.stdout

    return run
