"""`tensorix probe serve`: what is said when it listens, and where its lines go."""

from __future__ import annotations

from collections.abc import Callable

from tensorix_cli._output import complain, say
from tensorix_probes.serve.process import serve
from tensorix_probes.serve.web import Web
from tensorix_probes.settings import Configuration

__all__ = ["serve_probes"]


def serve_probes(read: Callable[[], Configuration], *, host: str | None, port: int | None) -> None:
    """Probe until it is told to end. Raises SettingsError for what cannot be used."""

    def ready(configuration: Configuration, web: Web) -> None:
        if not web.loopback:
            complain(
                f"warning: listening on {web.host}: everybody who can reach this machine can see the status page, "
                "with the names, addresses and models of what is probed"
            )
        say(f"Status page at {web.url} (Ctrl-C ends it; metrics at {web.url}metrics, health at {web.url}healthz)")

    serve(read, host=host, port=port, ready=ready, tell=complain)
