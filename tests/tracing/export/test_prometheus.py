"""The names in the rules and the dashboard are those that a real Prometheus gives the metrics of a real service."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tensorix_simulator import Simulator

DEPLOYMENT = Path(__file__).parents[3] / "tracing" / "deployment"
DASHBOARD = json.loads((DEPLOYMENT / "grafana.json").read_text())
PUT = {"$__rate_interval": "10s", "$job": "shop", "$server": "127.+", "$model": "z-ai.+|no.+"}

# Calls that end in every way that the dashboard tells apart, for as long as it is let.
SERVICE = """
import threading, time
import openai
from tensorix_tracing import configure, instrument

configure("shop")
client = openai.OpenAI(base_url={base_url!r}, api_key="sk-shop", max_retries=0)
instrument(client, chunk_gap_share=1.0, key_alias="shop")
again = client.with_options(max_retries=1)
ask = dict(model="z-ai/glm-5", messages=[dict(role="user", content="Say something.")], max_tokens=5)

def failing():
    while True:
        for fault in ("status 429", "status 500"):
            try:
                again.chat.completions.create(**ask, extra_headers={{"x-simulator-fault": fault}})
            except openai.APIStatusError:
                pass

threading.Thread(target=failing, daemon=True).start()
while True:
    for chunk in client.chat.completions.create(**ask, stream=True, stream_options=dict(include_usage=True)):
        pass
    with client.chat.completions.create(**ask, stream=True) as stream:
        next(iter(stream))
    client.chat.completions.create(**ask)
    time.sleep(0.05)
"""


class Asked:
    """A Prometheus over HTTP."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self._url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as response:
            return json.load(response)["data"]

    def values(self, query: str) -> list[float]:
        """What a query gives now, without what is no number."""
        try:
            found = [float(one["value"][1]) for one in self.get("query", query=query)["result"]]
        except urllib.error.HTTPError as error:
            # It listens some time before it is ready.
            if error.code == 503:
                return []
            raise
        return [value for value in found if not math.isnan(value)]


@pytest.fixture
def prometheus(
    start_service: Callable[..., subprocess.Popen[bytes]],
    free_port: Callable[[], int],
    find_program: Callable[[str], str],
    tmp_path: Path,
) -> Asked:
    """One that scrapes a service twice a second and goes by our rules."""
    with_metrics, port = free_port(), free_port()
    simulator = tmp_path / "base_url"
    start_service(
        sys.executable,
        "-c",
        SERVICE.format(base_url=simulator.read_text()),
        port=with_metrics,
        variables={
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "prometheus",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(with_metrics),
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        },
    )
    configuration = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(DEPLOYMENT / "rules.yml")],
        "scrape_configs": [{"job_name": "shop", "static_configs": [{"targets": [f"127.0.0.1:{with_metrics}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    start_service(
        find_program("prometheus"),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        port=port,
    )
    return Asked(port)


@pytest.fixture
def address(simulator: Simulator, tmp_path: Path) -> None:
    """Where the service finds the simulator: before `prometheus` starts it."""
    (tmp_path / "base_url").write_text(simulator.base_url)


@pytest.fixture(scope="module")
def simulator() -> Any:
    """One with limits that nobody reaches: what remains is told."""
    with Simulator(rpm=1_000_000, tpm=1_000_000_000, ttft="1ms", between_tokens="1ms") as simulator:
        yield simulator
        assert simulator.complaints() == ""


@pytest.mark.system("prometheus")
@pytest.mark.usefixtures("address")
def test_every_query_and_every_rule_has_data(prometheus: Asked) -> None:
    """Each panel shows something, each variable has values to choose from, each rule records."""
    wanted = {}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in PUT.items():
                expression = expression.replace(name, value)
            wanted[expression] = panel["title"]
    rules = yaml.safe_load((DEPLOYMENT / "rules.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        quantile = rule.get("labels", {}).get("quantile")
        wanted[rule["record"] + (f'{{quantile="{quantile}"}}' if quantile else "")] = "a rule"
    wanted |= {f"0 < tensorix:calls_{word}:ratio5m < 1": "a share" for word in ("failed", "throttled", "left")}
    assert len(wanted) > 30
    deadline = time.monotonic() + 60
    while wanted:
        wanted = {query: title for query, title in wanted.items() if not prometheus.values(query)}
        assert time.monotonic() < deadline, (sorted(wanted.values()), prometheus.get("targets"))
        time.sleep(0.2)

    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = variable["definition"].removeprefix("label_values(").rstrip(")").split(", ")
            assert prometheus.get(f"label/{label}/values", **{"match[]": metric}), variable
    (remaining,) = prometheus.values('tensorix:ratelimit_remaining:min{limit="requests",tensorix_key_alias="shop"}')
    assert 0 < remaining < 1_000_000
    shown = prometheus.get("label/__name__/values")
    # A unit that Prometheus takes for a ratio, or a counter of another name, would show here.
    assert {name for name in shown if name.startswith("tensorix_")} == {
        "tensorix_ratelimit_remaining",
        "tensorix_client_retries_total",
    }
