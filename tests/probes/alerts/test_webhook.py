"""The webhook: Alertmanager's message, tried again for a while, without ever holding up who tells."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jsonschema
import pytest
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from tensorix_api import Secret
from tensorix_probes.alerts.alerting import Alerting
from tensorix_probes.alerts.webhook import Told, Webhook, ended, message
from tensorix_probes.memory import Clock
from tensorix_probes.result import Round, State
from tensorix_probes.settings import Alerts, Configuration, Target

TOKEN = "token-that-nobody-may-see"
S = 1_000_000_000

# Alertmanager's documentation of its webhook's body, version 4.
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
ALERT = {
    "status": {"enum": ["firing", "resolved"]},
    "labels": TEXTS | {"required": ["alertname", "severity", "target"]},
    "annotations": TEXTS | {"required": ["summary", "description", "runbook_url"]},
    "startsAt": TIME,
    "endsAt": TIME,
    "generatorURL": {"type": "string"},
    "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
}
BODY = {
    "version": {"const": "4"},
    "groupKey": {"type": "string"},
    "truncatedAlerts": {"type": "integer"},
    "status": {"enum": ["firing", "resolved"]},
    "receiver": {"type": "string"},
    "groupLabels": TEXTS,
    "commonLabels": TEXTS,
    "commonAnnotations": TEXTS,
    "externalURL": {"type": "string"},
    "alerts": {
        "type": "array",
        "minItems": 1,
        "items": {"properties": ALERT, "required": list(ALERT), "additionalProperties": False},
    },
}
SCHEMA = {"type": "object", "properties": BODY, "required": list(BODY), "additionalProperties": False}


class Receiver:
    """A server that answers as told (status after status, the last one for good) and keeps what it took."""

    def __init__(self) -> None:
        self.statuses: list[int] = [200]
        self.got: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
        self.hold = threading.Event()
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.hold.wait(30)
                status = outer.statuses.pop(0) if len(outer.statuses) > 1 else outer.statuses[0]
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()
                outer.got.put((status, body))

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = Secret(f"http://127.0.0.1:{self.server.server_port}/{TOKEN}")
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def take(self) -> tuple[int, dict[str, Any]]:
        """The next message."""
        return self.got.get(timeout=20)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that takes everything."""
    one = Receiver()
    yield one
    one.hold.set()
    one.server.shutdown()
    one.thread.join()
    one.server.server_close()


def _told(name: str, target: str = "here") -> Told:
    return Told(
        labels={"alertname": name, "severity": "page", "target": target},
        annotations={"summary": "s", "description": "d", "runbook_url": "r"},
        started_unix_ns=1_700_000_000 * S,
    )


def _until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_the_message_is_alertmanagers() -> None:
    """What fires and what has ended are told as Alertmanager documents it, with what they share said once."""
    one, other = _told("A"), ended(_told("B"), 1_700_000_060 * S)
    body = message([one, other])
    jsonschema.validate(body, SCHEMA)
    assert body["status"] == "firing"
    assert body["commonLabels"] == {"severity": "page", "target": "here"}
    assert [alert["status"] for alert in body["alerts"]] == ["firing", "resolved"]
    assert body["alerts"][0]["startsAt"] == "2023-11-14T22:13:20.000Z"
    assert body["alerts"][0]["endsAt"] == "0001-01-01T00:00:00Z"
    assert body["alerts"][1]["endsAt"] == "2023-11-14T22:14:20.000Z"
    assert one.fingerprint != other.fingerprint
    assert message([other])["status"] == "resolved"


def test_it_is_tried_again_until_it_is_taken(receiver: Receiver) -> None:
    """A receiver that is busy or broken gets the same message again, and each refusal is counted."""
    receiver.statuses = [503, 429, 200]
    webhook = Webhook(receiver.address, wait_s=0.01)
    webhook.tell([_told("A")])
    taken = [receiver.take() for _ in range(3)]
    webhook.close()
    assert [status for status, _ in taken] == [503, 429, 200]
    assert taken[0][1] == taken[2][1]
    assert (webhook.sent, webhook.failures, webhook.last_error) == (1, 2, None)


def test_a_mistaken_address_is_not_hammered(receiver: Receiver) -> None:
    """404 is not tried again at once, but after a pause; by then the latest word counts."""
    receiver.statuses = [404, 200]
    webhook = Webhook(receiver.address, wait_s=0.01, pause_s=0.3)
    webhook.tell([_told("A")])
    assert receiver.take()[0] == 404
    _until(lambda: webhook.last_error is not None)
    assert webhook.last_error == "the webhook answered with 404"
    webhook.tell([ended(_told("A"), 1_700_000_060 * S)])
    status, body = receiver.take()
    webhook.close()
    assert (status, body["status"]) == (200, "resolved")
    assert (webhook.sent, webhook.failures) == (1, 1)


def test_a_receiver_that_hangs_holds_nobody_up(receiver: Receiver) -> None:
    """While one message waits for its answer, thousands are told in no time and take no room; the last words arrive."""
    receiver.hold.clear()
    webhook = Webhook(receiver.address, wait_s=0.01)
    began = time.monotonic()
    for number in range(2_000):
        webhook.tell([_told(f"A{number % 5}") if number % 2 else ended(_told(f"A{number % 5}"), number * S)])
    assert time.monotonic() - began < 20
    assert len(webhook._pending) <= 5
    receiver.hold.set()
    wanted = {f"A{number % 5}": "firing" if number % 2 else "resolved" for number in range(1_990, 2_000)}
    last: dict[str, str] = {}
    while last != wanted:
        last |= {one["labels"]["alertname"]: one["status"] for one in receiver.take()[1]["alerts"]}
    webhook.close()


def test_nobody_there_is_counted_and_shows_no_address(caplog: pytest.LogCaptureFixture) -> None:
    """A refused connection and an address that is none are failures without a trace of the address, in logs neither."""
    caplog.set_level(logging.DEBUG)
    for address, words in (
        (f"http://127.0.0.1:1/{TOKEN}", "cannot be reached: ConnectError"),
        (f"http://127.0.0.1:port/{TOKEN}", "cannot be reached: InvalidURL"),
        (f"gopher://127.0.0.1/{TOKEN}", "cannot be reached: UnsupportedProtocol"),
    ):
        webhook = Webhook(Secret(address), wait_s=0.01, pause_s=60)
        webhook.tell([_told("A")])
        _until(lambda one=webhook: one.last_error is not None)  # type: ignore[misc]
        assert words in str(webhook.last_error)
        webhook.close()
        assert webhook.sent == 0
        assert TOKEN not in str(webhook.last_error) + repr(webhook)
    assert TOKEN not in "".join(f"{record.getMessage()}{vars(record)}" for record in caplog.records)


def test_no_log_has_the_address_of_what_was_taken(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """However much the libraries log, the address of a message that was taken is not among it."""
    caplog.set_level(logging.DEBUG)
    webhook = Webhook(receiver.address)
    webhook.tell([_told("A")])
    receiver.take()
    webhook.close()
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    assert TOKEN not in "".join(f"{record.getMessage()}{vars(record)}" for record in caplog.records)


def test_close_tells_what_waits_and_no_longer_than_told(receiver: Receiver) -> None:
    """What was told before the end is sent; a receiver that hangs delays the end by no more than was allowed."""
    webhook = Webhook(receiver.address)
    webhook.tell([_told("A"), _told("B", "there")])
    webhook.close()
    assert {receiver.take()[1]["groupLabels"]["target"] for _ in range(2)} == {"here", "there"}
    receiver.hold.clear()
    hung = Webhook(receiver.address)
    hung.tell([_told("A")])
    began = time.monotonic()
    hung.close(within_s=0.2)
    assert time.monotonic() - began < 5


class Time:
    """A clock that is set by hand, of which the time of day can jump."""

    def __init__(self) -> None:
        self.s, self.jump_s = 1_000.0, 1_700_000_000.0
        self.clock = Clock(unix_ns=lambda: int((self.s + self.jump_s) * S), monotonic_ns=lambda: int(self.s * S))


@pytest.fixture
def alerting(receiver: Receiver) -> Iterator[tuple[Alerting, Time, Target]]:
    """One that tells the receiver, on a clock that is set by hand."""
    target, clock = Target(name="here"), Time()
    configuration = Configuration(targets=(target,), location="lab", alerts=Alerts(webhook=receiver.address))
    one = Alerting(configuration, clock.clock)
    yield one, clock, target
    one.close()


def _probe(alerting: Alerting, clock: Time, target: Target, *states: State) -> None:
    for state in states:
        clock.s += 60
        now_ns = clock.clock.unix_ns()
        made = Round(round_id="r", target=target.name, location="lab", state=state, started_unix_ns=now_ns)
        alerting.see(made, target)
        alerting.tick(now_ns)


def test_an_outage_is_told_and_so_is_its_end(receiver: Receiver, alerting: tuple[Alerting, Time, Target]) -> None:
    """Firing and resolved come as messages with the same fingerprint and beginning; what goes on is told again."""
    one, clock, target = alerting
    _probe(one, clock, target, *[State.UP] * 90)
    assert one.firing() == []
    _probe(one, clock, target, *[State.DOWN] * 3)
    status, body = receiver.take()
    jsonschema.validate(body, SCHEMA)
    (alert,) = body["alerts"]
    assert (status, alert["labels"]) == (
        200,
        {"alertname": "TensorixProbeFailing", "severity": "ticket", "target": "here", "location": "lab"},
    )
    assert alert["annotations"]["summary"].startswith("here from lab failed three times")
    _probe(one, clock, target, *[State.DOWN] * 240)
    told = [alert, *receiver.take()[1]["alerts"]]
    while not {"TensorixBudgetBurnsFast", "TensorixBudgetBurns"} <= {entry["labels"]["alertname"] for entry in told}:
        told += receiver.take()[1]["alerts"]
    while sum(entry["fingerprint"] == alert["fingerprint"] for entry in told) < 2:
        told += receiver.take()[1]["alerts"]
    _probe(one, clock, target, *[State.UP] * 7)
    over: dict[str, Any] = {}
    while over.get("status") != "resolved":
        over = next((a for a in receiver.take()[1]["alerts"] if a["fingerprint"] == alert["fingerprint"]), over)
    assert over["startsAt"] == alert["startsAt"]
    assert over["endsAt"] > alert["startsAt"]


def test_a_clock_that_jumps_makes_no_alert(alerting: tuple[Alerting, Time, Target]) -> None:
    """The time of day stepped by an hour, forth and back, neither makes two failures one hour apart near nor stale."""
    one, clock, target = alerting
    for jump_s in (3600, -7200, 3600):
        _probe(one, clock, target, *[State.UP] * 70, State.DOWN)
        clock.jump_s += jump_s
        _probe(one, clock, target, State.UP)
        assert one.firing() == []


def test_a_target_that_is_gone_alarms_no_more(receiver: Receiver, alerting: tuple[Alerting, Time, Target]) -> None:
    """After a reload without it, what fired of a target is told as ended, and later rounds of it count for nothing."""
    one, clock, target = alerting
    _probe(one, clock, target, *[State.DOWN] * 3)
    assert receiver.take()[1]["status"] == "firing"
    one.reload(Configuration(targets=(Target(name="other"),), location="lab", alerts=Alerts(webhook=receiver.address)))
    status, body = receiver.take()
    assert (status, body["status"]) == (200, "resolved")
    _probe(one, clock, target, *[State.DOWN] * 3)
    assert [told.labels["target"] for told in one.firing()] == []


def test_a_reload_may_name_another_webhook_or_none(receiver: Receiver, alerting: tuple[Alerting, Time, Target]) -> None:
    """From a reload on the new receiver is told and the old one is not; without one nobody is, and all is judged."""
    one, clock, target = alerting
    other = Secret(receiver.address.reveal() + "-2")
    one.reload(Configuration(targets=(target,), location="lab", alerts=Alerts(webhook=other)))
    assert one.webhook is not None
    assert one.webhook.address == other
    one.reload(Configuration(targets=(target,), location="lab"))
    _probe(one, clock, target, *[State.DOWN] * 3)
    assert one.webhook is None
    assert one.firing()
    assert receiver.got.empty()


def test_it_shows_how_it_does(receiver: Receiver, alerting: tuple[Alerting, Time, Target]) -> None:
    """Registered with the other metrics, it says what fires and what the webhook took, and never the address."""
    one, clock, target = alerting
    registry = CollectorRegistry()
    registry.register(one)
    _probe(one, clock, target, *[State.DOWN] * 3)
    receiver.take()
    _until(lambda: one.webhook is not None and one.webhook.sent == 1)
    text = generate_latest(registry).decode()
    assert 'tensorix_probe_alert_firing{alert="TensorixProbeFailing",target="here"} 1.0' in text
    assert "tensorix_probe_webhook_messages_total 1.0" in text
    assert TOKEN not in text


def test_without_a_webhook_it_only_judges() -> None:
    """Where none is configured, what fires can be asked for, and no thread is started."""
    target, clock = Target(name="here"), Time()
    before = threading.active_count()
    one = Alerting(Configuration(targets=(target,), location="lab"), clock.clock)
    _probe(one, clock, target, *[State.DOWN] * 3)
    assert {told.labels["alertname"] for told in one.firing()} >= {"TensorixProbeFailing"}
    one.close()
    assert threading.active_count() == before
