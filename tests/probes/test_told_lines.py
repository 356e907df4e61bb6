"""What `serve` tells on a terminal or in a journal, a line each."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest

from tensorix_probes.serve.process import serve
from tensorix_probes.serve.web import Web
from tensorix_probes.settings import Configuration, Maintenance, Target


@pytest.mark.parametrize("window", [None, "upgrade"])
def test_a_change_of_state(window: str | None) -> None:
    """A line has its time in UTC, the target, the state, the check and what failed of it, and any maintenance."""
    now = datetime.now(UTC)
    windows: tuple[Maintenance, ...] = ()
    if window is not None:
        windows = (Maintenance(name=window, start=now - timedelta(hours=1), end=now + timedelta(hours=1)),)
    with socket.socket() as taken:
        # Bound and not listening: nobody else gets the port, and it refuses.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        target = Target(name="prod", base_url=url, checks=("tls",), interval_s=1.0, offset_s=0.0)
        lines: list[str] = []

        def ready(web: Web) -> None:
            deadline = time.monotonic() + 20
            while not any("prod: down" in line for line in lines) and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGTERM)

        serve(Configuration(targets=(target,), maintenance=windows), port=0, ready=ready, tell=lines.append)
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "
    aside = r", in maintenance \(upgrade\)" if window else ""
    assert all(re.match(stamp, line) for line in lines)
    assert re.match(f"{stamp}prod: down{aside}: tls.connects failed: .*refused", lines[0]), lines
