"""The process of a long-running probe: it begins, takes signals, and ends in order."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType

from tensorix_api.errors import TensorixError
from tensorix_probes.serve.service import Service
from tensorix_probes.serve.web import Web
from tensorix_probes.settings import Configuration

__all__ = ["serve"]

_ENDS = (signal.SIGTERM, signal.SIGINT)
_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def serve(
    configuration: Configuration,
    *,
    again: Callable[[], Configuration] | None = None,
    host: str | None = None,
    port: int | None = None,
    ready: Callable[[Web], None],
    tell: Callable[[str], None],
) -> None:
    """Probe until SIGTERM or SIGINT; the second of them ends the process at once. SIGHUP reads the configuration again.

    `again` reads it; where there is none, SIGHUP ends the process as SIGTERM does. `host` and `port` come before those
    of the configuration. `ready` is called when it listens and probes, `tell` with single lines from then on, each
    with its time. Raises SettingsError for a configuration or an address that cannot be used. To be called from the
    main thread, whose handlers of these signals it gives back in the end.
    """

    def timed(line: str) -> None:
        tell(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}")

    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    ending = False

    def arrived(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        if number in _ENDS:
            if ending:
                os._exit(128 + number)
            ending = True
        signals.put(number)

    _share_heaps()
    before = {number: signal.signal(number, arrived) for number in (*_ENDS, signal.SIGHUP)}
    service = Service(configuration, timed)
    web = None
    try:
        web = Web(
            service,
            configuration.serve.host if host is None else host,
            configuration.serve.port if port is None else port,
        )
        service.start()
        web.start()
        ready(web)
        while signals.get() not in _ENDS and again is not None:
            _reload(service, again, timed)
        timed("ending: probes under way may finish; the next signal ends at once")
    finally:
        service.stop()
        if web is not None:
            web.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _share_heaps() -> None:
    """Let all threads share two of glibc's heaps; another C library is let be.

    By default there are eight for each core, and each keeps what the busiest moment of its threads needed: with twenty
    targets 8 MiB that nothing uses, and it takes many minutes until they have all come to that.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _reload(service: Service, again: Callable[[], Configuration], tell: Callable[[str], None]) -> None:
    try:
        configuration = again()
        service.reload(configuration)
    except TensorixError as error:
        first, *more = str(error).splitlines()
        others = f" (and {len(more)} more: tensorix probe check-config shows them)" if more else ""
        tell(f"the configuration was not taken over, the old one goes on: {first}{others}")
    else:
        tell(f"the configuration was read again: {len(configuration.targets)} targets")
