"""The official client ends with the right exception, whatever goes wrong, and does not hang."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tensorix_simulator import Simulator
from tensorix_simulator.faults.fault_text import FaultKind, parse_fault

Row = dict[str, str]

_ROWS: list[Row] = tomllib.loads(Path(__file__).with_name("fault_table.toml").read_text())["cases"]
_PATIENCE_S = 20.0
_QUICK_S = 0.3
# What only the door and the list of models can show has tests of its own below.
_OF_SERVER = {FaultKind.REFUSE, FaultKind.OUTAGE, FaultKind.VANISH, FaultKind.APPEAR}


def _name(row: Row) -> str:
    return f"{row['ask']}, {row['fault']}"


def _timeout(row: Row) -> float:
    """Short where the client shall give up, long where it must not."""
    return _QUICK_S if row["sdk"] == "APITimeoutError" else _PATIENCE_S


def _request(row: Row) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say something."}]
    return {"model": "z-ai/glm-5", "messages": messages, "max_tokens": 4, "stream": row["ask"] == "stream"}


def _sync(client: openai.OpenAI, row: Row) -> str:
    options: dict[str, Any] = {"extra_headers": {"x-simulator-fault": row["fault"]}, "timeout": _timeout(row)}
    try:
        if row["ask"] == "models":
            list(client.models.list(**options))
        else:
            answer = client.chat.completions.create(**_request(row), **options)
            if row["ask"] == "stream":
                chunks = list(answer)
                assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == 4
    except (openai.OpenAIError, ValueError) as error:
        return type(error).__name__
    return "fine"


async def _async(client: openai.AsyncOpenAI, row: Row) -> str:
    options: dict[str, Any] = {"extra_headers": {"x-simulator-fault": row["fault"]}, "timeout": _timeout(row)}
    try:
        if row["ask"] == "models":
            await client.models.list(**options)
        else:
            answer = await client.chat.completions.create(**_request(row), **options)
            if row["ask"] == "stream":
                async for _ in answer:
                    pass
    except (openai.OpenAIError, ValueError) as error:
        return type(error).__name__
    return "fine"


@pytest.fixture(scope="module")
def watched() -> Iterator[Callable[..., Any]]:
    """Runs a call in a thread and fails where it hangs."""
    with ThreadPoolExecutor() as threads:
        yield lambda call, *arguments: threads.submit(call, *arguments).result(_PATIENCE_S + 10)


def test_the_table_has_every_kind() -> None:
    """A kind of fault that were left out here would be tried by nobody."""
    kinds = {parse_fault(text.strip()).kind for row in _ROWS for text in row["fault"].split(";")}
    assert kinds == set(FaultKind) - _OF_SERVER


@pytest.fixture(scope="module")
def client(quick: Simulator) -> Iterator[openai.OpenAI]:
    """One for all rows, since it takes long to make."""
    with openai.OpenAI(base_url=quick.base_url, api_key="k", max_retries=0) as client:
        yield client


def _spoils(row: Row) -> bool:
    """Whether what is left on the connection may become the next request's answer."""
    return "too short" in row["fault"]


@pytest.mark.parametrize("row", [row for row in _ROWS if row["sdk"] != "waits"], ids=_name)
def test_the_sync_client(client: openai.OpenAI, watched: Callable[..., Any], row: Row) -> None:
    """One request without retries ends as the table says."""
    if _spoils(row):
        with client.copy(http_client=openai.DefaultHttpxClient()) as own:
            assert watched(_sync, own, row) == row["sdk"]
    else:
        assert watched(_sync, client, row) == row["sdk"]


def test_the_async_client(quick: Simulator) -> None:
    """All at once, each ends as the table says."""
    rows = [row for row in _ROWS if row["sdk"] != "waits"]

    async def ask_all() -> list[str]:
        async with (
            openai.AsyncOpenAI(base_url=quick.base_url, api_key="k", max_retries=0) as client,
            client.copy(http_client=openai.DefaultAsyncHttpxClient()) as own,
        ):
            asked = asyncio.gather(*(_async(own if _spoils(row) else client, row) for row in rows))
            return await asyncio.wait_for(asked, _PATIENCE_S + 10)

    ended = asyncio.run(ask_all())
    assert [(_name(row), how) for row, how in zip(rows, ended, strict=True)] == [
        (_name(row), row["sdk"]) for row in rows
    ]


def test_a_server_that_refuses_and_an_outage(start: Callable[..., Simulator]) -> None:
    """No connection, and a stream that is reset in the middle, are connection errors; after it all is well."""
    simulator = start(rpm=None, tpm=None, between_tokens="20ms")
    with openai.OpenAI(base_url=simulator.base_url, api_key="k", max_retries=0, timeout=_PATIENCE_S) as client:
        stream = client.chat.completions.create(
            model="z-ai/glm-5", messages=[{"role": "user", "content": "Hi"}], max_tokens=10_000, stream=True
        )
        chunks = iter(stream)
        for _ in range(3):
            next(chunks)
        simulator.change(faults=["outage"])
        with pytest.raises(openai.APIConnectionError):
            list(chunks)
        with pytest.raises(openai.APIConnectionError):
            client.models.list()
        simulator.change(faults=["refuse"])
        with pytest.raises(openai.APIConnectionError):
            client.models.list()
        simulator.change(faults=[])
        assert len(client.models.list().data) == 3


def test_a_model_that_vanishes(start: Callable[..., Simulator]) -> None:
    """A chat completion of it is a bad request, its page is not found."""
    simulator = start(faults=["vanish z-ai/glm-5", "appear new/model"])
    with openai.OpenAI(base_url=simulator.base_url, api_key="k", max_retries=0, timeout=_PATIENCE_S) as client:
        with pytest.raises(openai.BadRequestError) as bad:
            client.chat.completions.create(model="z-ai/glm-5", messages=[{"role": "user", "content": "Hi"}])
        assert bad.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("z-ai/glm-5")
        assert client.models.retrieve("new/model").id == "new/model"
