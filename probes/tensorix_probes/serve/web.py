"""What `serve` shows over HTTP: `/metrics`, `/healthz`, `/api/status` and the status page. It changes nothing."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import Any

import flask
from prometheus_client.exposition import choose_encoder
from waitress.server import create_server

from tensorix_api.errors import SettingsError
from tensorix_probes.serve.page import POLICY, page_of
from tensorix_probes.serve.service import Service

__all__ = ["Web"]


def app_of(service: Service) -> flask.Flask:
    """The pages of a service, as a WSGI application."""
    app = flask.Flask("tensorix_probes.serve", static_folder=None)
    # It writes tracebacks; `defect` writes a line.
    app.logger.disabled = True

    @app.get("/metrics")
    def metrics() -> flask.Response:
        encode, content_type = choose_encoder(flask.request.headers.get("Accept", ""))
        return flask.Response(encode(service.exported), content_type=content_type)

    @app.get("/healthz")
    def healthz() -> tuple[dict[str, Any], int]:
        wrong = service.health()
        return {"status": "broken" if wrong else "ok", "wrong": wrong}, 503 if wrong else 200

    @app.get("/api/status")
    def status() -> dict[str, Any]:
        return service.status()

    @app.get("/")
    def page() -> str:
        return page_of(service.status())

    @app.errorhandler(404)
    def nothing(error: Exception) -> tuple[dict[str, Any], int]:
        return {"error": "nothing is here", "pages": ["/", "/metrics", "/healthz", "/api/status"]}, 404

    @app.errorhandler(500)
    def defect(error: Exception) -> tuple[dict[str, Any], int]:
        cause = getattr(error, "original_exception", None) or error
        service.tell(f"a defect of the page {flask.request.path}: {type(cause).__name__}: {cause}")
        return {"error": "a defect of tensorix: please report it"}, 500

    @app.after_request
    def careful(response: flask.Response) -> flask.Response:
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Content-Security-Policy"] = f"{POLICY}; frame-ancestors 'none'"
        return response

    return app


class Web:
    """An HTTP server for a service, in threads of its own. Listens as soon as it is made.

    Raises SettingsError where the address cannot be had.
    """

    def __init__(self, service: Service, host: str, port: int) -> None:
        try:
            listening = _listen(host, port)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise SettingsError(
                f"cannot listen on {host}, port {port} ({why}): choose another by host and port in [serve], "
                "or by --host and --port"
            ) from None
        self.host = host
        self.port: int = listening.getsockname()[1]
        self._server = create_server(app_of(service), sockets=[listening], threads=4, ident="tensorix")
        self._thread = threading.Thread(target=self._server.run, name="probe web", daemon=True)

    @property
    def url(self) -> str:
        """Where a browser finds the status page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.close()
        if self._thread.ident is not None:
            self._thread.join(2.0)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError, and leaves nothing open then."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family)
