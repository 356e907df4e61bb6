"""What Tensorix documents, served: bodies, statuses, headers, streams and the errors that name their parameter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tensorix_simulator import Simulator

Body = Callable[..., dict[str, Any]]
REMAINING = ("x-ratelimit-api_key-remaining-requests", "x-ratelimit-api_key-remaining-tokens")


@pytest.fixture
def client(quick: Simulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=quick.base_url, headers={"authorization": "Bearer sk-any"}, trust_env=False) as client:
        yield client


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert {"message", "type", "code"} <= set(error)
    return error


def test_a_reply_that_is_not_streamed(client: httpx.Client, body: Body) -> None:
    """The documented object, whose usage adds up and whose text has as many tokens as asked for."""
    response = client.post("/chat/completions", json=body(max_tokens=7))
    reply = response.json()
    assert response.status_code == 200
    assert reply["id"].startswith("chatcmpl-")
    assert reply["object"] == "chat.completion"
    assert isinstance(reply["created"], int)
    assert reply["model"] == "z-ai/glm-5"
    [choice] = reply["choices"]
    assert (choice["index"], choice["message"]["role"], choice["finish_reason"]) == (0, "assistant", "length")
    assert len(choice["message"]["content"].split()) == 7
    assert reply["usage"] == {"prompt_tokens": 4, "completion_tokens": 7, "total_tokens": 11}


def events_of(text: str) -> list[Any]:
    assert text.endswith("\n\n")
    lines = text[:-2].split("\n\n")
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_a_streamed_reply(client: httpx.Client, body: Body) -> None:
    """Role alone, a token a chunk, the reason for the end, [DONE]; one id throughout and no usage unasked."""
    response = client.post("/chat/completions", json=body(stream=True, max_tokens=4))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["transfer-encoding"] == "chunked"
    first, *tokens, last = events_of(response.text)
    assert first["choices"][0]["delta"] == {"role": "assistant"}
    assert [len(event["choices"][0]["delta"]["content"].split()) for event in tokens] == [1, 1, 1, 1]
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "length")
    assert {(event["id"], event["object"]) for event in [first, *tokens, last]} == {
        (first["id"], "chat.completion.chunk")
    }
    assert not any("usage" in event for event in [first, *tokens, last])


def test_usage_of_a_stream_only_if_asked(client: httpx.Client, body: Body) -> None:
    """With include_usage the last event has no choices and the usage, and those before it a null."""
    parameters = body(stream=True, stream_options={"include_usage": True})
    *others, last = events_of(client.post("/chat/completions", json=parameters).text)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
    assert {event["usage"] for event in others} == {None}


def test_several_choices(client: httpx.Client, body: Body) -> None:
    """N replies: each with its own text and all its tokens, streamed and not; usage counts them all."""
    reply = client.post("/chat/completions", json=body(n=3)).json()
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in reply["choices"]}) == 3
    assert reply["usage"]["completion_tokens"] == 9
    texts = ["", "", ""]
    finished = []
    for event in events_of(client.post("/chat/completions", json=body(n=3, stream=True)).text):
        [choice] = event["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        finished += [choice["index"]] if choice["finish_reason"] else []
    assert [len(text.split()) for text in texts] == [3, 3, 3]
    assert finished == [0, 1, 2]


def test_models(client: httpx.Client) -> None:
    """The list of models, in OpenAI's form."""
    listed = client.get("/models").json()
    assert listed["object"] == "list"
    assert {"id", "object", "created", "owned_by"} == set(listed["data"][0])
    assert "deepseek/deepseek-chat-v3.1" in [model["id"] for model in listed["data"]]


TOO_DEEP = b"[" * 100_000
NO_JSON = [b'{"temperature": %s}' % value for value in (b"NaN", b"Infinity")]


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"model": "gpt-9"}, "model", "model_not_found"),
        ({"model": "\ud800"}, "model", "model_not_found"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": "hello"}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": ["hello"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "invalid_type",
        ),
        ({"max_tokens": 0}, "max_tokens", "out_of_range"),
        ({"max_tokens": 10**9}, "max_tokens", "out_of_range"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_type"),
        ({"max_tokens": True}, "max_tokens", "invalid_type"),
        ({"max_tokens": 2.5}, "max_tokens", "invalid_type"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "out_of_range"),
        ({"temperature": 2.1}, "temperature", "out_of_range"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"top_p": -0.1}, "top_p", "out_of_range"),
        ({"n": 0}, "n", "out_of_range"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream": True, "stream_options": []}, "stream_options", "invalid_type"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "unknown_parameter"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "out_of_range"),
        ({"stop": [1]}, "stop", "invalid_type"),
        ({"logprobs": True}, "logprobs", "unsupported_value"),
        ({"presence_penalty": 3}, "presence_penalty", "out_of_range"),
        ({"max_token": 5}, "max_token", "unknown_parameter"),
    ],
)
def test_a_wrong_parameter_is_named(
    client: httpx.Client, body: Body, changes: dict[str, Any], param: str, code: str
) -> None:
    """400, whose error says which parameter it was."""
    # Not `json=`: httpx refuses NaN.
    response = client.post("/chat/completions", content=json.dumps(body(**changes)).encode())
    assert response.status_code == 400, response.text
    error = error_of(response)
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert param in error["message"] or code == "model_not_found"


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b"9" * 5000, TOO_DEEP, *NO_JSON])
def test_a_body_that_is_no_json_object(client: httpx.Client, data: bytes) -> None:
    """400 without a parameter, and the connection goes on."""
    response = client.post("/chat/completions", content=data)
    assert response.status_code == 400
    assert error_of(response).get("param") is None
    assert client.get("/models").status_code == 200


def test_parameters_that_are_accepted(client: httpx.Client, body: Body) -> None:
    """Nulls, parts of text, and what does not show."""
    parts = [{"role": "user", "content": [{"type": "text", "text": "a" * 8}]}, {"role": "assistant", "refusal": "no"}]
    accepted = body(messages=parts, temperature=0, top_p=1, stop="x", n=None, seed=5, stream=None, user="me")
    response = client.post("/chat/completions", json=accepted)
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic c2s6", "sk-any", "Bearer sk-invalid"])
def test_a_missing_or_invalid_key(quick: Simulator, body: Body, authorization: str | None) -> None:
    """401 with the documented error, on both endpoints; no key, so nothing remains to be shown."""
    headers = {} if authorization is None else {"authorization": authorization}
    for response in (
        httpx.post(f"{quick.base_url}/chat/completions", json=body(), headers=headers, trust_env=False),
        httpx.get(f"{quick.base_url}/models", headers=headers, trust_env=False),
    ):
        assert response.status_code == 401
        expected = {"message": "Invalid API key provided", "type": "authentication_error", "code": "invalid_api_key"}
        assert error_of(response) == expected
        assert not set(REMAINING) & set(response.headers)


def test_a_key_out_of_credit(quick: Simulator, body: Body) -> None:
    """402 for completions; the models can still be listed."""
    headers = {"authorization": "Bearer sk-no-credit"}
    with httpx.Client(base_url=quick.base_url, headers=headers, trust_env=False) as client:
        response = client.post("/chat/completions", json=body())
        assert response.status_code == 402
        assert error_of(response)["code"] == "insufficient_credits"
        assert client.get("/models").status_code == 200


def test_only_listed_keys_where_a_list_is_given(start: Callable[..., Simulator]) -> None:
    """With `valid_keys` every other key is invalid."""
    simulator = start(valid_keys=["sk-mine"])
    statuses = [
        httpx.get(
            f"{simulator.base_url}/models", headers={"authorization": f"Bearer {key}"}, trust_env=False
        ).status_code
        for key in ("sk-mine", "sk-other", "sk-no-credit")
    ]
    assert statuses == [200, 401, 200]


def test_other_paths_and_methods(client: httpx.Client, body: Body) -> None:
    """404 and 405 as error objects; 405 says what is allowed."""
    for path in ("/embeddings", "/chat/completions/5", "/"):
        response = client.get(path)
        assert response.status_code == 404
        error_of(response)
    response = client.get("/chat/completions")
    assert (response.status_code, response.headers["allow"]) == (405, "POST, OPTIONS")
    error_of(response)
    assert client.post("/models", json=body()).status_code == 405
    assert client.options("/chat/completions").status_code == 204
    assert client.head("/models").headers["content-length"] == client.get("/models").headers["content-length"]
    assert client.head("/models").content == b""


def test_both_limit_headers_on_every_response_to_a_key(start: Callable[..., Simulator], body: Body) -> None:
    """200 streamed and not, models, 400, 402, 404, 405, 429 and 500 all say what remains."""
    simulator = start(rpm=5, tpm=1000)
    seen = {}
    with httpx.Client(base_url=simulator.base_url, trust_env=False) as client:

        def note(name: str, method: str, path: str, key: str = "sk-a", **parameters: Any) -> None:
            content = json.dumps(body(**parameters)) if method == "POST" else None
            response = client.request(method, path, content=content, headers={"authorization": f"Bearer {key}"})
            seen[name] = (response.status_code, *(int(response.headers[header]) for header in REMAINING))

        note("plain", "POST", "/chat/completions")
        note("stream", "POST", "/chat/completions", stream=True)
        note("models", "GET", "/models")
        note("bad", "POST", "/chat/completions", n=0)
        note("lost", "GET", "/nowhere")
        note("not allowed", "GET", "/chat/completions")
        simulator.change(error_rate=1.0)
        note("error", "POST", "/chat/completions")
        simulator.change(error_rate=0.0, rpm=3)
        note("throttled", "POST", "/chat/completions")
        note("no credit", "POST", "/chat/completions", key="sk-no-credit")
    # A reply that is not streamed is settled before its headers; a stream's headers come before its tokens.
    assert seen == {
        "plain": (200, 4, 993),
        "stream": (200, 3, 993),
        "models": (200, 3, 986),
        "bad": (400, 3, 986),
        "lost": (404, 3, 986),
        "not allowed": (405, 3, 986),
        "error": (500, 2, 986),
        "throttled": (429, 0, 986),
        "no credit": (402, 3, 1000),
    }


def test_request_ids_are_repeated_or_made(client: httpx.Client) -> None:
    """The client's `x-request-id` comes back; without one each response has its own."""
    assert client.get("/models", headers={"x-request-id": "mine-7"}).headers["x-request-id"] == "mine-7"
    made = [client.get("/models").headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]


def test_reasoning_comes_first(start: Callable[..., Simulator], body: Body) -> None:
    """Where set, a reply's first tokens are `reasoning_content`, and usage counts them among the completion's."""
    simulator = start(reasoning_tokens="2")
    headers = {"authorization": "Bearer sk-any"}
    with httpx.Client(base_url=simulator.base_url, headers=headers, trust_env=False) as client:
        reply = client.post("/chat/completions", json=body(max_tokens=5)).json()
        message = reply["choices"][0]["message"]
        assert (len(message["reasoning_content"].split()), len(message["content"].split())) == (2, 3)
        assert reply["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
        events = events_of(client.post("/chat/completions", json=body(max_tokens=5, stream=True)).text)
        kinds = [list(event["choices"][0]["delta"]) for event in events]
        assert kinds == [["role"], ["reasoning_content"], ["reasoning_content"], *[["content"]] * 3, []]


def test_length_of_a_reply(start: Callable[..., Simulator], body: Body) -> None:
    """As long as `max_tokens` allows, or drawn and cut there; the finish reason says which."""
    simulator = start(reply_tokens="10", default_max_tokens=20)
    headers = {"authorization": "Bearer sk-any"}
    with httpx.Client(base_url=simulator.base_url, headers=headers, trust_env=False) as client:

        def ask(**parameters: Any) -> tuple[int, str]:
            reply = client.post("/chat/completions", json=body(**parameters)).json()
            return reply["usage"]["completion_tokens"], reply["choices"][0]["finish_reason"]

        assert ask(max_tokens=15) == (10, "stop")
        assert ask(max_tokens=4) == (4, "length")
        assert ask(max_tokens=None) == (10, "stop")
        assert ask(max_tokens=None, max_completion_tokens=6) == (6, "length")
        simulator.change(reply_tokens=None)
        assert ask(max_tokens=None) == (20, "stop")
