"""Our tab on Locust's web page: its pictures, and what they are drawn from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, abort, jsonify, request, send_from_directory

from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._watching._lately import COLUMNS, Lately
from tensorix_loadtests.plan import is_loopback

__all__ = ["Tab", "refuse_strangers"]

_FOLDER = Path(__file__).with_name("page")
# Nothing from elsewhere, no code in the page itself, and in no frame but Locust's.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)


def refuse_strangers(host: str) -> None:
    """Answer 403 to what another site's page asks by way of somebody's browser: Locust lets every site read and post.

    Such a request has a foreign `Origin`, or (where a name was made to point here) a `Host` that is not this machine.
    """
    if (origin := request.headers.get("Origin")) is not None and urlsplit(origin).netloc != request.host:
        abort(403, "asked for by the page of another site")
    if is_loopback(host) and not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
        abort(403, "asked for by another name than this machine's")


class Tab:
    """The tab of one web page; shows the run that was given last, and what is kept of it when it is over."""

    def __init__(self, web_ui: Any, base_path: str = "") -> None:
        self._run: LoadRun | None = None
        self._lately = Lately()
        app: Flask = web_ui.app
        pages = Blueprint("tensorix", __name__, url_prefix=f"{base_path}/tensorix")
        pages.before_request(lambda: refuse_strangers(web_ui.host))
        guarded = web_ui.auth_required_if_enabled

        def files() -> Response:
            return self._file("page.html")

        def file(name: str) -> Response:
            return self._file(name)

        def data() -> Response:
            return jsonify(self._data())

        pages.add_url_rule("/", "page", guarded(files))
        pages.add_url_rule("/data", "data", guarded(data))
        pages.add_url_rule("/<name>", "file", file)
        app.register_blueprint(pages)
        app.after_request(_with_tab)
        tabs = web_ui.template_args.setdefault("extended_tabs", [])
        tabs.append({"title": "Tensorix", "key": "tensorix"})

    def show(self, run: LoadRun, lately: Lately) -> None:
        """Show this run from now on."""
        self._run, self._lately = run, lately

    @staticmethod
    def _file(name: str) -> Response:
        response = send_from_directory(_FOLDER, name)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-cache"
        return response

    def _data(self) -> dict[str, Any]:
        run, lately = self._run, self._lately
        if run is None:
            return {"run": None, "columns": COLUMNS, "points": [], "totals": lately.totals(), "number": 0}
        same = request.args.get("run") == run.session.run_id
        seen = request.args.get("since", 0, type=int) if same else 0
        return {
            "run": {
                "id": run.session.run_id,
                "server": run.plan.base_url,
                "model": run.model,
                "started": lately.started,
                "end": run.end_reason,
                "words": run.end_words,
            },
            "now": time.time(),
            "number": lately.number,
            "columns": COLUMNS,
            "points": lately.since(seen),
            "totals": lately.totals(),
        }


def _with_tab(response: Response) -> Response:
    """Locust's page knows of tabs of others, but only with tables: a script beside it puts our page there."""
    if request.endpoint == "locust.index" and response.status_code == 200 and response.mimetype == "text/html":
        page = response.get_data(as_text=True)
        script = '<script src="./tensorix/tab.js" defer></script>'
        response.set_data(page.replace("</body>", script + "</body>", 1))
    return response
