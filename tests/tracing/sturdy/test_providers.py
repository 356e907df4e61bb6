"""Providers that come late, are replaced, or come twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.trace import TracerProvider

from tensorix_simulator import Simulator
from tensorix_tracing import instrument


def test_providers_that_are_set_after_instrument(program: Callable[..., str]) -> None:
    """A client called before there is a provider is told of once from then on, in spans and metrics."""
    program("""
with openai.OpenAI(base_url=base_url, api_key="k") as client:
    instrument(client)
    for chunk in client.chat.completions.create(**asked, stream=True):
        pass
    open_stream = client.chat.completions.create(**asked, stream=True)
    kept, tracers = provide()
    reader = InMemoryMetricReader()
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([reader]))
    list(open_stream)
    for _ in range(2):
        list(client.chat.completions.create(**asked, stream=True))
    assert kept.outcomes() == ["completed"] * 2, kept.outcomes()
    (resource,) = reader.get_metrics_data().resource_metrics
    found = [metric for scope in resource.scope_metrics for metric in scope.metrics]
    names = [metric.name for metric in found]
    assert len(names) == len(set(names)), names
    (duration,) = [metric for metric in found if metric.name == "gen_ai.client.operation.duration"]
    # What was open when the provider came is measured.
    assert [point.count for point in duration.data.data_points] == [3], duration
""")


def test_global_providers_that_are_swapped(
    simulator: Simulator, parameters: dict[str, Any], tell: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call is told to the providers that are the global ones when it is made, each gauge included."""
    first, second = tell(), tell()
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test") as client:
        instrument(client)
        for told, calls in ((first, 1), (second, 2), (first, 1)):
            monkeypatch.setattr(trace, "_TRACER_PROVIDER", told.tracer_provider)
            monkeypatch.setattr(metrics_internal, "_METER_PROVIDER", told.meter_provider)
            for _ in range(calls):
                client.chat.completions.create(**parameters)
    assert [len(first.spans), len(second.spans)] == [2, 2]
    for told in (first, second):
        assert [point.count for point in told.points("gen_ai.client.operation.duration")] == [2]


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old"), ("both", "old")])
def test_names_of_both_kinds_with_one_provider(
    simulator: Simulator, parameters: dict[str, Any], told: Any, order: tuple[Any, Any]
) -> None:
    """Two clients whose metrics have different names are both measured when the provider's metrics are collected."""
    for names in order:
        with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test") as client:
            instrument(client, metric_names=names, **told.providers)
            client.chat.completions.create(**parameters)
    found = told.metrics()
    counts = [
        sum(point.count for point in found[name].data.data_points)
        for name in ("gen_ai.client.operation.duration", "gen_ai.client.inference.duration")
    ]
    assert counts == [sum(names in (kind, "both") for names in order) for kind in ("old", "new")]


def test_a_gauge_after_instrumenting_again(
    tensorix_simulator_factory: Callable[..., Simulator], parameters: dict[str, Any], told: Any
) -> None:
    """A client instrumented again, and a second one beside it, are heard by the gauge; one let go is not."""
    limited = tensorix_simulator_factory(rpm=60)
    clients = [openai.OpenAI(base_url=limited.base_url, api_key=f"sk-{number}") for number in range(2)]
    for number, client in enumerate(clients):
        for _ in range(2):
            instrument(client, key_alias=f"key {number}", **told.providers)
        for _ in range(number + 1):
            client.chat.completions.create(**parameters)
    seen = {
        point.attributes["tensorix.key.alias"]: point.value
        for point in told.points("tensorix.ratelimit.remaining")
        if point.attributes["limit"] == "requests"
    }
    assert seen == {"key 0": 59, "key 1": 58}
    for client in clients:
        client.close()


def test_a_provider_that_is_dropped_goes() -> None:
    """A provider that was used is not kept by what measured for it."""
    import gc
    import weakref

    from opentelemetry.sdk.metrics import MeterProvider

    from tensorix_tracing._settings import settings_from
    from tensorix_tracing._telemetry import Telemetry

    meters = MeterProvider(shutdown_on_exit=False)
    tracers = TracerProvider(shutdown_on_exit=False)
    telemetry = Telemetry(settings_from(tracer_provider=tracers, meter_provider=meters))
    assert telemetry.meter.duration
    assert telemetry.tracer is not None
    gone: list[weakref.ref[Any]] = [weakref.ref(meters), weakref.ref(tracers)]
    telemetry.forget()
    del telemetry, meters, tracers
    gc.collect()
    assert [one() for one in gone] == [None, None]
