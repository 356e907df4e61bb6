"""What `serve` shows over HTTP: metrics, health, status; nothing can be changed, and nothing secret is shown."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tensorix_api import Secret
from tensorix_api.errors import SettingsError
from tensorix_probes.serve.exported import Exported
from tensorix_probes.serve.service import Service
from tensorix_probes.serve.web import Web, app_of
from tensorix_probes.settings import Budget, Configuration, Headers, Target
from tensorix_simulator import Simulator

KEY = "sk-shown-to-nobody-0123456789"


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What the service of this module told."""
    return []


@pytest.fixture(scope="module")
def service(lasting: Simulator, said: list[str]) -> Iterator[Service]:
    """One whose only target was probed at least once."""
    target = Target(
        name="prod",
        base_url=lasting.base_url,
        api_key=Secret(KEY),
        model="deepseek/deepseek-chat-v3.1",
        extra_headers={"x-proxy-auth": Secret("proxy-secret-0123456789")},
        headers=Headers(requests=6_000),
        budget=Budget(share=1.0),
        interval_s=3_600.0,
        offset_s=0.0,
    )
    told = threading.Event()

    def tell(line: str) -> None:
        said.append(line)
        told.set()

    made = Service(Configuration(targets=(target,), location="berlin"), tell)
    made.start()
    assert told.wait(30)
    yield made
    made.stop(grace_s=5)


@pytest.fixture(scope="module")
def web(service: Service) -> Iterator[Web]:
    """A real server for it."""
    made = Web(service, "127.0.0.1", 0)
    made.start()
    yield made
    made.close()


@pytest.fixture
def client(web: Web) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=web.url, trust_env=False) as made:
        yield made


def test_metrics(client: httpx.Client) -> None:
    """A scraper gets the metrics of the targets and of the process, in the format that it asks for."""
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    names = {family.name for family in text_string_to_metric_families(plain.text)}
    assert {
        "probe_success",
        "tensorix_probe_rounds",
        "tensorix_probe_budget_used_ratio",
        "process_cpu_seconds",
    } <= names
    open_ = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert open_.headers["content-type"].startswith("application/openmetrics-text")
    families = openmetrics.text_string_to_metric_families(open_.text)  # type: ignore[no-untyped-call]
    samples = {sample.name for family in families for sample in family.samples}
    assert "tensorix_probe_rounds_total" in samples


def test_what_one_collector_gets_wrong_takes_no_other_with_it() -> None:
    """A collector that raises, a number beyond all floats and a text that is none are left out, and told once."""

    class Broken(Collector):
        def collect(self) -> Iterator[Metric]:
            raise RuntimeError("broken")

    class Odd(Collector):
        def collect(self) -> Iterator[Metric]:
            family = GaugeMetricFamily("odd", "Odd.", labels=["name"])
            for name, value in (("huge", 10**400), ("\ud800", 1), ("good", 2)):
                family.add_metric([name], value)
            yield family

    told: list[Exception] = []
    exported = Exported([Broken(), Odd()], told.append)
    for _ in range(2):
        assert generate_latest(exported).decode().splitlines()[2:] == ['odd{name="good"} 2.0']
    assert [type(error) for error in told] == [RuntimeError, OverflowError, UnicodeEncodeError]


def test_status(client: httpx.Client, said: list[str]) -> None:
    """The status as JSON says what the page says, and the first change of state was told in a line."""
    status = client.get("/api/status").json()
    [target] = status["targets"]
    assert status["location"] == "berlin"
    assert target["name"] == "prod"
    assert target["state"] == "up", target
    assert target["budget"]["tokens_today"] > 0
    assert target["missed"] == {"late": 0, "overlap": 0, "defect": 0}
    assert 0 < target["next_run"] - status["now"] <= 5_400
    assert [one["check"] for one in target["checks"]][:2] == ["tls", "models"]
    assert said[0] == "prod: up"
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Up</h1>" in page.text


def test_headers(client: httpx.Client) -> None:
    """No page is stored, framed or guessed at, and the policy lets it run and fetch nothing."""
    for path in ("/", "/metrics", "/healthz", "/api/status", "/nothing"):
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none';")
        assert headers["content-security-policy"].endswith("frame-ancestors 'none'")


def test_nothing_can_be_changed(client: httpx.Client) -> None:
    """Only GET and HEAD are taken, and what is not there is told in JSON."""
    for path in ("/", "/metrics", "/healthz", "/api/status"):
        assert client.head(path).status_code == 200
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert client.request(method, path, content=b"x").status_code == 405
    answer = client.get("/../../etc/passwd")
    assert answer.status_code == 404
    assert "/metrics" in answer.json()["pages"]


def test_no_secret_is_shown(client: httpx.Client, service: Service, said: list[str]) -> None:
    """Neither a key nor the value of an extra header is on any page, nor in what is told."""
    everything = "".join(client.get(path).text for path in ("/", "/metrics", "/healthz", "/api/status"))
    everything += "\n".join(said) + repr(service) + json.dumps(service.status())
    assert KEY not in everything
    assert "proxy-secret" not in everything
    assert "key-" in everything


def test_healthy(client: httpx.Client) -> None:
    """While its threads live and rounds end, it is healthy."""
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "wrong": []})


def test_silence_is_not_healthy(client: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no round has ended for three intervals, health is 503 and says of which target."""
    [worker] = service._workers.values()
    monkeypatch.setattr(worker, "last_end_s", worker.last_end_s - 3 * 3_600 - 60)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    [wrong] = answer.json()["wrong"]
    assert wrong.startswith("prod: no round has ended for 10")
    assert wrong in client.get("/").text


def test_a_dead_worker_is_not_healthy(borrow: Callable[..., Simulator], target_at: Callable[..., Target]) -> None:
    """Where the thread of a target is gone, health says so; the service can still be stopped."""
    simulator = borrow()
    service = Service(Configuration(targets=(target_at(simulator.base_url, checks=("models",)),)), lambda line: None)
    service.start()
    [worker] = service._workers.values()
    worker.end()
    assert worker.join(10)
    answer = app_of(service).test_client().get("/healthz")
    assert answer.status_code == 503
    assert json.loads(answer.data) == {"status": "broken", "wrong": ["here: its thread is dead"]}
    service.stop(grace_s=0)
    assert "the thread of schedule is dead" in service.health()


def test_a_defect_is_one_line(service: Service, said: list[str], monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A page that fails is answered with 500 that shows nothing of the inside, and told in one line, no traceback."""
    monkeypatch.setattr(service.board, "of", lambda *_: 1 / 0)
    answer = app_of(service).test_client().get("/api/status")
    assert answer.status_code == 500
    assert json.loads(answer.data) == {"error": "a defect of tensorix: please report it"}
    assert said[-1] == "a defect of the page /api/status: ZeroDivisionError: division by zero"
    assert capfd.readouterr() == ("", "")


def test_a_busy_port(service: Service) -> None:
    """A port that somebody else has is refused in one line that says where to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"cannot listen on 127\.0\.0\.1, port {port} \(.*\[serve\].*--port"):
            Web(service, "127.0.0.1", port)
    with pytest.raises(SettingsError, match="cannot listen on no such host"):
        Web(service, "no such host", 0)


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False), ("127.9.9.9", True)]
)
def test_what_others_can_reach(service: Service, host: str, loopback: bool) -> None:
    """It knows whether only this machine can reach it, and where a browser finds it."""
    web = Web(service, host, 0)
    assert web.loopback is loopback
    assert web.url == f"http://{host}:{web.port}/"
    web.close()
