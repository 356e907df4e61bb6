"""Names, units, buckets and values of the metrics, and how few series they can become."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from tensorix_api import semantic_names as names
from tensorix_tracing import _errors, _telemetry, instrument, uninstrument

KEY = "sk-the-key-of-this-test"
SECONDS = [0.01 * 2**power for power in range(14)]
FINER = [0.001 * 2**power for power in range(15)]
TOKENS = [4**power for power in range(14)]
MESSAGES: Any = [{"role": "user", "content": "Hi"}]
OLD = {
    "gen_ai.client.operation.duration": ("s", Histogram, SECONDS),
    "gen_ai.client.operation.time_to_first_chunk": ("s", Histogram, SECONDS),
    "gen_ai.client.operation.time_per_output_chunk": ("s", Histogram, FINER),
    "gen_ai.client.token.usage": ("{token}", Histogram, TOKENS),
}
NEW = {
    "gen_ai.client.inference.duration": ("s", Histogram, SECONDS),
    "gen_ai.client.inference.time_to_first_chunk": ("s", Histogram, SECONDS),
    "gen_ai.client.inference.time_per_output_chunk": ("s", Histogram, FINER),
    "gen_ai.client.inference.operation.input_tokens": ("{token}", Histogram, TOKENS),
    "gen_ai.client.inference.operation.output_tokens": ("{token}", Histogram, TOKENS),
    "gen_ai.client.inference.usage.input_tokens": ("{token}", Sum, None),
    "gen_ai.client.inference.usage.output_tokens": ("{token}", Sum, None),
    "gen_ai.client.inference.usage.cache_read.input_tokens": ("{token}", Sum, None),
    "gen_ai.client.inference.usage.reasoning.output_tokens": ("{token}", Sum, None),
}
OURS = {
    "tensorix.client.retries": ("{attempt}", Sum, None),
    "tensorix.ratelimit.remaining": ("", Gauge, None),
    "tensorix.ratelimit.limit": ("", Gauge, None),
}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
LIMITS = {
    "x_ratelimit_remaining_requests": "58",
    "x_ratelimit_remaining_tokens": "777",
    "x_ratelimit_limit_requests": "60",
    "x_ratelimit_limit_tokens": "1000",
}


@pytest.fixture
def server(raw_server: Any, chunk_data: Any) -> Any:
    """Refuses the first request of each key once, then answers with all there is to tell."""

    def answer(peer: Any) -> None:
        asked = served.requests[peer.number][2]
        if peer.number == 0:
            peer.whole(429, b'{"error":{"message":"no","code":"busy"}}', retry_after_ms="1", **LIMITS)
        elif b'"stream":true' in asked.replace(b" ", b""):
            peer.head(**LIMITS)
            peer.events(*(chunk_data("word") for _ in range(4)), chunk_data(None, finish="stop"))
            peer.events(json.dumps({"id": "x", "model": "m", "choices": [], "usage": USAGE}).encode(), b"[DONE]")
            peer.last()
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
            peer.whole(
                200, json.dumps({"id": "x", "model": "m", "choices": [choice], "usage": USAGE}).encode(), **LIMITS
            )

    served = raw_server(answer)
    return served


def ask(server: Any, told: Any, *, streamed: bool = True, model: str = "m", **options: Any) -> None:
    """One call, with a retry if the server is fresh."""
    with openai.OpenAI(base_url=server.base_url, api_key=KEY) as client:
        instrument(client, **{**told.providers, "chunk_gap_share": 1.0, **options})
        answer = client.chat.completions.create(model=model, messages=MESSAGES, stream=streamed)
        if streamed:
            assert len(list(answer)) == 6


@pytest.mark.parametrize(
    ("which", "table"), [(None, OLD), ("old", OLD), ("new", NEW), ("both", {**OLD, **NEW})], ids=str
)
def test_names_units_kinds_and_buckets(which: str | None, table: dict[str, Any], server: Any, told: Any) -> None:
    """Under the old names, the new ones or both: exactly the metrics of the tables, with their units and buckets."""
    ask(server, told, metric_names=which)
    found = {}
    for name, metric in told.metrics().items():
        bounds = None
        if isinstance(metric.data, Histogram):
            (bounds,) = {tuple(point.explicit_bounds) for point in metric.data.data_points}
        found[name] = (metric.unit, type(metric.data), None if bounds is None else list(bounds))
        assert metric.description.endswith("."), name
        if isinstance(metric.data, Sum):
            assert metric.data.is_monotonic
    assert found == {**table, **OURS}
    assert SECONDS[-1] == 81.92
    assert TOKENS[-1] == 67_108_864


def test_the_values_of_a_call(server: Any, told: Any) -> None:
    """One call with a retry: what each metric says, by which attributes, and nothing else."""
    ask(server, told, metric_names="both", key_alias="blue")
    plain = {
        names.OPERATION: "chat",
        names.PROVIDER: "tensorix",
        names.SERVER_ADDRESS: "127.0.0.1",
        names.SERVER_PORT: server.port,
        names.REQUEST_MODEL: "m",
    }
    counted = {name: ({**plain}, 1) for name in (*OLD, *NEW) if name.endswith(("duration", "first_chunk"))}
    counted |= {name: ({**plain}, 5) for name in (*OLD, *NEW) if name.endswith("per_output_chunk")}
    for name, (attributes, count) in counted.items():
        (point,) = told.points(name)
        assert (name, dict(point.attributes), point.count) == (name, attributes, count)
    usage = told.points("gen_ai.client.token.usage")
    assert sorted((point.attributes[names.TOKEN_TYPE], point.count, point.sum) for point in usage) == [
        ("input", 1, 9),
        ("output", 1, 5),
    ]
    for name, value in (("input", 9), ("output", 5)):
        (point,) = told.points(f"gen_ai.client.inference.operation.{name}_tokens")
        assert (dict(point.attributes), point.sum) == (plain, value)
    for name, value in (("input", 9), ("output", 5), ("cache_read.input", 4), ("reasoning.output", 3)):
        (point,) = told.points(f"gen_ai.client.inference.usage.{name}_tokens")
        assert (dict(point.attributes), point.value) == ({**plain, names.TOKEN_MODALITY: "unknown"}, value)
    (retries,) = told.points("tensorix.client.retries")
    assert (dict(retries.attributes), retries.value) == ({**plain, names.ERROR_TYPE: "429"}, 1)
    gauge = {names.PROVIDER: "tensorix", names.SERVER_ADDRESS: "127.0.0.1", names.KEY_ALIAS: "blue"}
    for name, requests, tokens in (("remaining", 58, 777), ("limit", 60, 1000)):
        seen = {point.attributes["limit"]: point for point in told.points(f"tensorix.ratelimit.{name}")}
        assert {limit: point.value for limit, point in seen.items()} == {"requests": requests, "tokens": tokens}
        assert [dict(point.attributes) for point in seen.values()] == [{**gauge, "limit": limit} for limit in seen]


def test_what_is_not_streamed_has_no_chunks(server: Any, told: Any) -> None:
    """First chunk and chunks are of streams only; duration and tokens of every call."""
    ask(server, told, streamed=False)
    assert set(told.metrics()) == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage", *OURS}


@pytest.mark.parametrize(("share", "lowest", "highest"), [(0.0, 0, 0), (0.5, 50, 150), (1.0, 199, 199)])
def test_the_share_of_gaps(
    share: float, lowest: int, highest: int, raw_server: Any, chunk_data: Any, told: Any
) -> None:
    """Of 199 gaps between 200 chunks the histogram is given the share that was asked for, all of them with 1."""

    def answer(peer: Any) -> None:
        peer.head()
        peer.events(*[chunk_data("word")] * 199, chunk_data(None, finish="stop"), b"[DONE]")
        peer.last()

    with openai.OpenAI(base_url=raw_server(answer).base_url, api_key=KEY) as client:
        instrument(client, **told.providers, chunk_gap_share=share)
        assert len(list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))) == 200
    assert lowest <= sum(point.count for point in told.points(list(OLD)[2])) <= highest
    assert told.span().attributes[names.STREAM_CHUNKS] == 200


def test_exemplars_lead_to_the_span(server: Any, told: Any) -> None:
    """Each histogram's exemplar has the trace and the span of the call, although it is recorded after its end."""
    ask(server, told)
    span = next(span for span in told.spans if span.name == "chat m")
    metrics = told.metrics()
    for name in OLD:
        for point in metrics[name].data.data_points:
            assert {(one.trace_id, one.span_id) for one in point.exemplars} == {
                (span.context.trace_id, span.context.span_id)
            }, name


def test_a_call_that_is_not_sampled_is_no_example(server: Any, tell: Callable[..., Any]) -> None:
    """Its histograms have no exemplar, also where they are collected below a span that is sampled."""
    told, other = tell(ALWAYS_OFF), tell(ALWAYS_ON)
    ask(server, told)
    with other.tracer_provider.get_tracer("test").start_as_current_span("collect"):
        metrics = told.metrics()
    for name in OLD:
        assert [point.exemplars for point in metrics[name].data.data_points if point.exemplars] == [], name


def test_what_remains_is_forgotten_after_a_minute(server: Any, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gauges tell the last value for a minute, also when the client is gone, and then nothing."""
    ask(server, told)
    assert len(told.points("tensorix.ratelimit.remaining")) == 2

    class Clock:
        ahead_ns = 0

        @classmethod
        def perf_counter_ns(cls) -> int:
            return time.perf_counter_ns() + cls.ahead_ns

    monkeypatch.setattr(_telemetry, "time", Clock)
    Clock.ahead_ns = 50 * 10**9
    assert len(told.points("tensorix.ratelimit.remaining")) == 2
    Clock.ahead_ns = 61 * 10**9
    assert told.points("tensorix.ratelimit.remaining") == told.points("tensorix.ratelimit.limit") == []


def test_the_last_value_counts(raw_server: Any, told: Any) -> None:
    """Of several responses the gauge tells what the last said, also where it rose."""
    values = iter([10, 3, 59])

    def answer(peer: Any) -> None:
        peer.whole(200, b'{"data":[]}', x_ratelimit_remaining_requests=str(next(values)))

    with httpx.Client(base_url=raw_server(answer).base_url) as client:
        instrument(client, **told.providers)
        for value in (10, 3, 59):
            client.get("/models")
            (point,) = told.points("tensorix.ratelimit.remaining")
            assert (point.value, point.attributes["limit"]) == (value, "requests")


def test_two_hosts_and_two_keys_are_told_apart(raw_server: Any, told: Any) -> None:
    """What remains at one server, or of one key, is not that of another."""
    servers = [
        raw_server(lambda peer, value=value: peer.whole(200, b'{"data":[]}', x_ratelimit_remaining_tokens=value))
        for value in ("5", "6", "7")
    ]
    addresses = ["127.0.0.1", "localhost", "localhost"]
    with httpx.Client() as one, httpx.Client() as other:
        instrument(one, hosts=["127.0.0.1", "localhost"], key_alias="a", **told.providers)
        instrument(other, hosts=["localhost"], key_alias="b", **told.providers)
        for client, server, address in zip((one, one, other), servers, addresses, strict=True):
            client.get(f"http://{address}:{server.port}/v1/models").raise_for_status()
        seen = {
            (point.attributes[names.SERVER_ADDRESS], point.attributes[names.KEY_ALIAS]): point.value
            for point in told.points("tensorix.ratelimit.remaining")
        }
    assert seen == {("127.0.0.1", "a"): 5, ("localhost", "a"): 6, ("localhost", "b"): 7}


@pytest.mark.parametrize("key_alias", [None, "blue"])
def test_uninstrumented_nothing_remains(key_alias: str | None, server: Any, told: Any) -> None:
    """After `uninstrument` the gauges tell nothing, and what had been measured is still there."""
    with openai.OpenAI(base_url=server.base_url, api_key=KEY) as client:
        instrument(client, key_alias=key_alias, **told.providers)
        client.chat.completions.create(model="m", messages=MESSAGES)
        uninstrument(client)
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert told.points("tensorix.ratelimit.remaining") == []
    assert [point.count for point in told.points("gen_ai.client.operation.duration")] == [1]


@pytest.mark.parametrize(
    ("sampled", "count"),
    [(True, 300), (False, 300), pytest.param(True, 10_000, marks=pytest.mark.slow)],
)
def test_hostile_names_make_few_series(sampled: bool, count: int, tell: Callable[..., Any]) -> None:
    """However many names of models and codes there are, metrics keep 50 models, spans 30 codes; the rest is `other`."""
    told = tell(ALWAYS_ON if sampled else ALWAYS_OFF)
    _errors._codes.clear()

    def answer(request: httpx.Request) -> httpx.Response:
        number = answered[0] = answered[0] + 1
        error = {"code": f"code-{number}", "message": f"message {number}", "type": f"type-{number}"}
        headers = {"x-ratelimit-api_key-remaining-requests": str(number), "x-request-id": f"id-{number}"}
        return httpx.Response(400 + number % 2 * 29, json={"id": f"id-{number}", "error": error}, headers=headers)

    answered = [0]
    with httpx.Client(base_url="http://hostile/v1", transport=httpx.MockTransport(answer)) as client:
        instrument(client, metric_names="both", **told.providers)
        for number in range(count):
            client.post("/chat/completions", json={"model": f"model-{number}", "messages": [], "user": f"u{number}"})
    durations = told.points("gen_ai.client.operation.duration")
    models = {point.attributes[names.REQUEST_MODEL] for point in durations}
    assert models == {"other", *(f"model-{number}" for number in range(50))}
    assert sum(point.count for point in durations) == count
    # A model and an error make a series; all other attributes have one value.
    assert len(durations) <= 51 * 2
    assert {name for point in durations for name in point.attributes} == {
        names.OPERATION,
        names.PROVIDER,
        names.SERVER_ADDRESS,
        names.SERVER_PORT,
        names.REQUEST_MODEL,
        names.ERROR_TYPE,
    }
    if sampled:
        codes = [span.attributes[names.ERROR_CODE] for span in told.spans]
        assert len(codes) == count
        assert set(codes) == {"_OTHER", *(f"code-{number}" for number in range(1, 31))}
        assert not [span for span in told.spans if "message" in str(dict(span.attributes))]
    assert sum(len(metric.data.data_points) for metric in told.metrics().values()) <= 51 * 2 * 2 + 1


def test_many_clients_share_the_cap(told: Any) -> None:
    """A service that makes and traces a client for each request has no more names of models for it."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401)

    for number in range(8):
        with httpx.Client(base_url="http://h/v1", transport=httpx.MockTransport(answer)) as client:
            instrument(client, most_models=3, **told.providers)
            client.post("/chat/completions", json={"model": f"model-{number}"})
    models = {point.attributes[names.REQUEST_MODEL] for point in told.points("gen_ai.client.operation.duration")}
    assert models == {"model-0", "model-1", "model-2", "other"}
