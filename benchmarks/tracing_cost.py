"""How much processor time does tracing add, to a call and to a chunk, beside genai-openai and beside none?

    python benchmarks/tracing_cost.py [--rounds 60] [--json FILE] [--usage]

One process, one thread; the openai SDK over a transport that answers in the process (no network and its noise), with
chunks of 200 to 300 bytes, each of another text, and with rate-limit headers. In each round, in random order, come
blocks of:

    bare          a client that nobody traces
    ours          tensorix_tracing; recorded (BatchSpanProcessor, an exporter that drops, a meter with a reader)
    ours, off     the same, not sampled (ALWAYS_OFF; metrics are still recorded)
    genai         opentelemetry-instrumentation-genai-openai, recorded; taken out after each block
    genai, off    the same, not sampled

A block is calls of 2 chunks ("a call"), of 102 (a hundredth of what they take longer is "a chunk") or calls that are
not streamed. The collector runs before a block and not within. Every call is timed by itself, and what counts is the
10 % quantile of all calls of a kind: what else the machine does can only add. In µs of processor time, less the bare
client's, with a 95 % interval (bootstrap over rounds):

    thread        of the calling thread: what the caller waits for
    all           besides, the median of what other threads took until the spans were flushed; and of what a collection
                  of metrics took longer than one with nothing new, after as many calls as a busy service makes from one
                  to the next. So work that is put off counts as well

Exit status 1 where the goal is missed (0.4 of genai's, 0.2 not sampled), or where somebody did not tell of every call.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

ROOT: Final = Path(__file__).parents[1]
PEER: Final = ROOT / ".peers" / "tracing-genai-openai"
GOALS: Final = {"": 0.4, ", off": 0.2}
SHAPES: Final = {"short": (1, 10, 80), "long": (101, 4, 20), "whole": (-1, 10, 80)}
"""Chunks before the last one (none: not streamed), calls in a block, and calls before a collection of metrics."""
_COLLECT_EVERY = 6
TIMERS: Final = ("thread", "all")
FIGURES: Final = ("a call", "a chunk", "not streamed")
Kind: TypeAlias = tuple[str, str]
"""The name of a variant, and of a shape."""
_DRAWS = 400
_MODULE = "opentelemetry.instrumentation.genai.openai"
_MODEL = "deepseek/deepseek-chat-v3.1"
_MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a token?"}]
_USAGE = '"usage":{"prompt_tokens":14,"completion_tokens":100,"total_tokens":114}'
_HEAD = (
    'data: {"id":"chatcmpl-9f8a7b6c5d4e3f2a1b0c","object":"chat.completion.chunk","created":1790000000,'
    f'"model":"{_MODEL}","system_fingerprint":null,"choices":[{{"index":0,"delta":{{'
)
_CHUNK = (_HEAD + '"content":" word%d"},"logprobs":null,"finish_reason":null}]}\n\n').encode()
_LAST = (_HEAD + '},"logprobs":null,"finish_reason":"stop"}]}\n\n').encode()
_TOKENS = (_HEAD.partition('"choices"')[0] + f'"choices":[],{_USAGE}}}\n\n').encode()
_DONE = b"data: [DONE]\n\n"
_WHOLE = (
    f'{{"id":"chatcmpl-9f8a7b6c5d4e3f2a1b0c","object":"chat.completion","created":1790000000,"model":"{_MODEL}",'
    '"choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"logprobs":null,"finish_reason":"stop"}],'
    f"{_USAGE}}}"
)
_HEADERS = [
    (b"date", b"Mon, 23 Nov 2026 12:00:00 GMT"),
    (b"server", b"uvicorn"),
    (b"x-request-id", b"0b6e7c1f5a9c4d2e8f3a"),
    (b"x-ratelimit-api_key-remaining-requests", b"59"),
    (b"x-ratelimit-api_key-remaining-tokens", b"1999989"),
]


def answering_transport(*, usage: bool) -> Any:
    """A transport that answers each request by what its user agent asks for (`chunks`, or none)."""
    import httpx2

    numbers = iter(range(1, 1 << 62))

    class Events(httpx2.SyncByteStream):
        def __init__(self, chunks: int) -> None:
            self.chunks = chunks

        def __iter__(self) -> Iterator[bytes]:
            for _ in range(self.chunks):
                yield _CHUNK % next(numbers)
            yield _LAST
            if usage:
                yield _TOKENS
            yield _DONE

    class Answering(httpx2.BaseTransport):
        chunks = 1

        def handle_request(self, request: Any) -> Any:
            if self.chunks < 0:
                text = _WHOLE % " ".join(f"word{next(numbers)}" for _ in range(100))
                return httpx2.Response(200, headers=[*_HEADERS, (b"content-type", b"application/json")], content=text)
            events = [*_HEADERS, (b"content-type", b"text/event-stream; charset=utf-8")]
            return httpx2.Response(200, headers=events, stream=Events(self.chunks))

    return Answering()


class Providers:
    """An SDK as a service has it, whose exporter counts the spans and drops them."""

    def __init__(self, *, sampled: bool) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

        providers = self

        class Dropping(SpanExporter):
            def export(self, spans: Sequence[Any]) -> SpanExportResult:
                providers.spans += len(spans)
                return SpanExportResult.SUCCESS

        self.spans = self.durations = 0
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
        self.tracers.add_span_processor(BatchSpanProcessor(Dropping()))
        self.meters = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)

    def collect(self) -> None:
        """As a reader does once a minute; keeps how many calls the histogram of their durations counts."""
        data = self.reader.get_metrics_data()
        self.durations = sum(
            getattr(point, "count", 0)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if metric.name == "gen_ai.client.operation.duration"
        )


class Block(NamedTuple):
    """µs: of the calling thread for each call; of other threads, a call; of the collection of metrics, a call."""

    calls: list[float]
    elsewhere: float
    put_off: float | None


class Variant:
    """A client and who traces it: `put_in` before a block, `take_out` after it."""

    def __init__(self, sampled: bool | None, *, usage: bool) -> None:
        import httpx2
        import openai

        self.transport = answering_transport(usage=usage)
        self.client: Any = openai.OpenAI(
            base_url="http://127.0.0.1:1/v1",
            api_key="sk-none",
            http_client=httpx2.Client(transport=self.transport),
            max_retries=0,
        )
        self.sampled = sampled
        self.providers = None if sampled is None else Providers(sampled=sampled)
        self.asked = 0
        self.options = {"stream_options": {"include_usage": True}} if usage else {}

    def put_in(self) -> None:
        """Trace the client from here on."""

    def take_out(self) -> None:
        """Trace it no more."""

    def call(self, chunks: int) -> None:
        """One call, read to its end."""
        self.asked += 1
        create = self.client.chat.completions.create
        if chunks < 0:
            create(model=_MODEL, messages=_MESSAGES, temperature=0.2, max_tokens=200)
            return
        for _ in create(model=_MODEL, messages=_MESSAGES, temperature=0.2, max_tokens=200, stream=True, **self.options):
            pass

    def block(self, shape: str, *, collect: bool) -> Block:
        """Some calls, after others that are not counted."""
        chunks, calls, _ = SHAPES[shape]
        self.transport.chunks = chunks
        for _ in range(3):
            self.call(chunks)
        self.flush()
        self.collect()
        gc.collect()
        gc.disable()
        clock, taken = time.thread_time_ns, []
        process, thread = time.process_time_ns(), clock()
        for _ in range(calls):
            begun = clock()
            self.call(chunks)
            taken.append((clock() - begun) / 1e3)
        self.flush()
        elsewhere = (time.process_time_ns() - process) - (clock() - thread)
        gc.enable()
        return Block(taken, elsewhere / calls / 1e3, self._put_off(shape) if collect else None)

    def _put_off(self, shape: str) -> float:
        """What the next collection has to do for each of many calls, µs."""
        chunks, _, calls = SHAPES[shape]
        self.collect()
        for _ in range(calls if self.providers is not None else 0):
            self.call(chunks)
        return (self.collect() - self.collect()) / calls / 1e3

    def collect(self) -> int:
        """Have the metrics collected; ns of processor time."""
        begun = time.process_time_ns()
        if self.providers is not None:
            self.providers.collect()
        return time.process_time_ns() - begun

    def flush(self) -> None:
        """Have the spans exported."""
        if self.providers is not None:
            self.providers.tracers.force_flush()

    def complaint(self) -> str | None:
        """What it left untold."""
        if self.providers is None:
            return None
        self.flush()
        self.providers.collect()
        spans, durations = self.providers.spans, self.providers.durations
        wanted = self.asked if self.sampled else 0
        if (spans, durations) == (wanted, self.asked):
            return None
        return f"{self.asked} calls: {spans} spans instead of {wanted}, {durations} durations"


class Ours(Variant):
    """Traced once for all: other clients are not touched by it."""

    def put_in(self) -> None:
        """Only once."""
        if self.asked == 0 and self.providers is not None:
            from tensorix_tracing import instrument

            instrument(self.client, tracer_provider=self.providers.tracers, meter_provider=self.providers.meters)


class GenAI(Variant):
    """Works on the classes of openai, and so on every client while it is in."""

    def put_in(self) -> None:
        """On the classes."""
        assert self.providers is not None
        self._instrumentor = importlib.import_module(_MODULE).OpenAIInstrumentor()
        self._instrumentor.instrument(tracer_provider=self.providers.tracers, meter_provider=self.providers.meters)

    def take_out(self) -> None:
        """As they were."""
        self._instrumentor.uninstrument()


def variants(*, usage: bool) -> dict[str, Variant]:
    """By name; without genai-openai where that is not installed."""
    found: dict[str, Variant] = {"bare": Variant(None, usage=usage)}
    for suffix, sampled in (("", True), (", off", False)):
        found["ours" + suffix] = Ours(sampled, usage=usage)
        if has_peer():
            found["genai" + suffix] = GenAI(sampled, usage=usage)
    return found


def has_peer() -> bool:
    """Whether this environment has genai-openai."""
    try:
        return importlib.util.find_spec(_MODULE) is not None
    except ModuleNotFoundError:
        return False


def play(found: dict[str, Variant], rounds: int, seed: int) -> list[dict[Kind, Block]]:
    """A block of each variant and shape, round by round; nothing where calls are not told of even before."""
    order = random.Random(seed)
    taken: list[dict[Kind, Block]] = []
    for number in range(-2, rounds):
        if number == 0 and complaints(found):
            return []
        if number == 0:
            # The interpreter is warm; what lives from here on is not looked at again by each run of the collector.
            gc.collect()
            gc.freeze()
            taken.clear()
        names = list(found)
        order.shuffle(names)
        blocks = {}
        for name in names:
            variant = found[name]
            variant.put_in()
            for shape in order.sample(list(SHAPES), len(SHAPES)):
                blocks[name, shape] = variant.block(shape, collect=number % _COLLECT_EVERY == 0)
            variant.take_out()
        taken.append(blocks)
    return taken


def added(taken: list[dict[Kind, Block]], names: Sequence[str]) -> dict[tuple[str, str, str], float]:
    """µs by timer, figure and variant: bare as it is, the others beyond it; `share` of a variant of ours as well."""
    low = {kind: quantile([us for blocks in taken for us in blocks[kind].calls], 0.1) for kind in taken[0]}
    beyond = {}
    for kind in taken[0]:
        put_off = [us for blocks in taken if (us := blocks[kind].put_off) is not None]
        beyond[kind] = statistics.median(blocks[kind].elsewhere for blocks in taken) + statistics.median(put_off)
    found: dict[tuple[str, str, str], float] = {}
    for timer in TIMERS:
        for name in names:
            short, long, whole = (
                low[name, shape] + (beyond[name, shape] if timer == "all" else 0.0) for shape in SHAPES
            )
            a_chunk = (long - short) / (SHAPES["long"][0] - SHAPES["short"][0])
            for figure, us in zip(FIGURES, (short, a_chunk, whole), strict=True):
                found[timer, figure, name] = us - found.get((timer, figure, "bare"), 0.0)
        for suffix in GOALS:
            if f"genai{suffix}" in names:
                for figure in FIGURES:
                    theirs = found[timer, figure, f"genai{suffix}"]
                    found[timer, figure, f"share{suffix}"] = found[timer, figure, f"ours{suffix}"] / theirs
    return found


def complaints(found: dict[str, Variant]) -> list[str]:
    """Who did not tell of every call."""
    return [f"{name}: {text}" for name, variant in found.items() if (text := variant.complaint())]


def quantile(values: list[float], share: float) -> float:
    """The value that so large a share of them lies below."""
    return sorted(values)[int(share * (len(values) - 1))]


def summary(taken: list[dict[Kind, Block]], names: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """One row a timer, figure and variant (or share), with the interval and, for shares, the goal."""
    order = random.Random(seed)
    collected, others = taken[::_COLLECT_EVERY], [one for k, one in enumerate(taken) if k % _COLLECT_EVERY]
    drawn = [
        added(order.choices(collected, k=len(collected)) + order.choices(others or collected, k=len(others)), names)
        for _ in range(_DRAWS)
    ]
    rows = []
    for (timer, figure, name), value in added(taken, names).items():
        values = [one[timer, figure, name] for one in drawn]
        row = {"timer": timer, "figure": figure, "of": name, "value": value}
        row |= {"low": quantile(values, 0.025), "high": quantile(values, 0.975)}
        if name.startswith("share"):
            row["goal"] = GOALS[name.removeprefix("share")]
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| timer | of | bare µs | recorded: ours | genai-openai | share | not sampled: ours | genai-openai | share |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    found = {(row["timer"], row["figure"], row["of"]): row for row in rows}
    for timer in TIMERS:
        for figure in FIGURES:
            cells = [f"{found[timer, figure, 'bare']['value']:.1f}"]
            for suffix in GOALS:
                for name, form in (("ours", ".1f"), ("genai", ".1f"), ("share", ".2f")):
                    row = found.get((timer, figure, name + suffix))
                    if row is None:
                        cells.append("not installed")
                        continue
                    text = f"{row['value']:{form}} ({row['low']:{form}} to {row['high']:{form}})"
                    cells.append(text + (" above the goal" if row["value"] > row.get("goal", row["value"]) else ""))
            lines.append(f"| {timer} | {figure} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure, in the peer's environment where there is one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--usage", action="store_true", help="ask for the usage of streams, which records tokens")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    asked = parser.parse_args()
    peer = PEER / "bin" / "python"
    if not has_peer() and peer.exists():
        rooms = os.pathsep.join(str(ROOT / room) for room in ("api", "tracing"))
        return subprocess.run([peer, *sys.argv], env={**os.environ, "PYTHONPATH": rooms}, check=False).returncode
    if not has_peer():
        print("genai-openai is not installed: `make bench-peers`")
    load = os.getloadavg()[0]
    found = variants(usage=asked.usage)
    taken = play(found, asked.rounds, asked.seed)
    untold = complaints(found)
    for text in untold:
        print(text)
    if not taken:
        return 1
    rows = summary(taken, list(found), asked.seed)
    print(table(rows))
    print(f"\n{asked.rounds} rounds; load of the machine {load:.1f} before, {os.getloadavg()[0]:.1f} after,", end=" ")
    print(f"{os.cpu_count()} processors")
    if asked.json:
        asked.json.write_text(
            json.dumps({"rounds": asked.rounds, "load": load, "rows": rows}, indent=1), encoding="utf-8"
        )
    missed = [row for row in rows if row["value"] > row.get("goal", row["value"])]
    return 1 if missed or untold else 0


if __name__ == "__main__":
    sys.exit(main())
