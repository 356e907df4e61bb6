"""Alerts to a webhook, in the JSON that Alertmanager sends (version 4), from a thread of its own.

What waits is the latest word on each alert rather than a queue of messages: however long the receiver is away, memory
stays bounded and it learns in the end what is true.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import stamina

from tensorix_api import Secret
from tensorix_api.secret import Redactor

__all__ = ["Told", "Webhook", "ended", "message"]

# Its notes on each retry are for those who ask for them: without a handler Python would print them.
logging.getLogger("stamina").addHandler(logging.NullHandler())
_THREAD = "alerts-webhook"
# httpx notes each address that it asks, and this one is a secret.
logging.getLogger("httpx").addFilter(lambda record: record.threadName != _THREAD)

_RECEIVER = "tensorix-probe"
_ATTEMPTS = 5
_TIMEOUT_S = 10.0
_PAUSE_S = 60.0
"""After so many attempts in vain, until the next ones."""
_NEVER = "0001-01-01T00:00:00Z"
"""What Alertmanager writes for the end of what has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One alert as a receiver is told of it. Times are ns of Unix time."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    started_unix_ns: int
    ended_unix_ns: int | None = None

    @property
    def fingerprint(self) -> str:
        """The same for the same labels: 16 hex digits."""
        text = "\xff".join(f"{name}\xfe{value}" for name, value in sorted(self.labels.items()))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """As Alertmanager writes it."""
        ended = self.ended_unix_ns
        return {
            "status": "firing" if ended is None else "resolved",
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "startsAt": _rfc3339(self.started_unix_ns),
            "endsAt": _NEVER if ended is None else _rfc3339(ended),
            "generatorURL": "",
            "fingerprint": self.fingerprint,
        }


def _rfc3339(unix_ns: int) -> str:
    return datetime.fromtimestamp(unix_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _common(many: list[Mapping[str, str]]) -> dict[str, str]:
    return {name: value for name, value in many[0].items() if all(one.get(name) == value for one in many)}


def message(alerts: list[Told]) -> dict[str, Any]:
    """The body that tells of some alerts of one target. At least one."""
    target = alerts[0].labels.get("target", "")
    return {
        "version": "4",
        "groupKey": f'{{}}:{{target="{target}"}}',
        "truncatedAlerts": 0,
        "status": "firing" if any(one.ended_unix_ns is None for one in alerts) else "resolved",
        "receiver": _RECEIVER,
        "groupLabels": {"target": target},
        "commonLabels": _common([one.labels for one in alerts]),
        "commonAnnotations": _common([one.annotations for one in alerts]),
        "externalURL": "",
        "alerts": [one.to_dict() for one in alerts],
    }


class _NotTakenError(Exception):
    """The receiver was not reached, or did not take it. The text is redacted."""


class _TryAgainError(_NotTakenError):
    """It may take it in a moment."""


@dataclass(slots=True)
class Webhook:
    """Tells a receiver. `tell` never waits; `close` waits for a few seconds."""

    address: Secret
    wait_s: float = 0.5
    """Before the second attempt; doubled for each one after it."""
    pause_s: float = _PAUSE_S
    sent: int = 0
    """Messages that were taken."""
    failures: int = 0
    """Attempts that were not."""
    last_error: str | None = None
    """Of the last attempt, redacted; None where it was taken."""
    _pending: dict[str, Told] = field(default_factory=dict)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _closing: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def tell(self, alerts: list[Told]) -> None:
        """Hand over alerts; of each, the last word counts."""
        if not alerts:
            return
        with self._news:
            self._pending.update({one.fingerprint: one for one in alerts})
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=_THREAD, daemon=True)
                self._thread.start()
            self._news.notify()

    def close(self, within_s: float = 5.0) -> None:
        """Tell what waits, one attempt each, and end."""
        self._closing.set()
        with self._news:
            self._news.notify()
        if self._thread is not None:
            self._thread.join(within_s)

    def _run(self) -> None:
        redact = Redactor(self.address)
        with httpx.Client(timeout=_TIMEOUT_S) as client:
            while True:
                with self._news:
                    self._news.wait_for(lambda: self._pending or self._closing.is_set())
                    if not self._pending:
                        return
                    first = next(iter(self._pending.values())).labels.get("target")
                    batch = {name: one for name, one in self._pending.items() if one.labels.get("target") == first}
                last = self._closing.is_set()
                try:
                    self._deliver(client, redact, list(batch.values()), once=last)
                except _NotTakenError:
                    if last:
                        return
                    # To the end of the line, so that one message that is refused does not keep others back.
                    self._drop(batch, keep=True)
                    self._closing.wait(self.pause_s)
                else:
                    self._drop(batch, keep=False)

    def _drop(self, batch: Mapping[str, Told], *, keep: bool) -> None:
        """Take from what waits what is still as it was told; `keep` puts it at the end instead."""
        with self._news:
            for name, one in batch.items():
                if keep or self._pending.get(name) is one:
                    latest = self._pending.pop(name)
                    if keep:
                        self._pending[name] = latest

    def _deliver(self, client: httpx.Client, redact: Redactor, alerts: list[Told], *, once: bool) -> None:
        for attempt in stamina.retry_context(
            on=_TryAgainError,
            attempts=1 if once else _ATTEMPTS,
            wait_initial=self.wait_s,
            wait_jitter=self.wait_s,
            wait_max=10.0,
        ):
            with attempt:
                self._post(client, redact, alerts)

    def _post(self, client: httpx.Client, redact: Redactor, alerts: list[Told]) -> None:
        """One attempt. Raises _NotTakenError; nothing else of it leaves here, the address being a secret."""
        again, trouble = True, None
        try:
            status = client.post(self.address.reveal(), json=message(alerts)).status_code
            if not 200 <= status < 300:
                again, trouble = status in (408, 429) or status >= 500, f"the webhook answered with {status}"
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            again = isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)
            trouble = redact(f"the webhook cannot be reached: {type(error).__name__}: {error}", 200)
        self.last_error = trouble
        if trouble is None:
            self.sent += 1
            return
        self.failures += 1
        raise (_TryAgainError if again else _NotTakenError)(trouble)


def ended(told: Told, unix_ns: int) -> Told:
    """The same alert, over."""
    return replace(told, ended_unix_ns=unix_ns)
