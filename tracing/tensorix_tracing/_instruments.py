"""The instruments that calls are measured with: names, units, buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter

    from tensorix_tracing._settings import MetricNames

__all__ = ["Attributes", "Instruments"]

SECONDS = tuple(0.01 * 2**power for power in range(14))
"""0.01 to 81.92 s, as the conventions for calls have them."""
SECONDS_A_CHUNK = tuple(0.001 * 2**power for power in range(15))
"""1 ms to 16.4 s: chunks follow one another more closely than calls."""
TOKENS = tuple(float(4**power) for power in range(14))
"""1 to 67,108,864."""

Attributes = dict[str, str | int]


class Instruments:
    """The instruments of one meter, under the old names, the new ones or both."""

    def __init__(self, meter: Meter, metric_names: MetricNames) -> None:
        old = metric_names in ("old", "both")
        new = metric_names in ("new", "both")

        def histograms(
            old_name: str, new_name: str, unit: str, about: str, bounds: tuple[float, ...]
        ) -> list[Histogram]:
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
            kind: [meter.create_counter(f"gen_ai.client.inference.usage.{kind}_tokens", "{token}", about)]
            if new
            else []
            for kind, about in (
                ("input", "Tokens of all prompts."),
                ("output", "Tokens of all answers, reasoning included."),
                ("cache_read.input", "Tokens of prompts that the server had in a cache; part of all prompts'."),
                ("reasoning.output", "Tokens of reasoning; part of all answers'."),
            )
        }
        self.retries = meter.create_counter(
            "tensorix.client.retries", "{attempt}", "Attempts that were followed by another, by status."
        )
