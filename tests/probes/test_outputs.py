"""What probes found, in the forms that others read: each read back by a library that is not ours."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from xml.etree import ElementTree

import pytest
from junitparser import JUnitXml
from prometheus_client.parser import text_string_to_metric_families

from tensorix_probes.metrics import Metrics
from tensorix_probes.outputs.document import FORMAT, as_json
from tensorix_probes.outputs.junit import write_junit
from tensorix_probes.outputs.nagios import nagios
from tensorix_probes.outputs.prometheus import (
    check_gateway,
    counts_of_file,
    counts_of_gateway,
    going_on,
    push,
    write_textfile,
)
from tensorix_probes.result import Assertion, Phases, ProbeResult, Round, Spent, State
from tensorix_probes.settings import Configuration, Prices, Target

AT = 1_700_000_000_000_000_000
TARGETS = (Target(name="prod", prices=Prices(prompt_per_million=1.0)), Target(name="dev/2"))


def result(
    check: str, state: State, *failed: Assertion, reason: str | None = None, target: str = "prod"
) -> ProbeResult:
    """What a check found."""
    return ProbeResult(
        check=check,
        target=target,
        state=state,
        reason=reason,
        assertions=(Assertion("status_is_200", True), *failed),
        phases=Phases(connect_ns=20_000_000, first_token_ns=250_000_000, total_ns=1_500_000_000),
        spent=Spent(1, 20, 0.00002),
        started_unix_ns=AT,
        duration_ns=1_600_000_000,
        key_alias="key-01234567",
    )


def round_of(state: State, *results: ProbeResult, target: str = "prod", reason: str | None = None) -> Round:
    """A round of a target."""
    return Round(
        round_id=f"round of {target}",
        target=target,
        location="fra1",
        state=state,
        reason=reason,
        started_unix_ns=AT,
        duration_ns=2_000_000_000,
        results=results,
    )


@pytest.fixture
def rounds() -> list[Round]:
    """One that is down, with a check of each kind, and one that is up."""
    slow = Assertion("answer_is_quick", False, "21 s > 20 s", State.DEGRADED)
    wrong = Assertion("status_is_200", False, "500 <&> \x00\x1b[31m | server error", State.DOWN)
    return [
        round_of(
            State.DOWN,
            result("tls", State.UP),
            result("chat", State.DEGRADED, slow, reason="21 s > 20 s"),
            result("stream", State.DOWN, wrong, reason="500 <&> \x00\x1b[31m | server error"),
            result("auth", State.INCONCLUSIVE, reason="explained by stream"),
            reason="500 <&> \x00\x1b[31m | server error",
        ),
        round_of(State.UP, result("stream", State.UP, target="dev/2"), target="dev/2"),
    ]


def test_the_document_holds_every_round_and_its_sum(rounds: list[Round]) -> None:
    """One JSON document: its format, the worst state, what was spent, and each round as it is."""
    configuration = Configuration(targets=TARGETS, location="fra1")
    read = json.loads(as_json(rounds, configuration, exit_status=1))
    assert read.pop("rounds") == [json.loads(json.dumps(one.to_dict())) for one in rounds]
    assert read == {
        "format": FORMAT,
        "started": "2023-11-14T22:13:20.000+00:00",
        "location": "fra1",
        "state": "down",
        "exit_status": 1,
        "spent": {"requests": 5, "tokens": 100, "cost": pytest.approx(0.0001)},
    }


def test_junit_has_a_suite_a_target_and_a_case_a_check(rounds: list[Round], tmp_path: Path) -> None:
    """Two parsers find the same suites, failures and skips; what XML cannot hold is left out."""
    path = tmp_path / "junit.xml"
    write_junit(rounds, path)
    suites = list(JUnitXml.fromfile(str(path)))
    assert [(suite.name, suite.tests, suite.failures, suite.skipped) for suite in suites] == [
        ("prod", 4, 2, 1),
        ("dev/2", 1, 0, 0),
    ]
    root = ElementTree.parse(path).getroot()
    cases = {case.get("name"): case for case in root[0].iter("testcase")}
    assert [child.tag for child in cases["tls"]] == []
    failure = cases["stream"].find("failure")
    assert failure is not None
    assert (failure.get("type"), failure.get("message")) == ("down", "500 <&>   [31m | server error")
    assert failure.text == "status_is_200: 500 <&>   [31m | server error"
    skipped = cases["auth"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "explained by stream"
    assert float(cases["chat"].get("time") or 0) == 1.6


def test_a_file_is_replaced_as_a_whole_or_not_at_all(rounds: list[Round], tmp_path: Path) -> None:
    """Where writing fails the old file stays, and nothing is left beside it."""
    path = tmp_path / "junit.xml"
    path.write_text("old")
    broken = round_of(State.UP, ProbeResult(check="x", target="x", state=State.UP, started_unix_ns=0, duration_ns=None))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write_junit([broken], path)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])
    write_junit(rounds, path)
    assert path.read_text().startswith("<?xml")
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o044 == 0o044


def _metrics(rounds: list[Round]) -> Metrics:
    metrics = Metrics(TARGETS, "fra1")
    for one in rounds:
        metrics.see(one, next(target for target in TARGETS if target.name == one.target))
    return metrics


def _values(text: str) -> dict[tuple[str, str, str], float]:
    """By name, target and state."""
    return {
        (sample.name, sample.labels.get("target", ""), sample.labels.get("state", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("maintenance") != "true" and "check" not in sample.labels
    }


@pytest.mark.system("promtool")
def test_the_text_file_is_what_prometheus_takes(rounds: list[Round], tmp_path: Path) -> None:
    """promtool finds nothing wrong with it, and another reader finds the states."""
    path = tmp_path / "tensorix.prom"
    write_textfile(going_on(_metrics(rounds), {}, ["prod", "dev/2"]), path)
    promtool = shutil.which("promtool") or "promtool"
    checked = subprocess.run([promtool, "check", "metrics"], input=path.read_bytes(), capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    found = _values(path.read_text())
    assert found["probe_success", "prod", ""] == 0
    assert found["probe_success", "dev/2", ""] == 1
    assert found["tensorix_probe_rounds_total", "prod", "down"] == 1


def test_counters_of_a_text_file_go_on(rounds: list[Round], tmp_path: Path) -> None:
    """Each run adds to what the run before has counted; what it saw nothing of stays; what is broken begins anew."""
    path = tmp_path / "tensorix.prom"
    names = ["prod", "dev/2"]
    for _ in range(3):
        write_textfile(going_on(_metrics(rounds), counts_of_file(path), names), path)
    write_textfile(going_on(_metrics(rounds[1:]), counts_of_file(path), names), path)
    found = _values(path.read_text())
    assert found["tensorix_probe_rounds_total", "prod", "down"] == 3
    assert found["tensorix_probe_rounds_total", "dev/2", "up"] == 4
    text = path.read_text()
    assert re.search(r'tensorix_probe_phase_seconds_count\{[^}]*check="stream"[^}]*target="prod"[^}]*\} 3\.0', text)
    # Of a target that is gone nothing is carried on.
    alone = Metrics(TARGETS[1:], "fra1")
    write_textfile(going_on(alone, counts_of_file(path), ["dev/2"]), path)
    assert 'target="prod"' not in path.read_text()
    path.write_bytes(b"\xff no metrics {{{")
    assert counts_of_file(path) == {}
    assert counts_of_file(tmp_path / "none") == {}


class _Gateway(ThreadingHTTPServer):
    """Answers as a Pushgateway does: keeps a group, and shows it with its labels."""

    def __init__(self) -> None:
        self.groups: dict[str, str] = {}
        self.status = 200
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Gateway

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if self.server.status == 200:
            self.server.groups[self.path] = body
        self.send_response(self.server.status)
        self.end_headers()

    def do_GET(self) -> None:
        shown = ""
        for path, body in self.server.groups.items():
            steps = path.split("/")[2:]
            labels = ",".join(f'{name}="{value}"' for name, value in zip(steps[::2], steps[1::2], strict=True))
            # The group's labels stand in place of the samples' own.
            bare = re.sub(r'location="[^"]*",?', "", body)
            shown += re.sub(r"(?m)^([a-z_]+)\{", rf"\1{{{labels},", bare)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(shown.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def gateway() -> Iterator[_Gateway]:
    """A Pushgateway."""
    with _Gateway() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_push_names_job_instance_and_location_and_counters_go_on(rounds: list[Round], gateway: _Gateway) -> None:
    """What a gateway has of the group is replaced, with counters that go on from there."""
    for _ in range(2):
        before = counts_of_gateway(gateway.url, job="probes", location="fra1")
        push(going_on(_metrics(rounds), before, ["prod", "dev/2"]), gateway.url, job="probes", location="fra1")
    host = socket.gethostname()
    assert set(gateway.groups) == {f"/metrics/job/probes/instance/{host}/location/fra1"}
    found = _values(next(iter(gateway.groups.values())))
    assert found["tensorix_probe_rounds_total", "prod", "down"] == 2
    assert counts_of_gateway(gateway.url, job="another", location="fra1") == {}


def test_a_push_that_fails_is_one_line(rounds: list[Round], gateway: _Gateway) -> None:
    """A refusal, a closed port and an address that is none are errors of one line, never a crash."""
    registry = going_on(_metrics(rounds), {}, ["prod"])
    gateway.status = 400
    with pytest.raises(OSError, match="it answered 400"):
        push(registry, gateway.url, job="j", location=None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(OSError, match="Connection refused"):
            push(registry, closed, job="j", location=None)
        assert counts_of_gateway(closed, job="j", location=None) == {}
    for wrong in ("ftp://x", "http://", "http://u:p@x:9091", "http://x:0"):
        with pytest.raises(ValueError, match="without user and password") as raised:
            check_gateway(wrong)
        assert "u:p" not in str(raised.value)


# By the plug-in guidelines: 'label'=value[unit];[warning];[critical];[least].
_PERFDATA = re.compile(r"'[^'=|]+'=[0-9.]+s?;[0-9.]*;[0-9.]*;0")


@pytest.mark.parametrize(
    ("states", "name", "code"),
    [
        ([State.UP], "OK", 0),
        ([State.DEGRADED], "WARNING", 1),
        ([State.PAYMENT], "WARNING", 1),
        ([State.DOWN], "CRITICAL", 2),
        ([State.INCONCLUSIVE], "UNKNOWN", 3),
        ([State.UP, State.INCONCLUSIVE], "UNKNOWN", 3),
        ([State.DEGRADED, State.INCONCLUSIVE], "WARNING", 1),
        ([State.DOWN, State.PAYMENT], "CRITICAL", 2),
    ],
)
def test_nagios_has_one_line_and_its_own_codes(states: list[State], name: str, code: int) -> None:
    """The worst of the targets in Nagios's order, in a word and a code, with figures after one bar."""
    given = [
        round_of(state, result("stream", state, target=target.name), target=target.name, reason="a | bar\nand a line")
        for state, target in zip(states, TARGETS, strict=False)
    ]
    line, status = nagios(given, TARGETS)
    assert status == code
    assert line.startswith(f"TENSORIX {name} - prod {states[0]}: a / bar and a line")
    assert "\n" not in line
    text, figures = line.split(" | ")
    assert all(_PERFDATA.fullmatch(figure) for figure in figures.split(" "))
    label = "'ttft'" if len(states) == 1 else "'prod_ttft'"
    assert f"{label}=0.250000s;10;30;0" in figures
    assert len(text) < 400


def test_a_text_file_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a device, and of what is longer than any text file of metrics, nothing is taken for counters."""
    assert counts_of_file(Path("/dev/zero")) == {}
    path = tmp_path / "a.prom"
    path.write_text("# TYPE a_total counter\na_total 1\n")
    assert len(counts_of_file(path)) == 1
    with path.open("ab") as file:
        file.truncate(2**40)
    assert counts_of_file(path) == {}


@pytest.mark.parametrize(
    ("address", "fits"), [("foo", False), ("foo:9091", True), ("http://foo", True), ("foo:", False)]
)
def test_a_bare_word_is_no_gateway(address: str, fits: bool) -> None:
    """Without a scheme an address of a gateway needs its port."""
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="no http"):
        check_gateway(address)
