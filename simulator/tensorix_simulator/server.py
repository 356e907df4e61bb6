"""The simulator as a server: one process, one thread, two ports."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tensorix_simulator.addresses import CONTROL_HOST, Addresses, addresses_of
from tensorix_simulator.control import Control
from tensorix_simulator.http.certificates import certified
from tensorix_simulator.http.listening import Listener, listen
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.service import Service
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.truth import FORMAT, TruthError, TruthLog

__all__ = ["serve"]

_CONTROL_BODY = 1_048_576


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


def serve(
    settings: SimulatorSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    control_port: int = 0,
    truth_path: Path | None = None,
    tls: str | None = None,
    ca_path: Path | None = None,
    on_ready: Callable[[Addresses], None] | None = None,
    until_closed: int | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP (unless that was ignored, as under nohup).

    Port 0 is any that is free; `on_ready` is told which.

    With `tls`, a name of `http.certificates.CERTIFICATES`, it speaks HTTPS with a certificate of its own making, and
    writes that of the authority behind it to `ca_path`, by default a file that goes when it ends.

    The control port is always on 127.0.0.1. Signals are only listened to in the main thread. `until_closed` is a file
    descriptor, of a pipe say, whose end also ends the simulator: it does not outlive a parent that was killed. Raises
    SettingsError where an address cannot be had or the truth not be written, TruthError where it no longer can.
    """
    with ExitStack() as stack:
        context, authority = None, None
        if tls is not None:
            server = certified(tls, host)
            context, authority = server.context, ca_path or Path(stack.enter_context(_folder())) / "ca.pem"
            server.write_authority(authority)
        truth = stack.enter_context(closing(TruthLog(truth_path)))
        # Closing a socket a second time does nothing: its listener may have.
        public = stack.enter_context(closing(listen(host, port)))
        private = stack.enter_context(closing(listen(CONTROL_HOST, control_port)))
        addresses = addresses_of(
            public,
            private,
            host=host,
            prefix=settings.prefix,
            tls=tls,
            ca_path=None if authority is None else str(authority.absolute()),
        )
        loop = stack.enter_context(closing(_new_loop()))
        if until_closed is not None:
            loop.add_reader(until_closed, _stop_at_end, loop, until_closed)
        _run(loop, settings, truth, public, private, context, addresses, on_ready)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tensorix-simulator-")


def _run(
    loop: asyncio.AbstractEventLoop,
    settings: SimulatorSettings,
    truth: TruthLog,
    public: socket.socket,
    private: socket.socket,
    tls: ssl.SSLContext | None,
    addresses: Addresses,
    on_ready: Callable[[Addresses], None] | None,
) -> None:
    _raise_open_files()
    service = Service(settings, truth, Pacer(loop))
    listener = Listener(
        loop,
        public,
        service.serve,
        max_body_bytes=lambda: service.settings.max_body_bytes,
        unserved=service.unserved,
        tls=tls,
        on_head=service.faults.read_head,
    )
    listener.close_idle_after(settings.idle_s)
    service.on_change.append(lambda changed: listener.close_idle_after(changed.idle_s))
    listeners = [
        listener,
        Listener(loop, private, Control(service, truth).serve, max_body_bytes=lambda: _CONTROL_BODY),
    ]
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if name != signal.SIGHUP or signal.getsignal(name) != signal.SIG_IGN:
                loop.add_signal_handler(name, loop.stop)
    truth.write(
        "start",
        {
            "format": FORMAT,
            "pid": os.getpid(),
            "settings": settings.to_dict(),
            "monotonic_ns": (started_ns := time.monotonic_ns()),
            "unix_ns": time.time_ns(),
        },
    )
    service.begin(listener, started_ns)
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
