"""Watching a plain `locust -f`: our tab on its own web page, and what its options ask for."""

from __future__ import annotations

import logging
from typing import Any

from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests.plan import is_loopback

__all__ = ["add_tab", "look_on"]

logger = logging.getLogger("tensorix_loadtests")


def add_tab(environment: Any) -> None:
    """Put it there, where there is a web page; warn where others than this machine reach that."""
    environment.tensorix_tab = None
    web_ui = environment.web_ui
    if web_ui is None:
        return
    # Here: it brings Flask, which a worker and a run without a page have no use for.
    from tensorix_loadtests._watching._tab import Tab

    if not is_loopback(web_ui.host):
        logger.warning(
            "Locust's web page listens on %s: whoever reaches it sees this test and can start and stop others; "
            "--web-host 127.0.0.1 keeps it to this machine",
            web_ui.host or "every address of this machine",
        )
    environment.tensorix_tab = Tab(web_ui, getattr(environment.parsed_options, "web_base_path", "") or "")


def look_on(run: LoadRun, environment: Any) -> None:
    """Show this run on the tab, and attach what its options asked for."""
    if environment.tensorix_watch is not None:
        environment.tensorix_watch.attach(run, environment, logger.info)
    if environment.tensorix_tab is not None:
        from tensorix_loadtests._watching._lately import Lately

        lately = Lately(run.workers)
        run.listeners.append(lately)
        environment.tensorix_tab.show(run, lately)
