"""The pacer: due times kept in order, never early, whatever a job does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from tensorix_simulator.latency.pacing import Pacer

MS = 1_000_000


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = request.param()
    yield loop
    loop.close()


def run_until(loop: asyncio.AbstractEventLoop, condition: Callable[[], bool]) -> None:
    """Turn the loop until `condition` holds."""
    deadline = time.monotonic() + 10

    def look() -> None:
        if condition() or time.monotonic() > deadline:
            loop.stop()
        else:
            loop.call_later(0.001, look)

    loop.call_soon(look)
    loop.run_forever()
    assert condition()


def test_jobs_run_in_order_and_never_early(loop: asyncio.AbstractEventLoop) -> None:
    """500 jobs at random times within 100 ms, added in no order."""
    pacer, ran = Pacer(loop), []
    start_ns = time.monotonic_ns()
    dues = [start_ns + random.Random(1).randrange(100 * MS) + k for k in range(500)]

    def job(due_ns: int) -> None:
        ran.append((due_ns, time.monotonic_ns()))

    for due_ns in dues:
        pacer.add(due_ns, job)
    run_until(loop, lambda: len(ran) == 500)
    assert [due_ns for due_ns, _ in ran] == sorted(dues)
    assert all(at_ns >= due_ns for due_ns, at_ns in ran)


def test_a_job_goes_on_from_its_due_time(loop: asyncio.AbstractEventLoop) -> None:
    """It runs again at the time that it returns, however late it ran: lateness does not add up."""
    pacer, ran = Pacer(loop), []
    start_ns = time.monotonic_ns()

    def job(due_ns: int) -> int | None:
        ran.append(due_ns)
        time.sleep(0.002)
        return due_ns + MS if len(ran) < 20 else None

    pacer.add(start_ns, job)
    run_until(loop, lambda: len(ran) == 20)
    assert ran == [start_ns + k * MS for k in range(20)]


def test_an_earlier_job_wakes_an_armed_pacer(loop: asyncio.AbstractEventLoop) -> None:
    """One that is due before all others does not wait for them; jobs may add jobs."""
    pacer, ran = Pacer(loop), []
    far_ns = time.monotonic_ns() + 3600 * 1000 * MS
    pacer.add(far_ns, lambda due_ns: None)

    def job(due_ns: int) -> None:
        ran.append(due_ns)
        if len(ran) < 3:
            pacer.add(time.monotonic_ns() + 2 * MS, job)

    pacer.add(time.monotonic_ns() + 5 * MS, job)
    run_until(loop, lambda: len(ran) == 3)


def test_a_job_that_raises_stops_no_other(loop: asyncio.AbstractEventLoop) -> None:
    """The loop is told, and the streams beside it go on."""
    pacer = Pacer(loop)
    ran: list[int] = []
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    now_ns = time.monotonic_ns()

    def broken(due_ns: int) -> None:
        raise RuntimeError("broken")

    pacer.add(now_ns, broken)
    pacer.add(now_ns + 1, ran.append)
    run_until(loop, lambda: len(ran) == 1)
    assert [str(context["exception"]) for context in told] == ["broken"]


def test_sockets_are_looked_at_between_due_jobs(loop: asyncio.AbstractEventLoop) -> None:
    """With always something due, other callbacks of the loop still get their turn."""
    pacer = Pacer(loop)
    others: list[int] = []
    ran = 0

    def job(due_ns: int) -> int | None:
        nonlocal ran
        ran += 1
        return due_ns if len(others) < 3 and ran < 100_000 else None

    def other() -> None:
        others.append(ran)
        loop.call_soon(other) if len(others) < 3 else None

    pacer.add(time.monotonic_ns(), job)
    loop.call_soon(other)
    run_until(loop, lambda: len(others) == 3)
    assert others[-1] < 1_000


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_job_may_add_one_that_is_overdue(loop: asyncio.AbstractEventLoop, goes_on: bool) -> None:
    """Each runs as often as it asks to, though the added one was due before the one that added it."""
    pacer, ran = Pacer(loop), []
    start_ns = time.monotonic_ns()

    def job(due_ns: int) -> int | None:
        ran.append(due_ns - start_ns)
        if due_ns == start_ns:
            pacer.add(start_ns - MS, lambda earlier_ns: ran.append(earlier_ns - start_ns))
        return due_ns + MS if goes_on and due_ns < start_ns + 2 * MS else None

    pacer.add(start_ns, job)
    pacer.add(start_ns + 3 * MS, lambda due_ns: ran.append(due_ns - start_ns))
    run_until(loop, lambda: len(ran) == (5 if goes_on else 3))
    assert ran == [0, -MS, *([MS, 2 * MS] if goes_on else []), 3 * MS]
