"""Alerts without Prometheus, for `serve`: rounds in, a webhook told. Any thread may call it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tensorix_probes.alerts.conditions import ABOUT
from tensorix_probes.alerts.evaluate import Alert, Evaluator, Verdict
from tensorix_probes.alerts.webhook import Told, Webhook, ended
from tensorix_probes.memory import Clock
from tensorix_probes.result import Round, State
from tensorix_probes.settings import Configuration, Target

__all__ = ["Alerting", "alerts_name"]

Keep = Callable[[str, Any], None]
"""Keeps a JSON value under a name: where what fires outlives the process."""


class Alerting(Collector):
    """Judges the rounds of a configuration's targets, and tells its webhook where it names one.

    A `Collector`: registered with the other metrics, it shows what fires and how the webhook does.

    With `keep`, what fires is kept, and rounds are only counted until `recall` has told of what was before and `begin`
    that this was all: a verdict before would take an outage that goes on for one that has ended.
    """

    def __init__(self, configuration: Configuration, clock: Clock | None = None, *, keep: Keep | None = None) -> None:
        self._clock = clock or Clock()
        self._keep = keep
        self._begun = keep is None
        self._lock = threading.Lock()
        self._evaluator = Evaluator(configuration.alerts.scale)
        self._firing: dict[Alert, Told] = {}
        self._told_s: dict[Alert, float] = {}
        self._location: str | None = None
        self._targets: dict[str, Target] = {}
        self._webhook: Webhook | None = None
        self.reload(configuration)

    def reload(self, configuration: Configuration) -> None:
        """Go on with other targets, without forgetting what was seen of those that stay.

        Another webhook is told from now on; another scale begins anew only with a new `Alerting`.
        """
        retired = None
        with self._lock:
            self._repeat_s = configuration.alerts.repeat_s
            now_s = self._now_s()
            names = {target.name for target in configuration.targets}
            moved = configuration.location != self._location
            gone = [name for name in self._targets if moved or name not in names]
            verdicts = [verdict for name in gone for verdict in self._evaluator.forget(name, self._location)]
            self._take(verdicts, now_s)
            self._location = configuration.location
            self._targets = {target.name: target for target in configuration.targets}
            for target in configuration.targets:
                self._evaluator.watch(now_s, target, configuration.location)
            address = configuration.alerts.webhook
            if (self._webhook.address if self._webhook else None) != address:
                retired, self._webhook = self._webhook, Webhook(address) if address else None
        if retired is not None:
            retired.close(0.0)

    def recall(self, target: str, past: Sequence[tuple[float, State, int]], kept: Any, now_s: float) -> None:
        """Know of a target what was before `now_s` of the monotonic clock.

        `past` is how many seconds ago which state had how many rounds, `kept` what `keep` got last under its
        `alerts_name`. One that is not configured is let be.
        """
        with self._lock:
            if target not in self._targets:
                return
            fired, expiry_unix_s = _read(kept)
            self._evaluator.recall(
                now_s,
                self._targets[target],
                self._location,
                [(now_s - ago_s, state, count) for ago_s, state, count in past],
                firing=fired,
                expiry_unix_s=expiry_unix_s,
            )
            unix_ns = self._clock.unix_ns()
            for name, (started_unix_ns, told_unix_ns) in fired.items():
                alert = Alert(name, target, self._location)
                self._firing[alert] = _told(alert, started_unix_ns)
                self._told_s[alert] = self._now_s() - max(0, unix_ns - told_unix_ns) / 1e9

    def begin(self) -> None:
        """Judge from now on: all that is known of the past has been told."""
        with self._lock:
            self._begun = True

    def see(self, round_: Round, target: Target) -> None:
        """Take over a round that has just ended. One of a target that is not configured counts for nothing."""
        with self._lock:
            if target.name in self._targets and round_.location == self._location:
                now_s = self._now_s()
                if self._begun:
                    self._take(self._evaluator.see(now_s, round_, target), now_s)
                else:
                    self._evaluator.count(now_s, round_, target)

    def tick(self, now_unix_ns: int | None = None) -> None:
        """Notice what comes with time alone, and tell again what has fired for long. Call it every few seconds.

        `now_unix_ns` is the time of day (by default the clock's); lengths of time are by a clock that is never set.
        """
        unix_ns = self._clock.unix_ns() if now_unix_ns is None else now_unix_ns
        with self._lock:
            if not self._begun:
                return
            now_s = self._now_s()
            self._take(self._evaluator.tick(now_s, unix_ns / 1e9), now_s)
            due = [alert for alert in self._firing if now_s - self._told_s[alert] >= self._repeat_s]
            self._tell([self._firing[alert] for alert in due])
            self._told_s.update(dict.fromkeys(due, now_s))
            self._remember(due, now_s)

    def close(self, within_s: float = 5.0) -> None:
        """Tell what waits, for so many seconds at most, and end."""
        if self._webhook is not None:
            self._webhook.close(within_s)

    def firing(self) -> list[Told]:
        """What fires, longest first."""
        with self._lock:
            return sorted(self._firing.values(), key=lambda told: told.started_unix_ns)

    @property
    def webhook(self) -> Webhook | None:
        """How telling goes: `sent`, `failures`, `last_error`."""
        return self._webhook

    def collect(self) -> Iterator[Metric]:
        """What fires, and how the webhook does."""
        firing = GaugeMetricFamily(
            "tensorix_probe_alert_firing", "1: `serve` itself holds that this alert fires.", labels=("alert", "target")
        )
        for told in self.firing():
            firing.add_metric([told.labels["alertname"], told.labels["target"]], 1)
        yield firing
        if self._webhook is not None:
            yield CounterMetricFamily(
                "tensorix_probe_webhook_messages", "Messages that the webhook took.", value=self._webhook.sent
            )
            yield CounterMetricFamily(
                "tensorix_probe_webhook_failures", "Attempts that it did not take.", value=self._webhook.failures
            )

    def _now_s(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    def _take(self, verdicts: list[Verdict], now_s: float) -> None:
        unix_ns = self._clock.unix_ns()
        news = []
        for verdict in verdicts:
            alert = verdict.alert
            if verdict.firing:
                self._firing[alert] = _told(alert, unix_ns)
                self._told_s[alert] = now_s
                news.append(self._firing[alert])
            elif (told := self._firing.pop(alert, None)) is not None:
                del self._told_s[alert]
                news.append(ended(told, unix_ns))
        self._tell(news)
        self._remember([verdict.alert for verdict in verdicts], now_s)

    def _tell(self, news: list[Told]) -> None:
        if self._webhook is not None:
            self._webhook.tell(news)

    def _remember(self, changed: Sequence[Alert], now_s: float) -> None:
        """Keep what fires of those targets of which something has changed."""
        if self._keep is None:
            return
        unix_ns = self._clock.unix_ns()
        for target, location in {(alert.target, alert.location) for alert in changed}:
            firing = {
                alert.name: [told.started_unix_ns, unix_ns - round((now_s - self._told_s[alert]) * 1e9)]
                for alert, told in self._firing.items()
                if (alert.target, alert.location) == (target, location)
            }
            expiry_unix_s = self._evaluator.expiry_unix_s(target, location)
            self._keep(alerts_name(target, location), {"firing": firing, "expiry_unix_s": expiry_unix_s})


def alerts_name(target: str, location: str | None) -> str:
    """Under what the alerts of a target at a location are kept."""
    return f"alerts/{target}" if location is None else f"alerts/{target}@{location}"


def _read(kept: Any) -> tuple[dict[str, tuple[int, int]], float | None]:
    """By name, when each alert that fired began and was last told, and when the certificate runs out.

    What another version kept, or somebody else, is passed over.
    """
    if not isinstance(kept, dict):
        return {}, None
    firing, expiry = kept.get("firing"), kept.get("expiry_unix_s")
    fired = {}
    for name, times in firing.items() if isinstance(firing, dict) else ():
        match times:
            case [int(started), int(told)] if name in ABOUT:
                fired[name] = (started, told)
    return fired, float(expiry) if isinstance(expiry, int | float) else None


def _told(alert: Alert, unix_ns: int) -> Told:
    about = ABOUT[alert.name]
    where = f"{alert.target} from {alert.location}" if alert.location else alert.target
    return Told(
        labels={
            "alertname": alert.name,
            "severity": about.severity,
            "target": alert.target,
            **({"location": alert.location} if alert.location else {}),
        },
        annotations={
            "summary": about.summary.format(where=where, what=""),
            "description": about.description,
            "runbook_url": f"docs/runbooks.md#{alert.name.lower()}",
        },
        started_unix_ns=unix_ns,
    )
