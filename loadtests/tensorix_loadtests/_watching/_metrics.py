"""A run as OpenTelemetry metrics: standard names where there are some, `tensorix.load.*` for the rest.

Buckets and the closed list of attributes are those of `tensorix_tracing`: nothing of a single request but its model,
whose names are bounded; no key and no alias of one, no text, no id.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any

from opentelemetry.metrics import CallbackOptions, Histogram, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from tensorix_api import semantic_names as names
from tensorix_loadtests._load_run import LoadRun
from tensorix_records import RequestRecord
from tensorix_records.one_request import is_chat, quantity_of

__all__ = ["Metrics", "resource_of"]

_SERVICE = "tensorix-load"
_PROVIDER = "tensorix"
_MOST_MODELS = 50
_SECONDS = tuple(0.01 * 2**power for power in range(14))
"""0.01 to 81.92 s, as the conventions for calls have them."""
_FINE_SECONDS = tuple(0.001 * 2**power for power in range(15))
"""1 ms to 16.4 s, for what is much shorter than a call."""
_TOKENS = tuple(float(4**power) for power in range(14))
"""1 to 67,108,864."""

_Seen = list[tuple[float, dict[str, str]]]
_Read = Callable[[], _Seen]


def resource_of(run: LoadRun) -> Resource:
    """Who sends: this program in this run; what the environment says goes before."""
    told = {
        "service.name": _SERVICE,
        "service.version": version("tensorix-toolkit"),
        "service.instance.id": run.session.process_id,
        "tensorix.run.id": run.session.run_id,
    }
    return Resource.create(told).merge(OTELResourceDetector().detect())


class Metrics:
    """Listens to a run and keeps its instruments, which the readers look at when it is their time."""

    def __init__(self, run: LoadRun, readers: Iterable[MetricReader]) -> None:
        self._run = run
        self._server = {
            names.SERVER_ADDRESS: run.session.target.host,
            names.SERVER_PORT: run.session.target.port,
        }
        self._models: set[str] = set()
        self._second: Mapping[str, Any] = {}
        self._counted: Counter[frozenset[tuple[str, str | int]]] = Counter()
        self._amounts: defaultdict[str, float] = defaultdict(float)
        self._remaining: dict[str | None, dict[str, int]] = {}
        # Ended by `close`, within its bound.
        self.provider = MeterProvider(
            list(readers), resource_of(run), shutdown_on_exit=False, exemplar_filter=AlwaysOffExemplarFilter()
        )
        self._meter = meter = self.provider.get_meter(_SERVICE)

        def histogram(name: str, unit: str, bounds: tuple[float, ...], about: str) -> Histogram:
            return meter.create_histogram(name, unit, about, explicit_bucket_boundaries_advisory=bounds)

        self._duration = histogram(
            "gen_ai.client.operation.duration", "s", _SECONDS, "How long a call took, to the end of its stream."
        )
        self._first_chunk = histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            _SECONDS,
            "From the call to the first chunk of its stream.",
        )
        self._usage = histogram("gen_ai.client.token.usage", "{token}", _TOKENS, "Tokens of a call.")
        self._first_token = histogram(
            "tensorix.load.time_to_first_token",
            "s",
            _SECONDS,
            "From the call to the first chunk with anything generated.",
        )
        self._token_time = histogram(
            "tensorix.load.time_per_output_token", "s", _FINE_SECONDS, "Mean time from a token to the next, of a call."
        )
        self._from_intended = histogram(
            "tensorix.load.duration_from_intended", "s", _SECONDS, "From when the schedule wanted a call to its end."
        )
        self._delay = histogram(
            "tensorix.load.schedule_delay", "s", _FINE_SECONDS, "By how much a call began later than its schedule."
        )
        self._requests = meter.create_counter("tensorix.load.requests", "{request}", "Requests by what came of them.")
        self._spent = {
            "requests": meter.create_counter("tensorix.load.spent.requests", "{request}", "Requests sent."),
            "tokens": meter.create_counter("tensorix.load.spent.tokens", "{token}", "Tokens that the server counted."),
            "money": meter.create_counter("tensorix.load.spent.money", description="By the prices given."),
        }
        self._observe()

    def _observe(self) -> None:
        load, limit = "tensorix.load", "What the server said last is left, of all keys together."
        late = "By how much its event loop came round late, at most in a second."
        gauges: list[tuple[str, str, str, _Read]] = [
            (f"{load}.users", "{user}", "Users.", lambda: self._of("users")),
            (f"{load}.in_flight", "{request}", "Begun and not ended.", lambda: self._of("in_flight")),
            (f"{load}.budget.remaining.requests", "{request}", "Left of the cap.", lambda: self._left("requests")),
            (f"{load}.budget.remaining.tokens", "{token}", "Left of the cap.", lambda: self._left("tokens")),
            (f"{load}.budget.remaining.money", "", "Left of the cap.", lambda: self._left("money")),
            ("tensorix.ratelimit.remaining", "", limit, self._limits),
            (f"{load}.client.cpu", "1", "Of a core, used by a process.", lambda: self._client("cpu_share", 1)),
            (f"{load}.client.loop_lag", "s", late, lambda: self._client("loop_lag_max_ns", 1e-9)),
            (
                f"{load}.client.dispatch_delay",
                "s",
                "By how much requests left a process late, p99 of a second.",
                lambda: self._client("dispatch_delay_p99_ns", 1e-9),
            ),
        ]
        for gauge in gauges:
            self._gauge(*gauge)

    def _gauge(self, name: str, unit: str, about: str, read: _Read) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, attributes) for value, attributes in read()]

        self._meter.create_observable_gauge(name, [observe], unit, about)

    def _of(self, name: str) -> _Seen:
        return [(self._second[name], {})] if name in self._second else []

    def _client(self, name: str, scale: float) -> _Seen:
        clients = [(self._run.session.process_id, self._second), *self._run.workers.items()]
        return [(told[name] * scale, {"tensorix.process": who}) for who, told in clients if name in told]

    def _left(self, what: str) -> _Seen:
        left = self._second.get("left", {})
        return [(left[what], {})] if what in left else []

    def _limits(self) -> _Seen:
        said = {
            what: [limits[what] for limits in self._remaining.values() if what in limits]
            for what in ("requests", "tokens")
        }
        return [(sum(amounts), {names.RESOURCE: what}) for what, amounts in said.items() if amounts]

    def on_second(self, second: Mapping[str, Any]) -> None:
        """What the gauges show from now on; and the counters, which are cheaper told together."""
        self._second = second
        self.tell()

    def tell(self) -> None:
        """Tell the counters what was counted."""
        counted, self._counted = self._counted, Counter()
        spent, self._amounts = self._amounts, defaultdict(float)
        for outcome, number in counted.items():
            self._requests.add(number, dict(outcome))
        for what, amount in spent.items():
            self._spent[what].add(amount)

    def on_record(self, record: RequestRecord) -> None:
        """Measure a request."""
        error_type = None
        if record.outcome != "success":
            status = record.status or 0
            error_type = str(status) if status >= 400 else record.error_kind or "_OTHER"
        # As the conventions have it, a call that failed has no figures but its duration.
        attributes = {names.OPERATION: "chat", names.PROVIDER: _PROVIDER, **self._server}
        outcome: dict[str, str | int] = {"tensorix.outcome": record.outcome}
        if record.status is not None:
            outcome[names.HTTP_STATUS] = record.status
        if error_type is not None:
            outcome[names.ERROR_TYPE] = error_type
        if record.model_requested is not None:
            attributes[names.REQUEST_MODEL] = outcome[names.REQUEST_MODEL] = self._model(record.model_requested)
        self._counted[frozenset(outcome.items())] += 1
        self._spend(record)
        for what in ("requests", "tokens"):
            if (amount := getattr(record, f"remaining_{what}")) is not None:
                self._remaining.setdefault(record.key_alias, {})[what] = amount
        if (delay := quantity_of(record, "schedule_delay")) is not None and record.attempt == 1:
            self._delay.record(max(delay, 0.0) / 1e9)
        if is_chat(record):
            self._measure(record, attributes, error_type)

    def _measure(self, record: RequestRecord, attributes: dict[str, Any], error_type: str | None) -> None:
        if record.end_at_ns is not None:
            failed = attributes if error_type is None else {**attributes, names.ERROR_TYPE: error_type}
            self._duration.record(record.end_at_ns / 1e9, failed)
        if record.outcome != "success":
            return
        if record.stream is True and record.first_chunk_at_ns is not None:
            self._first_chunk.record(record.first_chunk_at_ns / 1e9, attributes)
        for kind, count in (("input", record.prompt_tokens), ("output", record.completion_tokens)):
            if count is not None:
                self._usage.record(count, {**attributes, names.TOKEN_TYPE: kind})
        for quantity, instrument in (
            ("ttft", self._first_token),
            ("itl", self._token_time),
            ("from_intended", self._from_intended),
        ):
            if (value := quantity_of(record, quantity)) is not None:
                instrument.record(max(value, 0.0) / 1e9, attributes)

    def _spend(self, record: RequestRecord) -> None:
        self._amounts["requests"] += 1
        if tokens := (record.prompt_tokens or 0) + (record.completion_tokens or 0):
            self._amounts["tokens"] += tokens
        if record.cost:
            self._amounts["money"] += record.cost

    def _model(self, model: str) -> str:
        """Its name; beyond so many distinct ones, `other`."""
        if model not in self._models and len(self._models) >= _MOST_MODELS:
            return "other"
        self._models.add(model)
        return model
