"""The metrics: bounded labels, counters that begin at 0, and nothing left of a target that is gone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tensorix_api import Secret
from tensorix_probes.metrics import BUCKETS_S, MISSED, Metrics
from tensorix_probes.result import Assertion, Phases, ProbeResult, Round, Spent, State
from tensorix_probes.settings import Prices, Target

KEY = "sk-seen-by-nobody-at-all"
TARGET = Target(name="prod", api_key=Secret(KEY), checks=("models", "chat"), interval_s=30.0)


def _result(check: str = "chat", state: State = State.UP, **fields: Any) -> ProbeResult:
    return ProbeResult(check=check, target="prod", state=state, started_unix_ns=1, **fields)


def _round(state: State = State.UP, *results: ProbeResult, **fields: Any) -> Round:
    known: dict[str, Any] = {"started_unix_ns": 1_700_000_000_000_000_000, "duration_ns": 2_000_000_000}
    return Round(round_id="r", target="prod", state=state, results=results, **(known | fields))


@pytest.fixture
def metrics() -> Metrics:
    """Of one target, in Berlin."""
    return Metrics([TARGET], "berlin")


@pytest.fixture
def value(metrics: Metrics) -> Callable[..., float | None]:
    """One sample of `prod` in Berlin, by its name and its other labels."""

    def of(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"target": "prod", "location": "berlin", **labels})

    return of


def test_counters_begin_at_zero(value: Callable[..., float | None]) -> None:
    """Before the first round every counter of a target is there as 0: its first failure is an increase."""
    for state in State:
        for maintenance in ("true", "false"):
            assert value("tensorix_probe_rounds_total", state=state.value, maintenance=maintenance) == 0
        for check in TARGET.checks:
            assert value("tensorix_probe_results_total", state=state.value, check=check) == 0
    assert [value("tensorix_probe_missed_total", reason=reason) for reason in MISSED] == [0, 0, 0]
    assert value("tensorix_probe_objective_ratio") == 0.995
    assert value("tensorix_probe_interval_seconds") == 30
    assert value("probe_success") is None
    assert value("probe_last_run_timestamp_seconds") is None


@pytest.mark.parametrize(
    ("state", "success"),
    [("up", 1), ("degraded", 1), ("down", 0), ("inconclusive", None), ("payment", None)],
)
def test_success(metrics: Metrics, value: Callable[..., float | None], state: str, success: float | None) -> None:
    """`probe_success` is 1 for up and degraded, 0 for down, and goes away where the last round could not say."""
    metrics.see(_round(State.UP), TARGET)
    metrics.see(_round(State(state)), TARGET)
    assert value("probe_success") == success
    assert value("probe_last_run_timestamp_seconds") == 1_700_000_002


def test_rounds_in_maintenance_are_counted_apart(metrics: Metrics, value: Callable[..., float | None]) -> None:
    """What falls into a maintenance window is counted, but never where alerts look."""
    metrics.see(_round(State.DOWN, maintenance="upgrade"), TARGET)
    metrics.see(_round(State.DOWN), TARGET)
    metrics.see(_round(State.UP), TARGET)
    assert value("tensorix_probe_rounds_total", state="down", maintenance="true") == 1
    assert value("tensorix_probe_rounds_total", state="down", maintenance="false") == 1
    assert value("tensorix_probe_rounds_total", state="up", maintenance="false") == 1


def test_results(metrics: Metrics, value: Callable[..., float | None]) -> None:
    """Each check's states, phases, figures and failed assertions are there; what was not judged is left out."""
    failed = (
        Assertion("status_is_200", True),
        Assertion("answer_is_right", False, "43", State.DEGRADED),
        Assertion("usage_adds_up", None),
    )
    figures = {"certificate_not_after_unix_s": 1.8e9, "remaining_requests": 57.0, "tokens_per_second": 30.0}
    phases = Phases(dns_ns=1_000_000, first_token_ns=250_000_000, total_ns=900_000_000)
    result = _result(state=State.DEGRADED, assertions=failed, phases=phases, figures=figures)
    metrics.see(_round(State.DEGRADED, result), TARGET)
    assert value("tensorix_probe_results_total", check="chat", state="degraded") == 1
    assert value("tensorix_probe_assertion_failed", check="chat", assertion="answer_is_right") == 1
    assert value("tensorix_probe_assertion_failed", check="chat", assertion="status_is_200") == 0
    assert value("tensorix_probe_assertion_failed", check="chat", assertion="usage_adds_up") is None
    assert value("probe_duration_seconds", check="chat", phase="dns") == 0.001
    assert value("tensorix_probe_phase_seconds_bucket", check="chat", phase="first_token", le="0.2") == 0
    assert value("tensorix_probe_phase_seconds_bucket", check="chat", phase="first_token", le="0.3") == 1
    assert value("tensorix_probe_phase_seconds_count", check="chat", phase="total") == 1
    assert value("tensorix_probe_phase_seconds_sum", check="chat", phase="total") == 0.9
    assert value("tensorix_probe_phase_seconds_count", check="chat", phase="dns") is None
    assert value("tensorix_probe_certificate_expiry_timestamp_seconds") == 1.8e9
    assert value("tensorix_probe_remaining", resource="requests") == 57
    assert value("tensorix_probe_remaining", resource="tokens") is None


def test_skipped(metrics: Metrics, value: Callable[..., float | None]) -> None:
    """A check that was skipped shows no times, and what its last run failed stays: nobody looked again."""
    wrong = Assertion("answer_is_right", False)
    metrics.see(_round(State.DOWN, _result(assertions=(wrong,), phases=Phases(total_ns=1), state=State.DOWN)), TARGET)
    metrics.see(_round(State.INCONCLUSIVE, _result(state=State.INCONCLUSIVE)), TARGET)
    assert value("tensorix_probe_assertion_failed", check="chat", assertion="answer_is_right") == 1
    assert value("probe_duration_seconds", check="chat", phase="total") is None
    metrics.see(_round(State.UP, _result(assertions=(Assertion("answer_is_right", True),))), TARGET)
    assert value("tensorix_probe_assertion_failed", check="chat", assertion="answer_is_right") == 0


def test_bounds_of_the_histogram(metrics: Metrics, value: Callable[..., float | None]) -> None:
    """A time on a bound belongs to that bucket, one beyond the last to +Inf alone, and buckets add up."""
    for seconds in (BUCKETS_S[0], BUCKETS_S[-1], BUCKETS_S[-1] + 0.001):
        metrics.see(_round(State.UP, _result(phases=Phases(total_ns=round(seconds * 1e9)))), TARGET)
    counts = [
        value("tensorix_probe_phase_seconds_bucket", check="chat", phase="total", le=le)
        for le in (str(BUCKETS_S[0]), str(BUCKETS_S[-2]), str(BUCKETS_S[-1]), "+Inf")
    ]
    assert counts == [1, 1, 2, 3]


def test_spending(metrics: Metrics) -> None:
    """Requests, tokens and money add up by key, under its alias; without prices there is no money."""
    alias = TARGET.key_alias
    assert alias is not None
    sample = metrics.registry.get_sample_value
    assert sample("tensorix_probe_spent_total", {"resource": "tokens", "key": alias}) == 0
    for _ in range(2):
        spent = _round(State.UP, _result(spent=Spent(1, 20, 0.25), key_alias=alias))
        metrics.see(spent, Target(name="prod", prices=Prices(currency="EUR")))
    metrics.see(_round(State.UP, _result(spent=Spent(1, 5))), TARGET)
    assert sample("tensorix_probe_spent_total", {"resource": "requests", "key": alias}) == 2
    assert sample("tensorix_probe_spent_total", {"resource": "tokens", "key": alias}) == 40
    assert sample("tensorix_probe_spent_total", {"resource": "tokens", "key": "none"}) == 5
    assert sample("tensorix_probe_cost_total", {"key": alias, "currency": "EUR"}) == 0.5
    assert sample("tensorix_probe_cost_total", {"key": "none", "currency": "EUR"}) is None


def test_targets_come_and_go(metrics: Metrics, value: Callable[..., float | None]) -> None:
    """Those that stay keep their counts; of those that are gone nothing stays, and a late round brings nothing back."""
    metrics.see(_round(State.DOWN), TARGET)
    metrics.watch([TARGET, Target(name="new")], "berlin")
    assert value("tensorix_probe_rounds_total", state="down", maintenance="false") == 1
    metrics.watch([Target(name="new")], "berlin")
    metrics.see(_round(State.DOWN), TARGET)
    metrics.missed(TARGET, "late")
    text = generate_latest(metrics.registry).decode()
    assert "prod" not in text
    assert 'target="new"' in text


def test_labels_are_bounded(metrics: Metrics) -> None:
    """A check of somebody's own that names new assertions in each run leaves those of its last, and not too many."""
    for run in range(50):
        many = tuple(Assertion(f"seen_{run}_{number}", False) for number in range(1_000))
        metrics.see(_round(State.DOWN, _result(assertions=many, state=State.DOWN)), TARGET)
    metrics.missed(TARGET, "whatever a caller makes up")
    lines = generate_latest(metrics.registry).decode().splitlines()
    assert sum(line.startswith("tensorix_probe_assertion_failed{") for line in lines) == 100
    assert sum(line.startswith("tensorix_probe_missed_total{") for line in lines) == len(MISSED)


def _all_of_it(metrics: Metrics) -> str:
    hostile = Target(name='a"b\\c\nd', api_key=Secret(KEY))
    metrics.watch([TARGET, hostile], "ber\nlin")
    phases = Phases(dns_ns=1, first_token_ns=10**9, total_ns=10**10)
    figures = {"certificate_not_after_unix_s": 1.8e9, "remaining_requests": 57.0, "remaining_tokens": 1e6}
    result = _result(
        phases=phases,
        figures=figures,
        assertions=(Assertion("held", False),),
        spent=Spent(1, 9, 0.1),
        key_alias="key-1",
    )
    metrics.see(_round(State.DOWN, result), TARGET)
    return generate_latest(metrics.registry).decode()


def test_text(metrics: Metrics) -> None:
    """The text is read back by the library's own parser, names nothing twice, and holds no key."""
    text = _all_of_it(metrics)
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)) == 14
    samples = [(sample.name, *sorted(sample.labels.items())) for family in families for sample in family.samples]
    assert len(samples) == len(set(samples))
    targets = {sample.labels.get("target", "prod") for family in families for sample in family.samples}
    assert targets == {"prod", 'a"b\\c\nd'}
    assert KEY not in text


@pytest.mark.system("promtool")
def test_promtool_has_nothing_to_say(metrics: Metrics) -> None:
    """Prometheus's own linter finds nothing wrong with names, kinds and help."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=_all_of_it(metrics), capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
