"""Connections that stand before anything is sent over them, so that a burst leaves at once."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

import httpcore

__all__ = ["Prepared"]


class _Ready(httpcore.AsyncNetworkStream):
    """A stream whose TLS stands already: asked for it, it is what it is."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Prepared(httpcore.AsyncNetworkBackend):
    """Opens connections as httpcore does, some of them beforehand: `prepare`."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, timeout_s: float) -> None:
        self._backend = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())
        self._host, self._port, self._tls, self._timeout_s = host, port, tls, timeout_s
        self._ready: deque[_Ready] = deque()

    async def prepare(self, count: int) -> None:
        """Have so many ready; one that cannot be opened is tried again, and told of, when it is needed."""
        fresh = deque[_Ready]()
        while self._ready:
            stream = self._ready.popleft()
            # Something to read before anything was asked: the server has closed it.
            await stream.aclose() if stream.get_extra_info("is_readable") else fresh.append(stream)
        self._ready = fresh
        opened = (self._open(self._timeout_s) for _ in range(count - len(fresh)))
        made = await asyncio.gather(*opened, return_exceptions=True)
        self._ready.extend(stream for stream in made if isinstance(stream, _Ready))

    async def aclose(self) -> None:
        """Close those that nobody used."""
        while self._ready:
            await self._ready.popleft().aclose()

    async def _open(self, timeout_s: float | None) -> _Ready:
        stream = await self._backend.connect_tcp(self._host, self._port, timeout=timeout_s)
        if self._tls is not None:
            stream = await stream.start_tls(self._tls, self._host, timeout_s)
        return _Ready(stream)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """One that is ready, else a new one."""
        while self._ready:
            stream = self._ready.popleft()
            if not stream.get_extra_info("is_readable"):
                return stream
            await stream.aclose()
        return await self._open(timeout)

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)
