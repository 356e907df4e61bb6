"""OpenTelemetry's side: which provider is in force, the spans that it starts, the metrics that it is given."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

from tensorix_api import semantic_names as names

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, Meter, MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

    from tensorix_tracing._settings import TracingSettings

__all__ = ["Instruments", "Telemetry"]

SCOPE = "tensorix_tracing"
SECONDS = tuple(0.01 * 2**power for power in range(14))
"""0.01 to 81.92 s, as the conventions for calls have them."""
SECONDS_A_CHUNK = tuple(0.001 * 2**power for power in range(15))
"""1 ms to 16.4 s: chunks follow one another more closely than calls."""
TOKENS = tuple(float(4**power) for power in range(14))
"""1 to 67,108,864."""
# What remains of a minute says nothing once the minute is over.
_FRESH_NS = 60 * 1_000_000_000

Attributes = dict[str, str | int]


class Instruments:
    """The instruments of one meter, under the old names, the new ones or both."""

    def __init__(self, meter: Meter, settings: TracingSettings) -> None:
        old = settings.metric_names in ("old", "both")
        new = settings.metric_names in ("new", "both")

        def histograms(old_name: str, new_name: str, unit: str, about: str, bounds: tuple[float, ...]) -> list[Histogram]:
            wanted = [name for name, asked in ((old_name, old), (new_name, new)) if asked and name]
            return [
                meter.create_histogram(name, unit, about, explicit_bucket_boundaries_advisory=bounds) for name in wanted
            ]

        self.duration = histograms(
            "gen_ai.client.operation.duration",
            "gen_ai.client.inference.duration",
            "s",
            "How long a call took, to the end of its stream.",
            SECONDS,
        )
        self.first_chunk = histograms(
            "gen_ai.client.operation.time_to_first_chunk",
            "gen_ai.client.inference.time_to_first_chunk",
            "s",
            "From the call to the first chunk of its stream.",
            SECONDS,
        )
        self.chunk_gap = histograms(
            "gen_ai.client.operation.time_per_output_chunk",
            "gen_ai.client.inference.time_per_output_chunk",
            "s",
            "From one chunk of a stream to the next.",
            SECONDS_A_CHUNK,
        )
        # Old: one histogram by kind of token. New: a counter and a histogram for each kind.
        self.token_usage = histograms("gen_ai.client.token.usage", "", "{token}", "Tokens of a call.", TOKENS)
        self.tokens = {
            kind: histograms("", f"gen_ai.client.inference.operation.{kind}_tokens", "{token}", about, TOKENS)
            for kind, about in (("input", "Tokens of a prompt."), ("output", "Tokens of an answer."))
        }
        self.token_counters = {
            kind: [meter.create_counter(f"gen_ai.client.inference.usage.{kind}_tokens", "{token}", about)] if new else []
            for kind, about in (("input", "Tokens of all prompts."), ("output", "Tokens of all answers."))
        }
        self.retries = meter.create_counter(
            "tensorix.client.retries", "{attempt}", "Attempts that were followed by another, by status."
        )


class _Remaining:
    """What the last responses said remains, for the gauge to tell."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], tuple[int, int, Attributes]] = {}

    def observe(self, now_ns: int) -> list[Observation]:
        return [
            Observation(value, attributes)
            for value, seen_ns, attributes in list(self.seen.values())
            if now_ns - seen_ns < _FRESH_NS
        ]


class Telemetry:
    """The tracer and instruments of one `instrument`, renewed when the global providers are replaced."""

    def __init__(self, settings: TracingSettings) -> None:
        self.settings = settings
        self._models: set[str] = set()
        self._remaining = _Remaining()
        self._tracer_provider: TracerProvider | None = None
        self._meter_provider: MeterProvider | None = None
        self._tracer: Tracer | None = None
        self._instruments: Instruments | None = None

    @property
    def tracer(self) -> Tracer:
        """Of the given provider, or of whichever is the global one now."""
        provider = self.settings.tracer_provider or trace.get_tracer_provider()
        if self._tracer is None or provider is not self._tracer_provider:
            self._tracer_provider, self._tracer = provider, provider.get_tracer(SCOPE)
        return self._tracer

    @property
    def instruments(self) -> Instruments:
        """Of the given provider, or of whichever is the global one now."""
        provider = self.settings.meter_provider or metrics.get_meter_provider()
        if self._instruments is None or provider is not self._meter_provider:
            meter = provider.get_meter(SCOPE)
            self._meter_provider, self._instruments = provider, Instruments(meter, self.settings)
            remaining = weakref.ref(self._remaining)

            def observe(_: CallbackOptions) -> Iterable[Observation]:
                # A callback cannot be taken back: it goes on as long as its meter, and then finds nothing to tell.
                found = remaining()
                return found.observe(time.monotonic_ns()) if found is not None else []

            meter.create_observable_gauge(
                "tensorix.ratelimit.remaining", [observe], "1", "What the last response said is left of the minute."
            )
        return self._instruments

    def model_label(self, model: str | None) -> str | None:
        """The model's name as metrics carry it: beyond so many distinct ones, `other`."""
        if model is None or model in self._models:
            return model
        if len(self._models) >= self.settings.most_models:
            return "other"
        self._models.add(model)
        return model

    def note_remaining(self, resource: str, value: int, server: str) -> None:
        """A response said that so much of `requests` or `tokens` is left."""
        known = self._remaining.seen.get((server, resource))
        if known is not None:
            attributes = known[2]
        else:
            if len(self._remaining.seen) >= 2 * self.settings.most_models:
                return
            attributes = {names.RESOURCE: resource, names.PROVIDER: self.settings.provider_name}
            attributes[names.SERVER_ADDRESS] = server
            if self.settings.key_alias is not None:
                attributes[names.KEY_ALIAS] = self.settings.key_alias
        self._remaining.seen[server, resource] = (value, time.monotonic_ns(), attributes)

    def forget(self) -> None:
        """After `uninstrument`: the gauge tells nothing more."""
        self._remaining = _Remaining()


def record_call(
    instruments: Instruments, attributes: Attributes, context: Context, duration_s: float, first_chunk_s: float | None
) -> None:
    """Give the histograms of duration and of the first chunk their values, with the span's context for exemplars."""
    for histogram in instruments.duration:
        histogram.record(duration_s, attributes, context)
    if first_chunk_s is not None:
        for histogram in instruments.first_chunk:
            histogram.record(first_chunk_s, attributes, context)


def record_tokens(instruments: Instruments, attributes: Attributes, context: Context, kind: str, count: int) -> None:
    """Give the metrics of tokens theirs; `kind` is `input` or `output`."""
    if instruments.token_usage:
        with_kind = {**attributes, names.TOKEN_TYPE: kind}
        for histogram in instruments.token_usage:
            histogram.record(count, with_kind, context)
    for histogram in instruments.tokens[kind]:
        histogram.record(count, attributes, context)
    for counter in instruments.token_counters[kind]:
        counter.add(count, {**attributes, "gen_ai.token.modality": "text"}, context)
