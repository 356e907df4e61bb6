"""Do the alerts come, and only then? A scripted outage, through everything that alerts pass in earnest.

    python benchmarks/alert_drill.py      # needs Debian's packages prometheus and prometheus-alertmanager

`tensorix probe serve` probes the simulator once a second; a real Prometheus scrapes it four times a second and judges
the rules of `tensorix probe alerts`, scaled down to a sixtieth (an hour is a minute); a real Alertmanager, configured
as in the example but for its waits, tells a webhook. Meanwhile: a healthy time, one failed probe, an outage, and health
again. Ends with 1 where anything comes that should not, or does not come in time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tensorix_simulator import Simulator

SCALE = 1 / 60
BOUND_S = 15.0
"""From the first failed probe to the page, and from the last to the end of the alerts: 15 minutes in earnest. An outage
needs five failed probes of a minute at 99.5 %, and the short window five minutes to clear; the rest is waits."""

CONFIGURATION = """
[defaults]
key_env = "TENSORIX_API_KEY"
base_url = "{base_url}"
model = "deepseek/deepseek-chat-v3.1"
interval = "1s"
checks = ["models", "chat", "stream"]
headers.requests = 1000000
headers.tokens = 1000000000
budget.tokens_a_day = 1000000000
[[target]]
name = "drill"
"""
PROMETHEUS = """
global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alertmanager}"]}}]}}]}}
scrape_configs: [{{job_name: probes, static_configs: [{{targets: ["127.0.0.1:{probes}"]}}]}}]
"""


class Receiver:
    """What the webhook was told: (when, receiver, status, alert name), in order."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str, str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                now = time.monotonic()
                outer.told += [
                    (now, body["receiver"], one["status"], one["labels"]["alertname"]) for one in body["alerts"]
                ]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def firing(self) -> set[str]:
        """What it was told last of each alert, where that is that it fires."""
        last = {name: status for _, _, status, name in self.told}
        return {name for name, status in last.items() if status == "firing"}


def free_port() -> int:
    """One that nobody has just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def running(name: str, arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program for as long as the block; ended by SIGTERM. What it says goes into a file."""
    environment = {**os.environ, "TENSORIX_API_KEY": "sk-of-the-drill"}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fetch(url: str) -> str:
    """The body; nothing where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def wait(what: str, condition: Callable[[], bool], within_s: float) -> float:
    """Seconds until it holds. Ends the drill where it does not in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within_s:
            raise SystemExit(f"not within {within_s:g} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


def prepare(folder: Path, receiver: Receiver, ports: dict[str, int], base_url: str) -> None:
    """The files of all three, made by the command that users have."""
    tensorix = [sys.executable, "-m", "tensorix_cli"]
    made = [*tensorix, "probe", "alerts", "--scale", f"{SCALE:.9f}", "--out", str(folder)]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    (folder / "probes.toml").write_text(CONFIGURATION.format(base_url=base_url))
    (folder / "prometheus.yml").write_text(PROMETHEUS.format(**ports))
    alertmanager = yaml.safe_load((folder / "alertmanager.yml").read_text())
    for route in (alertmanager["route"], *alertmanager["route"]["routes"]):
        route.update(group_wait="300ms", group_interval="1s", repeat_interval="1h")
    for one in alertmanager["receivers"]:
        one["webhook_configs"][0]["url"] = f"http://127.0.0.1:{receiver.server.server_port}/{one['name']}"
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(alertmanager))


def drill(folder: Path, quiet_s: float) -> None:
    """All of it; prints a line a step."""
    receiver = Receiver()
    ports = {name: free_port() for name in ("probes", "prometheus", "alertmanager")}
    with ExitStack() as stack:
        simulator = stack.enter_context(Simulator(rpm=None, tpm=None, ttft="5ms", between_tokens="1ms"))
        prepare(folder, receiver, ports, simulator.base_url)
        serve = [sys.executable, "-m", "tensorix_cli", "probe", "serve", "probes.toml", "--port", str(ports["probes"])]
        stack.enter_context(running("serve", serve, folder))
        alertmanager = [
            "prometheus-alertmanager",
            "--config.file=alertmanager.yml",
            "--storage.path=alertmanager",
            f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
            "--cluster.listen-address=",
        ]
        stack.enter_context(running("alertmanager", alertmanager, folder))
        prometheus = [
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=prometheus",
            f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
            "--rules.alert.resend-delay=1s",
        ]
        counted = re.compile(
            r'^tensorix_probe_rounds_total\{(?=.*state="down")(?=.*maintenance="false").*\} (\S+)', re.M
        )
        metrics = f"http://127.0.0.1:{ports['probes']}/metrics"

        def failures() -> int:
            found = counted.search(fetch(metrics))
            return int(float(found[1])) if found else -1

        def scraped() -> bool:
            said = fetch(f"http://127.0.0.1:{ports['prometheus']}/api/v1/query?query=tensorix:probe_failures:ratio1h")
            return '"result":[{' in said

        wait("the metrics of the probes", lambda: failures() == 0, 30)
        stack.enter_context(running("prometheus", prometheus, folder))
        wait("Alertmanager", lambda: fetch(f"http://127.0.0.1:{ports['alertmanager']}/-/ready") != "", 30)
        wait("rules that were judged", scraped, 30)

        time.sleep(quiet_s)
        if receiver.told or failures():
            raise SystemExit(f"told of a healthy server: {receiver.told}, {failures()} failures")
        print(f"healthy for {quiet_s:g} s: nobody told")

        simulator.change(faults=["outage"])
        wait("one failed probe", lambda: failures() >= 1, 10)
        simulator.change(faults=[])
        time.sleep(quiet_s)
        if failures() != 1 or receiver.told:
            raise SystemExit(f"told of a single failed probe: {receiver.told}, {failures()} failures")
        print(f"one failed probe, and {quiet_s:g} s: nobody told")

        simulator.change(faults=["outage"])
        wait("a failed probe", lambda: failures() >= 2, 10)
        told_s = wait("any alert", lambda: bool(receiver.firing()), BOUND_S)
        paged_s = wait("a page", lambda: any(to == "pages" for _, to, _, _ in receiver.told), BOUND_S - told_s) + told_s
        print(f"outage: told {told_s:.1f} s after its first failed probe was counted, paged after {paged_s:.1f} s")
        print(f"  of {', '.join(sorted(receiver.firing()))}")

        simulator.change(faults=[])
        ended_s = wait("the end of the page", lambda: "TensorixBudgetBurnsFast" not in receiver.firing(), BOUND_S)
        # The pair of 6 h and 30 min clears half a scaled hour after the outage.
        all_s = wait("the end of all", lambda: not receiver.firing(), 31 + BOUND_S) + ended_s
        print(f"over: the page ended {ended_s:.1f} s after the outage, the last alert {all_s:.1f} s after it")
        print(f"{len(receiver.told)} alerts told in all: " + ", ".join(f"{n} {s}" for _, _, s, n in receiver.told))


def main() -> None:
    """Read the options and drill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quiet", type=float, default=12.0, metavar="S", help="how long each quiet step lasts")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files and logs here")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="alert-drill-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        drill(folder.absolute(), asked.quiet)
    except SystemExit:
        for log in sorted(folder.glob("*.log")):
            print(f"--- {log.name}", log.read_text(errors="replace")[-1500:], sep="\n", file=sys.stderr)
        raise
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
