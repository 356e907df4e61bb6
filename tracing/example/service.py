"""A web service that streams a model's answers to its own users, each request traced from their door to the API's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from pydantic import BaseModel, Field

from tensorix_api import Settings
from tensorix_tracing import configure, instrument

settings = Settings.from_environment()
if settings.api_key is None:
    raise SystemExit("TENSORIX_API_KEY is not set: the key for the API")
send_what_is_held = configure("chat-example")
client = instrument(AsyncOpenAI(base_url=settings.base_url, api_key=settings.api_key.reveal()))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Until the service is ended, which uvicorn does by a signal: then nothing else would send what is held."""
    yield
    await client.close()
    await asyncio.to_thread(send_what_is_held)


app = FastAPI(lifespan=lifespan)
# A span for each request of a user; without one for each piece of an answer that goes out.
FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])


class Question(BaseModel):
    """What a user asks."""

    text: str = Field(min_length=1, max_length=4000)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the service runs."""
    return {"status": "ok"}


@app.post("/ask")
async def ask(question: Question) -> StreamingResponse:
    """Stream an answer as server-sent events: pieces of text, then `done`; `error` where it breaks off."""
    try:
        stream = await client.chat.completions.create(
            model=settings.model or "deepseek/deepseek-chat-v3.1",
            messages=[{"role": "user", "content": question.text}],
            stream=True,
            stream_options={"include_usage": True},
        )
    except APIStatusError as error:
        # Whose fault a 401 or a 500 is, is none of the user's business; that it is worth waiting is.
        busy = error.status_code == 429
        raise HTTPException(503 if busy else 502, "too busy, try again" if busy else "no answer to be had") from error
    except APIConnectionError as error:
        raise HTTPException(502, "no answer to be had") from error
    return StreamingResponse(_events(stream), media_type="text/event-stream")


async def _events(stream: AsyncStream[ChatCompletionChunk]) -> AsyncIterator[str]:
    # A user who goes has this cancelled where it waits; the `with` closes what the API was asked for.
    async with stream:
        try:
            async for chunk in stream:
                for choice in chunk.choices:
                    if choice.delta.content:
                        yield _event("text", choice.delta.content)
        except APIError:
            yield _event("error", "the answer broke off")
        else:
            yield _event("done", "")


def _event(kind: str, text: str) -> str:
    return f"event: {kind}\ndata: {json.dumps(text)}\n\n"
