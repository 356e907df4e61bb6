"""Pages of ours: a socket that is bound before the run begins, and a server in the run's event loop."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan import is_loopback

__all__ = ["Listening"]

logger = logging.getLogger("tensorix_loadtests.pages")

# Viewers at a time; more wait. A page that many look at is not to take the run's time.
_MOST_CONNECTIONS = 32


class Listening:
    """A listening socket and, once there is something to serve, its server. Raises SettingsError where it cannot."""

    def __init__(self, option: str, address: tuple[str, int]) -> None:
        host, port = address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=64)
        except OSError as error:
            why = "the port is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
            raise SettingsError(f"{option} cannot listen on {host}:{port}: {why}: choose another") from None
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self._server: WSGIServer | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    @property
    def warning(self) -> str | None:
        """What there is to say where others reach it."""
        if is_loopback(self.host):
            return None
        return f"{self.url} can be read by everybody who reaches {self.host}: nothing there asks for a password"

    def serve(self, app: Callable[..., Any]) -> None:
        """Answer from now on, in greenlets."""
        # The log gets what a client did wrong, at a level that nobody sees unless asked for.
        self._server = WSGIServer(self._socket, app, log=None, error_log=logger, spawn=Pool(_MOST_CONNECTIONS))
        self._server.start()

    def close(self) -> None:
        """Answer no more, at once."""
        if self._server is not None:
            self._server.stop(timeout=0.2)
        self._socket.close()
