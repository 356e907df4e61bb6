"""Streams that nobody ends: dropped where the collector may not wait, or left unread."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tensorix_simulator import Simulator
from tensorix_tracing import instrument
from tensorix_tracing._errors import Ending
from tensorix_tracing._watch import OpenCalls, is_safe_here


def test_an_idle_stream(simulator: Simulator, parameters: dict[str, Any], told: Any) -> None:
    """Left unread past its deadline a stream is told as abandoned, though held; to read on works, and tells no more."""
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test") as client:
        instrument(client, idle_after_s=0.05, **told.providers)
        stream = client.chat.completions.create(**parameters, stream=True)
        first = next(stream)
        told.wait_for(1)
        rest = list(stream)
        whole = client.chat.completions.create(**parameters, stream=True)
        assert [chunk.choices for chunk in whole] == [chunk.choices for chunk in [first, *rest]]
    abandoned, completed = told.spans
    assert abandoned.attributes["tensorix.stream.outcome"] == "abandoned"
    assert completed.attributes["tensorix.stream.outcome"] == "completed"
    assert told.open == 0


def test_a_slow_stream_is_not_idle(raw_server: Any, chunk_data: Callable[..., bytes], told: Any) -> None:
    """Bytes that come within the deadline keep a stream open, however long it lasts altogether."""
    pauses = 12

    def answer(peer: Any) -> None:
        peer.head()
        for _ in range(pauses):
            peer.events(chunk_data())
            time.sleep(0.03)
        peer.events(chunk_data(finish="stop"), b"[DONE]")
        peer.last()

    server = raw_server(answer)
    with openai.OpenAI(base_url=server.base_url, api_key="sk-test") as client:
        instrument(client, idle_after_s=0.25, **told.providers)
        assert len(list(client.chat.completions.create(model="m", messages=[], stream=True))) == pauses + 1
    assert told.span().attributes["tensorix.stream.outcome"] == "completed"


class _Call:
    """An open call of the test's own."""

    def __init__(self, calls: OpenCalls, idle_after_ns: int = 10**12) -> None:
        self.calls, self.idle_after_ns = calls, idle_after_ns
        self.last_activity_ns = time.perf_counter_ns()
        self.endings: list[Ending] = []
        self.news = threading.Event()

    def end(self, ending: Ending) -> None:
        self.endings.append(ending)
        self.calls.discard(self)
        self.news.set()

    def abandon(self) -> None:
        self.end(Ending("abandoned"))


def test_what_is_put_off_ends_soon() -> None:
    """An end that was put off comes by the watching thread, at once, with the ending that it had."""
    calls = OpenCalls()
    took_s = []
    for _ in range(3):
        call = _Call(calls)
        calls.add(call)
        began = time.perf_counter()
        calls.put_off(call, Ending("cancelled"))
        assert call.news.wait(20)
        assert call.endings == [Ending("cancelled")]
        assert len(calls) == 0
        took_s.append(time.perf_counter() - began)
    # A busy machine may hold up one or two.
    assert min(took_s) < 0.9


def test_the_thread_wakes_from_its_rest() -> None:
    """With nothing open for long the thread rests until a call comes, and sees its deadline then."""
    calls = OpenCalls()
    assert [calls.rest() is None for _ in range(12)] == [False] * 9 + [True] * 3
    calls.add(_Call(calls))
    idle = _Call(calls, idle_after_ns=10**7)
    calls.add(idle)
    assert idle.news.wait(5)


def test_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, streams are followed all the same, and the next one tries again."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls = OpenCalls()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        calls.add(_Call(calls))
    assert len(calls) == 1
    idle = _Call(calls, idle_after_ns=10**7)
    calls.add(idle)
    assert idle.news.wait(5)


def test_one_that_fails_stops_nobody() -> None:
    """A call whose end raises does not keep the thread from the others."""
    calls = OpenCalls()
    failing, idle = _Call(calls, 1), _Call(calls, 10**7)
    setattr(failing, "abandon", None)  # noqa: B010 - not callable, which mypy would see
    calls.add(failing)
    calls.add(idle)
    assert idle.news.wait(5)


def test_deep_down_nothing_is_ended_at_once() -> None:
    """Where the stack is too deep to be looked through, an end is put off."""

    def deep(levels: int) -> bool:
        return deep(levels - 1) if levels else is_safe_here()

    assert deep(10)
    assert sys.getrecursionlimit() > 400
    assert not deep(300)


# Streams are dropped in a cycle, and what holds a lock runs the garbage collector under it. `drop` begins one.
_DROP = """
kept, tracers = provide()
reader = InMemoryMetricReader()
meters = MeterProvider([reader])
client = openai.OpenAI(base_url=base_url, api_key="k")
instrument(client, tracer_provider=tracers, meter_provider=meters)
gc.disable()
def drop():
    stream = client.chat.completions.create(**asked, stream=True)
    next(stream)
    cycle = [stream]
    cycle.append(cycle)
def until(count):
    end = time.monotonic() + 20
    while len(kept.ended) < count:
        assert time.monotonic() < end, kept.outcomes()
        time.sleep(0.002)
"""


@pytest.mark.parametrize("where", ["on_start", "on_end"])
@pytest.mark.parametrize("ours_first", [True, False])
def test_a_collection_under_the_lock_of_a_processor(program: Callable[..., str], where: str, ours_first: bool) -> None:
    """A span processor that collects garbage under its lock does not wait for itself; the stream is told after."""
    program(f"""
class Locking(SpanProcessor):
    def __init__(self):
        self.lock = threading.Lock()
        self.collects = False
    def on_start(self, span, parent_context=None):
        with self.lock:
            if self.collects and {where!r} == "on_start":
                gc.collect()
    def on_end(self, span):
        with self.lock:
            if self.collects and {where!r} == "on_end":
                gc.collect()
locking = Locking()
{_DROP}
tracers.add_span_processor(locking)
if {ours_first}:
    tracers._active_span_processor._span_processors = tracers._active_span_processor._span_processors[::-1]
drop()
locking.collects = True
with tracers.get_tracer("mine").start_as_current_span("mine"):
    pass
until(2)
drop()
list(client.chat.completions.create(**asked, stream=True))
until(4)
assert sorted(filter(None, kept.outcomes())) == ["abandoned", "abandoned", "completed"], kept.outcomes()
assert len(OPEN) == 0 and len(kept.started) == 4
""")


def test_a_collection_while_metrics_are_collected_or_logged(program: Callable[..., str]) -> None:
    """The same under the locks of the metrics' SDK, of a logging handler and of a queue."""
    program(f"""
import logging, queue
{_DROP}
from opentelemetry.metrics import Observation
def callback(options):
    gc.collect()
    return [Observation(1)]
meters.get_meter("mine").create_observable_gauge("mine", [callback])
drop()
assert reader.get_metrics_data() is not None
until(1)

class Collecting(logging.Handler):
    def emit(self, record):
        gc.collect()
class Logging(SpanProcessor):
    def on_end(self, span):
        logging.getLogger("app").warning("a span has ended")
tracers.add_span_processor(Logging())
logging.getLogger("app").addHandler(Collecting())
drop()
logging.getLogger("app").warning("hello")
until(2)

full = queue.Queue()
class Queueing(SpanProcessor):
    def on_end(self, span):
        full.put(span)
class Cleared(queue.Queue):
    pass
tracers.add_span_processor(Queueing())
drop()
real = full._put
def collecting_put(item):
    gc.collect()
    real(item)
full._put = collecting_put
full.put("mine")
until(3)
assert kept.outcomes() == ["abandoned"] * 3
assert len(OPEN) == 0
""")


def test_collections_anywhere(program: Callable[..., str]) -> None:
    """With the collector running every few allocations, threads that drop streams and call meanwhile all end."""
    program(f"""
from concurrent.futures import ThreadPoolExecutor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
class Exporter(SpanExporter):
    def export(self, spans):
        return SpanExportResult.SUCCESS
{_DROP}
tracers.add_span_processor(BatchSpanProcessor(Exporter(), schedule_delay_millis=5))
gc.enable()
gc.set_threshold(50, 2, 2)
def work(number):
    if number % 2:
        drop()
    else:
        list(client.chat.completions.create(**asked, stream=True))
    if number % 5 == 0:
        reader.get_metrics_data()
with ThreadPoolExecutor(4) as pool:
    list(pool.map(work, range(40)))
gc.collect()
until(40)
assert sorted(kept.outcomes()) == ["abandoned"] * 20 + ["completed"] * 20
assert len(OPEN) == 0
""")
