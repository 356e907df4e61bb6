"""The simulator as a server: one process, one thread, two ports."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_simulator.control import Control
from tensorix_simulator.http.listening import Listener, listen
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.service import Service
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.truth import FORMAT, TruthError, TruthLog

__all__ = ["Addresses", "serve"]

_CONTROL_BODY = 1_048_576
_CONTROL_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the simulator listens. `base_url` is what `TENSORIX_BASE_URL` is set to."""

    host: str
    port: int
    control_port: int
    base_url: str
    control_url: str


def _new_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop where it is installed: it carries about twice the streams."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _raise_open_files() -> None:
    """Allow as many connections as this process may ever have."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass


class _Collector:
    """Python's cycle collector held back while streams run: a full collection stops them all for many ms.

    What the simulator makes for a request holds no cycles, so nothing piles up meanwhile.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, busy: Callable[[], bool]) -> None:
        self._loop = loop
        self._busy = busy
        gc.collect()
        gc.freeze()
        gc.disable()
        self._again()

    def _again(self) -> None:
        if not self._busy():
            gc.collect(1)
        self._timer = self._loop.call_later(5.0, self._again)

    def stop(self) -> None:
        """Let Python collect again."""
        self._timer.cancel()
        gc.unfreeze()
        gc.enable()


def _stop_at_end(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    try:
        ended = not os.read(descriptor, 4096)
    except BlockingIOError:
        return
    except OSError:
        ended = True
    if ended:
        loop.remove_reader(descriptor)
        loop.stop()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    settings: SimulatorSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    control_port: int = 0,
    truth_path: Path | None = None,
    on_ready: Callable[[Addresses], None] | None = None,
    until_closed: int | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. Port 0 is any that is free; `on_ready` is told which.

    The control port is always on 127.0.0.1. Signals are only listened to in the main thread. `until_closed` is a file
    descriptor, of a pipe say, whose end also ends the simulator: it does not outlive a parent that was killed. Raises
    SettingsError where an address cannot be had or the truth not be written, TruthError where it no longer can.
    """
    truth = TruthLog(truth_path)
    try:
        public = listen(host, port)
        try:
            private = listen(_CONTROL_HOST, control_port)
        except SettingsError:
            public.close()
            raise
        loop = _new_loop()
        try:
            if until_closed is not None:
                loop.add_reader(until_closed, _stop_at_end, loop, until_closed)
            _run(loop, settings, truth, public, private, host, on_ready)
        finally:
            loop.close()
    finally:
        truth.close()


def _run(
    loop: asyncio.AbstractEventLoop,
    settings: SimulatorSettings,
    truth: TruthLog,
    public: socket.socket,
    private: socket.socket,
    host: str,
    on_ready: Callable[[Addresses], None] | None,
) -> None:
    _raise_open_files()
    service = Service(settings, truth, Pacer(loop))
    listeners = [
        Listener(
            loop,
            public,
            service.serve,
            max_body_bytes=lambda: service.settings.max_body_bytes,
            unserved=service.unserved,
        ),
        Listener(loop, private, Control(service, truth).serve, max_body_bytes=lambda: _CONTROL_BODY),
    ]
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, loop.stop)
    port, control_port = public.getsockname()[1], private.getsockname()[1]
    addresses = Addresses(
        host, port, control_port, _url(host, port) + settings.prefix, _url(_CONTROL_HOST, control_port)
    )
    truth.write(
        "start",
        {
            "format": FORMAT,
            "pid": os.getpid(),
            "settings": settings.to_dict(),
            "monotonic_ns": time.monotonic_ns(),
            "unix_ns": time.time_ns(),
        },
    )
    collector = _Collector(loop, lambda: bool(service.running))
    failures: list[Exception] = []

    def fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(error := context.get("exception"), TruthError):
            failures.append(error)
            loop.stop()
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(fail)

    def announce() -> None:
        try:
            if on_ready is not None:
                on_ready(addresses)
        except Exception as error:  # noqa: BLE001 - raised again below, out of the loop
            failures.append(error)
            loop.stop()

    try:
        # From within the loop: a signal that comes between the announcement and the loop's start would be lost.
        loop.call_soon(announce)
        loop.run_forever()
        if failures:
            raise failures[0]
    finally:
        collector.stop()
        for listener in listeners:
            listener.stop_accepting()
        service.stop()
        for listener in listeners:
            listener.close_connections()
