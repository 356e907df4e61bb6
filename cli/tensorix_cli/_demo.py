"""`tensorix demo`: the simulator with a shortened minute, and a load test that meets its limit several times."""

from __future__ import annotations

import os
from pathlib import Path

from tensorix_api.secret import Secret
from tensorix_cli._load import run_load
from tensorix_cli._output import say
from tensorix_cli.exit_status import ExitStatus
from tensorix_loadtests.plan import CHAT_STREAMED, CHAT_UNSTREAMED, MODELS, Limits, LoadPlan
from tensorix_simulator import Simulator

__all__ = ["run_demo"]

_WINDOW_S = 10.0
_DURATION_S = 28.0
_RPM = 60
_TPM = 2_000_000


def run_demo(out: Path) -> ExitStatus:
    """Run it into the folder `out`; takes about half a minute and sends nothing off this machine."""
    say(
        f"A server is simulated on this machine that lets {_RPM} requests pass in a window of {_WINDOW_S:.0f} s "
        f"(the documented minute, shortened). A load test of {_DURATION_S:.0f} s runs into that limit and out again."
    )
    # Where everything goes through a proxy, this must not.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"
    with Simulator(rpm=_RPM, tpm=_TPM, window_s=_WINDOW_S, seed=1) as simulator:
        plan = LoadPlan(
            base_url=simulator.base_url,
            users=12,
            spawn_rate=6.0,
            duration_s=_DURATION_S,
            mix={CHAT_STREAMED: 8.0, CHAT_UNSTREAMED: 3.0, MODELS: 1.0},
            max_tokens=40,
            limits=Limits.of(simulator.base_url, requests=_RPM, tokens=_TPM, window_s=_WINDOW_S),
            label="Demo against the simulator",
        )
        # Never the user's own key: the simulator takes any.
        return run_load(plan, out, Secret("sk-demo"))
