"""Locust's web page for a run of our own engine: it shows, and can end the run; users and tests are the plan's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, jsonify, make_response, request
from locust import argument_parser

from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._watching._lately import Lately
from tensorix_loadtests._watching._tab import Tab, refuse_strangers

__all__ = ["web_page"]


def web_page(environment: Any, run: LoadRun, host: str) -> Callable[..., Any]:
    """The page's application, with our tab; what it shows is bounded, however long the run is."""
    # Locust would read this program's command line as its own, and end it.
    argument_parser.ui_extra_args_dict = lambda args=None: {}
    environment.locustfile = "tensorix load"
    web_ui = environment.create_web_ui(host=host, delayed_start=True)
    app: Flask = web_ui.app
    # Locust's is on, for which Flask would show a traceback to whoever asks.
    app.debug = False

    def guard() -> Response | None:
        refuse_strangers(host)
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return None
        if request.path == "/stop":
            run.stop("stopped", words="stopped on the web page")
            return jsonify(success=True, message="the run ends: what is in flight is drained")
        message = "a run of tensorix load has the users that it was started with"
        return make_response(jsonify(success=False, message=message, host=environment.host), 403)

    app.before_request(guard)
    lately = Lately(run.workers)
    run.listeners.append(lately)
    Tab(web_ui).show(run, lately)
    return app
