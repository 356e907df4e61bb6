"""What the span of a call says, compared with what the simulator knows and what was asked."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import httpx2
import openai
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode

from tensorix_api import semantic_names as names
from tensorix_simulator import Simulator
from tensorix_tracing import instrument

KEY = "sk-the-key-of-this-test"
REASONER = "deepseek/deepseek-r1-0528"
ALWAYS = {
    names.OPERATION: "chat",
    names.PROVIDER: "tensorix",
    names.ATTEMPTS: 1,
    names.HTTP_STATUS: 200,
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather of a place.",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
        },
    }
]


@pytest.fixture(scope="module")
def limited() -> Iterator[Simulator]:
    """Limits as documented, a reasoning model, every parameter taken."""
    settings: dict[str, Any] = {
        "ttft": "20ms",
        "between_tokens": "4ms",
        "reasoning_tokens": "3",
        "unknown_parameters": "accept",
    }
    with Simulator(rpm=10_000, **settings) as simulator:
        yield simulator
        assert simulator.complaints() == ""


def truth_of(simulator: Simulator, request_id: str) -> dict[str, Any]:
    """Arrival and end of a request, in one; the end may be written a little after the client has it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = {line["event"]: line for line in simulator.truth() if line.get("request_id") == request_id}
        if "end" in lines:
            return {**lines["arrival"], **{f"end_{name}": value for name, value in lines["end"].items()}}
        time.sleep(0.005)
    raise AssertionError(f"no end of {request_id}")


def ask(how: str, base_url: str, options: dict[str, Any], providers: dict[str, Any], request_id: str) -> list[Any]:
    """One call in one of the ways there are; what came, as dicts."""
    headers = {"x-request-id": request_id}
    if how == "openai":
        with openai.OpenAI(base_url=base_url, api_key=KEY) as client:
            answer = instrument(client, **providers).chat.completions.create(**options, extra_headers=headers)
            return [one.to_dict() for one in answer] if options.get("stream") else [answer.to_dict()]
    if how == "async openai":

        async def ask_async() -> list[Any]:
            async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:
                instrument(client, **providers)
                answer = await client.chat.completions.create(**options, extra_headers=headers)
                return [one.to_dict() async for one in answer] if options.get("stream") else [answer.to_dict()]

        return asyncio.run(ask_async())
    module: Any = {"httpx": httpx, "httpx2": httpx2}[how]
    headers["authorization"] = f"Bearer {KEY}"
    with module.Client(base_url=base_url, headers=headers, timeout=30) as client:
        instrument(client, **providers)
        if not options.get("stream"):
            return [client.post("/chat/completions", json=options).json()]
        with client.stream("POST", "/chat/completions", json=options) as response:
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
        return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("how", ["openai", "async openai", "httpx", "httpx2"])
def test_a_span_says_what_the_server_knows(how: str, streamed: bool, limited: Simulator, told: Any) -> None:
    """Tokens, id, model, finish reason and what remains agree with the truth; there is no attribute besides these."""
    request_id = f"{how}-{streamed}".replace(" ", "-")
    options: dict[str, Any] = {"model": REASONER, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
    if streamed:
        options |= {"stream": True, "stream_options": {"include_usage": True}}
    came = ask(how, limited.base_url, options, told.providers, request_id)
    truth = truth_of(limited, request_id)
    span = told.span()
    assert (span.name, span.kind, span.status.status_code) == (f"chat {REASONER}", SpanKind.CLIENT, StatusCode.UNSET)
    assert span.instrumentation_scope.name == "tensorix_tracing"
    said = dict(span.attributes)
    times = {name: said.pop(name) for name in list(said) if isinstance(said[name], float)}
    assert said == {
        **ALWAYS,
        names.SERVER_ADDRESS: "127.0.0.1",
        names.SERVER_PORT: limited.port,
        names.REQUEST_MODEL: REASONER,
        "gen_ai.request.max_tokens": 8,
        names.RESPONSE_ID: came[0]["id"],
        names.RESPONSE_MODEL: REASONER,
        names.FINISH_REASONS: ("length",),
        names.INPUT_TOKENS: truth["prompt_tokens"],
        names.OUTPUT_TOKENS: truth["end_completion_tokens"],
        names.REASONING_TOKENS: truth["end_reasoning_tokens"],
        names.REMAINING["requests"]: truth["remaining_requests"],
        # Said at the end of what is not streamed, when it has been charged.
        names.REMAINING["tokens"]: truth["remaining_tokens" if streamed else "end_remaining_tokens"],
        **(
            {names.REQUEST_STREAM: True, names.STREAM_OUTCOME: "completed", names.STREAM_CHUNKS: len(came)}
            if streamed
            else {}
        ),
    }
    assert (truth["end_completion_tokens"], truth["end_reasoning_tokens"]) == (8, 3)
    in_order = [
        names.TIME_TO_FIRST_CHUNK,
        names.TIME_TO_FIRST_TOKEN,
        names.TIME_TO_FIRST_OUTPUT,
        names.TIME_TO_LAST_TOKEN,
    ]
    if not streamed:
        assert times == {}
        return
    assert set(times) == {*in_order, names.LARGEST_GAP}
    assert [times[name] for name in in_order] == sorted(times[name] for name in in_order)
    sent_ns = truth["end_chunk_sent_ns"]
    for name, sent in zip(in_order[1:], (sent_ns[0], sent_ns[3], sent_ns[7]), strict=True):
        # The simulator's stamps are taken after each send, so the client may be a little ahead of them.
        assert -0.01 < times[name] - (sent - truth["arrival_ns"]) / 1e9 < 0.5, name
    assert times[names.TIME_TO_FIRST_TOKEN] < times[names.TIME_TO_FIRST_OUTPUT]
    assert times[names.TIME_TO_LAST_TOKEN] < (span.end_time - span.start_time) / 1e9 + 0.001


PARAMETERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"seed": 7}, {"seed": 7}),
    ({"n": 2}, {"choice.count": 2}),
    ({"n": 1}, {}),
    ({"temperature": 0}, {"temperature": 0.0}),
    ({"temperature": 0.5, "top_p": 0.25}, {"temperature": 0.5, "top_p": 0.25}),
    (
        {"frequency_penalty": -1, "presence_penalty": 0.5},
        {"frequency_penalty": -1.0, "presence_penalty": 0.5},
    ),
    ({"max_tokens": 2}, {"max_tokens": 2}),
    ({"max_completion_tokens": 3}, {"max_tokens": 3}),
    ({"stop": "zebra"}, {"stop_sequences": ("zebra",)}),
    ({"stop": ["zebra", "quagga"]}, {"stop_sequences": ("zebra", "quagga")}),
    ({"extra_body": {"top_k": 5}}, {"top_k": 5}),
    ({"extra_body": {"max_completion_tokens": 3, "seed": 1}}, {"max_tokens": 3, "seed": 1}),
    ({"user": "somebody", "metadata": {"a": "b"}, "parallel_tool_calls": openai.NOT_GIVEN}, {}),
]


@pytest.mark.parametrize(("given", "said"), PARAMETERS, ids=lambda value: "-".join(value) if value else "none")
def test_request_parameters(given: dict[str, Any], said: dict[str, Any], limited: Simulator, told: Any) -> None:
    """The parameters that the conventions name are told, with the types they have there, and no others."""
    with openai.OpenAI(base_url=limited.base_url, api_key=KEY) as client:
        instrument(client, **told.providers)
        client.chat.completions.create(model="z-ai/glm-5", messages=[{"role": "user", "content": "Hi"}], **given)
    found = {name: value for name, value in told.span().attributes.items() if name.startswith("gen_ai.request.")}
    assert found == {names.REQUEST_MODEL: "z-ai/glm-5", **{f"gen_ai.request.{name}": said[name] for name in said}}
    for name, value in said.items():
        assert type(found[f"gen_ai.request.{name}"]) is type(value)


def test_parameters_of_a_wrong_type_are_left_out(limited: Simulator, told: Any) -> None:
    """A request that no server takes is told of, without what would not fit its attribute."""
    wrong = {
        "model": ["m"],
        "temperature": "hot",
        "n": "2",
        "seed": True,
        "max_tokens": 1.5,
        "stop": [1],
        "stream": "yes",
        "messages": 5,
    }
    with httpx.Client(base_url=limited.base_url, headers={"authorization": f"Bearer {KEY}"}) as client:
        instrument(client, capture_content=True, **told.providers)
        assert client.post("/chat/completions", json=wrong).status_code == 400
    span = told.span()
    assert span.name == "chat"
    assert not [name for name in span.attributes if name.startswith("gen_ai.request.")]
    assert span.attributes[names.ERROR_TYPE] == "400"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tool_calls(streamed: bool, limited: Simulator, told: Any) -> None:
    """Calls of tools are counted, and are the output whose first time is told; what they say is not."""
    with openai.OpenAI(base_url=limited.base_url, api_key=KEY) as client:
        untyped: Any = instrument(client, **told.providers)
        answer = untyped.chat.completions.create(
            model="z-ai/glm-5",
            messages=[{"role": "user", "content": "Rain?"}],
            tools=TOOLS,
            tool_choice="required",
            parallel_tool_calls=True,
            max_tokens=500,
            stream=streamed,
        )
        if streamed:
            calls = {call.index for chunk in answer for call in chunk.choices[0].delta.tool_calls or []}
        else:
            calls = set(range(len(answer.choices[0].message.tool_calls)))
    span = told.span()
    assert span.attributes[names.TOOL_CALLS] == len(calls) > 1
    assert span.attributes[names.FINISH_REASONS] == ("tool_calls",)
    assert (names.TIME_TO_FIRST_OUTPUT in span.attributes) == streamed
    assert "weather" not in str(dict(span.attributes))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_every_choice_has_its_finish_reason(streamed: bool, raw_server: Any, chunk_data: Any, told: Any) -> None:
    """Several choices end for their own reasons, which are told in the order of the choices."""
    reasons = ["stop", "length", "content_filter"]

    def answer(peer: Any) -> None:
        if streamed:
            peer.head()
            peer.events(*(chunk_data("word", index=index) for index in range(3)))
            peer.events(*(chunk_data(None, finish=reasons[index], index=index) for index in (2, 0, 1)), b"[DONE]")
            peer.last()
        else:
            choices = [
                {"index": k, "message": {"content": "a"}, "finish_reason": reason} for k, reason in enumerate(reasons)
            ]
            peer.whole(200, json.dumps({"id": "x", "model": "m", "choices": choices}).encode())

    server = raw_server(answer)
    came = ask(
        "httpx", server.base_url, {"model": "m", "messages": [], "n": 3, "stream": streamed}, told.providers, "r"
    )
    assert came
    assert told.span().attributes[names.FINISH_REASONS] == tuple(reasons)


def test_without_usage_no_tokens_are_told(limited: Simulator, told: Any, asked: dict[str, Any]) -> None:
    """A stream that does not say its usage has no tokens in span or metrics: none are made up."""
    ask("openai", limited.base_url, {**asked, "stream": True}, told.providers, "without-usage")
    assert not [name for name in told.span().attributes if name.startswith("gen_ai.usage.")]
    assert told.points("gen_ai.client.token.usage") == []


def test_cached_tokens(raw_server: Any, told: Any) -> None:
    """Tokens of the prompt that a cache had are told."""
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    reply = {"id": "x", "model": "m", "choices": [{"message": {"content": "a"}}], "usage": usage}
    server = raw_server(lambda peer: peer.whole(200, json.dumps(reply).encode()))
    ask("httpx2", server.base_url, {"model": "m", "messages": []}, told.providers, "r")
    said = told.span().attributes
    assert [said[name] for name in (names.INPUT_TOKENS, names.OUTPUT_TOKENS, names.CACHED_TOKENS)] == [9, 2, 4]
    assert names.REASONING_TOKENS not in said


HEADERS: list[tuple[dict[str, str], dict[str, Any]]] = [
    (
        {"x-ratelimit-api_key-remaining-requests": "59", "x-ratelimit-api_key-remaining-tokens": "1999989"},
        {"ratelimit.remaining_requests": 59, "ratelimit.remaining_tokens": 1999989},
    ),
    (
        {"X-RateLimit-Api_Key-Remaining-Requests": "0", "x-ratelimit-api_key-limit-requests": "60"},
        {"ratelimit.remaining_requests": 0, "ratelimit.limit_requests": 60},
    ),
    (
        {"x-ratelimit-remaining-tokens": "7", "x-ratelimit-limit-tokens": "100", "retry-after": "3"},
        {"ratelimit.remaining_tokens": 7, "ratelimit.limit_tokens": 100, "retry_after": 3.0},
    ),
    ({"retry-after-ms": "250"}, {"retry_after": 0.25}),
    ({"x-ratelimit-api_key-remaining-requests": "many", "retry-after": "soon"}, {}),
    ({}, {}),
]


@pytest.mark.parametrize(("sent", "said"), HEADERS, ids=lambda value: "-".join(value)[:60] or "none")
def test_headers_of_limits(sent: dict[str, str], said: dict[str, Any], raw_server: Any, told: Any) -> None:
    """What the response's headers say of limits, in whichever spelling; nothing for what cannot be read."""
    headers = {name.replace("-", "_") if "api_key" not in name else name: value for name, value in sent.items()}

    def answer(peer: Any) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        body = b'{"error":{"message":"slow down"}}'
        head = f"HTTP/1.1 429 No\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
        peer.send(head.encode() + body)

    assert len(headers) == len(sent)
    ask("httpx", raw_server(answer).base_url, {"model": "m", "messages": []}, told.providers, "r")
    found = {name: value for name, value in told.span().attributes.items() if name.startswith("tensorix.r")}
    assert found == {f"tensorix.{name}": value for name, value in said.items()}


def test_the_list_of_models_is_no_operation_of_the_conventions(limited: Simulator, told: Any) -> None:
    """A span of its own name, without an operation's or a model's."""
    with openai.OpenAI(base_url=limited.base_url, api_key=KEY) as client:
        list(instrument(client, **told.providers).models.list())
    span = told.span("models.list")
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes) == {
        names.PROVIDER: "tensorix",
        names.SERVER_ADDRESS: "127.0.0.1",
        names.SERVER_PORT: limited.port,
        names.ATTEMPTS: 1,
        names.HTTP_STATUS: 200,
        names.REMAINING["requests"]: span.attributes[names.REMAINING["requests"]],
        names.REMAINING["tokens"]: span.attributes[names.REMAINING["tokens"]],
    }


class Recorder(Sampler):
    """Notes what it sees, and passes it on to another."""

    def __init__(self, decide: Sampler) -> None:
        self.seen: list[tuple[str, SpanKind | None, dict[str, Any]]] = []
        self._decide = decide

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Any] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        self.seen.append((name, kind, dict(attributes or {})))
        return self._decide.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        return "Recorder"


@pytest.mark.parametrize("how", ["openai", "httpx2"])
def test_a_sampler_sees_what_is_known_at_the_start(
    how: str, simulator: Simulator, tell: Callable[..., Any], asked: dict[str, Any]
) -> None:
    """Operation, provider, model and server are there when it is decided whether to record."""
    sampler = Recorder(ALWAYS_ON)
    ask(how, simulator.base_url, asked, tell(sampler).providers, "r")
    seen = {
        names.OPERATION: "chat",
        names.PROVIDER: "tensorix",
        names.REQUEST_MODEL: "z-ai/glm-5",
        names.SERVER_ADDRESS: "127.0.0.1",
        names.SERVER_PORT: simulator.port,
    }
    assert sampler.seen == [("chat z-ai/glm-5", SpanKind.CLIENT, seen)]


@pytest.fixture
def answering(raw_server: Any) -> Any:
    """A raw server with a whole answer for everything."""
    reply = b'{"id":"x","model":"m","choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}'
    return raw_server(lambda peer: peer.whole(200, reply))


@pytest.mark.parametrize("how", ["openai", "async openai", "httpx", "httpx2"])
def test_trace_and_baggage_are_sent_on(how: str, answering: Any, told: Any, asked: dict[str, Any]) -> None:
    """The server is told the trace, the call's span as its parent, and the baggage; that span is below the caller's."""
    tracer = told.tracer_provider.get_tracer("caller")
    with tracer.start_as_current_span("caller"):
        token = otel_context.attach(baggage.set_baggage("tenant", "blue"))
        try:
            ask(how, answering.base_url, asked, told.providers, "r")
        finally:
            otel_context.detach(token)
    caller, span = (next(one for one in told.spans if one.name.startswith(name)) for name in ("caller", "chat"))
    assert (span.parent.span_id, span.context.trace_id) == (caller.context.span_id, caller.context.trace_id)
    _, headers, _ = answering.requests[0]
    ids = f"{span.context.trace_id:032x}-{span.context.span_id:016x}"
    version_and_ids, _, flags = headers["traceparent"].rpartition("-")
    assert (version_and_ids, int(flags, 16) & 1, headers["baggage"]) == (f"00-{ids}", 1, "tenant=blue")


def test_who_sends_a_trace_of_his_own_is_left_alone(answering: Any, told: Any, asked: dict[str, Any]) -> None:
    """A `traceparent` that the caller wrote is sent as it is."""
    own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with openai.OpenAI(base_url=answering.base_url, api_key=KEY) as client:
        instrument(client, **told.providers).chat.completions.create(**asked, extra_headers={"traceparent": own})
    assert answering.requests[0][1]["traceparent"] == own
    assert told.span()


def test_nothing_is_sent_on_where_that_is_not_wanted(answering: Any, told: Any, asked: dict[str, Any]) -> None:
    """`propagate=False` keeps trace and baggage from the server."""
    token = otel_context.attach(baggage.set_baggage("tenant", "blue"))
    try:
        ask("openai", answering.base_url, asked, {**told.providers, "propagate": False}, "r")
    finally:
        otel_context.detach(token)
    assert not {"traceparent", "baggage", "tracestate"} & set(answering.requests[0][1])
    assert told.span()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("how", ["openai", "async openai", "httpx"])
def test_what_is_not_sampled_is_measured_all_the_same(
    how: str, streamed: bool, limited: Simulator, tell: Callable[..., Any]
) -> None:
    """Without a span the metrics are whole: duration, first chunk, chunks, tokens, what remains."""
    told = tell(ALWAYS_OFF)
    options: dict[str, Any] = {"model": REASONER, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
    if streamed:
        options |= {"stream": True, "stream_options": {"include_usage": True}}
    wanted = {**told.providers, "chunk_gap_share": 1.0, "capture_content": True}
    came = ask(how, limited.base_url, options, wanted, f"unsampled-{how}-{streamed}".replace(" ", "-"))
    assert told.kept.started == []
    (duration,) = told.points("gen_ai.client.operation.duration")
    assert (duration.count, names.ERROR_TYPE in duration.attributes) == (1, False)
    tokens = {point.attributes[names.TOKEN_TYPE]: point.sum for point in told.points("gen_ai.client.token.usage")}
    assert tokens == {"input": came[-1]["usage"]["prompt_tokens"], "output": 8}
    assert len(told.points("tensorix.ratelimit.remaining")) == 2
    assert [point.count for point in told.points("gen_ai.client.operation.time_to_first_chunk")] == [1] * streamed
    gaps = [point.count for point in told.points("gen_ai.client.operation.time_per_output_chunk")]
    assert gaps == [len(came) - 1] * streamed


def test_the_server_is_told_that_it_is_not_sampled(
    answering: Any, tell: Callable[..., Any], asked: dict[str, Any]
) -> None:
    """The trace goes on with its flag down."""
    ask("openai", answering.base_url, asked, tell(ALWAYS_OFF).providers, "r")
    assert int(answering.requests[0][1]["traceparent"].rpartition("-")[2], 16) & 1 == 0
    assert not trace.get_current_span().get_span_context().is_valid
