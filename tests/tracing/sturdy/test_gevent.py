"""Under gevent, whose greenlets take the place of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tensorix_simulator import Simulator

_PATCH = """
from gevent import monkey
monkey.patch_all()
"""
_IMPORT = """
import tensorix_tracing._instrument
"""


# Whoever asks these models waits until it is ended: nothing here depends on who is quicker.
_STALLING = "deepseek/deepseek-chat-v3.1"
_SILENT = "deepseek/deepseek-r1-0528"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One model of which stops in the middle of each stream, and one that never answers."""
    faults = [f"stall 600s after 3 chunks, model {_STALLING}", f"stall 600s before headers, model {_SILENT}"]
    with Simulator(rpm=None, tpm=None, ttft="1ms", between_tokens="1ms", faults=faults) as simulator:
        yield simulator
        assert simulator.complaints() == ""


@pytest.mark.parametrize("before", [_PATCH, _IMPORT + _PATCH], ids=["patched first", "imported first"])
def test_greenlets(program: Callable[..., str], before: str) -> None:
    """Of 50 greenlets that stream at once the one killed in mid-stream is cancelled, and the others complete."""
    if before != _PATCH:
        # To patch after the import of ssl is gevent's own complaint.
        before = "import warnings\nwarnings.simplefilter('ignore')\n" + before
    program(
        f"stalling, silent = {_STALLING!r}, {_SILENT!r}"
        """
import gevent
kept, tracers = provide()
client = openai.OpenAI(base_url=base_url, api_key="k", max_retries=0)
# openai's own first call, instrumented or not, hangs where many greenlets make it at once.
list(client.chat.completions.create(**asked, stream=True))
instrument(client, tracer_provider=tracers)
def work(number):
    with tracers.get_tracer("mine").start_as_current_span("work", attributes={"number": number}):
        return len(list(client.chat.completions.create(**asked, stream=True, seed=number)))
reading = gevent.event.Event()
def read_for_ever():
    for number, _ in enumerate(client.chat.completions.create(**{**asked, "model": stalling}, stream=True)):
        if number == 2:
            reading.set()
victim = gevent.spawn(read_for_ever)
greenlets = [gevent.spawn(work, number) for number in range(19)]
assert reading.wait(40)
victim.kill()
assert isinstance(victim.value, gevent.GreenletExit)
gevent.joinall(greenlets, timeout=40, raise_error=True)
assert all(greenlet.value for greenlet in greenlets)
by_id = {span.context.span_id: span for span in kept.ended}
calls = [span for span in kept.ended if span.name.startswith("chat ")]
outcomes = [span.attributes["tensorix.stream.outcome"] for span in calls]
assert sorted(outcomes) == ["cancelled"] + ["completed"] * 19, outcomes
for span in calls:
    if span.parent is not None:
        assert by_id[span.parent.span_id].attributes["number"] == span.attributes["gen_ai.request.seed"]
assert sum(span.parent is not None for span in calls) == 19
assert len(kept.started) == len(kept.ended) == 39
assert len(OPEN) == 0

# One that is killed before its answer, one that is dropped, one that is left idle.
instrument(client, tracer_provider=tracers, idle_after_s=0.1)
kept.ended.clear()
before = len(kept.started)
early = gevent.spawn(lambda: client.chat.completions.create(**{**asked, "model": silent}, stream=True))
with gevent.Timeout(20):
    while len(kept.started) == before:
        gevent.sleep(0.01)
early.kill()
stream = client.chat.completions.create(**{**asked, "model": stalling}, stream=True)
next(stream)
del stream
gc.collect()
held = client.chat.completions.create(**{**asked, "model": stalling}, stream=True)
next(held)
with gevent.Timeout(20):
    while OPEN:
        gevent.sleep(0.01)
assert kept.outcomes() == ["cancelled", "abandoned", "abandoned"], kept.outcomes()
held.close()
client.close()
""",
        before=before,
    )
