"""Who looks on while a run goes on: what may be asked for, the figures of the last minutes, metrics, the tab."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from tensorix_api.errors import SettingsError
from tensorix_loadtests._watching._lately import COLUMNS, Lately
from tensorix_loadtests.plan import Watching, is_loopback, read_address
from tensorix_records import RequestRecord, Run
from tensorix_simulator import Simulator

if TYPE_CHECKING:
    from tests.conftest import Browser
    from tests.loadtests.conftest import Engine

Start = Callable[..., "Engine"]
WaitUntil = Callable[..., None]
LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"
KEY = "sk-nobody-may-see-this-key"
EVIL = "</title></script><script>window.hit=1</script><img src=x onerror='window.hit=2'>\"&"


@pytest.fixture
def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _get(url: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status and body; 0 where nothing answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def _post(url: str) -> tuple[int, str]:
    return _get(url, data=b"user_count=9&spawn_rate=9")


def test_addresses_are_read_or_refused_in_one_line() -> None:
    """A port alone is this machine's; what is no address, or is given twice, is refused with the option's name."""
    assert read_address("--web", "8089") == ("127.0.0.1", 8089)
    assert read_address("--web", "0.0.0.0:0") == ("0.0.0.0", 0)
    assert read_address("--prometheus", "[::1]:9464") == ("::1", 9464)
    assert Watching(web="on").web_address == ("127.0.0.1", 8089)
    for text in ("", "a", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:\u0661", "::1:80", "h x:1", "http://h:1"):
        with pytest.raises(SettingsError, match=r"^--prometheus '.*' is no address to listen on: write HOST:PORT"):
            Watching(prometheus=text)
    with pytest.raises(SettingsError, match="give each its own port"):
        Watching(web="127.0.0.1:9000", prometheus="9000")
    assert [is_loopback(host) for host in ("127.0.0.2", "::1", "localhost", "", "0.0.0.0", "example.org")] == [
        *(True, True, True),
        *(False, False, False),
    ]


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics without the packages for them are refused where the plan is made, with the command that brings them."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.prometheus", None)
    with pytest.raises(SettingsError, match=r"opentelemetry\.exporter\.prometheus.*tensorix-toolkit\[prometheus\]"):
        Watching(prometheus="9464")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(SettingsError, match=r"^--otlp needs opentelemetry\.sdk, .*tensorix-toolkit\[otlp\]"):
        Watching(otlp=True)
    Watching(web="on")


def _record(number: int, **fields: Any) -> RequestRecord:
    told: dict[str, Any] = {"endpoint": "/chat/completions", "stream": True, "outcome": "success", "key_alias": "k1"}
    return RequestRecord(run_id="r", record_id=str(number), request_id=str(number), start_unix_ns=0, **(told | fields))


def test_the_last_minutes_are_kept_and_no_more() -> None:
    """Each second is a point with its rates, a percentile is of the last ten seconds, and 600 points are kept."""
    now = 1_000.0
    lately = Lately({"w1": {"cpu_share": 0.9}}, clock=lambda: now)
    for second in range(700):
        now += 1.0
        for number in range(10):
            millis = 5_000 if number == 9 and second >= 690 else 100
            lately.on_record(_record(number, first_token_at_ns=millis * 1_000_000, completion_tokens=7))
        lately.on_record(_record(11, outcome="throttled", status=429, remaining_requests=700 - second))
        lately.on_record(_record(12, key_alias="k2", endpoint="/models", remaining_requests=5))
        lately.on_second({"users": 3, "in_flight": 2, "left": {"requests": 50.0}, "cpu_share": 0.2})
    assert lately.number == 700
    points = [dict(zip(COLUMNS, point, strict=True)) for point in lately.since(0)]
    assert len(points) == 600
    assert len(lately.since(697)) == 3
    assert lately.since(700) == []
    last, before = points[-1], points[-50]
    assert (last["tokens"], last["success"], last["throttled"], last["failed"]) == (70, 11, 1, 0)
    assert (last["users"], last["left_requests"], last["left_tokens"], last["cpu"]) == (3, 50, None, 0.9)
    assert last["remaining_requests"] == 1 + 5
    assert last["ttft_p50"] == pytest.approx(0.1, rel=0.01)
    assert last["ttft_p95"] == pytest.approx(5.0, rel=0.01)
    assert before["ttft_p95"] == pytest.approx(0.1, rel=0.01)
    totals = lately.totals()
    assert (totals["requests"], totals["throttled"], totals["tokens"]) == (8_400, 700, 49_000)
    assert totals["ttft_p95"] == pytest.approx(0.1, rel=0.01)


class _Collector:
    """Takes OTLP over HTTP, or refuses it."""

    def __init__(self, status: int) -> None:
        self.taken: list[ExportMetricsServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/metrics":
                    collector.taken.append(ExportMetricsServiceRequest.FromString(body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collect() -> Iterator[Callable[[int], _Collector]]:
    """Starts collectors that answer a status."""
    made: list[_Collector] = []

    def start(status: int) -> _Collector:
        made.append(_Collector(status))
        return made[-1]

    yield start
    for one in made:
        one.stop()


def test_metrics_are_what_the_folder_holds(
    collect: Callable[[int], _Collector], start_engine: Start, free_port: int, wait_until: WaitUntil
) -> None:
    """Prometheus's page and the last of what a collector gets count the requests and tokens that the records hold."""
    collector = collect(200)
    with Simulator(rpm=30, tpm=None, ttft="2ms", between_tokens="1ms") as limited:
        engine = start_engine(
            limited.base_url,
            key=KEY,
            requests=40,
            users=4,
            spending={"most_requests": 500},
            environment={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_METRIC_EXPORT_INTERVAL": "600000"},
            watching={"prometheus": f"127.0.0.1:{free_port}", "otlp": True},
            think_time={"mean_s": 0.4},
        )
        pages: list[str] = []

        def throttled() -> bool:
            pages.append(_get(f"http://127.0.0.1:{free_port}/metrics")[1])
            return 'tensorix_outcome="throttled"' in pages[-1] and "tensorix_load_client_cpu" in pages[-1]

        wait_until(throttled)
        assert engine.end() == 0, engine.said
    families = {family.name: family for family in text_string_to_metric_families(pages[-1])}
    for name in (
        "gen_ai_client_operation_duration_seconds",
        "gen_ai_client_operation_time_to_first_chunk_seconds",
        "gen_ai_client_token_usage",
        "tensorix_load_time_to_first_token_seconds",
        "tensorix_load_budget_remaining_requests",
        "tensorix_load_users",
        "tensorix_load_client_loop_lag_seconds",
        "tensorix_ratelimit_remaining",
    ):
        assert families[name].samples, sorted(families)
    bounds = [
        float(sample.labels["le"])
        for sample in families["gen_ai_client_operation_time_to_first_chunk_seconds"].samples
        if sample.name.endswith("_bucket")
    ]
    assert bounds[:-1] == [0.01 * 2**power for power in range(14)]
    assert KEY not in pages[-1]
    assert len(collector.taken) == 1
    sent = collector.taken[-1]
    assert KEY.encode() not in sent.SerializeToString()
    (resource,) = sent.resource_metrics
    about = {one.key: one.value.string_value for one in resource.resource.attributes}
    run = Run.open(engine.out)
    assert about["service.name"] == "tensorix-load"
    assert about["tensorix.run.id"] == run.manifest["run_id"]
    metrics = {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}
    rows = [row for row in run.records().to_pylist() if row["scenario"] != "preflight"]
    counted = {
        tuple(one.value.string_value for one in point.attributes if one.key == "tensorix.outcome"): point.as_int
        for point in metrics["tensorix.load.requests"].sum.data_points
    }
    assert counted == {
        (outcome,): sum(row["outcome"] == outcome for row in rows) for outcome in ("success", "throttled")
    }
    usage = {
        kind.value.string_value: point.sum
        for point in metrics["gen_ai.client.token.usage"].histogram.data_points
        for kind in point.attributes
        if kind.key == "gen_ai.token.type"
    }
    assert usage["output"] == sum(row["completion_tokens"] or 0 for row in rows)
    durations = metrics["gen_ai.client.operation.duration"].histogram.data_points
    assert sum(point.count for point in durations) == len(rows)


def test_a_collector_that_refuses_is_one_warning(collect: Callable[[int], _Collector], start_engine: Start) -> None:
    """Each export fails; the run ends as without, says so once, and its log says no more."""
    collector = collect(400)
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_METRIC_EXPORT_INTERVAL": "150"}
    with Simulator(rpm=None, tpm=None, ttft="200ms", between_tokens="1ms") as simulator:
        engine = start_engine(simulator.base_url, requests=8, users=1, environment=environment, watching={"otlp": True})
        assert engine.end() == 0, engine.said
    assert len(collector.taken) > 2
    (said,) = [line for line in engine.said if "note:" not in line]
    assert said.startswith("warning: metrics could not be sent to the collector (")
    assert "400" in said
    assert not (engine.out / "engine.log").exists()


@pytest.mark.parametrize(
    ("watching", "environment", "said"),
    [
        ({"web": "127.0.0.1:{taken}"}, {}, "--web cannot listen on 127.0.0.1:{taken}: the port is in use"),
        ({"otlp": True}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "by http/protobuf only"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_sent(
    watching: dict[str, Any], environment: dict[str, str], said: str, start_engine: Start, serve: Callable[..., Any]
) -> None:
    """A taken port and a protocol that is not spoken here end it in one line, and the server is not asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = str(listener.getsockname()[1])
        asked = {
            name: value.format(taken=taken) if isinstance(value, str) else value for name, value in watching.items()
        }
        server = serve(lambda peer: peer.close())
        engine = start_engine(server.base_url, environment=environment, watching=asked)
        assert engine.end() == 2
    (line,) = engine.said
    assert line.startswith("error: ")
    assert said.format(taken=taken) in line
    assert server.connections == 0


def test_plain_locust_has_the_tab_and_warns_where_others_reach_it(
    subprocess_environment: dict[str, str], tmp_path: Path, free_port: int, wait_until: WaitUntil
) -> None:
    """Locust's own page has our tab with its test's figures; listening on every address it says so, once."""
    web = ["--web-host", "0.0.0.0", "--web-port", str(free_port), "--autostart", "--autoquit", "0"]
    base = f"http://127.0.0.1:{free_port}"
    with Simulator(rpm=None, tpm=None, ttft="20ms", between_tokens="1ms") as simulator:
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", simulator.base_url, *web]
        process = subprocess.Popen(
            [*command, "--users", "2", "--out", "run", "Chat"],
            cwd=tmp_path,
            env=subprocess_environment | {"TENSORIX_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            told: dict[str, Any] = {}

            def seen() -> bool:
                status, text = _get(f"{base}/tensorix/data")
                told.update(json.loads(text) if status == 200 else {})
                return bool(told.get("number", 0) > 1 and told["totals"]["success"] > 0)

            wait_until(seen)
            assert '"key": "tensorix"' in _get(f"{base}/")[1]
            assert "./tensorix/tab.js" in _get(f"{base}/")[1]
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
    assert said.count("whoever reaches it sees this test and can start and stop others") == 1
    assert "Traceback" not in said
    assert Run.open(tmp_path / "run").manifest["end_reason"] == "interrupted"


def test_the_master_shows_what_all_processes_saw(start_engine: Start, free_port: int, wait_until: WaitUntil) -> None:
    """With two processes the page of metrics counts the requests of both, and tells of each one's processor."""
    with Simulator(rpm=None, tpm=None, ttft="20ms", between_tokens="1ms") as simulator:
        engine = start_engine(
            simulator.base_url,
            users=4,
            duration_s=60,
            machines={"processes": 2},
            watching={"prometheus": f"127.0.0.1:{free_port}"},
        )
        page = ""

        def both() -> bool:
            nonlocal page
            page = _get(f"http://127.0.0.1:{free_port}/metrics")[1]
            lines = [line for line in page.splitlines() if line.startswith("tensorix_load_client_cpu{")]
            return len(lines) == 3 and "\ntensorix_load_users 4.0" in page

        wait_until(both)
        engine.signal(signal.SIGINT)
        assert engine.end() == 0, engine.said
    (counted,) = (line for line in page.splitlines() if line.startswith("tensorix_load_requests_total{"))
    assert 'tensorix_outcome="success"' in counted


@pytest.mark.system("chromium")
def test_the_tab_shows_the_run_and_its_stop_button_ends_it(
    start_engine: Start, browser: Browser, wait_until: WaitUntil, free_port: int
) -> None:
    """With the network off Locust's page has our tab with charts, a server's name is text, and Stop drains the run."""
    base = f"http://127.0.0.1:{free_port}"
    with Simulator(rpm=None, tpm=None, ttft="30ms", between_tokens="1ms", models=[EVIL]) as simulator:
        engine = start_engine(
            simulator.base_url, key=KEY, duration_s=60, users=3, watching={"web": f"127.0.0.1:{free_port}"}
        )
        wait_until(lambda: _get(f"{base}/tensorix/data")[0] == 200)
        told = _get(f"{base}/tensorix/data")[1]
        assert json.loads(told)["run"]["model"] == EVIL
        assert KEY not in told
        assert _get(f"{base}/tensorix/data", Origin="http://elsewhere.example")[0] == 403
        assert _get(f"{base}/tensorix/data", Host="elsewhere.example")[0] == 403
        assert _post(f"{base}/swarm")[0] == 403
        browser.call(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        browser.events.clear()
        browser.call("Page.navigate", url=f"{base}/?tab=tensorix")
        inside = "document.querySelector('iframe')?.contentDocument"
        browser.until(f"{inside}?.documentElement?.dataset.drawn > 2")
        captions = browser.value(
            f"[...{inside}.querySelectorAll('figcaption')].map((one) => one.textContent).join('|')"
        )
        assert "Time to first token" in captions
        assert "throttled (429) 0" in captions
        assert browser.value(f"{inside}.querySelectorAll('polyline').length") >= 8
        assert EVIL in browser.value(f"{inside}.getElementById('about').textContent")
        assert browser.value(f"window.hit ?? {inside}.defaultView.hit ?? 0") == 0
        foreign = [
            event["params"]["request"]["url"]
            for event in browser.events
            if event.get("method") == "Network.requestWillBeSent"
            and not event["params"]["request"]["url"].startswith((base, "data:"))
        ]
        assert foreign == []
        assert [one for one in browser.complaints() if not one.startswith("asked for")] == []
        assert _post(f"{base}/stop")[0] == 200
        assert engine.end() == 0, engine.said
    assert Run.open(engine.out).manifest["end_reason"] == "stopped"
    browser.until(f"{inside}.getElementById('about').textContent.includes('answers no more')")
