"""Streams of openai's client, asked for in every way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest

from tensorix_tracing import instrument


def _helper(client: Any) -> Any:
    """What manages a stream; older SDKs have it among what is in beta."""
    completions = client.chat.completions
    return completions.stream if hasattr(completions, "stream") else client.beta.chat.completions.stream


def _create(stack: ExitStack, client: Any, asked: dict[str, Any]) -> Any:
    stream = client.chat.completions.create(**asked, stream=True)
    stack.callback(stream.close)
    return stream


def _raw_response(stack: ExitStack, client: Any, asked: dict[str, Any]) -> Any:
    stream = client.chat.completions.with_raw_response.create(**asked, stream=True).parse()
    stack.callback(stream.close)
    return stream


def _streaming(stack: ExitStack, client: Any, asked: dict[str, Any]) -> Any:
    return stack.enter_context(client.chat.completions.with_streaming_response.create(**asked, stream=True))


WAYS: dict[str, Callable[[ExitStack, Any, dict[str, Any]], Any]] = {
    "create": _create,
    "with create": lambda stack, client, asked: stack.enter_context(
        client.chat.completions.create(**asked, stream=True)
    ),
    "stream": lambda stack, client, asked: stack.enter_context(_helper(client)(**asked)),
    "with_raw_response": _raw_response,
    "with_streaming_response parse": lambda stack, client, asked: _streaming(stack, client, asked).parse(),
    "with_streaming_response lines": lambda stack, client, asked: _streaming(stack, client, asked).iter_lines(),
    "with_streaming_response bytes": lambda stack, client, asked: _streaming(stack, client, asked).iter_bytes(),
}


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    """One for all tests: to make one takes longer than a test."""
    with openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="sk-any", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("way", WAYS)
def test_one_span_tells_how_it_ended_and_the_caller_gets_the_same(way: str, case: Any, client: openai.OpenAI) -> None:
    """Whichever way a stream is asked for, one span tells its end, and the caller gets what it gets untraced."""
    client.base_url = case.base_url
    untraced = case.read(lambda stack: WAYS[way](stack, client, case.asked)) if case.end.compared else None
    instrument(client, **case.told.providers)
    traced = case.read(lambda stack: WAYS[way](stack, client, case.asked))
    assert untraced is None or traced == untraced
    case.check()
