"""The official Python client runs against it unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Literal

import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tensorix_simulator import Simulator

MODEL = "z-ai/glm-5"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]


class Weather(pydantic.BaseModel):
    """What a tool takes, and a reply gives."""

    city: str
    unit: Literal["celsius", "fahrenheit"]
    days: list[int]


class Tree(pydantic.BaseModel):
    """A form that holds itself."""

    name: str
    left: Tree | None
    right: Tree | None


@pytest.fixture
def client(quick: Simulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=quick.base_url, api_key="sk-sdk", max_retries=0) as client:
        yield client


@pytest.fixture
def make() -> Iterator[Callable[..., openai.OpenAI]]:
    """Makes clients that are closed after the test."""
    with ExitStack() as stack:

        def make_one(simulator: Simulator, key: str = "sk-sdk", retries: int = 0) -> openai.OpenAI:
            client = openai.OpenAI(base_url=simulator.base_url, api_key=key, max_retries=retries)
            return stack.enter_context(client)

        yield make_one


def test_a_reply_and_the_models(client: openai.OpenAI) -> None:
    """Not streamed, with the model that the server lists first, and one looked up by its name."""
    listed = list(client.models.list())
    assert client.models.retrieve(MODEL) == next(model for model in listed if model.id == MODEL)
    reply = client.chat.completions.create(model=listed[0].id, messages=MESSAGES, max_tokens=5, n=2)
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (1, 10, 11)
    assert [len((choice.message.content or "").split()) for choice in reply.choices] == [5, 5]


def test_a_stream(client: openai.OpenAI) -> None:
    """Streamed, with usage: text in pieces, then the reason, then what it cost; the same as not streamed."""
    stream = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_completion_tokens=5,
        seed=1,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(words) == 5
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 6
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=5, seed=1)
    assert whole.choices[0].message.content == "".join(words)


def test_a_stream_that_is_left(client: openai.OpenAI) -> None:
    """Who closes it early can go on asking."""
    with client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=10_000, stream=True) as stream:
        assert next(iter(stream)).choices[0].delta.role == "assistant"
    assert client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1).usage is not None


def test_raw_and_streaming_responses(start: Callable[..., Simulator], make: Callable[..., openai.OpenAI]) -> None:
    """`with_raw_response` and `with_streaming_response` give the headers, and the reply after them."""
    client = make(start())
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=5)
    assert raw.headers["x-ratelimit-api_key-remaining-requests"] == "59"
    assert raw.parse().choices[0].finish_reason == "length"
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=MESSAGES, max_tokens=5
    ) as response:
        assert response.headers["x-ratelimit-api_key-remaining-requests"] == "58"
        assert response.parse().choices[0].finish_reason == "length"
    streamed = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=MESSAGES, max_tokens=5, stream=True, extra_headers={"x-request-id": "mine"}
    )
    assert (streamed.headers["x-ratelimit-api_key-remaining-requests"], streamed.request_id) == ("57", "mine")
    assert len(list(streamed.parse())) == 7


def test_all_of_it_at_once(quick: Simulator) -> None:
    """The asynchronous client: replies, streams, models and errors, twenty of each side by side."""

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=quick.base_url, api_key="sk-sdk", max_retries=0) as client:

            async def whole(number: int) -> int:
                reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=number + 1)
                return len((reply.choices[0].message.content or "").split())

            async def streamed(number: int) -> int:
                count = 0
                async for chunk in await client.chat.completions.create(
                    model=MODEL, messages=MESSAGES, max_tokens=number + 1, stream=True
                ):
                    count += bool(chunk.choices[0].delta.content)
                return count

            async def refused(number: int) -> int:
                with pytest.raises(openai.BadRequestError):
                    await client.chat.completions.create(model=MODEL, messages=MESSAGES, n=0)
                return number + 1

            numbers = range(20)
            for kind in (whole, streamed, refused):
                assert await asyncio.gather(*map(kind, numbers)) == [number + 1 for number in numbers]
            assert MODEL in [model.id async for model in client.models.list()]
            raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=1)
            assert raw.http_response.status_code == 200
            async with client.chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:
                final = await stream.get_final_completion()
            assert len((final.choices[0].message.content or "").split()) == 64

    asyncio.run(ask())


def test_replies_as_models_of_pydantic(client: openai.OpenAI) -> None:
    """`parse` gives what was asked for, recursive forms too; one that is cut is an error of the client's own."""
    for kind in (Weather, Tree):
        reply = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=kind)
        assert isinstance(reply.choices[0].message.parsed, kind)
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Weather, max_tokens=2)


def test_the_stream_helper(client: openai.OpenAI) -> None:
    """Its events, and the whole that it puts together, parsed."""
    with client.chat.completions.stream(
        model=MODEL, messages=MESSAGES, response_format=Weather, stream_options={"include_usage": True}
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert kinds == {"chunk", "content.delta", "content.done"}
    assert isinstance(final.choices[0].message.parsed, Weather)
    assert final.usage is not None
    assert final.usage.completion_tokens == -(-len(final.choices[0].message.content or "") // 4)


def test_a_conversation_with_a_tool(client: openai.OpenAI) -> None:
    """Called, answered, and then told in words; the arguments parse into the tool's own form, streamed too."""
    tools: list[ChatCompletionToolParam] = [openai.pydantic_function_tool(Weather, name="weather")]
    with client.chat.completions.stream(
        model=MODEL, messages=MESSAGES, tools=tools, tool_choice="required", seed=1
    ) as stream:
        kinds = {event.type for event in stream}
        streamed = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.delta" in kinds
    assert "tool_calls.function.arguments.done" in kinds
    choice = client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, tools=tools, tool_choice="required", seed=1
    ).choices[0]
    assert choice.finish_reason == streamed.finish_reason == "tool_calls"
    [call], [other] = choice.message.tool_calls or [], streamed.message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Weather)
    assert call.function.arguments == other.function.arguments
    assert call.id != other.id

    reply = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=tools, tool_choice="required")
    answered: Any = [
        *MESSAGES,
        reply.choices[0].message,
        *(
            {"role": "tool", "tool_call_id": made.id, "content": json.dumps({"sunny": True})}
            for made in reply.choices[0].message.tool_calls or []
        ),
    ]
    last = client.chat.completions.create(model=MODEL, messages=answered, tools=tools, max_tokens=6)
    assert last.choices[0].finish_reason == "length"
    assert len((last.choices[0].message.content or "").split()) == 6


def test_each_status_is_its_own_exception(start: Callable[..., Simulator], make: Callable[..., openai.OpenAI]) -> None:
    """400, 401, 404, 429 and 500 are what the SDK has a name for, 402 a plain status error."""
    simulator = start(rpm=1)

    def ask(key: str = "sk-sdk", model: str = MODEL, **more: Any) -> None:
        make(simulator, key).chat.completions.create(model=model, messages=MESSAGES, **more)

    with pytest.raises(openai.AuthenticationError, match="Invalid API key provided") as unauthorised:
        ask("sk-invalid")
    assert unauthorised.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as bad:
        ask(model="gpt-9")
    assert bad.value.param == "model"
    with pytest.raises(openai.BadRequestError) as long:
        ask(extra_body={"messages": [{"role": "user", "content": "x" * 600_000}]})
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.APIStatusError) as payment:
        ask("sk-no-credit")
    assert (type(payment.value), payment.value.status_code) == (openai.APIStatusError, 402)
    ask()
    with pytest.raises(openai.RateLimitError) as limited:
        ask(stream=True)
    assert limited.value.code == "rate_limit_exceeded"
    with pytest.raises(openai.NotFoundError):
        make(simulator).embeddings.create(model=MODEL, input="x")
    with pytest.raises(openai.NotFoundError):
        make(simulator).models.retrieve("z-ai/glm-9")
    simulator.change(error_rate=1.0, rpm=None)
    with pytest.raises(openai.InternalServerError):
        ask()


def statuses(simulator: Simulator) -> list[int]:
    return [line["status"] for line in simulator.truth() if line["event"] == "arrival"]


@pytest.mark.parametrize("stream", [False, True])
def test_its_retries_wait_out_a_429(
    start: Callable[..., Simulator], make: Callable[..., openai.OpenAI], stream: bool
) -> None:
    """It waits as it is told and comes back, and the truth shows both attempts and the pause between them."""
    simulator = start(rpm=1, window_s=1, retry_after="honest")
    client = make(simulator, retries=2)
    for _ in range(2):
        reply = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1, stream=stream)
        assert not stream or len(list(reply)) == 3
    assert statuses(simulator) == [200, 429, 200]
    refused, admitted = (line for line in simulator.truth()[-4:] if line["event"] == "arrival")
    assert admitted["arrival_ns"] - refused["decided_ns"] > 0.9e9


def test_its_retries_get_over_a_500(
    start: Callable[..., Simulator], make: Callable[..., openai.OpenAI], failing_once: Callable[..., dict[str, Any]]
) -> None:
    """The second attempt is answered; against a server that is broken for good it gives up after those it has."""
    asked: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 1}
    simulator = start(**failing_once(asked))
    reply = make(simulator, retries=2).chat.completions.create(**asked)
    assert reply.choices[0].finish_reason == "length"
    assert statuses(simulator) == [500, 200]
    simulator.change(error_rate=1.0)
    with pytest.raises(openai.InternalServerError):
        make(simulator, retries=1).chat.completions.create(**asked)
    assert statuses(simulator) == [500, 200, 500, 500]
