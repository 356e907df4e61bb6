"""Read by mypy and pyright only: that `instrument` gives back what it was given, and that what comes of it is typed."""

from __future__ import annotations

from typing import assert_type

import httpx
import httpx2
import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tensorix_tracing import instrument, uninstrument


class Mine(openai.OpenAI):
    """A client of somebody's own."""

    mine: int = 0


def of_all_clients() -> None:
    """Without a client there is none to give back."""
    instrument()
    instrument(hosts=["api.tensorix.ai"], metric_names="both")
    uninstrument()


def of_one_client() -> None:
    """A traced client has the types of a bare one."""
    client = instrument(openai.OpenAI(), key_alias="batch")
    assert_type(client, openai.OpenAI)
    whole = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello?"}])
    assert_type(whole, ChatCompletion)
    stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello?"}], stream=True)
    assert_type(stream, openai.Stream[ChatCompletionChunk])
    with stream as chunks:
        for chunk in chunks:
            assert_type(chunk, ChatCompletionChunk)
    assert_type(client.with_options(timeout=5), openai.OpenAI)
    assert_type(instrument(Mine()).mine, int)
    uninstrument(client)


async def of_an_asynchronous_client() -> None:
    """So has an asynchronous one."""
    client = instrument(openai.AsyncOpenAI())
    assert_type(client, openai.AsyncOpenAI)
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello?"}], stream=True
    )
    assert_type(stream, openai.AsyncStream[ChatCompletionChunk])


def of_raw_clients() -> None:
    """And so have httpx's and httpx2's."""
    assert_type(instrument(httpx.Client()), httpx.Client)
    assert_type(instrument(httpx.AsyncClient()), httpx.AsyncClient)
    assert_type(instrument(httpx2.Client()), httpx2.Client)
    assert_type(instrument(httpx2.AsyncClient()), httpx2.AsyncClient)


def wrong() -> None:
    """What is no setting is found; an ignored error that is none would be told of."""
    instrument(openai.OpenAI(), idle=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    instrument(metric_names="newest")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
