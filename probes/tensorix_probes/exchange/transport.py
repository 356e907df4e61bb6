"""httpx over httpcore over a `Wire`: a pool for each request, so that no connection is used twice."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpcore
import httpx

from tensorix_api import Secret
from tensorix_probes.exchange.proxy import Proxy
from tensorix_probes.exchange.reading import Reading
from tensorix_probes.exchange.wire import Wire

__all__ = ["Transport"]


class Transport(httpx.BaseTransport):
    """Sends a request whose extensions hold its `reading` and the `secrets` that only the wire is to see.

    Raises what httpcore and the wire raise, as it is.
    """

    def __init__(self, tls: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self._tls = tls
        self._proxy = proxy

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx."""
        reading: Reading = request.extensions["reading"]
        secrets: dict[str, Secret] = request.extensions["secrets"]
        url = request.url
        headers = [pair for pair in request.headers.raw if pair[0].decode("latin-1").lower() not in secrets]
        pool = self._pool(reading.wire)
        response = pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=headers + [(name.encode(), value.reveal().encode()) for name, value in secrets.items()],
                content=request.stream,
            )
        )
        reading.take_head(response.status, response.headers)
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response, pool))

    def _pool(self, wire: Wire) -> httpcore.ConnectionPool:
        if self._proxy is None:
            return httpcore.ConnectionPool(ssl_context=self._tls, network_backend=wire)
        wire.tunnelling = self._tls is not None
        user, password = self._proxy.user, self._proxy.password
        return httpcore.HTTPProxy(
            self._proxy.url,
            proxy_auth=(user.reveal(), password.reveal()) if user and password else None,
            ssl_context=self._tls,
            network_backend=wire,
        )


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response, pool: httpcore.ConnectionPool) -> None:
        self._response = response
        self._pool = pool

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()
        self._pool.close()
