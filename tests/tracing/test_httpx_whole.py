"""Raw httpx where the stream does not come as a stream, or does not say that it is one."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest

from tensorix_simulator import Simulator
from tensorix_tracing import instrument

ASKED: dict[str, Any] = {
    "model": "z-ai/glm-5",
    "messages": [{"role": "user", "content": "Say something."}],
    "max_tokens": 5,
    "stream": True,
    "stream_options": {"include_usage": True},
}


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_a_stream_that_is_read_whole(module: Any, simulator: Simulator, told: Any) -> None:
    """It is told by its events: completed, with its tokens, but without times that nobody knows."""
    with module.Client(base_url=simulator.base_url, headers={"authorization": "Bearer sk-test"}) as client:
        instrument(client, **told.providers)
        assert "[DONE]" in client.post("/chat/completions", json=ASKED).text
    said = told.span().attributes
    assert said["tensorix.stream.outcome"] == "completed"
    assert said["gen_ai.usage.output_tokens"] == 5
    assert "error.type" not in said
    assert "gen_ai.response.time_to_first_chunk" not in said


@pytest.mark.parametrize("kind", [None, "text/plain", "application/octet-stream"])
def test_a_stream_that_does_not_say_it_is_one(kind: str | None, told: Any) -> None:
    """Where a stream was asked for, events are read as such whatever the content type; JSON is not."""
    event = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    headers = {} if kind is None else {"content-type": kind}
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, headers=headers, stream=httpx.ByteStream(event * 3 + b"data: [DONE]\n\n"))
    )
    with httpx.Client(base_url="http://127.0.0.1:1/v1", transport=transport) as client:
        instrument(client, **told.providers)
        with client.stream("POST", "/chat/completions", json=ASKED) as response:
            response.read()
    said = told.span().attributes
    assert (said["tensorix.stream.outcome"], said["tensorix.stream.chunks"]) == ("completed", 3)


def test_a_request_that_is_sent_again(told: Any) -> None:
    """Each sending of one request carries the trace of its own span; a line of the caller's own stays."""
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["traceparent"])
        return httpx.Response(500)

    with httpx.Client(base_url="http://127.0.0.1:1/v1", transport=httpx.MockTransport(answer)) as client:
        instrument(client, **told.providers)
        request = client.build_request("GET", "/models")
        client.send(request)
        client.send(request)
        client.get("/models", headers={"traceparent": "mine"})
    traces = [f"{span.context.trace_id:032x}" for span in told.spans]
    assert [line.split("-")[1] for line in seen[:2]] == traces[:2]
    assert seen[2] == "mine"
