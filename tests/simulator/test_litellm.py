"""LiteLLM's mode beyond the recorded sequence: facts that were seen of that gateway one by one."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tensorix_simulator import Simulator
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.styles.litellm_reading import estimate

_FORTY = "Describe infrastructure responsibilities"
_LITELLM: dict[str, Any] = {"presets": ["litellm"], "models": ["z-ai/glm-5", "fox-mock"]}


@pytest.fixture(scope="module")
def litellm() -> Iterator[Simulator]:
    """One that the tests share which need no settings of their own, each with a key of its own."""
    with Simulator(**_LITELLM, ttft="1ms", between_tokens="1ms") as simulator:
        yield simulator
        assert simulator.complaints() == ""


def _body(**parameters: Any) -> dict[str, Any]:
    return {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": _FORTY}], **parameters}


def _ask(simulator: Simulator, body: object, key: str = "sk-one", **headers: str) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=10)
    try:
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {key}", **headers}
        )
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("parameters", "tpm", "reserved"),
    [
        ({"max_tokens": 20}, 2_000_000, 30),
        ({}, 2_000_000, 1_034),
        ({}, None, 1_034),
        ({}, 1_000, 260),
        ({}, 2, 11),
        ({"max_completion_tokens": 50}, 2_000_000, 60),
        ({"max_tokens": 40, "max_completion_tokens": 300}, 2_000_000, 310),
        ({"max_tokens": 20, "n": 3}, 2_000_000, 70),
        ({"n": 2}, 2_000_000, 2_058),
        ({"max_tokens": "20"}, 2_000_000, 30),
        ({"max_tokens": 20.9}, 2_000_000, 30),
        ({"max_tokens": "many"}, 2_000_000, 1_034),
        ({"max_tokens": -1}, 2_000_000, 9),
        ({"messages": [{"role": "user", "content": "word " * 1_000}]}, 2_000_000, 2_500),
        ({"messages": [{"role": "user", "content": "a" * 7}], "max_tokens": 1}, 2_000_000, 2),
        ({"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}, 2_000_000, 2),
        ({"messages": [], "max_tokens": 0}, 2_000_000, 1),
        ({"messages": []}, 2_000_000, 1),
    ],
)
def test_tokens_are_reserved_as_the_gateway_estimates_them(
    parameters: dict[str, Any], tpm: int | None, reserved: int
) -> None:
    """A token for four characters, and `max_tokens` or what stands for it, for each reply."""
    assert estimate(_body(**parameters), SimulatorSettings().changed({"presets": ["litellm"], "tpm": tpm})) == reserved


def test_remaining_tokens_are_told_before_they_are_settled(start: Callable[..., Simulator]) -> None:
    """The header has the reservation in it, so what remains rises from one answer to the next."""
    simulator = start(**_LITELLM, reply_tokens="20")
    told = [
        int(_ask(simulator, _body(max_tokens=most))[1]["x-ratelimit-api_key-remaining-tokens"]) for most in (900, 20)
    ]
    assert told == [2_000_000 - 910, 2_000_000 - 30 - 30]


@pytest.mark.parametrize(
    ("settings", "key", "status", "said", "kind"),
    [
        ({"error_rate": 1.0}, "sk-one", 500, "InternalServerError: InternalServerError", "internal_server_error"),
        ({}, "sk-no-credit", 402, "APIError: APIError", "invalid_request_error"),
        ({"faults": ["status 503"]}, "sk-one", 503, "ServiceUnavailableError: ServiceUnavailableError",
         "internal_server_error"),
        ({"faults": ["status 502"]}, "sk-one", 502, "BadGatewayError: BadGatewayError", "internal_server_error"),
        ({"faults": ["status 403"]}, "sk-one", 403, "APIError: APIError", "permission_error"),
    ],
)  # fmt: skip
def test_a_providers_error_is_wrapped(
    start: Callable[..., Simulator], settings: dict[str, Any], key: str, status: int, said: str, kind: str
) -> None:
    """The message names the class, the provider and the model; `code` is the status as text; no rate-limit headers."""
    got, headers, body = _ask(start(**_LITELLM, **settings), _body(), key)
    assert got == status
    error = body["error"]
    assert error["message"].startswith(f"litellm.{said}: OpenAIException - ")
    assert error["message"].endswith(
        "\n\nLiteLLM: model group 'z-ai/glm-5' failed with the error above. No fallback was attempted."
    )
    assert (error["type"], error["param"], error["code"]) == (kind, None, str(status))
    assert headers["x-litellm-timeout"] == "6000.0"
    assert not [name for name in headers if "ratelimit" in name]


def test_what_the_gateway_breaks_on_is_its_own_error(litellm: Simulator) -> None:
    """A model that is no text costs nothing; messages that are texts cost a request; neither reaches a provider."""
    status, headers, body = _ask(litellm, _body(model=5), "sk-breaks")
    assert (status, body["error"]["type"]) == (400, "bad_request_error")
    assert "x-litellm-timeout" not in headers
    status, headers, body = _ask(litellm, _body(messages=["hello"]), "sk-breaks")
    assert (status, body["error"]["param"], "x-litellm-timeout" in headers) == (400, None, False)
    assert _ask(litellm, _body(max_tokens=1), "sk-breaks")[1]["x-ratelimit-api_key-remaining-requests"] == "58"


def test_what_the_gateway_mends_is_no_error(litellm: Simulator) -> None:
    """A `stream` that is no boolean, its options without it and a fifth stop sequence are dropped in silence."""
    for parameters in ({"stream": "yes"}, {"stream_options": {"include_usage": True}}, {"stop": list("ABCDE")}):
        assert _ask(litellm, _body(max_tokens=3, **parameters), "sk-mends")[0] == 200


def test_the_clients_call_id_comes_back_and_no_request_id(litellm: Simulator) -> None:
    """`x-litellm-call-id` is echoed; `x-request-id` is not sent; a provider's is `request-id`."""
    _, headers, _ = _ask(litellm, _body(max_tokens=1), **{"x-litellm-call-id": "mine", "x-request-id": "r"})
    assert headers["x-litellm-call-id"] == "mine"
    assert "x-request-id" not in headers
    assert headers["request-id"] == "r"


def test_long_answers_say_that_they_could_be_compressed(litellm: Simulator) -> None:
    """From 500 bytes on, `vary` names Accept-Encoding."""
    assert _ask(litellm, _body(max_tokens=1), "sk-long")[1]["vary"] == "Origin"
    assert _ask(litellm, _body(max_tokens=200), "sk-long")[1]["vary"] == "Origin, Accept-Encoding"


def test_reasoning_and_its_price_are_told(start: Callable[..., Simulator]) -> None:
    """Reasoning tokens have a header of their own, and their place in the usage chunk of a stream."""
    simulator = start(**_LITELLM, reasoning_tokens="2")
    _, headers, body = _ask(simulator, _body(max_tokens=5))
    assert headers["x-litellm-response-cost-reasoning"] == "3e-06"
    assert body["choices"][0]["message"]["reasoning_content"]
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-one", max_retries=0) as client:
        chunks = list(
            client.chat.completions.create(**_body(max_tokens=5), stream=True, stream_options={"include_usage": True})
        )
    assert [len(chunk.choices) for chunk in chunks] == [1] * len(chunks)
    details = json.loads(chunks[-1].to_json())["usage"]["completion_tokens_details"]
    assert details == {"reasoning_tokens": 2, "text_tokens": 3}


def test_the_openai_sdk_runs_against_it(start: Callable[..., Simulator]) -> None:
    """Models, both kinds of completions and the errors that the SDK tells apart."""
    simulator = start(**_LITELLM, rpm=4, invalid_keys=["sk-bad"])
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-one", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["z-ai/glm-5", "fox-mock"]
        assert client.chat.completions.create(**_body(max_tokens=3)).usage.completion_tokens == 3
        parts = [
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(**_body(model="fox-mock", max_tokens=3), stream=True)
        ]
        assert len("".join(parts).split()) == 64
        with pytest.raises(openai.BadRequestError) as bad:
            client.chat.completions.create(**_body(temperature=3))
        assert bad.value.code == "400"
        client.chat.completions.create(**_body(max_tokens=1))
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(**_body(max_tokens=1))
        assert limited.value.response.headers["retry-after"] == "60"
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="sk-bad").models.list()


def test_a_burst_passes_the_limit_and_no_more(litellm: Simulator) -> None:
    """80 at once on a fresh key through 16 connections: 60 pass."""
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: _ask(litellm, _body(max_tokens=1), "sk-burst")[0], range(80)))
    assert (statuses.count(200), statuses.count(429)) == (60, 20)
