"""Processes that fork, spawn and end."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def test_a_fork_with_a_stream_open(program: Callable[..., str]) -> None:
    """A child that drops or closes its parent's stream tells only its own calls; the parent tells its own."""
    program("""
kept, tracers = provide()
client = openai.OpenAI(base_url=base_url, api_key="k", max_retries=0)
instrument(client, tracer_provider=tracers)
dropped = client.chat.completions.create(**asked, stream=True)
next(dropped)
closed = client.chat.completions.create(**asked, stream=True)
next(closed)
child = os.fork()
if child == 0:
    status = 1
    try:
        assert len(OPEN) == 0
        del dropped
        closed.close()
        gc.collect()
        assert kept.ended == [], kept.outcomes()
        # Sockets are not shared with the parent's: a client of its own, as after any fork.
        own = openai.OpenAI(base_url=base_url, api_key="k", max_retries=0)
        instrument(own, tracer_provider=tracers)
        list(own.chat.completions.create(**asked, stream=True))
        stream = own.chat.completions.create(**asked, stream=True)
        next(stream)
        del stream
        gc.collect()
        assert kept.outcomes() == ["completed", "abandoned"], kept.outcomes()
        assert len(OPEN) == 0
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
list(dropped)
closed.close()
assert kept.outcomes() in (["completed", "closed_early"], ["cut", "closed_early"]), kept.outcomes()
client.close()
""")


def test_an_idle_stream_in_a_child(program: Callable[..., str]) -> None:
    """In a child of a process whose watching thread ran, idle streams are still noticed."""
    program("""
kept, tracers = provide()
def held_idle():
    client = openai.OpenAI(base_url=base_url, api_key="k", max_retries=0)
    instrument(client, tracer_provider=tracers, idle_after_s=0.05)
    before = len(kept.ended)
    stream = client.chat.completions.create(**asked, stream=True)
    while len(kept.ended) == before:
        time.sleep(0.005)
    return client, stream
held = held_idle()
child = os.fork()
if child == 0:
    status = 1
    try:
        own = held_idle()
        assert kept.outcomes() == ["abandoned"] * 2
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
held[1].close()
held[0].close()
""")


def test_workers_that_are_forked_after_instrument(program: Callable[..., str]) -> None:
    """Instrumented before the fork, as under gunicorn's preload, every worker tells its own calls, and no more."""
    program("""
kept, tracers = provide()
reader = InMemoryMetricReader()
meters = MeterProvider([reader])
instrument(tracer_provider=tracers, meter_provider=meters, hosts=["127.0.0.1"])
first = openai.OpenAI(base_url=base_url, api_key="k")
list(first.chat.completions.create(**asked, stream=True))
first.close()
assert len(kept.ended) == 1
def count():
    data = reader.get_metrics_data()
    (duration,) = [metric for scope in data.resource_metrics[0].scope_metrics for metric in scope.metrics
                   if metric.name == "gen_ai.client.operation.duration"]
    return sum(point.count for point in duration.data.data_points)
children = []
for worker in range(3):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with openai.OpenAI(base_url=base_url, api_key="k") as client:
                for _ in range(worker + 1):
                    list(client.chat.completions.create(**asked, stream=True))
            assert kept.outcomes() == ["completed"] * (worker + 2), kept.outcomes()
            # What the parent measured is the parent's to tell.
            assert count() == worker + 1, count()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    children.append(child)
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 3
assert count() == 1
""")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(program: Callable[..., str], tmp_path: object, method: str) -> None:
    """Processes of multiprocessing tell their own calls, be they instrumented by inheritance or by themselves."""
    script = f"""
import multiprocessing, pathlib, sys
sys.path.insert(0, {str(tmp_path)!r})
import openai_worker
if __name__ == "__main__":
    kept, tracers = provide()
    openai_worker.prepare(tracers, kept, sys.argv[1])
    openai_worker.work("parent")
    context = multiprocessing.get_context({method!r})
    process = context.Process(target=openai_worker.main, args=(sys.argv[1], {method!r}))
    process.start()
    process.join(40)
    assert process.exitcode == 0, process.exitcode
    assert len(kept.ended) == 1
"""
    from pathlib import Path

    Path(str(tmp_path), "openai_worker.py").write_text("""
import openai
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tensorix_tracing import instrument

state = {}
asked = {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 3}

def prepare(tracers, kept, base_url):
    instrument(tracer_provider=tracers, hosts=["127.0.0.1"])
    state.update(kept=kept, base_url=base_url)

def work(_):
    with openai.OpenAI(base_url=state["base_url"], api_key="k") as client:
        list(client.chat.completions.create(**asked, stream=True))

def main(base_url, method):
    if method == "spawn":
        assert state == {}
        exporter = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
        assert "request" not in vars(openai.OpenAI)
        prepare(tracers, None, base_url)
        work("child")
        assert len(exporter.get_finished_spans()) == 1
    else:
        work("child")
        assert len(state["kept"].ended) == 2
""")
    program(script)


@pytest.mark.parametrize(
    "late", [False, True], ids=["provider before instrument", "provider after instrument and a call"]
)
def test_the_end_of_the_interpreter(program: Callable[..., str], late: bool) -> None:
    """Streams open when the process ends are told as abandoned before the provider shuts down; nothing is printed."""
    printed = program(f"""
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
class Printing(SpanExporter):
    def export(self, spans):
        for span in spans:
            print(span.attributes.get("tensorix.stream.outcome"), flush=True)
        return SpanExportResult.SUCCESS
    def shutdown(self):
        print("shut down", flush=True)
def set_up():
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(Printing()))
    trace.set_tracer_provider(tracers)
client = openai.OpenAI(base_url=base_url, api_key="k")
other = httpx.Client(headers={{"authorization": "Bearer k"}})
late = {late}
if not late:
    set_up()
instrument(client)
instrument(other, hosts=["127.0.0.1"])
if late:
    list(client.chat.completions.create(**asked, stream=True))
    set_up()
held = client.chat.completions.create(**asked, stream=True)
next(held)
cycle = [client.chat.completions.create(**asked, stream=True)]
cycle.append(cycle)
del cycle
raw = other.send(
    other.build_request("POST", base_url + "/chat/completions", json={{**asked, "stream": True}}), stream=True
)
lines = raw.iter_lines()
next(lines)
""")
    assert printed.split("\n") == ["abandoned", "abandoned", "abandoned", "shut down", ""]


def test_the_end_of_the_interpreter_in_asyncio(program: Callable[..., str]) -> None:
    """The same for asynchronous streams whose loop has gone."""
    printed = program("""
import asyncio
kept, tracers = provide()
class Printing(Kept):
    def shutdown(self):
        print(self.outcomes(), len(self.started))
tracers.add_span_processor(Printing())
client = openai.AsyncOpenAI(base_url=base_url, api_key="k")
instrument(client, tracer_provider=tracers)
held = []
async def main():
    held.append(await client.chat.completions.create(**asked, stream=True))
    await anext(held[0])
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
""")
    assert printed == "['abandoned'] 1\n"
