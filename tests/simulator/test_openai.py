"""The official client runs against it unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import openai
import pytest

from tensorix_simulator import Simulator


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
    """Not streamed, with the model that the server lists first."""
    model = next(iter(client.models.list())).id
    reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=5)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5
    assert len((reply.choices[0].message.content or "").split()) == 5


def test_a_stream(client: openai.OpenAI) -> None:
    """Streamed, with usage: text in pieces, then the reason, then what it cost."""
    stream = client.chat.completions.create(
        model="z-ai/glm-5",
        messages=[{"role": "user", "content": "Hi"}],
        max_completion_tokens=5,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(words) == 5
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 6


def test_the_raw_response_shows_what_remains(
    start: Callable[..., Simulator], make: Callable[..., openai.OpenAI]
) -> None:
    """`with_raw_response` gives the headers."""
    raw = make(start()).chat.completions.with_raw_response.create(
        model="z-ai/glm-5", messages=[{"role": "user", "content": "Hi"}], max_tokens=5
    )
    assert raw.headers["x-ratelimit-api_key-remaining-requests"] == "59"
    assert raw.parse().choices[0].finish_reason == "length"


def test_each_status_is_its_own_exception(start: Callable[..., Simulator], make: Callable[..., openai.OpenAI]) -> None:
    """400, 401, 404, 429 and 500 are what the SDK has a name for, 402 a plain status error."""
    simulator = start(rpm=1)

    def ask(key: str = "sk-sdk", model: str = "z-ai/glm-5") -> None:
        make(simulator, key).chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])

    with pytest.raises(openai.AuthenticationError, match="Invalid API key provided") as unauthorised:
        ask("sk-invalid")
    assert unauthorised.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as bad:
        ask(model="gpt-9")
    assert bad.value.param == "model"
    with pytest.raises(openai.APIStatusError) as payment:
        ask("sk-no-credit")
    assert payment.value.status_code == 402
    ask()
    with pytest.raises(openai.RateLimitError):
        ask()
    with pytest.raises(openai.NotFoundError):
        make(simulator).embeddings.create(model="z-ai/glm-5", input="x")
    simulator.change(error_rate=1.0, rpm=None)
    with pytest.raises(openai.InternalServerError):
        ask()


def test_its_retries_get_through(start: Callable[..., Simulator], make: Callable[..., openai.OpenAI]) -> None:
    """After a 429 it waits as told and comes back, and the truth shows both attempts."""
    simulator = start(rpm=1, window_s=1, retry_after="honest")
    client = make(simulator, retries=2)
    for _ in range(2):
        client.chat.completions.create(model="z-ai/glm-5", messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
    statuses = [line["status"] for line in simulator.truth() if line["event"] == "arrival"]
    assert statuses == [200, 429, 200]
