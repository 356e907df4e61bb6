"""All that watches one run: opened before it begins, so that what cannot be is said before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._watching._listening import Listening
from tensorix_loadtests.plan import Watching

if TYPE_CHECKING:
    from tensorix_loadtests._watching._otlp import Sender

__all__ = ["Watch"]


class Watch:
    """What was asked for, with its sockets bound. Raises SettingsError where one cannot be."""

    def __init__(self, asked: Watching) -> None:
        self._pages: list[Listening] = []
        self._web: Listening | None = None
        self._prometheus: Listening | None = None
        self._sender: Sender | None = None
        self._provider: Any = None
        self._tell: Callable[[], None] = lambda: None
        try:
            if asked.web_address is not None:
                self._web = self._listen("--web", asked.web_address)
            if asked.prometheus_address is not None:
                self._prometheus = self._listen("--prometheus", asked.prometheus_address)
            if asked.otlp:
                from tensorix_loadtests._watching._otlp import Sender

                self._sender = Sender()
        except BaseException:
            self.close()
            raise

    def _listen(self, option: str, address: tuple[str, int]) -> Listening:
        self._pages.append(Listening(option, address))
        return self._pages[-1]

    def attach(self, run: LoadRun, environment: Any, say: Callable[[str], None]) -> None:
        """Look on from now on; `say` takes lines for whoever started the run, `environment` is Locust's."""
        for page in self._pages:
            if page.warning is not None:
                run.warn(page.warning)
        if self._web is not None:
            from tensorix_loadtests._watching._locust_page import web_page

            self._web.serve(web_page(environment, run, self._web.host))
            say(f"note: the web page is at {self._web.url}?tab=tensorix while the run lasts")
        if self._prometheus is not None or self._sender is not None:
            self._measure(run, say)

    def _measure(self, run: LoadRun, say: Callable[[str], None]) -> None:
        # Here, for its imports: only who asks for metrics has them.
        from tensorix_loadtests._watching._metrics import Metrics

        readers: list[Any] = []
        pages: list[tuple[Listening, Callable[..., Any]]] = []
        if self._sender is not None:
            self._sender.warn = lambda text: run.warn(run.session.redact(text, 500))
            readers.append(self._sender.reader())
        if self._prometheus is not None:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader
            from prometheus_client import CollectorRegistry, make_wsgi_app

            registry = CollectorRegistry()
            readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=registry))
            pages.append((self._prometheus, make_wsgi_app(registry)))
        metrics = Metrics(run, readers)
        self._provider, self._tell = metrics.provider, metrics.tell
        run.listeners.append(metrics)
        for page, app in pages:
            page.serve(app)
            say(f"note: metrics for Prometheus are at {page.url}metrics while the run lasts")

    def close(self) -> None:
        """The run is over: what waits to be sent is, for five seconds at most, and the pages are gone."""
        self._tell()
        if self._sender is not None and self._provider is not None:
            self._sender.end(self._provider)
        elif self._sender is not None:
            self._sender.close_log()
        elif self._provider is not None:
            self._provider.shutdown()
        for page in self._pages:
            page.close()
