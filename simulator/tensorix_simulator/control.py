"""The control interface, on a port of its own: settings and truth while the simulator runs.

`GET /healthz`            `{"status": "ok", "streams": …}`
`GET /settings`           the settings as they are
`PUT /settings`           other settings: what is left out takes its default
`PATCH /settings`         some settings changed
`GET /truth?offset=N`     JSON lines of the truth from byte N on, some MB at once; `x-next-offset` says where to go on,
                          `x-offset` where they begin: later than N where the simulator writes no file and keeps
                          what stood there no longer
`POST /reset`             forget what keys have used

A wrong setting is answered with 400 and the documented error object, whose message names it and what it may be.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from tensorix_api.errors import SettingsError
from tensorix_simulator.http.connection import Connection
from tensorix_simulator.http.requests import Request
from tensorix_simulator.http.wire import Headers, encode_json, head
from tensorix_simulator.service import Service
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.styles.tensorix import error_body
from tensorix_simulator.truth import TruthLog

__all__ = ["Control"]

_MOST_TRUTH_BYTES = 4_194_304
_METHODS = {
    "/healthz": ("GET",),
    "/settings": ("GET", "PUT", "PATCH"),
    "/truth": ("GET",),
    "/reset": ("POST",),
}


class Control:
    """Serves the requests of the control port."""

    def __init__(self, service: Service, truth: TruthLog) -> None:
        self._service = service
        self._truth = truth

    def serve(self, request: Request, connection: Connection) -> None:
        """Answer one request."""
        status, body, headers = self._answer(request)
        kind = "application/x-ndjson" if request.path == "/truth" and status == 200 else "application/json"
        headers += [("content-type", kind), ("content-length", str(len(body)))]
        if not request.keep_alive:
            headers.append(("connection", "close"))
        connection.send(head(status, headers) + body)
        connection.finish()

    def _answer(self, request: Request) -> tuple[int, bytes, Headers]:
        methods = _METHODS.get(request.path)
        if request.problem is not None:
            return 400, error_body("The request cannot be read.", "invalid_request_error", request.problem), []
        if methods is None:
            known = ", ".join(_METHODS)
            return 404, error_body(f"No such page: one of {known}.", "invalid_request_error", "not_found"), []
        if request.method not in methods:
            allowed = ", ".join(methods)
            message = f"{request.path} takes {allowed}."
            return 405, error_body(message, "invalid_request_error", "method_not_allowed"), [("allow", allowed)]
        try:
            return self._page(request)
        except SettingsError as error:
            return 400, error_body(str(error), "invalid_request_error", "invalid_setting"), []

    def _page(self, request: Request) -> tuple[int, bytes, Headers]:
        service = self._service
        if request.path == "/healthz":
            return 200, encode_json({"status": "ok", "streams": len(service.running)}), []
        if request.path == "/reset":
            service.reset()
            return 200, encode_json({"status": "ok"}), []
        if request.path == "/truth":
            lines, next_offset = self._truth.read(_offset(request.query), _MOST_TRUTH_BYTES)
            begin = next_offset - len(lines)
            return 200, lines, [("x-offset", str(begin)), ("x-next-offset", str(next_offset))]
        if request.method != "GET":
            changes = _object(bytes(request.body))
            base = service.settings if request.method == "PATCH" else SimulatorSettings()
            service.change(base.changed(changes))
        return 200, encode_json(service.settings.to_dict()), []


def _offset(query: str) -> int:
    text = parse_qs(query).get("offset", ["0"])[-1]
    if not text.isdecimal() or len(text) > 15:
        raise SettingsError("offset must be a whole number of bytes")
    return int(text)


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise SettingsError("the body must be a JSON object of settings") from None
    if not isinstance(data, dict):
        raise SettingsError("the body must be a JSON object of settings")
    return data
